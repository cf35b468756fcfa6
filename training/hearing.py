"""An ear tried on recordings whose notes are known: what it heard, how right, at what cost.

A folder of *recordings* has audio files, each with a MIDI file of the same stem, and perhaps an
``index.csv`` that says which microphone (columns ``file`` and ``mic``). A folder of *rendered*
segments is what ``sostenuto-studio render`` wrote: FLAC and JSON. Both become `Recording`s, each in
the groups whose means are told apart: its microphone; its piano, and whether it was dry.
"""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from math import inf
from pathlib import Path
from statistics import median
from typing import Any

from edge.audio.file import AudioFile
from edge.errors import InputError
from edge.midi import read_midi
from edge.note import NoteEvent, PedalEvent
from edge.recogniser import load_recogniser
from edge.transcription import finished_notes
from training.evaluation import (
    NoteScores,
    match_notes,
    mean_scores,
    score_pairs,
    since_last_strike_s,
)

AUDIO_SUFFIXES = frozenset({".wav", ".flac", ".mp3", ".ogg"})
INDEX = "index.csv"
BLOCK_S = 1.0
RESTRIKE_RATES_HZ = ((4.0, 5.5), (5.5, 7.0), (7.0, 9.0), (9.0, 12.0))
DRY, ROOM, NOISY = "dry", "in a room", "no room, microphone or noise"
_DRY_RECIPE = frozenset({"kind", "cents"})
"""All that `training.render` writes down of a segment to which nothing was done."""


@dataclass(frozen=True, slots=True)
class Recording:
    """Sound in a file and what was played in it.

    Attributes
    ----------
    played : tuple of NoteEvent
        By onset; a note ends when its key is let go.
    groups : tuple of str
        What it is counted under beside the whole.
    pedal_s : tuple of (float, float), or None
        When the sustain pedal was down; None where that is not known.
    cents : float
        How far the piano's A4 is off 440 Hz, where that is known.
    """

    name: str
    audio: Path
    played: tuple[NoteEvent, ...]
    groups: tuple[str, ...] = ()
    pedal_s: tuple[tuple[float, float], ...] | None = None
    cents: float = 0.0

    @property
    def dry(self) -> bool:
        return DRY in self.groups

    def pedal_is_down(self, t_s: float) -> bool:
        return any(down_s <= t_s < up_s for down_s, up_s in self.pedal_s or ())


@dataclass(frozen=True, slots=True)
class Hearing:
    """What one ear made of one recording.

    Attributes
    ----------
    heard : tuple of NoteEvent
    pairs : tuple of (int, int)
        Which note played (index) is which note heard.
    scores : NoteScores
    cpu_s_per_s : float
        CPU seconds from the file to the notes for a second of sound; loading the model left out.
    """

    recording: Recording
    heard: tuple[NoteEvent, ...]
    pairs: tuple[tuple[int, int], ...]
    scores: NoteScores
    cpu_s_per_s: float

    @classmethod
    def judged(
        cls, recording: Recording, heard: Sequence[NoteEvent], cpu_s_per_s: float
    ) -> Hearing:
        pairs = tuple(match_notes(recording.played, heard))
        scores = score_pairs(recording.played, heard, pairs)
        return cls(recording, tuple(heard), pairs, scores, cpu_s_per_s)


def recordings_in(folder: Path) -> list[Recording]:
    """The audio files of a folder that have a MIDI file of the same stem.

    Raises
    ------
    InputError
        There are none, or a MIDI file cannot be read.
    """
    microphone = _microphones(folder)
    found = [
        _recording(path, microphone(path))
        for path in sorted(folder.glob("*"))
        if path.suffix.lower() in AUDIO_SUFFIXES and path.with_suffix(".mid").exists()
    ]
    if not found:
        raise InputError(f"no audio file with a MIDI of the same name in {folder}")
    return found


def _recording(audio: Path, groups: tuple[str, ...]) -> Recording:
    midi = read_midi(audio.with_suffix(".mid"))
    # A file without a move of the pedal says nothing of it: most lose it.
    pedal_s = _intervals_s(midi.pedal) if midi.pedal else None
    return Recording(audio.stem, audio, midi.notes, groups, pedal_s)


def _intervals_s(moves: Sequence[PedalEvent]) -> tuple[tuple[float, float], ...]:
    """From when to when the pedal is down; it may stay there."""
    times_s = [move.t_s for move in moves] + [inf]
    return tuple(
        (move.t_s, up_s) for move, up_s in zip(moves, times_s[1:], strict=True) if move.down
    )


def _microphones(folder: Path) -> Any:
    """A function from a file to its groups: its microphone by ``index.csv``, or none."""
    index = folder / INDEX
    if not index.exists():
        return lambda path: ()
    with index.open(encoding="utf-8", newline="") as lines:
        rows = csv.DictReader(lines)
        if not {"file", "mic"} <= set(rows.fieldnames or ()):
            raise InputError(f"{index} has the columns {rows.fieldnames}: file and mic are needed")
        of_file = {row["file"]: row["mic"] for row in rows}
    return lambda path: (of_file[path.name],) if of_file.get(path.name) else ()


def rendered_in(folder: Path) -> list[Recording]:
    """The segments below a folder that ``sostenuto-studio render`` wrote.

    Notes that began before their segment do not count; those that outlast it end with it.

    Raises
    ------
    InputError
        There are none, or a file of labels is not one.
    """
    found = [_segment(path) for path in sorted(folder.rglob("*.flac")) if _labels(path).exists()]
    if not found:
        raise InputError(
            f"no rendered segment in {folder}: a .flac with a .json of the same name is needed, "
            "as `sostenuto-studio render` writes them"
        )
    return found


def _labels(audio: Path) -> Path:
    return audio.with_suffix(".json")


def _segment(audio: Path) -> Recording:
    try:
        labels = json.loads(_labels(audio).read_text(encoding="utf-8"))
        played = tuple(
            NoteEvent(
                note["pitch_midi"],
                note["onset_s"],
                min(note["offset_s"], labels["duration_s"]),
                note["velocity"],
                1.0,
            )
            for note in labels["notes"]
            if note["onset_s"] >= 0.0
        )
        recipe = labels["recipe"]
        pedal_s = tuple((down_s, up_s) for down_s, up_s in labels["pedal"])
        piano = str(labels["piano"])
    except (ValueError, KeyError, TypeError) as trouble:
        raise InputError(
            f"{_labels(audio)} holds no labels ({trouble!r}): render the folder again"
        ) from trouble
    state = DRY if recipe.keys() <= _DRY_RECIPE else ROOM if "rt60_s" in recipe else NOISY
    name = f"{audio.parent.name}/{audio.stem}"
    return Recording(name, audio, played, (state, piano), pedal_s, recipe.get("cents", 0.0))


def hear(model: str | Path | None, recordings: Sequence[Recording]) -> Iterator[Hearing]:
    """Listen to recordings one by one with one of our ears.

    Raises
    ------
    InputError
        A file is damaged.
    ModelError
        The model is missing or damaged.
    """
    recogniser = load_recogniser(model)
    for recording in recordings:
        recogniser.reset()
        began_s = time.process_time()
        with AudioFile(recording.audio) as file:
            heard = list(finished_notes(recogniser, file.blocks(BLOCK_S)))
            cpu_s = time.process_time() - began_s
            heard.sort(key=lambda note: (note.onset_s, note.pitch_midi))
            yield Hearing.judged(recording, heard, cpu_s / file.duration_s)


@dataclass(frozen=True, slots=True)
class RestrikeShare:
    """Of the keys struck again at such a rate, pedal up or down, how many were found."""

    from_hz: float
    to_hz: float
    pedal_down: bool
    found: int
    count: int


def restrikes_by_rate(hearings: Sequence[Hearing]) -> list[RestrikeShare]:
    """Re-strikes by their rate and by the pedal as the key goes down again.

    Empty where nothing is known of the pedal; rates that do not occur are left out.
    """
    cells: dict[tuple[float, float, bool], list[bool]] = {}
    for one in hearings:
        if one.recording.pedal_s is None:
            continue
        found = {i for i, _ in one.pairs}
        for i, since_s in enumerate(since_last_strike_s(one.recording.played)):
            down = one.recording.pedal_is_down(one.recording.played[i].onset_s)
            for from_hz, to_hz in RESTRIKE_RATES_HZ:
                if from_hz <= 1.0 / since_s < to_hz:
                    cells.setdefault((from_hz, to_hz, down), []).append(i in found)
    return [RestrikeShare(*cell, sum(found), len(found)) for cell, found in sorted(cells.items())]


def summary(hearings: Sequence[Hearing]) -> dict[str, Any]:
    """The mean, the mean of each group, every recording, and the cost, ready for JSON."""
    groups = dict.fromkeys(group for one in hearings for group in one.recording.groups)
    return {
        "mean": asdict(mean_scores([one.scores for one in hearings])),
        "groups": {
            group: asdict(
                mean_scores([one.scores for one in hearings if group in one.recording.groups])
            )
            for group in sorted(groups)
        },
        "files": {one.recording.name: asdict(one.scores) for one in hearings},
        "cpu_s_per_s": median(one.cpu_s_per_s for one in hearings),
    }
