"""``python -m benchmarks.live_naming``: how soon a piece is named, and how often wrongly.

Perturbed CC BY scores are played live to the tracker, note by note, twice: with their work in
the catalogue, and without; and POP909, which is never in it. Only material that may train is
played: this is what the tracker's thresholds were chosen with.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from rich.console import Console
from rich.progress import track

from benchmarks.perturbed import (
    HEARD,
    PLAYER,
    performances,
    same_music,
    strangers,
    training_scores,
)
from edge.matching import Catalogue, MatchState, PieceTracker
from edge.note import NoteEvent

PERFORMANCES = 60
SECONDS = 30.0
HEARD_AFTER_S = 0.25
SILENCE_BEFORE_S = 1.0
TICKS_PER_S = 4
SEED = 21


Told = list[tuple[float, str]]


def named(
    tracker: PieceTracker, notes: Sequence[NoteEvent], seconds: float, stop_at_first: bool = False
) -> Told:
    """Which work was published as matched, and how long after the first note.

    The notes, in order of their onsets, are handed over as an ear confirms them; the first
    one sounds a second after the beginning.
    """
    told: Told = []
    shift_s = SILENCE_BEFORE_S - notes[0].onset_s
    coming = iter([replace(n, onset_s=n.onset_s + shift_s, offset_s=None) for n in notes])
    after = next(coming, None)
    for tick in range(round((SILENCE_BEFORE_S + seconds) * TICKS_PER_S) + 1):
        now_s = tick / TICKS_PER_S
        come = []
        while after is not None and after.onset_s + HEARD_AFTER_S <= now_s:
            come.append(after)
            after = next(coming, None)
        match = tracker.push(come, now_s)
        if match is not None and match.state is MatchState.MATCHED:
            told.append((now_s - SILENCE_BEFORE_S, match.candidates[0].work_id))
            if stop_at_first:
                break
    return told


def first_right_s(told: Told, is_right: Callable[[str], bool]) -> float:
    """When the right work was first named; infinity if never."""
    return next((at_s for at_s, work in told if is_right(work)), math.inf)


def main() -> None:
    scores = training_scores()
    catalogue = Catalogue.from_scores(scores)
    number = {piece.piece_id: index for index, piece in enumerate(catalogue.pieces)}
    rng = np.random.default_rng(SEED)
    played = [
        each
        for hands in (PLAYER, HEARD)
        for each in performances(scores, PERFORMANCES, SECONDS, hands, rng)
    ]
    right_s, wrongly, unknown = [], 0, 0
    for score, notes in track(played, "perturbed scores", transient=True):
        versions = same_music(number[score.piece.piece_id], catalogue, catalogue.piece_chords)
        same = {catalogue.pieces[piece].work_id for piece in versions}
        told = named(PieceTracker(catalogue), notes, SECONDS)
        right_s.append(first_right_s(told, same.__contains__))
        wrongly += any(work not in same for _, work in told)
        left_out = PieceTracker(catalogue, without_works=same)
        unknown += bool(named(left_out, notes, SECONDS, stop_at_first=True))
    pop = sum(
        bool(named(PieceTracker(catalogue), notes, SECONDS, stop_at_first=True))
        for notes in strangers(PERFORMANCES, SECONDS, rng)
    )
    console = Console()
    for limit_s in (10.0, 20.0, 30.0):
        within = np.mean(np.array(right_s) <= limit_s)
        console.print(f"named rightly within {limit_s:g} s: {within:.3f}")
    console.print(f"another work named on the way: {wrongly / len(played):.3f}")
    console.print(f"work left out, another claimed: {unknown / len(played):.3f}")
    console.print(f"POP909, a work claimed: {pop / PERFORMANCES:.3f}")


if __name__ == "__main__":
    main()
