"""Search: which pieces, and which places in them, share fingerprints with what was played.

Every fingerprint of the performance votes for the chords it was found at. A vote is filed
under the *diagonal*: score chord number minus played chord number. Where the performance is
that passage, the votes gather on a few neighbouring diagonals, whatever the tempo, drifting
slowly as chords are missed or split. A rare fingerprint weighs more than a common one, and a
played chord has one vote in a place, however many of its fingerprints are found there:
otherwise a few chords in a figure that repeats would outvote a whole passage.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.matching.catalogue import Catalogue
from edge.matching.chords import Chords
from edge.matching.fingerprints import query_fingerprints
from edge.matching.pack import Pack

DIAGONALS_PER_PLACE = 32
"""Width of a place, in chords."""

VOTES_OF_A_SINGLE = 8.0
"""A fingerprint's vote is the logarithm of this times the pieces over its postings."""

PLACES_IN_A_PIECE = 2
"""A theme that comes back has votes in both of its places."""

VOTES_SHARE = 0.3
"""A place with less of the best one's votes is not handed on: the work is not there, and to look
costs more than to search. ``python -m benchmarks.reach``: of 810 perturbed scores that are found
without it this share loses none, 0.4 loses three and 0.5 eight."""

FEWEST_PLACES = 16
"""As many are handed on whatever their votes: what the run of other works reaches must be known."""

VOTER_BITS = 12
MOST_CHORDS_SEARCHED = 2**VOTER_BITS
"""Bound on the played chords of one search; queries are far shorter."""

LIST_BITS = 20
"""Room for the fingerprints of that many chords."""

VOTES_SORTED = 20_000
"""Bound on the votes that are weighed one by one."""

POSTINGS_LOOKED_AT = 300_000
"""Bound on the work of one search in one pack: rare fingerprints first, until this many
postings have been read."""


@dataclass(frozen=True, slots=True)
class Place:
    """A place that fingerprints voted for.

    Attributes
    ----------
    piece : int
        Number in the catalogue.
    first_chord : int
        Chord of the piece at which the performance's first chord would lie; may be negative.
    votes : float
    """

    piece: int
    first_chord: int
    votes: float


def places(chords: Chords, catalogue: Catalogue, most: int) -> list[Place]:
    """The places with most votes, best first, at most :data:`PLACES_IN_A_PIECE` in a piece.

    Parameters
    ----------
    chords : Chords
        What was played.
    catalogue : Catalogue
    most : int
        How many to return.
    """
    fingerprints = query_fingerprints(chords.part(slice(0, MOST_CHORDS_SEARCHED)))
    order = np.argsort(fingerprints.codes, kind="stable")
    codes, played = fingerprints.codes[order], fingerprints.chord[order]
    found: list[Place] = []
    for pack, first_piece in zip(catalogue.packs, catalogue.first_piece, strict=True):
        found.extend(_places_in_pack(codes, played, pack, first_piece, most))
    return sorted(found, key=lambda place: -place.votes)[:most]


def _places_in_pack(
    codes: NDArray[np.uint32],
    played: NDArray[np.int64],
    pack: Pack,
    first_piece: int,
    most: int,
) -> list[Place]:
    pack.let_go()
    place, votes = _votes(codes, played, pack)
    pack.let_go()
    if place.size == 0:
        return []
    together = votes + _next_door(place, votes)
    best = _largest(together, 4 * most)
    first_chord = place[best] * DIAGONALS_PER_PLACE
    starts = pack.arrays.piece_chord_start
    # The middle of the two places lies in the piece, even where the first chord does not.
    inside = np.clip(first_chord + DIAGONALS_PER_PLACE, 0, int(starts[-1]) - 1)
    piece = np.searchsorted(starts, inside.astype(starts.dtype), side="right") - 1
    worth = together[best] >= VOTES_SHARE * together[best[0]]
    worth[:FEWEST_PLACES] = True
    best, first_chord, piece = best[worth], first_chord[worth], piece[worth]
    return [
        Place(
            piece=first_piece + int(piece[index]),
            first_chord=int(first_chord[index]) - int(starts[piece[index]]),
            votes=float(together[best[index]]),
        )
        for index in _apart(piece, place[best])[:most]
    ]


def _largest(values: NDArray[np.float64], most: int) -> NDArray[np.int64]:
    """Indices of the largest values, largest first, the first of equal ones first."""
    if values.size <= most:
        return np.argsort(-values, kind="stable")
    bound = np.partition(values, values.size - most)[values.size - most]
    among = np.flatnonzero(values >= bound)
    return among[np.argsort(-values[among], kind="stable")[:most]]


def _apart(piece: NDArray[np.int64], place: NDArray[np.int64]) -> list[int]:
    """Which to keep, best first: a few places in a piece, and none beside one that is kept."""
    kept: dict[int, list[int]] = {}
    chosen = []
    for index, (number, where) in enumerate(zip(piece.tolist(), place.tolist(), strict=True)):
        others = kept.setdefault(number, [])
        if len(others) < PLACES_IN_A_PIECE and all(abs(where - other) > 1 for other in others):
            others.append(where)
            chosen.append(index)
    return chosen


def _votes(
    codes: NDArray[np.uint32], played: NDArray[np.int64], pack: Pack
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The places that were voted for, rising, and their votes.

    A vote is one number, place, voter and list from its highest bits to its lowest. Sorted, the
    votes of a place lie together, those of one voter in it next to each other, and the rarest
    fingerprint's before them, which is the one that counts.
    """
    start, count, voter = _postings(codes, played, pack)
    if count.size == 0:
        return np.zeros(0, dtype=np.int64), np.zeros(0)
    weight = np.log(np.maximum(VOTES_OF_A_SINGLE * len(pack.pieces) / count, 2))
    # In place: to the system, fresh arrays of this size cost more than what is done with them.
    place = pack.postings(start, count).astype(np.int64)
    place -= np.repeat(voter, count)
    place //= DIAGONALS_PER_PLACE
    lowest = place.min()
    place -= lowest
    often = _often_named(place)
    cast = place[often]
    listed = np.repeat(np.arange(count.size, dtype=np.int32), count)[often]
    cast <<= VOTER_BITS
    cast |= voter[listed]
    cast <<= LIST_BITS
    cast |= listed
    cast.sort()
    counted = cast[np.flatnonzero(np.diff(cast >> LIST_BITS, prepend=cast[0] ^ -1))]
    place = counted >> (VOTER_BITS + LIST_BITS)
    first = np.flatnonzero(np.diff(place, prepend=place[0] - 1))
    votes: NDArray[np.float64] = np.add.reduceat(weight[counted & (2**LIST_BITS - 1)], first)
    return place[first] + lowest, votes


def _often_named(place: NDArray[np.int64]) -> NDArray[np.bool_] | slice:
    """The votes for the places that are named most often; all where they are few. From 0 on.

    To count them is a tenth of the work of sorting them, and nearly all of a large catalogue's
    places are named once, by chance.
    """
    if place.size <= VOTES_SORTED:
        return slice(None)
    named = np.bincount(place)[place]
    as_often = np.cumsum(np.bincount(named)[::-1])[::-1]  # votes for places named so often or more
    least = (
        int(np.argmax(as_often <= VOTES_SORTED)) if as_often[-1] <= VOTES_SORTED else named.max()
    )
    often: NDArray[np.bool_] = named >= least
    return often


def _postings(
    codes: NDArray[np.uint32], played: NDArray[np.int64], pack: Pack
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Start and length of the posting list of each code that is known, rarest first.

    Also the played chord that asks, and no more lists than the bound on the work allows.
    """
    arrays = pack.arrays
    at = np.minimum(np.searchsorted(arrays.code, codes), arrays.code.size - 1)
    known = np.flatnonzero(arrays.code[at] == codes)
    start = arrays.code_start[at[known]].astype(np.int64)
    count = arrays.code_start[at[known] + 1].astype(np.int64) - start
    rare_first = np.argsort(count, kind="stable")
    affordable = rare_first[np.cumsum(count[rare_first]) <= POSTINGS_LOOKED_AT]
    return start[affordable], count[affordable], played[known][affordable]


def _next_door(place: NDArray[np.int64], votes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Votes of the place right after each, 0 where it has none."""
    after = np.zeros_like(votes)
    adjacent = np.flatnonzero(np.diff(place) == 1)
    after[adjacent] = votes[adjacent + 1]
    return after
