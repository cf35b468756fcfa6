"""Verification: the weighted comprehensive matching of a few places, in two rounds.

First the last few dozen chords are warped onto every place, which is quick and sorts them.
The best few are then matched in full: elastically (:mod:`edge.matching.dtw`), directly
(:mod:`edge.matching.direct`), and by the fusion of the two.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.matching.chords import Chords, notes_of_chords
from edge.matching.direct import direct_match
from edge.matching.dtw import Windows, align
from edge.matching.fusion import fused_score, segmentation_sureness
from edge.matching.pack import PieceChords
from edge.matching.search import DIAGONALS_PER_PLACE, Place
from edge.matching.templates import PitchTemplate, pitch_template

PLACES_MATCHED_IN_FULL = 8
SORTING_CHORDS = 48
"""Chords of the first round."""

MARGIN_CHORDS = 24
MARGIN_SHARE = 0.25
"""How far beyond its place a performance may drift, in chords and as a share of its own:
ornaments, split chords and missed ones shift score and performance against each other."""

PieceReader = Callable[[int], PieceChords]


@dataclass(frozen=True, slots=True)
class Verified:
    """A place, matched in full.

    Attributes
    ----------
    piece : int
        Number in the catalogue.
    direct, elastic, fused : float
        See :mod:`edge.matching.fusion`.
    score_chord : int64, shape (played chords,)
        Chord of the piece on which each played chord lies; rising, may lie outside the piece
        where nothing fits.
    transposition : int
        Semitones that the playing lies above the score.
    """

    piece: int
    direct: float
    elastic: float
    fused: float
    score_chord: NDArray[np.int64]
    transposition: int


def verify(
    chords: Chords, found: Sequence[Place], read_piece: PieceReader, transposition: int = 0
) -> list[Verified]:
    """Match what was played with each place; the best few, best first.

    Parameters
    ----------
    chords : Chords
        Already moved by ``-transposition``, so that they lie where the score does.
    found : Places
        As the search gave them.
    read_piece : callable
        Gives a piece's chords by its number.
    transposition : int
        Noted in what is returned.
    """
    if not found:
        return []
    pieces = [read_piece(place.piece) for place in found]
    best = _sorted_by_recent(chords, found, pieces)[:PLACES_MATCHED_IN_FULL]
    return _matched_in_full(
        chords, [found[index] for index in best], [pieces[index] for index in best], transposition
    )


def _sorted_by_recent(
    chords: Chords, found: Sequence[Place], pieces: Sequence[PieceChords]
) -> NDArray[np.int64]:
    if len(found) <= PLACES_MATCHED_IN_FULL:
        return np.arange(len(found))
    before = max(len(chords) - SORTING_CHORDS, 0)
    recent = chords.part(slice(before, len(chords)))
    margin = _margin(len(chords))
    windows = _windows(found, pieces, before - margin, len(recent) + _diagonals(margin) - 1)
    return np.argsort(-align(recent, windows, with_path=False).gain, kind="stable")


def _matched_in_full(
    chords: Chords, found: Sequence[Place], pieces: Sequence[PieceChords], transposition: int
) -> list[Verified]:
    margin = _margin(len(chords))
    length = len(chords) + _diagonals(margin) - 1
    alignments = align(chords, _windows(found, pieces, -margin, length))
    played = pitch_template(*notes_of_chords(chords.keys, chords.onset_s))
    sureness = segmentation_sureness(chords)
    verified = []
    for row, (place, piece) in enumerate(zip(found, pieces, strict=True)):
        first = place.first_chord - margin
        direct = direct_match(played, _written(piece, first, length))
        elastic = float(alignments.gain[row])
        verified.append(
            Verified(
                piece=place.piece,
                direct=direct,
                elastic=elastic,
                fused=fused_score(direct, elastic, sureness),
                score_chord=alignments.score_chord[row] + first,
                transposition=transposition,
            )
        )
    return sorted(verified, key=lambda each: -each.fused)


def _margin(chords: int) -> int:
    return MARGIN_CHORDS + int(MARGIN_SHARE * chords)


def _diagonals(margin: int) -> int:
    """A place and the one after it, from which the votes came, and the margin on both sides."""
    return 2 * DIAGONALS_PER_PLACE + 2 * margin


def _windows(
    found: Sequence[Place], pieces: Sequence[PieceChords], offset: int, length: int
) -> Windows:
    """``length`` chords of each piece, from ``offset`` after its place on; empty outside it."""
    keys = np.zeros((len(found), length, 2), dtype=np.uint64)
    sizes = np.zeros((len(found), length), dtype=np.float32)
    for row, (place, piece) in enumerate(zip(found, pieces, strict=True)):
        start = place.first_chord + offset
        inside = slice(max(start, 0), max(min(start + length, piece.sizes.size), 0))
        at = slice(inside.start - start, inside.start - start + piece.sizes[inside].size)
        keys[row, at] = piece.keys[inside]
        sizes[row, at] = piece.sizes[inside]
    return Windows(keys, sizes)


def _written(piece: PieceChords, start: int, length: int) -> PitchTemplate:
    """The template of a stretch of score; the whole piece's end where it lies outside."""
    first = min(max(start, 0), piece.sizes.size - 1)
    inside = slice(first, max(start + length, first + 1))
    return pitch_template(*notes_of_chords(piece.keys[inside], piece.onset_s[inside]))
