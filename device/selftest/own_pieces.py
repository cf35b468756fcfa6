"""Does the catalogue know its own pieces? Some of them, asked from their own scores.

A catalogue may be anybody's, without the piece of the known recording. But whatever it holds, the
beginning of one of its scores, played as it stands, has one right answer. So an index that does not
belong to its scores, which no hash can tell, is found out.
"""

from __future__ import annotations

import numpy as np

from device.selftest.verdict import failed, not_tried, passed
from edge.matching import Catalogue, MatchState
from edge.matching.chords import Chords
from edge.matching.identification import ENOUGH_CHORDS, identify_chords
from edge.messages import Check

ASKED_CHORDS = 2 * ENOUGH_CHORDS
"""From `ENOUGH_CHORDS` on, no match means that the catalogue does not hold the piece."""

ASKED_PIECES = 9
LEAST_NAMED = 0.75
"""Of every seventh piece that we ship 124 of 125 are named so. With another index, of our large
pack none of the nine is; of our smallest, 28 pieces, none to four, or eight where the index is only
shifted: in so few, each piece is found anyway."""

NAME = "own pieces"

REMEDY = (
    "its index does not belong to its scores: build it again, go back to the version before, or "
    "flash the card anew"
)


def check_own_pieces(catalogue: Catalogue) -> Check:
    """Pieces from all through ``catalogue``, of which enough have to be named rightly."""
    long = [n for n in range(len(catalogue)) if catalogue.piece_chords(n).count >= ASKED_CHORDS]
    if not long:
        return not_tried(NAME, "no piece of this catalogue is long enough to be asked about")
    spread = np.linspace(0, len(long) - 1, ASKED_PIECES).round().astype(int)
    asked = [long[index] for index in dict.fromkeys(spread.tolist())]
    named = sum(is_named(catalogue, number) for number in asked)
    text = f"{named} of {len(asked)} named from the beginnings of their scores"
    if named >= LEAST_NAMED * len(asked):
        return passed(NAME, text)
    return failed(NAME, text, REMEDY)


def is_named(catalogue: Catalogue, number: int) -> bool:
    """Whether this piece's beginning is called by its own name, or its work's."""
    answer = identify_chords(beginning(catalogue, number), catalogue, catalogue.piece_chords)
    work_id = catalogue.pieces[number].work_id
    return answer.state is MatchState.MATCHED and answer.candidates[0].work_id == work_id


def beginning(catalogue: Catalogue, number: int) -> Chords:
    """The first `ASKED_CHORDS` chords of a piece, in its score's own tempo."""
    score = catalogue.piece_chords(number)
    keys = score.keys_of(slice(0, ASKED_CHORDS))
    onset_s = score.onset_s[:ASKED_CHORDS]
    return Chords(onset_s, keys, score.sizes[:ASKED_CHORDS], np.ones(ASKED_CHORDS))
