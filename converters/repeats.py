"""Repeat signs: from where to where they let a player go on.

A score is read straight through, and what its signs allow beside that is a list of pairs of
places: the end of a repeated part and its beginning, the beginning of the first ending and that
of the second, the words *da capo* and the first note. That is less than an order of
performance, and what a listener needs: whoever comes to the first place may be heard next at
the second, or may go on.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Passage = tuple[float, float]
"""From where, and to where, in quarters."""


def repeat_passages(forward: Iterable[float], backward: Iterable[float]) -> list[Passage]:
    """From each sign back to the place where its part begins.

    That is the last forward sign before it; or, where another part was repeated since then, the
    end of that; or the beginning.
    """
    begins, ends = sorted(forward), sorted(set(backward))
    return [(end, max([0.0, *(each for each in (*begins, *ends) if each < end)])) for end in ends]


def ending_passages(endings: Iterable[Passage]) -> list[Passage]:
    """From the beginning of the first ending to that of every other one of its group.

    Endings, given by where they begin and end, are one group where each begins as the one
    before it ends.
    """
    passages: list[Passage] = []
    first = until = -1.0
    for begin, end in sorted(set(endings)):
        if begin == until:
            passages.append((first, begin))
        else:
            first = begin
        until = end
    return passages


def section_passages(order: Sequence[str], sections: dict[str, Passage]) -> list[Passage]:
    """Where an order of sections does not simply go on; sections have a beginning and an end."""
    known = [sections[name] for name in order if name in sections]
    return [(one[1], other[0]) for one, other in pairwise(known) if one[1] != other[0]]


def as_array(passages: Iterable[Passage]) -> NDArray[np.float64]:
    """Each passage once, in order of its places; shape (repeats, 2)."""
    apart = sorted({each for each in passages if each[0] != each[1]})
    return np.array(apart, dtype=np.float64).reshape(-1, 2)
