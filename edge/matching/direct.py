"""Direct matching: the rigid half of the matching.

A few bars are short enough for one tempo. So the performance is cut into phrases, and each
phrase is laid on the score as it is, stretched by one factor and moved by one offset (and
nothing else), where most of its notes fall on a written note of the same pitch. All stretches
and offsets are tried at once, in the manner of Hough: every pair of equal pitches votes, at
every stretch, for the offset that would join the two. Pairs are taken, and offsets counted, about
where time warping laid the phrase: farther off there is nothing but chance to be found.

Where the elastic matching asks "in this order?", this asks "in this rhythm?". A wrong piece
that shares its chords fails here; a performance with broken time fails here too, and is
rescued there.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge.matching.templates import PitchTemplate

PHRASE_NOTES = 24
"""Notes laid on the score with one tempo: about three to five seconds of piano music."""

STRETCHES = np.exp2(np.arange(-8, 9) / 8).astype(np.float32)
"""Tempi tried: half to double, by an eighth of an octave (9 %), so that a phrase of a dozen
steps drifts by no more than half a step within the nearest one."""

TOLERANCE_STEPS = 0.6
"""How far from a written note a played one may fall, in middle steps of the template."""

NEAR_NOTES = 64
"""Written notes, before and after the one that time warping gives a played note, among which its
like is looked for: about three phrases."""

FARTHEST_CELLS = 64
"""How far a phrase may lie from where time warping laid its first note, in tolerances."""

CELLS = 2 * FARTHEST_CELLS + 2
"""Cells of an offset; the first and the last take what lies farther off, and do not count."""


def direct_match(played: PitchTemplate, written: PitchTemplate, near: NDArray[np.int64]) -> float:
    """Share of the played notes that fall on written ones, phrase by phrase, 0 to 1.

    Parameters
    ----------
    played, written : PitchTemplate
        ``written`` is a stretch of score that should hold the performance. At least one note
        each.
    near : int64, shape (played notes,)
        Written note about which each played one should lie.
    """
    phrase = np.arange(len(played)) // PHRASE_NOTES
    begins = phrase * PHRASE_NOTES
    note, target = _like_notes(played, written, near)
    since_begin = (played.times - played.times[begins])[note]
    beyond_begin = written.times[target] - written.times[near[begins[note]]]
    offset = np.multiply.outer(-STRETCHES, since_begin.astype(np.float32))
    offset += beyond_begin.astype(np.float32)
    offset *= np.float32(1 / TOLERANCE_STEPS)
    offset += FARTHEST_CELLS + 1
    cell = np.clip(offset, 0, CELLS - 1, out=offset).astype(np.int64)
    cell += np.arange(STRETCHES.size)[:, None] * CELLS
    cell += phrase[note] * (STRETCHES.size * CELLS)
    phrases = int(phrase[-1]) + 1
    votes = np.bincount(cell.ravel(), minlength=phrases * STRETCHES.size * CELLS)
    votes = votes.reshape(phrases, STRETCHES.size, CELLS)[:, :, 1:-1]
    found = (votes[:, :, :-1] + votes[:, :, 1:]).max(axis=(1, 2))
    return float(np.minimum(found, np.bincount(phrase)).sum() / len(played))


def _like_notes(
    played: PitchTemplate, written: PitchTemplate, near: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Every pair of a played note and a written one of its pitch that lies near it."""
    count = len(written)
    in_order = np.sort((written.semitones + written.middle_pitch) * count + np.arange(count))
    pitch = (played.semitones + played.middle_pitch) * count
    first = np.searchsorted(in_order, pitch + np.maximum(near - NEAR_NOTES, 0))
    end = np.searchsorted(in_order, pitch + np.minimum(near + NEAR_NOTES + 1, count))
    pairs = end - first
    note = np.repeat(np.arange(len(played)), pairs)
    rank = np.arange(note.size) + np.repeat(first - np.cumsum(pairs) + pairs, pairs)
    return note, in_order[rank] % count
