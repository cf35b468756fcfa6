"""How well an ear hears: notes found against notes played, by the rules of MIREX.

A note counts as found when one of the same pitch is reported within 50 ms of its onset; with
offsets, when its end also lies within 50 ms or a fifth of its length, whichever is more
(`mir_eval.transcription`). Each note played answers for one reported. Scores are averaged over
recordings, so that a long one counts no more than a short one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.note import NoteEvent, pitch_to_hz

ONSET_TOLERANCE_S = 0.05
OFFSET_RATIO = 0.2
# mir_eval refuses notes without length.
_LEAST_LENGTH_S = 0.01


@dataclass(frozen=True, slots=True)
class NoteScores:
    """Of one recording, or the mean over several."""

    precision: float
    recall: float
    f1: float
    f1_with_offsets: float


def score_notes(played: Sequence[NoteEvent], heard: Sequence[NoteEvent]) -> NoteScores:
    """Compare the notes heard in a recording with those played; all must have ended."""
    from mir_eval.transcription import precision_recall_f1_overlap

    reference, estimate = intervals_and_hz(played), intervals_and_hz(heard)
    if not len(reference[0]) or not len(estimate[0]):
        same = float(len(reference[0]) == len(estimate[0]))
        return NoteScores(same, same, same, same)
    precision, recall, f1, _ = precision_recall_f1_overlap(
        *reference, *estimate, onset_tolerance=ONSET_TOLERANCE_S, offset_ratio=None
    )
    _, _, f1_with_offsets, _ = precision_recall_f1_overlap(
        *reference, *estimate, onset_tolerance=ONSET_TOLERANCE_S, offset_ratio=OFFSET_RATIO
    )
    return NoteScores(precision, recall, f1, f1_with_offsets)


def mean_scores(scores: Sequence[NoteScores]) -> NoteScores:
    """The mean over recordings, figure by figure."""
    fields = ("precision", "recall", "f1", "f1_with_offsets")
    return NoteScores(*(float(np.mean([getattr(s, field) for s in scores])) for field in fields))


def intervals_and_hz(
    notes: Sequence[NoteEvent],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Notes as mir_eval wants them: seconds, shape (n, 2), and hertz, shape (n,).

    A note that still sounds is given the least length: its end cannot be scored yet.
    """
    onset = np.array([n.onset_s for n in notes], np.float64)
    offset = np.array([n.offset_s or 0.0 for n in notes], np.float64)
    intervals = np.stack([onset, np.maximum(offset, onset + _LEAST_LENGTH_S)], axis=1)
    hz = np.array([pitch_to_hz(n.pitch_midi) for n in notes])
    return intervals.reshape(-1, 2), hz
