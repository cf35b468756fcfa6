"""``python -m benchmarks.live_naming``: how soon a piece is named, and how often wrongly.

Perturbed CC BY scores are played live to the tracker, note by note, twice: with their work in
the catalogue, and without; and POP909, which is never in it. Only material that may train is
played: this is what the tracker's thresholds were chosen with.
"""

from __future__ import annotations

import numpy as np
from rich.console import Console

from benchmarks.perturbed import HEARD, PLAYER, performances, strangers, training_scores
from edge.matching import Catalogue, MatchState, PieceTracker
from edge.note import NoteEvent

PERFORMANCES = 60
SECONDS = 30.0
HEARD_AFTER_S = 0.2
SEED = 21


def named(tracker: PieceTracker, notes: list[NoteEvent]) -> list[tuple[float, str]]:
    """When which work was named, in seconds from the beginning."""
    told = []
    waiting = list(notes)
    for tick in range(int((SECONDS + 2.0) * 4)):
        now_s = tick / 4
        come = [note for note in waiting if note.onset_s + HEARD_AFTER_S <= now_s]
        waiting = waiting[len(come) :]
        match = tracker.push(come, now_s)
        if match is not None and match.state is MatchState.MATCHED:
            told.append((now_s, match.candidates[0].work_id))
    return told


def main() -> None:
    scores = training_scores()
    catalogue = Catalogue.from_scores(scores)
    rng = np.random.default_rng(SEED)
    played = [
        each
        for hands in (PLAYER, HEARD)
        for each in performances(scores, PERFORMANCES, SECONDS, hands, rng)
    ]
    soon = {10.0: 0, 20.0: 0, 30.0: 0}
    wrongly = unknown = 0
    for score, notes in played:
        work = score.piece.work_id
        told = named(PieceTracker(catalogue), notes)
        wrongly += any(each != work for _, each in told)
        for limit_s in soon:
            soon[limit_s] += any(at_s <= limit_s and each == work for at_s, each in told)
        unknown += bool(named(PieceTracker(catalogue, without_works={work}), notes))
    pop = sum(
        bool(named(PieceTracker(catalogue), notes))
        for notes in strangers(PERFORMANCES, SECONDS, rng)
    )
    console = Console()
    for limit_s, count in soon.items():
        console.print(f"named rightly within {limit_s:g} s: {count / len(played):.3f}")
    console.print(f"another work named on the way: {wrongly / len(played):.3f}")
    console.print(f"work left out, another claimed: {unknown / len(played):.3f}")
    console.print(f"POP909, a work claimed: {pop / PERFORMANCES:.3f}")


if __name__ == "__main__":
    main()
