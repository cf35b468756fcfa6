"""``python -m benchmarks.fingerprints``: which fingerprints find most for the room they take.

The sweep that chose the constants of ``edge/matching/fingerprints.py``. For each setting: entries
a piece, and the share of perturbed windows whose piece is among the search's first thirty places.
"""

from __future__ import annotations

from unittest.mock import patch

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.perturbed import HEARD, PLAYER, one_hand, performances, training_scores
from edge.matching import Catalogue, Score
from edge.matching import fingerprints as tried
from edge.matching.chords import chords_of_notes
from edge.matching.score import Hand
from edge.matching.search import places

WINDOWS = 250
PLACES = 30
SEED = 1
SETTINGS = ((2, 6, 6), (2, 3, 8), (2, 2, 12), (2, 2, 20), (2, 4, 8), (4, 16, 16))
"""Pitches a chord; one triple in how many is kept of the top line, and of the others."""


def main() -> None:
    scores = training_scores()
    alone = [right for each in scores if (right := one_hand(each, Hand.RIGHT))]
    rng = np.random.default_rng(SEED)
    asked = {
        "5 s, a player": performances(scores, WINDOWS, 5.0, PLAYER, rng),
        "5 s, heard": performances(scores, WINDOWS, 5.0, HEARD, rng),
        "10 s, heard": performances(scores, WINDOWS, 10.0, HEARD, rng),
        "10 s, right hand": performances(alone, WINDOWS, 10.0, PLAYER, rng),
    }
    table = Table("pitches", "top line", "others", "entries a piece", *asked)
    for pitches, top, others in SETTINGS:
        with patch.multiple(
            tried,
            PITCHES_PER_CHORD=pitches,
            TOP_LINE_KEPT_ONE_IN=top,
            OTHERS_KEPT_ONE_IN=others,
        ):
            table.add_row(*_row(scores, asked, pitches, top, others))
    Console().print(table)


def _row(scores: list[Score], asked: dict, pitches: int, top: int, others: int) -> list[str]:
    catalogue = Catalogue.from_scores(scores)
    found = []
    for windows in asked.values():
        hits = sum(
            score.piece.piece_id
            in {
                catalogue.pieces[place.piece].piece_id
                for place in places(chords_of_notes(notes), catalogue, PLACES)
            }
            for score, notes in windows
        )
        found.append(f"{hits / len(windows):.3f}")
    entries = catalogue.packs[0].arrays.posting.size / len(catalogue)
    return [str(pitches), f"1 in {top}", f"1 in {others}", f"{entries:.0f}", *found]


if __name__ == "__main__":
    main()
