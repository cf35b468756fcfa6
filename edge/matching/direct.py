"""Direct matching: the rigid half of the matching.

A few bars are short enough for one tempo. So the performance is cut into phrases, and each
phrase is laid on the score as it is, stretched by one factor and moved by one offset (and
nothing else), where most of its notes fall on a written note of the same pitch. All stretches
and offsets are tried at once, in the manner of Hough: every pair of equal pitches votes, at
every stretch, for the offset that would join the two.

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

STRETCHES_LOG2 = np.arange(-8, 9) / 8
"""Tempi tried: half to double, by an eighth of an octave (9 %), so that a phrase of a dozen
steps drifts by no more than half a step within the nearest one."""

TOLERANCE_STEPS = 0.6
"""How far from a written note a played one may fall, in middle steps of the template."""


def direct_match(played: PitchTemplate, written: PitchTemplate) -> float:
    """Share of the played notes that fall on written ones, phrase by phrase, 0 to 1.

    Parameters
    ----------
    played, written : PitchTemplate
        ``written`` is a stretch of score that should hold the performance.
    """
    shift = played.middle_pitch - written.middle_pitch
    found = 0
    for start in range(0, len(played), PHRASE_NOTES):
        phrase = slice(start, start + PHRASE_NOTES)
        found += _phrase_match(
            played.semitones[phrase] + shift,
            played.times[phrase] - played.times[start],
            written.semitones,
            written.times,
        )
    return found / max(len(played), 1)


def _phrase_match(
    played_pitch: NDArray[np.int64],
    played_time: NDArray[np.float64],
    written_pitch: NDArray[np.int64],
    written_time: NDArray[np.float64],
) -> int:
    """Most notes of a phrase that one stretch and one offset explain."""
    same = np.flatnonzero(played_pitch[:, None] == written_pitch[None, :])
    note, target = np.divmod(same, max(written_pitch.size, 1))
    if note.size == 0:
        return 0
    stretched = played_time[note][None, :] * np.exp2(STRETCHES_LOG2)[:, None]
    offset = written_time[target][None, :] - stretched
    offset -= offset.min()
    offset /= TOLERANCE_STEPS
    cell = offset.astype(np.int64)
    width = int(cell.max()) + 2
    cell += np.arange(STRETCHES_LOG2.size)[:, None] * width
    votes = np.bincount(cell.ravel(), minlength=width * STRETCHES_LOG2.size)
    return min(int((votes[:-1] + votes[1:]).max()), played_pitch.size)
