"""``python -m benchmarks.reach``: how many places are worth a look, and how many a long one.

The sweep behind the bounds of ``edge/matching/search.py`` (which places are handed on) and
``edge/matching/verification.py`` (which of them are matched in full). Perturbed CC BY scores of 3
to 25 s are asked for in the catalogue of ``benchmarks/works.py``, with their work and without, and
windows of POP909. For each setting: the share that is right at first, the log loss of the
confidence over all answers, and one step's processor time.
"""

from __future__ import annotations

import time
from functools import lru_cache
from unittest.mock import patch

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.perturbed import HEARD, PLAYER, performances, strangers, training_scores
from benchmarks.works import catalogue
from edge.matching import search, verification
from edge.matching.chords import Chords, chords_of_notes
from edge.matching.identification import FEWEST_CHORDS, MOST_CHORDS, identify_chords

SECONDS = (3.0, 4.5, 6.5, 9.0, 13.0, 18.0, 25.0)
QUERIES = 60
SEED = 97
VOTES_SHARES = (0.0, 0.2, 0.3, 0.4, 0.5)
IN_FULL = ((8, 8, 0.0), (4, 8, 0.15), (3, 6, 0.1), (2, 4, 0.05))
"""Fewest, most, and the gain within reach."""

progress_console = Console(stderr=True)


def questions() -> list[tuple[str, Chords]]:
    """Chords, and the piece they are from; none for POP909."""
    scores = training_scores()
    rng = np.random.default_rng(SEED)
    asked = []
    for seconds in SECONDS:
        for hands in (PLAYER, HEARD):
            played = performances(scores, QUERIES, seconds, hands, rng)
            asked += [(score.piece.piece_id, notes) for score, notes in played]
        asked += [("", notes) for notes in strangers(QUERIES, seconds, rng)]
    chords = [(piece, chords_of_notes(n).part(slice(0, MOST_CHORDS))) for piece, n in asked]
    return [(piece, each) for piece, each in chords if len(each) >= FEWEST_CHORDS]


def main() -> None:
    asked = questions()
    table = Table("votes share", "in full", "right", "log loss", "step: mean, ms", "p95, ms")
    standing = IN_FULL[2]
    for share in VOTES_SHARES:
        table.add_row(*_row(asked, share, standing))
    for in_full in IN_FULL:
        table.add_row(*_row(asked, search.VOTES_SHARE, in_full))
    Console().print(table)


def _row(
    asked: list[tuple[str, Chords]], share: float, in_full: tuple[int, int, float]
) -> list[str]:
    pieces = catalogue()
    work_of = {piece.piece_id: piece.work_id for piece in pieces.pieces}
    read_piece = lru_cache(maxsize=400)(pieces.piece_chords)
    fewest, most, reach = in_full
    right, loss, step_ms = [], 0.0, []
    with (
        patch.object(search, "VOTES_SHARE", share),
        patch.multiple(
            verification,
            FEWEST_MATCHED_IN_FULL=fewest,
            MOST_MATCHED_IN_FULL=most,
            GAIN_WITHIN_REACH=reach,
        ),
    ):
        for piece, chords in track(asked, f"{share}, {in_full}", console=progress_console):
            work = work_of.get(piece, "")
            began_s = time.thread_time()
            answer = identify_chords(chords, pieces, read_piece)
            step_ms.append((time.thread_time() - began_s) * 1e3)
            if work:
                best = answer.candidates[0].work_id if answer.candidates else ""
                right.append(best == work)
                without = identify_chords(chords, pieces, read_piece, without_works={work})
                loss += _loss(without.candidates[:1], "")
            loss += _loss(answer.candidates[:1], work)
    return [
        f"{share}",
        f"{fewest} to {most}, {reach}",
        f"{np.mean(right):.3f}",
        f"{loss:.1f}",
        f"{np.mean(step_ms):.1f}",
        f"{np.percentile(step_ms, 95):.1f}",
    ]


def _loss(best: tuple, work: str) -> float:
    """Log loss of the best candidate's confidence; 0 where there is none."""
    return sum(
        -float(np.log(max(each.confidence if each.work_id == work else 1 - each.confidence, 1e-6)))
        for each in best
    )


if __name__ == "__main__":
    main()
