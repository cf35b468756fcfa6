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


def repeat_passages(
    forward: Iterable[float], backward: Iterable[float], endings: Iterable[Passage] = ()
) -> list[Passage]:
    """From each sign back to the place where its part begins.

    That is the last forward sign before it; or, where another part was repeated since then, the
    end of that; or the beginning. A sign at the end of an ending leads to before the first one.
    """
    groups = _groups(endings)
    ends = sorted(set(backward))
    begins = sorted({0.0, *forward, *ends})
    passages = []
    for end in ends:
        before = min([end, *(group[0][0] for group in groups if group[0][0] < end <= group[-1][1])])
        passages.append((end, max((each for each in begins if each < before), default=0.0)))
    return passages


def ending_passages(endings: Iterable[Passage]) -> list[Passage]:
    """From the beginning of the first ending to that of every other one of its group."""
    return [
        (group[0][0], begin)
        for group in _groups(endings)
        for begin, _ in group
        if begin > group[0][0]
    ]


def _groups(endings: Iterable[Passage]) -> list[list[Passage]]:
    """Endings, by where they begin and end, of one part: each begins as the one before it ends."""
    groups: list[list[Passage]] = []
    for ending in sorted(set(endings)):
        if groups and groups[-1][-1][1] == ending[0]:
            groups[-1].append(ending)
        else:
            groups.append([ending])
    return groups


def section_passages(order: Sequence[str], sections: dict[str, Passage]) -> list[Passage]:
    """Where an order of sections does not simply go on; sections have a beginning and an end."""
    known = [sections[name] for name in order if name in sections]
    return [(one[1], other[0]) for one, other in pairwise(known) if one[1] != other[0]]


def as_array(passages: Iterable[Passage]) -> NDArray[np.float64]:
    """Each passage once, in order of its places; shape (repeats, 2)."""
    apart = sorted({each for each in passages if each[0] != each[1]})
    return np.array(apart, dtype=np.float64).reshape(-1, 2)
