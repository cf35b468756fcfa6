"""Which written note each played one is: the comparison, note by note.

The follower knows the chord; this finds the note. Where the player was at a few surely right
notes makes a map from written to played time, and each key is then looked at alone: its
written strikes and its played ones, both in order, are laid against each other so that the
least is left over and the least is moved (a sequence alignment in the manner of Needleman and
Wunsch). So a repeated note that was struck three times instead of four lacks one, not three,
and a late note is late, not one missed and one too many. The notes found make a better map,
and it is done once more.

What is left over on both sides, near in time and within a few keys, is a finger that
slipped: a wrong note. After Nakamura, Yoshii & Katayose, "Performance error detection and
post-processing for fast and accurate symbolic music alignment" (ISMIR 2017), who align first
and tell errors from what the alignment leaves.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SAME_NOTE_S = 0.6
"""Struck further from its time than this, a key is another note: one missed, one extra."""
SLIP_S = 0.15
SLIP_SEMITONES = 4
OCTAVE = 12
"""A slip lies within a third, or an octave off; and this near in time."""
EVENED_OVER = 8
"""Anchors on either side."""
NONE = -1


@dataclass(frozen=True, slots=True)
class TimeMap:
    """From written to played seconds: straight between anchors, and beyond them in tempo.

    ``written_s`` and ``played_s`` are float64, shape (anchors,), both rising strictly.
    """

    written_s: NDArray[np.float64]
    played_s: NDArray[np.float64]

    def played_at(self, written_s: NDArray[np.float64]) -> NDArray[np.float64]:
        """When what is written there was, or would have been, played."""
        return _mapped(written_s, self.written_s, self.played_s)

    def written_at(self, played_s: NDArray[np.float64]) -> NDArray[np.float64]:
        """The inverse."""
        return _mapped(played_s, self.played_s, self.written_s)

    def evened(self) -> TimeMap:
        """The same without sudden turns: at each anchor, the line through those around it."""
        played_s = self.played_s.copy()
        for number in range(self.written_s.size):
            near = slice(max(number - EVENED_OVER, 0), number + EVENED_OVER + 1)
            x, y = self.written_s[near] - self.written_s[number], self.played_s[near]
            off = x - x.mean()
            square = float(off @ off)
            slope = float(off @ y) / square if square > 0 else 0.0
            played_s[number] = y.mean() - slope * x.mean()
        return time_map(self.written_s, played_s)


def _mapped(
    x: NDArray[np.float64], at: NDArray[np.float64], value: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Linear interpolation that goes on straight beyond the ends."""
    if at.size == 1:
        alone: NDArray[np.float64] = value[0] + (x - at[0])
        return alone
    found = np.interp(x, at, value)
    few = min(at.size - 1, 4)
    first = (value[few] - value[0]) / (at[few] - at[0])
    last = (value[-1] - value[-1 - few]) / (at[-1] - at[-1 - few])
    found = np.where(x < at[0], value[0] + (x - at[0]) * first, found)
    mapped: NDArray[np.float64] = np.where(x > at[-1], value[-1] + (x - at[-1]) * last, found)
    return mapped


def time_map(written_s: NDArray[np.float64], played_s: NDArray[np.float64]) -> TimeMap:
    """The map through most of the pairs that go forward together.

    Notes of a chord count as one, in their middle; what would go back in time (a wrong guess)
    is left out: the longest rising subsequence stays.

    Parameters
    ----------
    written_s, played_s : float64, shape (pairs,)
        At least one pair.
    """
    order = np.argsort(written_s, kind="stable")
    written, first = np.unique(np.round(written_s[order], 6), return_index=True)
    pieces = np.split(played_s[order], first[1:])
    played = np.array([float(np.median(piece)) for piece in pieces])
    ends: list[float] = []
    end_at: list[int] = []
    before = np.full(played.size, NONE)
    for number, at_s in enumerate(played):
        place = bisect_left(ends, at_s)
        if place:
            before[number] = end_at[place - 1]
        if place == len(ends):
            ends.append(at_s)
            end_at.append(number)
        else:
            ends[place], end_at[place] = at_s, number
    kept = []
    number = end_at[-1]
    while number != NONE:
        kept.append(number)
        number = int(before[number])
    return TimeMap(written[kept[::-1]], played[kept[::-1]])


def same_keys(
    due_s: NDArray[np.float64],
    due_pitch: NDArray[np.int64],
    struck_s: NDArray[np.float64],
    struck_pitch: NDArray[np.int64],
) -> NDArray[np.int64]:
    """The played note that answers each written one, key by key.

    Parameters
    ----------
    due_s, due_pitch : shape (written,)
        When each written note is due, in played time.
    struck_s, struck_pitch : shape (played,)

    Returns
    -------
    int64, shape (written,)
        Index of the played note, or -1.
    """
    answer = np.full(due_s.size, NONE)
    for pitch in np.intersect1d(due_pitch, struck_pitch):
        due = np.flatnonzero(due_pitch == pitch)
        struck = np.flatnonzero(struck_pitch == pitch)
        due = due[np.argsort(due_s[due], kind="stable")]
        struck = struck[np.argsort(struck_s[struck], kind="stable")]
        for i, j in _one_key(due_s[due], struck_s[struck]):
            answer[due[i]] = struck[j]
    return answer


def _one_key(due_s: NDArray[np.float64], struck_s: NDArray[np.float64]) -> list[tuple[int, int]]:
    """Pairs of one key's strikes, written and played, both rising.

    A pair costs how far it is apart in units of `SAME_NOTE_S`, a strike left over a half.
    """
    cost = np.abs(due_s[:, None] - struck_s[None, :]) / SAME_NOTE_S
    if due_s.size == 1 or struck_s.size == 1:
        nearest = divmod(int(np.argmin(cost)), struck_s.size)
        return [nearest] if cost[nearest] < 1.0 else []
    rows, columns = cost.shape
    total = np.add.outer(np.arange(rows + 1), np.arange(columns + 1)) * 0.5
    for i in range(rows):
        for j in range(columns):
            total[i + 1, j + 1] = min(
                total[i, j] + cost[i, j], total[i, j + 1] + 0.5, total[i + 1, j] + 0.5
            )
    pairs = []
    i, j = rows, columns
    while i and j:
        if total[i, j] == total[i - 1, j] + 0.5:
            i -= 1
        elif total[i, j] == total[i, j - 1] + 0.5:
            j -= 1
        else:
            i, j = i - 1, j - 1
            pairs.append((i, j))
    return pairs


def slips(
    due_s: NDArray[np.float64],
    due_pitch: NDArray[np.int64],
    struck_s: NDArray[np.float64],
    struck_pitch: NDArray[np.int64],
) -> NDArray[np.int64]:
    """The wrong note that was struck instead of each written one; the nearest pairs first.

    Same parameters and answer as :func:`same_keys`, for what that left over.
    """
    answer = np.full(due_s.size, NONE)
    away_s = np.abs(due_s[:, None] - struck_s[None, :]) / SLIP_S
    keys = np.abs(due_pitch[:, None] - struck_pitch[None, :])
    near = (keys >= 1) & ((keys <= SLIP_SEMITONES) | (keys == OCTAVE)) & (away_s < 1.0)
    cost = np.where(near, away_s + np.minimum(keys, SLIP_SEMITONES) / SLIP_SEMITONES, np.inf)
    for _ in range(min(cost.shape)):
        i, j = np.unravel_index(int(np.argmin(cost)), cost.shape)
        if not np.isfinite(cost[i, j]):
            break
        answer[i] = j
        cost[i, :] = cost[:, j] = np.inf
    return answer
