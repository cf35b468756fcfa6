"""`sostenuto identify`: which piece a recording, a MIDI file or a hummed melody is."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edge.audio.block import STREAM_RATE_HZ
from edge.audio.file import AudioFile
from edge.cli import console
from edge.cli.common import open_catalogue
from edge.display import named
from edge.matching import Candidate, MatchState, PieceMatch
from edge.matching import identify as identify_notes
from edge.matching.hummed import SILENCE_RMS, melody_of_voice
from edge.matching.melody import Melody, identify_melody, melody_of_notes, top_lines
from edge.midi import read_midi
from edge.note import NoteEvent, NoteState, NoteUpdate
from edge.recogniser import Recogniser, load_recogniser

DEFAULT_S = 60.0
"""Asked about unless the user says otherwise: what the search looks at, at most."""

SETTLED_S = 1.0
"""Heard beyond the last second asked about, so that its notes are confirmed as they would be."""


def run(
    source: Path,
    *,
    catalog: Path | None,
    seconds: float | None,
    model: str | None,
    json: bool,
    transposed: bool = False,
) -> None:
    """Print the best five pieces."""
    catalogue = open_catalogue(catalog)
    asked_s = DEFAULT_S if seconds is None else seconds
    if is_midi(source):
        notes = first_seconds(list(read_midi(source).notes), asked_s)
    else:
        with AudioFile(source) as recording:
            notes = hear_first_seconds(recording, load_recogniser(model), asked_s)
    match = identify_notes(notes, catalogue, transposed)
    if json:
        console.out_json(document(match))
    else:
        _print(match, len(notes), asked_s)


def run_melody(
    source: Path, *, catalog: Path | None, seconds: float | None, model: str | None, json: bool
) -> None:
    """Print the best five pieces for a melody that was hummed or picked out."""
    catalogue = open_catalogue(catalog)
    lines = top_lines(catalogue)
    heard = melodies_of(source, model, DEFAULT_S if seconds is None else seconds)
    answers = [identify_melody(melody, catalogue, lines) for melody in heard]
    best = max(range(len(heard)), key=lambda which: _sureness(answers[which]))
    if json:
        console.out_json(document(answers[best]))
    else:
        _print(answers[best], len(heard[best]), DEFAULT_S if seconds is None else seconds)


def melodies_of(source: Path, model: str | None, seconds: float) -> list[Melody]:
    """What a file's melody may be: of a recording, as a voice's and as a piano's.

    A voice is between the keys, and a piano rings on: each is heard best by an ear of its own, and
    the answer tells which it was.
    """
    if is_midi(source):
        return [melody_of_notes(first_seconds(list(read_midi(source).notes), seconds))]
    with AudioFile(source) as recording:
        sung = sung_first_seconds(recording, seconds)
    with AudioFile(source) as recording:
        played = hear_first_seconds(recording, load_recogniser(model), seconds)
    return [sung, melody_of_notes(played)]


def _sureness(answer: PieceMatch) -> float:
    return answer.candidates[0].confidence if answer.candidates else -1.0


def sung_first_seconds(recording: AudioFile, seconds: float) -> Melody:
    """The melody of a voice, from where it is first loud enough on, for ``seconds``."""
    kept: list[np.ndarray] = []
    until_sample: float | None = None
    for block in recording.blocks():
        if until_sample is None and np.sqrt(np.mean(block.samples**2)) > SILENCE_RMS:
            until_sample = block.start_sample + seconds * STREAM_RATE_HZ
        if until_sample is not None:
            kept.append(block.samples)
            if block.end_sample >= until_sample:
                break
    return melody_of_voice(np.concatenate(kept) if kept else np.zeros(0, np.float32))


def is_midi(path: Path) -> bool:
    """Whether a file's first bytes are those of a Standard MIDI File, bare or in RIFF."""
    try:
        with path.open("rb") as file:
            head = file.read(12)
    except OSError:
        return False  # the reader of audio says what is wrong
    return head[:4] == b"MThd" or (head[:4] == b"RIFF" and head[8:12] == b"RMID")


def first_seconds(notes: list[NoteEvent], seconds: float) -> list[NoteEvent]:
    """The notes struck within ``seconds`` of the first one."""
    if not notes:
        return []
    until_s = min(note.onset_s for note in notes) + seconds
    return sorted(
        (note for note in notes if note.onset_s <= until_s),
        key=lambda note: (note.onset_s, note.pitch_midi),
    )


def hear_first_seconds(
    recording: AudioFile, recogniser: Recogniser, seconds: float
) -> list[NoteEvent]:
    """The notes of a recording struck within ``seconds`` of its first; the rest is not heard."""
    latest: dict[int, NoteEvent] = {}

    def keep(events: list[object]) -> None:
        for event in events:
            if isinstance(event, NoteUpdate):
                if event.state in (NoteState.CONFIRMED, NoteState.ENDED):
                    latest[event.id] = event.note
                elif event.state is NoteState.WITHDRAWN:
                    latest.pop(event.id, None)

    for block in recording.blocks(1.0):
        keep([*recogniser.push(block)])
        if latest:
            first_s = min(note.onset_s for note in latest.values())
            if block.end_sample / STREAM_RATE_HZ > first_s + seconds + SETTLED_S:
                break
    keep([*recogniser.flush()])
    return first_seconds(list(latest.values()), seconds)


def document(match: PieceMatch) -> dict[str, object]:
    """What `--json` prints."""
    known = {MatchState.MATCHED: "matched", MatchState.NONE: "none"}
    return {
        "state": known.get(match.state, "searching"),
        "candidates": [_fields(candidate) for candidate in match.candidates[:5]],
    }


def _fields(candidate: Candidate) -> dict[str, object]:
    return {
        "piece_id": candidate.piece_id,
        "work_id": candidate.work_id,
        "title": candidate.title,
        "composer": candidate.composer,
        "confidence": round(candidate.confidence, 4),
        "start_s": round(candidate.start_s, 3),
        "bar": candidate.bar,
        "transposition": candidate.transposition,
    }


def _in_another_key(semitones: int) -> str:
    if semitones == 0:
        return ""
    steps = "a semitone" if abs(semitones) == 1 else f"{abs(semitones)} semitones"
    return f", {steps} {'higher' if semitones > 0 else 'lower'}"


def _print(match: PieceMatch, notes: int, asked_s: float) -> None:
    if match.state is MatchState.MATCHED:
        best = match.candidates[0]
        console.out(f"{named(best.title, best.composer)}, {best.confidence:.0%} sure")
    elif match.state is MatchState.NONE:
        console.out(f"none of the catalogue's pieces ({notes} notes in {asked_s:g} s)")
    else:
        console.out(f"not known yet: too little to say ({notes} notes in {asked_s:g} s)")
    for place, each in enumerate(match.candidates[:5], start=1):
        where = f"from bar {each.bar} ({each.start_s:.1f} s){_in_another_key(each.transposition)}"
        console.out(
            f"  {place}. {each.confidence:6.1%}  {named(each.title, each.composer)}, {where}"
            f"  [{each.piece_id}]"
        )
