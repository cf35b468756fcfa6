"""Which notes an ear misses, and where it hears what nobody played.

A missed note belongs to every kind that fits: struck softly, struck again, an overtone of a key
struck with it, one of many at once. *Plain* is what is none of these. Whether a note is missed is
told by the rules (its onset within 50 ms) and within 100 ms, because the labels of a player piano's
soft notes lie off their sound by more than the rules allow (`benchmarks.label_timing`); what is
missed even then was not heard. A false note is of the first kind that fits. Run::

    python -m benchmarks.missed                 # the real recordings, by microphone
    python -m benchmarks.missed --rendered DIR  # what `sostenuto-studio render` wrote
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks import places
from edge.ear import DEFAULT_MODEL
from training.evaluation import match_notes, since_last_strike_s
from training.hearing import Hearing, hear, rendered_in

Bools = NDArray[np.bool_]

TOLERANCES_S = (0.05, 0.1)
TOGETHER_S = 0.06
MANY = 7
OVERTONES_SEMITONES = (12, 19, 24, 28)
"""The second to the fifth partial."""
FALSE_KINDS = ("overtone above a key struck", "below a key struck", "key that was held", "other")
RINGS_S = 0.5
"""So long after its key was let go, a string may still be heard."""
EDGE_S = 0.3
"""So near the ends of a cut segment, a note's beginning or what follows it is not to be heard."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every note of a performance is struck in; arrays of shape (n,).

    Attributes
    ----------
    velocity : int64
    since_s : float64
        Since the key was struck before; infinity at first.
    together : int64
        How many other keys are struck within 60 ms.
    overtone : bool
        One of these lies an octave, a twelfth, two octaves, or the fifth partial below.
    """

    velocity: NDArray[np.int64]
    since_s: NDArray[np.float64]
    together: NDArray[np.int64]
    overtone: Bools

    @classmethod
    def of(cls, hearing: Hearing) -> Surroundings:
        played = hearing.recording.played
        onset_s = np.array([note.onset_s for note in played])
        pitch = np.array([note.pitch_midi for note in played])
        first = np.searchsorted(onset_s, onset_s - TOGETHER_S)
        end = np.searchsorted(onset_s, onset_s + TOGETHER_S, side="right")
        overtone = [
            bool(np.isin(pitch[i] - pitch[a:b], OVERTONES_SEMITONES).any())
            for i, (a, b) in enumerate(zip(first, end, strict=True))
        ]
        return cls(
            velocity=np.array([note.velocity for note in played]),
            since_s=since_last_strike_s(played),
            together=end - first - 1,
            overtone=np.array(overtone, bool),
        )


KINDS: dict[str, Callable[[Surroundings], Bools]] = {
    "velocity below 30": lambda s: s.velocity < 30,
    "velocity 30 to 39": lambda s: (s.velocity >= 30) & (s.velocity < 40),
    "overtone of a key struck with it": lambda s: s.overtone,
    f"{MANY} keys or more at once": lambda s: s.together >= MANY - 1,
    "struck again within 0.15 s": lambda s: s.since_s < 0.15,
    "struck again within 0.15 to 0.25 s": lambda s: (s.since_s >= 0.15) & (s.since_s < 0.25),
    "struck again within 0.25 to 1 s": lambda s: (s.since_s >= 0.25) & (s.since_s < 1.0),
}


@dataclass(frozen=True, slots=True)
class Count:
    """Notes of a kind, and how many of them are missed at each tolerance."""

    kind: str
    notes: int
    missed: tuple[int, ...]


def missed_within(hearing: Hearing, tolerance_s: float) -> Bools:
    """Which of the notes played are missed, shape (n,)."""
    played = hearing.recording.played
    missed = np.ones(len(played), bool)
    pairs = match_notes(played, hearing.heard, onset_tolerance_s=tolerance_s)
    missed[[i for i, _ in pairs]] = False
    return missed


def count_kinds(hearings: Sequence[Hearing], cut: bool) -> list[Count]:
    """All notes, each kind, and those of none; of cut segments, those near their ends too."""
    of_kind: dict[str, list[Bools]] = {}
    missed: list[list[Bools]] = [[] for _ in TOLERANCES_S]
    for hearing in hearings:
        around = Surroundings.of(hearing)
        kinds = {name: fits(around) for name, fits in KINDS.items()}
        if cut:
            length_s = soundfile.info(hearing.recording.audio).duration
            onset_s = np.array([note.onset_s for note in hearing.recording.played])
            kinds["at a segment's edge"] = (onset_s < EDGE_S) | (onset_s > length_s - EDGE_S)
        kinds["plain"] = ~np.any(list(kinds.values()), axis=0)
        kinds = {"all": np.ones(len(around.velocity), bool)} | kinds
        for name, fits in kinds.items():
            of_kind.setdefault(name, []).append(fits)
        for tolerance_s, found in zip(TOLERANCES_S, missed, strict=True):
            found.append(missed_within(hearing, tolerance_s))
    lost = [np.concatenate(found) for found in missed]
    return [
        Count(name, int(fits.sum()), tuple(int((fits & one).sum()) for one in lost))
        for name, fits in ((name, np.concatenate(parts)) for name, parts in of_kind.items())
    ]


def count_false(hearings: Sequence[Hearing]) -> dict[str, int]:
    """Notes heard that nobody played within 100 ms, by what was played near them."""
    counts = dict.fromkeys(FALSE_KINDS, 0)
    for hearing in hearings:
        played = hearing.recording.played
        pairs = match_notes(played, hearing.heard, onset_tolerance_s=TOLERANCES_S[-1])
        right = {j for _, j in pairs}
        onset_s = np.array([note.onset_s for note in played])
        end_s = np.array([note.offset_s for note in played], np.float64)
        pitch = np.array([note.pitch_midi for note in played])
        for j, note in enumerate(hearing.heard):
            if j in right:
                continue
            above = note.pitch_midi - pitch
            struck = np.abs(onset_s - note.onset_s) < TOGETHER_S
            held = (onset_s < note.onset_s) & (note.onset_s < end_s + RINGS_S)
            kinds = (
                (struck & np.isin(above, OVERTONES_SEMITONES)).any(),
                (struck & np.isin(-above, OVERTONES_SEMITONES)).any(),
                (held & (above == 0)).any(),
                True,
            )
            counts[FALSE_KINDS[kinds.index(True)]] += 1
    return counts


def onset_f1(hearings: Sequence[Hearing], tolerance_s: float) -> float:
    """The mean over recordings."""
    f1 = []
    for hearing in hearings:
        found = int((~missed_within(hearing, tolerance_s)).sum())
        f1.append(2 * found / max(1, len(hearing.recording.played) + len(hearing.heard)))
    return float(np.mean(f1))


def counts_table(name: str, hearings: Sequence[Hearing], counts: Sequence[Count]) -> Table:
    """One group of recordings: a line for each kind."""
    f1 = " / ".join(f"{onset_f1(hearings, t):.3f} ±{1000 * t:.0f} ms" for t in TOLERANCES_S)
    table = Table(f"{name}: onset F1 {f1}", "notes")
    for tolerance_s in TOLERANCES_S:
        table.add_column(f"missed ±{1000 * tolerance_s:.0f} ms", justify="right")
        table.add_column("of all missed", justify="right")
    for count in counts:
        cells = []
        for lost, of_all in zip(count.missed, counts[0].missed, strict=True):
            cells += [f"{lost / max(1, count.notes):.0%}", f"{lost / max(1, of_all):.0%}"]
        table.add_row(count.kind, f"{count.notes:,}", *cells)
    return table


def main() -> None:
    """Print a table for each group of recordings."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rendered", type=Path, help="rendered segments in place of recordings")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="an installed model or a .tflite")
    options = parser.parse_args()
    to_people = Console(stderr=True)
    rendered = rendered_in(options.rendered) if options.rendered else None
    recordings = rendered or places.recordings()
    if not recordings:
        to_people.print(f"left out: no recordings in {places.EVALUATION}")
        return
    groups: dict[str, list[Hearing]] = {}
    with Progress(console=to_people) as bar:
        for recording in bar.track(recordings, description="listening"):
            (hearing,) = hear(options.model, [recording])
            for group in recording.groups or ("recordings",):
                groups.setdefault(group, []).append(hearing)
    for name, hearings in groups.items():
        table = counts_table(name, hearings, count_kinds(hearings, cut=rendered is not None))
        console = Console(width=max(110, Console().width))
        console.print(table)
        false = count_false(hearings)
        console.print(f"false: {', '.join(f'{kind} {n}' for kind, n in false.items())}\n")


if __name__ == "__main__":
    main()
