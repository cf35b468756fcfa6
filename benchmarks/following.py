"""Is the bar known? The position published when each beat sounds, on human performances.

    python -m benchmarks.following [--performances 20] [--seconds 60] [--seed 1] [--json]

Two collections: the performances of ``vienna4x22``, whose match files tie every note to the
score by hand, and those of ``asap_dev`` against their scores. The archive of the latter names
files of annotated beats but does not hold them, so its beats are found by aligning the
performance with the score, both ways in time and without any tempo, which a follower cannot
do; a beat is where the notes that are written on it were struck (the earliest), and a beat
without a note lies between its neighbours. On the one performance whose published annotation
was compared by hand, 55 of 56 beats lie within 20 ms of it. No more than ``--seconds`` of each
performance is followed.

Everything goes the way it goes in ``sostenuto listen --piece``: the recogniser hears blocks and
says positions, of which at most four a second are published. A beat counts as followed within
100 ms when the last position that was published until the beat sounded, carried on to that
moment as `Position` says that a reader may, lies no more than that from it, in the player's own
time. A keyboard tells of a note as it is struck, so the beat's own notes are known; ``ahead``
leaves out what was published in the last 15 ms, and so measures the tempo model alone. An ear
tells of a note a quarter of a second later: there every beat is foretold. Who is lost, or has
said nothing yet, follows nothing.

``rendered`` are the same performances on a piano that no model was trained on (fluidsynth with
TimGM6mb, Debian's timgm6mb-soundfont), through the default ear.

Where ``make peers`` has put it, parangonar's online aligner (Apache-2.0) is given the same notes
of the same performances, one at a time. It gives a place in the score for each, without tempo or
doubt: the place after the last note until the beat sounded is what counts, held until the next.
So it is beside ours as played only, and ``on_notes`` counts, for both, the beats on which the
score has a note, where nothing has to be foretold.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import re
import shutil
import subprocess
import tarfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mido
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from benchmarks.places import EVALUATION, ROOT
from converters.catalogue import read_score
from edge.audio.block import STREAM_RATE_HZ, Block, MidiBlock
from edge.audio.file import AudioFile
from edge.ear import Ear, load_ear
from edge.following import FollowedScore, PieceFollower, Position
from edge.matching import Catalogue, Piece, Score
from edge.matching.chords import chords_of_notes, held_keys
from edge.midi import read_midi, timed_messages
from edge.note import NoteEvent, NoteState, NoteUpdate
from edge.publish.pace import PositionPace
from edge.recogniser import NoEar, Recogniser
from training.peers import FOLDER as PEERS
from training.peers import PYTHON

PERFORMANCES = EVALUATION / "performances"
CACHE = ROOT / ".cache" / "following"
SURELY_SHARED = 0.6
"""Share of a chord's notes that makes an anchor of the alignment."""
LEFT_OUT_COST = 0.4
MARGIN_S = 20.0
"""What is aligned beyond what is asked about, so that the end of the alignment is not."""
LONGEST_GAP_BEATS = 2.5
"""Beats without notes farther than this from an anchor are not asked about."""
TICK_S = 0.05
"""A silent keyboard says so often that time goes on."""
AT_ONCE_S = 1e-3
JUST_BEFORE_S = -0.015
"""What was published until so long after a beat was published as it sounded; or just before."""
SOUNDFONT = Path("/usr/share/sounds/sf2/TimGM6mb.sf2")
RENDERED_GAIN = 0.6

_TICK = round(TICK_S * STREAM_RATE_HZ)
_SNOTE = re.compile(
    r"snote\([^,]+,\[(\w),([n#bx]+)\],(-?\d+),(-?\d+):[^,]+,[^,]+,[^,]+,(-?[\d.]+),(-?[\d.]+),"
    r".*?\)-(?:note\([^,]+,\d+,(\d+),.*|.*)"
)
_SEMITONES = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
_ACCIDENTALS = {"n": 0, "#": 1, "b": -1, "x": 2, "##": 2, "bb": -2}


@dataclass(frozen=True, slots=True)
class Annotated:
    """A performance and where its beats are.

    ``midi`` is the file it is in, ``notes`` are its notes; ``beat_s`` when each beat sounds,
    ``beat_quarters`` where it stands in the score; float64, shape (beats,), rising.
    """

    name: str
    midi: Path
    score: Score
    notes: tuple[NoteEvent, ...]
    beat_s: NDArray[np.float64]
    beat_quarters: NDArray[np.float64]


def asap(count: int, seconds: float, seed: int) -> Iterator[Annotated]:
    """Performances of ``asap_dev``, at random; all of them where ``count`` is large enough.

    Their beats are known for the first ``seconds``, and some further.
    """
    folder = _unpacked("asap_dev", PERFORMANCES / "asap_dev.tar.xz")
    scores = _unpacked("scores_nc", EVALUATION / "scores_nc.tar.xz")
    with (folder / "index.csv").open(newline="", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    chosen = np.random.default_rng(seed).permutation(len(rows))[:count]
    for row in (rows[each] for each in chosen):
        path = scores / "asap" / f"{row['score_id']}.mid"
        score = read_score(path, Piece(row["score_id"], row["score_id"], row["title"], ""))
        notes = read_midi(folder / row["path"]).notes
        until_s = notes[0].onset_s + seconds + MARGIN_S
        anchors = _aligned(score, [note for note in notes if note.onset_s < until_s])
        yield Annotated(row["path"], folder / row["path"], score, notes, *_beats(score, *anchors))


def vienna(count: int, seed: int) -> Iterator[Annotated]:
    """Performances of ``vienna4x22``, at random."""
    folder = _unpacked("vienna4x22", PERFORMANCES / "vienna4x22.tar.xz")
    files = sorted(folder.rglob("*.match"))
    chosen = np.random.default_rng(seed).permutation(len(files))[:count]
    for path in (files[each] for each in chosen):
        score, quarters, struck_s = _match_file(path.read_text(encoding="utf-8"), path.stem)
        midi = next(folder.rglob(f"{path.stem}.mid"))
        notes = read_midi(midi).notes
        # Match files count from the first note on, MIDI files from the file's beginning.
        struck_s = struck_s - struck_s.min() + notes[0].onset_s
        where, first = np.unique(quarters, return_inverse=True)
        at_s = np.full(where.size, np.inf)
        np.minimum.at(at_s, first, struck_s)
        yield Annotated(path.stem, midi, score, notes, *_beats(score, where, at_s))


def _match_file(text: str, name: str) -> tuple[Score, NDArray[np.float64], NDArray[np.float64]]:
    """The score of a match file; and of its notes that were played, place and seconds."""
    beats, unit = (int(part) for part in re.findall(r"timeSignature,(\d+)/(\d+)", text)[0])
    ticks_a_s = 1e6 * float(re.findall(r"midiClockUnits,(\d+)", text + "midiClockUnits,480")[0])
    ticks_a_s /= float(re.findall(r"midiClockRate,(\d+)", text)[0])
    found = [match.groups() for match in map(_SNOTE.match, text.splitlines()) if match]
    quarters = np.array([float(row[4]) for row in found]) * 4 / unit
    end = np.array([float(row[5]) for row in found]) * 4 / unit
    pitch = np.array(
        [12 * (int(row[2]) + 1) + _SEMITONES[row[0]] + _ACCIDENTALS[row[1]] for row in found]
    )
    ticks = np.array([np.nan if row[6] is None else float(row[6]) for row in found])
    first = quarters.min()
    bar_length = beats * 4 / unit
    bar = np.arange(-bar_length if first < 0 else 0.0, end.max(), bar_length)
    order = np.lexsort((pitch, quarters))
    score = Score(
        piece=Piece(name, name, name, ""),
        pitch_midi=pitch[order].astype(np.uint8),
        onset_quarters=quarters[order],
        duration_quarters=(end - quarters)[order],
        hand=np.zeros(pitch.size, dtype=np.uint8),
        bar_quarters=bar,
        bar_number=np.arange(bar.size, dtype=np.int32) + (0 if first < 0 else 1),
        bar_beat_quarters=np.full(bar.size, 1.5 if beats % 3 == 0 and unit == 8 else 4 / unit),
        tempo_quarters=np.array([bar[0], end.max() + 4.0]),
        tempo_s=np.array([bar[0], end.max() + 4.0]) * 0.6,
    )
    struck = ~np.isnan(ticks)
    return score, quarters[struck], ticks[struck] / ticks_a_s


def _aligned(
    score: Score, notes: list[NoteEvent]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Quarters and seconds of the chords that surely correspond, from the whole performance.

    The longest common subsequence of chords, each pair weighted by the notes that it shares,
    less a little for each written chord that is left out: a passage written twice stays put.
    """
    played = chords_of_notes(notes, 0.035)
    quarters, first = np.unique(np.round(score.onset_quarters, 4), return_inverse=True)
    # No player is so far beyond twice as many written chords as were heard.
    quarters = quarters[: 2 * len(played) + 100]
    inside = first < quarters.size
    written = np.zeros((quarters.size, 128), dtype=np.float32)
    written[first[inside], score.pitch_midi[inside]] = 1.0
    heard = held_keys(played.keys).astype(np.float32)
    shared = heard @ written.T
    larger = np.maximum(heard.sum(axis=1)[:, None], written.sum(axis=1)[None, :])
    like = shared / larger
    # Left out chords cost the same everywhere: with their cost added back, best never falls.
    cost = LEFT_OUT_COST * np.arange(like.shape[1] + 1)
    best = np.zeros((like.shape[0] + 1, like.shape[1] + 1))
    for row in range(like.shape[0]):
        gained = best[row, :-1] + like[row] * shared[row] + LEFT_OUT_COST
        best[row + 1, 1:] = np.maximum.accumulate(np.maximum(best[row, 1:], gained))
    row, column = like.shape[0], int(np.argmax(best[-1] - cost))
    pairs = []
    while row and column:
        if best[row, column] == best[row - 1, column]:
            row -= 1
        elif best[row, column] == best[row, column - 1]:
            column -= 1
        else:
            row, column = row - 1, column - 1
            if like[row, column] >= SURELY_SHARED:
                pairs.append((quarters[column], played.onset_s[row]))
    found = np.array(pairs[::-1], dtype=np.float64).reshape(-1, 2)
    return found[:, 0], found[:, 1]


def _beats(
    score: Score, quarters: NDArray[np.float64], at_s: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """When each beat between the first and the last anchor sounds, and its place."""
    ends = np.append(score.bar_quarters[1:], score.onset_quarters[-1] + 1e-3)
    beats = np.concatenate(
        [
            np.arange(start, end - 1e-3, length)
            for start, end, length in zip(
                score.bar_quarters, ends, score.bar_beat_quarters, strict=True
            )
        ]
    )
    beats = beats[(beats >= quarters[0] - 1e-6) & (beats <= quarters[-1] + 1e-6)]
    after = np.clip(np.searchsorted(quarters, beats - 1e-6), 1, quarters.size - 1)
    on_note = np.abs(quarters[after] - beats) < 1e-3
    near = quarters[after] - quarters[after - 1] < LONGEST_GAP_BEATS
    kept = beats[on_note | near | (np.abs(beats - quarters[0]) < 1e-3)]
    return np.interp(kept, quarters, at_s), kept


# --- what is published, and how right it is ----------------------------------------------------

Published = tuple[float, Position]
"""The second of the stream at which a position was published, and the position."""


def has_parangonar() -> bool:
    return any(PEERS.glob("venv/lib/python*/site-packages/parangonar"))


def keyboard_blocks(notes: Iterable[NoteEvent], until_s: float) -> Iterator[MidiBlock]:
    """Notes as a keyboard says them, each as it is struck, and a tick where it is silent."""
    struck = sorted((note.onset_s, note.pitch_midi, note) for note in notes)
    moments = [(np.ceil(at_s * STREAM_RATE_HZ), note) for at_s, _, note in struck if at_s < until_s]
    ticks = [(float(tick), None) for tick in range(0, round(until_s * STREAM_RATE_HZ), _TICK)]
    for number, (sample, note) in enumerate(sorted([*moments, *ticks], key=lambda each: each[0])):
        events = () if note is None else (NoteUpdate(number, NoteState.CONFIRMED, note),)
        yield MidiBlock(int(sample), events)


def rendered_blocks(midi: Path, until_s: float) -> Iterator[Block]:
    """A performance on a piano that no model was trained on, until this second of it."""
    name = hashlib.sha256(f"{midi.name} {midi.stat().st_size} {until_s:.3f}".encode()).hexdigest()
    path = CACHE / "rendered" / f"{name[:16]}.wav"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        keys = mido.MidiFile(ticks_per_beat=5000)
        track = keys.add_track("")
        before_s = 0.0
        for at_s, message in timed_messages(midi):
            kinds = ("note_on", "note_off", "control_change")
            if message.type in kinds and at_s < until_s:
                ticks = round(at_s * 1e4) - round(before_s * 1e4)
                track.append(message.copy(channel=0, time=ticks))
                before_s = at_s
        keys.save(path.with_suffix(".mid"))
        half = path.with_suffix(".part")
        command = ["fluidsynth", "-niq", "-g", str(RENDERED_GAIN), "-F", str(half), "-T", "wav"]
        subprocess.run([*command, str(SOUNDFONT), str(path.with_suffix(".mid"))], check=True)
        half.replace(path)
    with AudioFile(path) as recording:
        yield from recording.blocks()


def published(
    score: Score, ear: Ear, blocks: Iterable[Block | MidiBlock]
) -> tuple[list[Published], float]:
    """What a device publishes of the place in a chosen piece; and CPU seconds a note without ear.

    Everything but the broker: recogniser and pace as in `edge.listen`.
    """
    latency_s = ear.lookahead_samples / ear.sample_rate_hz
    pieces = PieceFollower(Catalogue.from_scores([score]), latency_s, score.piece.piece_id)
    recogniser, pace = Recogniser(ear, pieces), PositionPace()
    told: list[Published] = []
    notes, taken_s = 0, 0.0
    for block in blocks:
        began_s = time.perf_counter()
        events = recogniser.push(block)
        taken_s += time.perf_counter() - began_s
        positions = [event for event in events if isinstance(event, Position)]
        notes += len(positions)
        now_s = block.end_sample / STREAM_RATE_HZ
        told += [(now_s, position) for position in pace.push(positions, now_s)]
    return told, taken_s / max(notes, 1)


def _origin(score: Score) -> float:
    """Where a catalogue begins to count."""
    return float(min(0.0, score.onset_quarters[0], score.bar_quarters[0]))


def errors_s(
    performance: Annotated, told: list[Published], seconds: float, until_s: float = AT_ONCE_S
) -> NDArray[np.float64]:
    """How far off the place was as each beat sounded, in the player's time; infinite: unknown.

    ``until_s`` after the beat is the last moment at which a position counts as published.
    """
    score, origin = FollowedScore.of_score(performance.score), _origin(performance.score)
    asked = performance.beat_s < performance.notes[0].onset_s + seconds
    beat_s, quarters = performance.beat_s[asked], performance.beat_quarters[asked] - origin
    written_s = np.array([score.seconds_at(each) for each in quarters])
    pace = np.maximum(np.gradient(written_s, beat_s), 0.05) if beat_s.size > 1 else np.ones(1)
    at_s = np.array([moment_s for moment_s, _ in told])
    newest = np.searchsorted(at_s, beat_s + until_s, side="right") - 1
    found = np.full(beat_s.size, np.inf)
    for beat, number in enumerate(newest):
        if number >= 0 and not (position := told[number][1]).lost:
            here_s = score.seconds_at(position.quarters_at(float(beat_s[beat])))
            found[beat] = abs(here_s - written_s[beat]) / pace[beat]
    return found


def followed(performance: Annotated, seconds: float, ear: Ear | None) -> dict[str, Any]:
    """Shares of the beats of the first ``seconds``; as played, and rendered if there is an ear."""
    until_s = performance.notes[0].onset_s + seconds
    told, s_a_note = published(
        performance.score, NoEar(), keyboard_blocks(performance.notes, until_s)
    )
    ways = {"as played": errors_s(performance, told, seconds)}
    ways["ahead"] = errors_s(performance, told, seconds, JUST_BEFORE_S)
    on_notes = _on_notes(performance, ways["as played"].size)
    ways["on_notes"] = ways["as played"][on_notes]
    if ear is not None:
        ear.reset()
        told, _ = published(performance.score, ear, rendered_blocks(performance.midi, until_s))
        ways["rendered"] = errors_s(performance, told, seconds)
    told_by_peer = {}
    if has_parangonar():
        ways["parangonar"], us_a_note = peer_errors_s(performance, seconds)
        ways["parangonar on_notes"] = ways["parangonar"][on_notes]
        told_by_peer = {"parangonar_us_a_note": us_a_note}
    return {
        "name": performance.name,
        "beats": ways["as played"].size,
        "us_a_note": 1e6 * s_a_note,
        **told_by_peer,
        **{way: _shares(found) for way, found in ways.items()},
    }


def peer_errors_s(performance: Annotated, seconds: float) -> tuple[NDArray[np.float64], float]:
    """As `errors_s`, of parangonar; and its microseconds a note."""
    score = performance.score
    written = np.stack(
        (score.onset_quarters, score.duration_quarters, score.pitch_midi.astype(float)), axis=1
    )
    until_s = performance.notes[0].onset_s + seconds
    notes = [(note.onset_s, note.pitch_midi) for note in performance.notes]
    notes = sorted(each for each in notes if each[0] < until_s)
    asked = json.dumps({"score": written.tolist(), "notes": notes})
    script = Path(__file__).with_name("parangonar_process.py")
    answer = json.loads(
        subprocess.run(
            [str(PYTHON), str(script)], input=asked, capture_output=True, text=True, check=True
        ).stdout
    )
    told = [
        (onset_s, _held(quarters - _origin(score), onset_s))
        for (onset_s, _), quarters in zip(notes, answer["quarters"], strict=True)
    ]
    return errors_s(performance, told, seconds), float(answer["us_a_note"])


def _held(quarters: float, t_s: float) -> Position:
    """A place that stays."""
    return Position(t_s, quarters, 1, 1.0, 0.0, 1.0, 1.0, False, "", 0.0, t_s, None)


def _on_notes(performance: Annotated, beats: int) -> NDArray[np.bool_]:
    """On which of the first beats the score has a note."""
    away = performance.beat_quarters[:beats, None] - performance.score.onset_quarters[None, :]
    on_notes: NDArray[np.bool_] = np.abs(away).min(axis=1) < 1e-3
    return on_notes


def _shares(found_s: NDArray[np.float64]) -> dict[str, float]:
    return {
        "within_100_ms": float(np.mean(found_s <= 0.1)),
        "within_300_ms": float(np.mean(found_s <= 0.3)),
        "lost": float(np.mean(np.isinf(found_s))),
    }


def _unpacked(name: str, archive: Path) -> Path:
    if not (CACHE / ".whole" / name).exists():
        with tarfile.open(archive) as tar:
            tar.extractall(CACHE / name, filter="data")
        (CACHE / ".whole").mkdir(parents=True, exist_ok=True)
        (CACHE / ".whole" / name).touch()
    inner = CACHE / name / name
    return inner if inner.is_dir() else CACHE / name


def measure(
    performances: int, seconds: float, seed: int = 1, by_ear: bool = True, each: bool = False
) -> dict[str, Any] | None:
    """Means over the beats of each collection; None where the data is not beside the project."""
    if not (PERFORMANCES / "asap_dev.tar.xz").exists():
        return None
    console = Console(stderr=True)
    if by_ear and not (shutil.which("fluidsynth") and SOUNDFONT.exists()):
        console.print("rendered left out: apt-get install fluidsynth timgm6mb-soundfont")
        by_ear = False
    ear = load_ear() if by_ear else None
    told: dict[str, Any] = {}
    collections = (
        ("vienna4x22", vienna(performances, seed)),
        ("asap_dev", asap(performances, seconds, seed)),
    )
    for name, collection in collections:
        results: list[dict[str, Any]] = []
        for performance in track(collection, name, total=performances, console=console):
            if performance.beat_s.size < 2 or performance.beat_s[0] > seconds:
                continue
            results.append(followed(performance, seconds, ear))
            if each:
                console.print(results[-1])
        weight = [result["beats"] for result in results]
        ways = [key for key, value in results[0].items() if isinstance(value, dict)]
        told[name] = {
            "performances": len(results),
            "beats": sum(weight),
        }
        for cost in [key for key in results[0] if key.endswith("us_a_note")]:
            told[name][cost] = float(np.average([r[cost] for r in results], weights=weight))
        for way in ways:
            told[name][way] = {
                key: float(np.average([result[way][key] for result in results], weights=weight))
                for key in results[0][way]
            }
    return told


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--performances", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--as-played", action="store_true", help="leave out what is rendered")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--each", action="store_true", help="a line for every performance")
    given = parser.parse_args()
    found = measure(given.performances, given.seconds, given.seed, not given.as_played, given.each)
    if found is None:
        Console(stderr=True).print(f"following left out: no performances in {PERFORMANCES}")
    elif given.json:
        print(json.dumps(found, indent=2))
    else:
        Console().print(found)
