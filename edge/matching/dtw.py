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
one row for its state. The table is kept in diagonals, as the search hands them over, and the
candidates lie side by side in each: a step to the next diagonal is then the same distance in
memory for all of them, and every row of the table one unbroken run of numbers.

The cost of what is passed over needs no bookkeeping on the way. Let W(j) be the written notes
up to chord j, and add the cost of all of them to the gain of every cell: whichever way leads
to j then pays for the same notes, so that a step simply adds what was matched, and the notes
before the beginning and up to the end are settled once, at the start and the finish.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from edge.matching.chords import Chords

TENTHS = 10
"""The table counts in tenths of a note: in short whole numbers, of which equal ones are equal."""

MISSED_NOTE_COST_TENTHS = 3
MISSED_NOTE_COST = MISSED_NOTE_COST_TENTHS / TENTHS
"""Cost of a written note that was not played, in notes gained."""

WORTH_TENTHS = TENTHS + MISSED_NOTE_COST_TENTHS
"""What a note is worth that was played and written: what it gains, and no cost."""

ROLLED_WITHIN_S = 0.15
"""A chord that is struck in pieces follows itself this closely (rolled chords: 30 to 100 ms a
note). Without the bound a broken chord could be played for ever on one written chord, and
wrong pieces fit half of anything."""

SKIPPABLE_CHORDS = 2
"""Chords of the score that one step may pass over."""

CELLS_AT_A_TIME = 16_384
"""What is compared in one go, so that the words stay in a processor's cache."""


@dataclass(frozen=True, slots=True)
class Windows:
    """A stretch of score for each candidate, padded with empty chords to one length.

    Attributes
    ----------
    keys : uint64, shape (2, chords, candidates)
        Low and high words; see :class:`edge.matching.chords.Chords`.
    sizes : uint8, shape (chords, candidates)
        Notes in each chord, 0 for padding.
    """

    keys: NDArray[np.uint64]
    sizes: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Alignments:
    """The best alignment in each window.

    Attributes
    ----------
    gain : float32, shape (candidates,)
        Notes gained, divided by notes played: at most 1.
    last : int64, shape (candidates,)
        Diagonal on which it ends.
    table, arriving : int16 or int32, shape (played chords, diagonals × candidates)
        Best gain in each cell, and the gain on arriving there.
    """

    gain: NDArray[np.float32]
    last: NDArray[np.int64]
    table: NDArray[np.signedinteger[Any]]
    arriving: NDArray[np.signedinteger[Any]]

    def score_chord(self, candidate: int) -> NDArray[np.int64]:
        """Chord of the window that each played chord lies on, rising; shape (played chords,).

        Walks back from the last diagonal; the step by one chord where it serves. Who moved on
        by none of the steps that arrive has stayed.
        """
        count, cells = self.table.shape
        candidates = self.last.size
        table, arriving = self.table.ravel().data, self.arriving.ravel().data
        diagonal = int(self.last[candidate])
        diagonals = [diagonal]
        for row in range(count - 1, 0, -1):
            at = row * cells + diagonal * candidates + candidate
            before = table[at] - arriving[at]
            at -= cells
            for passed in range(min(SKIPPABLE_CHORDS, diagonal) + 1):
                if table[at - passed * candidates] >= before:
                    diagonal -= passed
                    break
            else:
                diagonal += 1
            diagonals.append(diagonal)
        return np.arange(count, dtype=np.int64) + np.array(diagonals[::-1], dtype=np.int64)


def align(played: Chords, windows: Windows) -> Alignments:
    """Lay the performance on every window.

    The diagonal of played chord ``i`` and window chord ``j`` is ``j - i``; a window of
    ``n + d - 1`` chords offers ``n`` played chords ``d`` diagonals.

    Parameters
    ----------
    played : Chords
        At least one.
    windows : Windows
    """
    count = len(played)
    chords, candidates = windows.sizes.shape
    diagonals = chords - count + 1
    notes = int(played.sizes.sum())
    most = WORTH_TENTHS * (notes + int(windows.sizes.sum(axis=0).max()))
    kind = np.int16 if most <= np.iinfo(np.int16).max else np.int32
    written_keys = _cells(windows.keys, diagonals * candidates)
    arriving = _worth(played.keys, written_keys, kind)
    # Who stays on a chord gains only keys that the played chord before has not struck, and only
    # soon after it.
    soon = np.flatnonzero(np.diff(played.onset_s, prepend=-np.inf) <= ROLLED_WITHIN_S)
    fresh = _worth(played.keys[soon] & ~played.keys[soon - 1], written_keys[:, soon], kind)
    staying = dict(zip(soon.tolist(), fresh, strict=True))
    cost = np.multiply(windows.sizes, MISSED_NOTE_COST_TENTHS, dtype=kind)
    written = np.cumsum(cost, axis=0, dtype=kind)
    table = np.empty((count, diagonals * candidates), dtype=kind)
    np.add(arriving[0], (written - cost)[:diagonals].ravel(), out=table[0])
    rows = list(table)
    for row in range(1, count):
        _next_row(rows[row - 1], arriving[row], staying.get(row), candidates, rows[row])
    settled = table[-1].reshape(diagonals, candidates) - written[count - 1 :]
    last = np.argmax(settled, axis=0)
    gain = settled[last, np.arange(candidates)] / (TENTHS * max(notes, 1))
    return Alignments(gain.astype(np.float32), last, table, arriving)


def _cells(keys: NDArray[np.uint64], cells: int) -> NDArray[np.uint64]:
    """The keys of the written chord of each cell; shape (2, played chords, cells), a view."""
    words, chords, candidates = keys.shape
    rows = chords - cells // candidates + 1
    word, chord, candidate = keys.strides
    return as_strided(keys, (words, rows, cells), (word, chord, candidate), writeable=False)


def _worth(
    played: NDArray[np.uint64],
    written: NDArray[np.uint64],
    kind: type[np.int16 | np.int32],
) -> NDArray[np.signedinteger[Any]]:
    """What the keys that played chords share with the written chord of each cell are worth.

    Shapes (played chords, 2) and (2, played chords, cells) in, (played chords, cells) out.
    """
    low, high = written
    rows, cells = low.shape
    worth = np.empty((rows, cells), dtype=kind)
    block = max(CELLS_AT_A_TIME // cells, 1)
    for first in range(0, rows, block):
        some = slice(first, first + block)
        common = np.bitwise_count(low[some] & played[some, :1])
        common += np.bitwise_count(high[some] & played[some, 1:])
        np.multiply(common, WORTH_TENTHS, out=worth[some], dtype=kind)
    return worth


def _next_row(
    before: NDArray[np.signedinteger[Any]],
    arriving: NDArray[np.signedinteger[Any]],
    staying: NDArray[np.signedinteger[Any]] | None,
    candidates: int,
    best: NDArray[np.signedinteger[Any]],
) -> None:
    """The best gain in each cell after one played chord more, into ``best``."""
    best[:candidates] = before[:candidates]
    np.maximum(before[candidates:], before[:-candidates], out=best[candidates:])
    for passed in range(2, SKIPPABLE_CHORDS + 1):
        later = best[passed * candidates :]
        np.maximum(later, before[: -passed * candidates], out=later)
    best += arriving
    stayed = before[candidates:]
    if staying is not None:
        stayed = stayed + staying[:-candidates]
    np.maximum(best[:-candidates], stayed, out=best[:-candidates])
