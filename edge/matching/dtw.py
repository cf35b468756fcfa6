"""Subsequence dynamic time warping over chords: the elastic half of the matching.

After Müller, *Fundamentals of Music Processing* (2015), section 7.2: the performance, all of
it, is laid on that stretch of the score that fits it best, wherever it begins and ends. Here
it is written as a gain to be made large, counted in notes: a played note that its score chord
holds gains 1; a written note that was passed over costs :data:`MISSED_NOTE_COST`; a played
note that is not written gains nothing. What is left, divided by the notes played, is 1 for a
faultless performance and about 0 for another piece.

From one played chord to the next the score moves on by no chord (a chord struck in pieces,
an ornament), by one, or by two or three (chords missed, or two heard as one). Because every
step takes exactly one played chord, a row of the table depends on the row before it alone:
it is computed in one go for all candidates, and a stream can be aligned as it arrives, with
one row for its state. The table is kept in diagonals, as the search hands them over.

The cost of what is passed over needs no bookkeeping on the way. Let W(j) be the written notes
up to chord j, and add the cost of all of them to the gain of every cell: whichever way leads
to j then pays for the same notes, so that a step simply adds what was matched, and the notes
before the beginning and up to the end are settled once, at the start and the finish.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from edge.matching.chords import Chords

MISSED_NOTE_COST = 0.3
"""Cost of a written note that was not played, in notes gained."""

ROLLED_WITHIN_S = 0.15
"""A chord that is struck in pieces follows itself this closely (rolled chords: 30 to 100 ms a
note). Without the bound a broken chord could be played for ever on one written chord, and
wrong pieces fit half of anything."""

SKIPPABLE_CHORDS = 2
"""Chords of the score that one step may pass over."""


@dataclass(frozen=True, slots=True)
class Windows:
    """A stretch of score for each candidate, padded with empty chords to one length.

    Attributes
    ----------
    keys : uint64, shape (candidates, chords, 2)
    sizes : float32, shape (candidates, chords)
        Notes in each chord, 0 for padding.
    """

    keys: NDArray[np.uint64]
    sizes: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Alignments:
    """The best alignment in each window.

    Attributes
    ----------
    gain : float32, shape (candidates,)
        Notes gained, divided by notes played: at most 1.
    score_chord : int64, shape (candidates, played chords)
        Chord of the window that each played chord lies on, rising.
    """

    gain: NDArray[np.float32]
    score_chord: NDArray[np.int64]


def align(played: Chords, windows: Windows, with_path: bool = True) -> Alignments:
    """Lay the performance on every window.

    The diagonal of played chord ``i`` and window chord ``j`` is ``j - i``; a window of
    ``n + d - 1`` chords offers ``n`` played chords ``d`` diagonals.

    Parameters
    ----------
    played : Chords
        At least one.
    windows : Windows
    with_path : bool
        False saves the time and memory of finding where each chord lies;
        ``score_chord`` is then empty.
    """
    count = len(played)
    candidates, chords = windows.sizes.shape
    diagonals = chords - count + 1
    arriving, staying = _gains(played, windows, diagonals)
    written = np.cumsum(windows.sizes, axis=1) * np.float32(MISSED_NOTE_COST)
    table = np.empty((count if with_path else 2, candidates, diagonals), dtype=np.float32)
    best = table[0]
    np.add(
        arriving[0],
        (written - windows.sizes * np.float32(MISSED_NOTE_COST))[:, :diagonals],
        out=best,
    )
    for row in range(1, count):
        before, best = best, table[row if with_path else row % 2]
        _next_row(before, arriving[row], staying.get(row), best)
    settled = best - written[:, count - 1 :]
    last = np.argmax(settled, axis=1)
    gain = np.take_along_axis(settled, last[:, None], axis=1)[:, 0]
    notes = max(int(played.sizes.sum()), 1)
    steps = _steps_taken(table, arriving) if with_path else np.zeros((0, candidates, 0), np.int8)
    return Alignments(
        gain=(gain / notes).astype(np.float32),
        score_chord=_traced(steps, last),
    )


def _gains(
    played: Chords, windows: Windows, diagonals: int
) -> tuple[NDArray[np.float32], dict[int, NDArray[np.float32]]]:
    """Gain on arriving in each cell, (played, candidates, diagonals), and on staying there.

    Who stays on a chord gains only keys that the played chord before has not struck, and only
    soon after it: the rows of those chords alone are in the dictionary.
    """
    arriving = _diagonals_of(_common(played.keys, windows), diagonals)
    soon = np.flatnonzero(np.diff(played.onset_s, prepend=-np.inf) <= ROLLED_WITHIN_S)
    fresh = _common(played.keys[soon] & ~played.keys[soon - 1], windows)
    staying = {
        row: gained[:, row : row + diagonals]
        for row, gained in zip(soon.tolist(), fresh, strict=True)
    }
    return arriving, staying


def _common(keys: NDArray[np.uint64], windows: Windows) -> NDArray[np.float32]:
    """What the keys that are common to played and written chords are worth.

    Shape (played, candidates, chords of a window).
    """
    low, high = (
        np.bitwise_count(np.ascontiguousarray(windows.keys[:, :, word]) & keys[:, word, None, None])
        for word in (0, 1)
    )
    low += high
    worth: NDArray[np.float32] = low * np.float32(1 + MISSED_NOTE_COST)
    return worth


def _diagonals_of(cells: NDArray[np.float32], diagonals: int) -> NDArray[np.float32]:
    """Cells by diagonal rather than by chord of the window; a view."""
    played, candidates, _ = cells.shape
    row, candidate, chord = cells.strides
    return as_strided(
        cells, (played, candidates, diagonals), (row + chord, candidate, chord), writeable=False
    )


def _next_row(
    before: NDArray[np.float32],
    arriving: NDArray[np.float32],
    staying: NDArray[np.float32] | None,
    best: NDArray[np.float32],
) -> None:
    """The best gain in each cell after one played chord more, into ``best``."""
    best[:, :1] = before[:, :1]
    np.maximum(before[:, 1:], before[:, :-1], out=best[:, 1:])
    for passed in range(2, SKIPPABLE_CHORDS + 1):
        np.maximum(best[:, passed:], before[:, :-passed], out=best[:, passed:])
    best += arriving
    stayed = before[:, 1:] if staying is None else before[:, 1:] + staying[:, :-1]
    np.maximum(best[:, :-1], stayed, out=best[:, :-1])


def _steps_taken(table: NDArray[np.float32], arriving: NDArray[np.float32]) -> NDArray[np.int8]:
    """How many chords the score moved on to reach each cell; the step by one where it serves.

    Who moved on by none of the steps that arrive has stayed.
    """
    before, best, arrived = table[:-1], table[1:], arriving[1:]
    steps = np.zeros(table.shape, dtype=np.int8)
    step = steps[1:]
    for passed in range(SKIPPABLE_CHORDS, -1, -1):
        end = before.shape[2] - passed
        this_way = before[:, :, :end] + arrived[:, :, passed:] >= best[:, :, passed:]
        np.copyto(step[:, :, passed:], passed + 1, where=this_way)
    return steps


def _traced(steps: NDArray[np.int8], last: NDArray[np.int64]) -> NDArray[np.int64]:
    """Walk back from the last diagonal of each candidate."""
    count, candidates, _ = steps.shape
    rows = np.arange(candidates)
    score_chord = np.zeros((candidates, count), dtype=np.int64)
    diagonal = last.copy()
    for row in range(count - 1, -1, -1):
        score_chord[:, row] = row + diagonal
        diagonal = diagonal - (steps[row, rows, diagonal] - 1)
    return score_chord
