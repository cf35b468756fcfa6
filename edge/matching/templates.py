"""Pitch templates: notes with the piano's tuning, the key and the tempo taken out of them.

Audio, a score, a singer and one finger on the keys must all end in the same thing before they
can be compared (the weighted comprehensive matching of the design). A template holds pitches
in semitones above or below the template's own middle pitch, with the tuning offset removed,
and times in units of the template's own middle step. Two templates of one passage then differ
by little, whatever the key, the pitch of the instrument and the pace.

Tuning is estimated as the circular mean of the fractions of a semitone: a fraction of 0.49
and one of -0.49 are neighbours, and an ordinary mean would put them at 0 (Müller,
*Fundamentals of Music Processing*, 2015, section 3.1).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SAME_MOMENT_S = 0.03
"""Steps shorter than this lie inside a chord and say nothing about the tempo."""


@dataclass(frozen=True, slots=True)
class PitchTemplate:
    """Notes, normalised.

    Attributes
    ----------
    semitones : int64, shape (notes,)
        Above or below ``middle_pitch``.
    times : float64, shape (notes,)
        Since the first note, in units of ``step_s``; rising.
    middle_pitch : int
        MIDI pitch that the template is counted from, the median.
    tuning_semitones : float
        What the instrument lies above equal temperament at 440 Hz, -0.5 to 0.5.
    step_s : float
        Median time from one moment with notes to the next.
    """

    semitones: NDArray[np.int64]
    times: NDArray[np.float64]
    middle_pitch: int
    tuning_semitones: float
    step_s: float

    def __len__(self) -> int:
        return int(self.semitones.size)


def pitch_template(
    pitch_semitones: NDArray[np.floating] | NDArray[np.integer],
    onset_s: NDArray[np.float64],
) -> PitchTemplate:
    """Normalise notes.

    Parameters
    ----------
    pitch_semitones : shape (notes,)
        MIDI pitches; with fractions where they were measured. At least one.
    onset_s : float64, shape (notes,)
        Rising.
    """
    whole = np.issubdtype(pitch_semitones.dtype, np.integer)
    tuning = 0.0 if whole else tuning_offset(pitch_semitones.astype(np.float64))
    pitch = np.round(pitch_semitones - tuning).astype(np.int64)
    middle = int(np.sort(pitch)[pitch.size // 2])
    step_s = middle_step(onset_s)
    return PitchTemplate(pitch - middle, (onset_s - onset_s[0]) / step_s, middle, tuning, step_s)


def tuning_offset(pitch_semitones: NDArray[np.float64]) -> float:
    """Circular mean of the fractions of a semitone, -0.5 to 0.5."""
    turns = np.exp(2j * np.pi * pitch_semitones).mean()
    return float(np.angle(turns) / (2 * np.pi))


def middle_step(onset_s: NDArray[np.float64]) -> float:
    """Median time from one moment with notes to the next; 1 s where there is one moment only."""
    steps = np.diff(onset_s)
    steps = np.sort(steps[steps > SAME_MOMENT_S])
    middle = steps.size // 2
    return float(steps[middle] + steps[-1 - middle]) / 2 if steps.size else 1.0
