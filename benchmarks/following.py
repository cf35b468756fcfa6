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

A beat counts as followed within 100 ms when the position published as it sounds lies no more
than that from it, in the player's own time. Published means: from the notes struck up to that
moment, the beat's own among them if it has any; ``ahead`` leaves those out, and so measures
the tempo model alone. Who is lost follows nothing.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import tarfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from benchmarks.places import EVALUATION, ROOT
from converters.catalogue import read_score
from edge.following import FollowedScore, Follower
from edge.matching import Piece, Score
from edge.matching.chords import chords_of_notes, held_keys
from edge.midi import read_midi
from edge.note import NoteEvent

PERFORMANCES = EVALUATION / "performances"
CACHE = ROOT / ".cache" / "following"
SURELY_SHARED = 0.6
"""Share of a chord's notes that makes an anchor of the alignment."""
LEFT_OUT_COST = 0.4
MARGIN_S = 20.0
"""What is aligned beyond what is asked about, so that the end of the alignment is not."""
LONGEST_GAP_BEATS = 2.5
"""Beats without notes farther than this from an anchor are not asked about."""
JUST_BEFORE_S = 0.015

_SNOTE = re.compile(
    r"snote\([^,]+,\[(\w),([n#bx]+)\],(-?\d+),(-?\d+):[^,]+,[^,]+,[^,]+,(-?[\d.]+),(-?[\d.]+),"
    r".*?\)-(?:note\([^,]+,\d+,(\d+),.*|.*)"
)
_SEMITONES = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
_ACCIDENTALS = {"n": 0, "#": 1, "b": -1, "x": 2, "##": 2, "bb": -2}


@dataclass(frozen=True, slots=True)
class Annotated:
    """A performance and where its beats are.

    ``beat_s`` when each sounds, ``beat_quarters`` where it stands in the score; float64,
    shape (beats,), rising.
    """

    name: str
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
        yield Annotated(row["path"], score, notes, *_beats(score, *anchors))


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
        yield Annotated(path.stem, score, notes, *_beats(score, where, at_s))


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


def followed(performance: Annotated, seconds: float, ahead: bool = False) -> dict[str, Any]:
    """Errors at the beats, and the cost of a note, over the first ``seconds``."""
    score = FollowedScore.of_score(performance.score)
    origin = min(0.0, float(performance.score.onset_quarters[0]))
    origin = min(origin, float(performance.score.bar_quarters[0]))
    follower = Follower(score, float(performance.beat_quarters[0]) - origin)
    until_s = performance.notes[0].onset_s + seconds
    asked = performance.beat_s < until_s
    beat_s, quarters = performance.beat_s[asked], performance.beat_quarters[asked] - origin
    written_s = np.array([score.seconds_at(each) for each in quarters])
    pace = np.maximum(np.gradient(written_s, beat_s), 0.05) if beat_s.size > 1 else np.ones(1)
    pending = iter(sorted(performance.notes, key=lambda n: (n.onset_s, n.pitch_midi)))
    note = next(pending, None)
    errors_s, lost, pushed, taken_s = [], 0, 0, 0.0
    for moment_s, place_s, speed in zip(beat_s, written_s, pace, strict=True):
        latest_s = moment_s - JUST_BEFORE_S if ahead else moment_s + 1e-3
        while note is not None and note.onset_s <= latest_s:
            began_s = time.perf_counter()
            follower.push(note)
            taken_s += time.perf_counter() - began_s
            pushed += 1
            note = next(pending, None)
        position = follower.position_at(float(moment_s))
        lost += position.lost
        off_s = abs(score.seconds_at(position.quarters) - place_s) / speed
        errors_s.append(np.inf if position.lost else off_s)
    return {
        "beats": len(errors_s),
        "within_100_ms": float(np.mean(np.array(errors_s) <= 0.1)),
        "within_300_ms": float(np.mean(np.array(errors_s) <= 0.3)),
        "lost": lost / len(errors_s),
        "us_a_note": 1e6 * taken_s / max(pushed, 1),
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
    performances: int, seconds: float, seed: int = 1, each: bool = False
) -> dict[str, Any] | None:
    """Means over beats of each collection; None where the data is not beside the project."""
    if not (PERFORMANCES / "asap_dev.tar.xz").exists():
        return None
    told: dict[str, Any] = {}
    collections = (
        ("vienna4x22", vienna(performances, seed)),
        ("asap_dev", asap(performances, seconds, seed)),
    )
    for name, collection in collections:
        results: list[dict[str, Any]] = []
        aheads = []
        console = Console(stderr=True)
        for performance in track(collection, name, total=performances, console=console):
            if performance.beat_s.size < 2 or performance.beat_s[0] > seconds:
                continue
            results.append(followed(performance, seconds) | {"name": performance.name})
            aheads.append(followed(performance, seconds, ahead=True))
            if each:
                console.print(results[-1])
        weight = [result["beats"] for result in results]
        told[name] = {"performances": len(results), "beats": sum(weight)} | {
            key: float(np.average([result[key] for result in results], weights=weight))
            for key in ("within_100_ms", "within_300_ms", "lost", "us_a_note")
        }
        told[name]["ahead_within_100_ms"] = float(
            np.average([result["within_100_ms"] for result in aheads], weights=weight)
        )
    return told


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--performances", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--each", action="store_true", help="a line for every performance")
    given = parser.parse_args()
    found = measure(given.performances, given.seconds, given.seed, given.each)
    if found is None:
        Console(stderr=True).print(f"following left out: no performances in {PERFORMANCES}")
    elif given.json:
        print(json.dumps(found, indent=2))
    else:
        Console().print(found)
