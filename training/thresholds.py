"""At which activation a note begins and ends: found on rendered playing, written to the manifest.

A model's activations have their own scale, so the thresholds of `edge.segmentation` belong to the
model. Each is tried in turn at a few values around the best so far (coordinate search), judged by
the notes of rendered segments that the training never saw. Real recordings play no part in it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge.note import NoteEvent, NoteState
from edge.notes import NoteTracker
from edge.segmentation import SegmentationParameters
from training.evaluation import NoteScores, mean_scores, score_notes

# How much the score with offsets counts beside the one of onsets alone.
OFFSET_SHARE = 0.3
PASSES = 3

_STEPS = tuple((x, x, x) for x in (0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65))

# Parameters in the order in which they are tried, and the values that each may take.
_CHOICES: tuple[tuple[str, tuple[Any, ...]], ...] = (
    ("onset_threshold", _STEPS),
    ("level_fraction", (0.0, 0.25, 0.5, 0.75)),
    ("level_range", ((0.6, 1.3), (0.4, 1.5))),
    ("register_keys", (6.0, 12.0)),
    ("noise_factor", (0.0, 1.0, 2.0, 4.0)),
    ("chord_fraction", (0.0, 0.1, 0.2, 0.3)),
    ("rise_fraction", (0.1, 0.3, 0.5)),
    ("restrike_fraction", (0.2, 0.4, 0.6)),
    ("shadow_fraction", (0.3, 0.5, 0.7)),
    ("support", (0.0, 0.05, 0.15, 0.3, 0.4)),
    ("sounding_threshold", (0.2, 0.3, 0.4, 0.5, 0.6)),
    ("end_fraction", (0.2, 0.4, 0.6)),
    ("offset_weight", (0.0, 0.3, 0.6)),
    ("end_frames", (1, 2, 3)),
    ("hand_keys", (0, 3, 5, 8, 12)),
    ("hand_threshold", (0.6, 0.7, 0.8, 0.9, 1.0)),
    ("hand_keys", (0, 3, 5, 8, 12)),
    ("onset_threshold", _STEPS),
)


@dataclass(frozen=True, slots=True)
class Judged:
    """A segment's activations, shape (frames, 88, 5), and the notes that were played in it."""

    activations: NDArray[np.float32]
    played: tuple[NoteEvent, ...]
    hop_s: float


def judge(judged: Sequence[Judged], parameters: SegmentationParameters) -> NoteScores:
    """Mean scores of these thresholds; notes that began before a segment do not count."""
    return mean_scores([_score(one, parameters) for one in judged])


def _score(one: Judged, parameters: SegmentationParameters) -> NoteScores:
    tracker = NoteTracker(parameters, one.hop_s)
    updates = tracker.push(one.activations) + tracker.flush()
    heard = [u.note for u in updates if u.state is NoteState.ENDED]
    return score_notes(one.played, heard)


def worth(scores: NoteScores) -> float:
    """What the search maximises."""
    return scores.f1 + OFFSET_SHARE * scores.f1_with_offsets


def fit_thresholds(
    judged: Sequence[Judged],
    start: SegmentationParameters | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> SegmentationParameters:
    """The best thresholds found by trying one after the other, ``PASSES`` times over.

    A second pass finds what suits the thresholds that the first one came to; it ends early when
    nothing changes.
    """
    best = start or SegmentationParameters()
    best_scores = judge(judged, best)
    for _ in range(PASSES):
        before = best
        for name, values in _CHOICES:
            for value in values:
                if value == getattr(best, name):
                    continue
                tried = msgspec.structs.replace(best, **{name: value})
                scores = judge(judged, tried)
                if worth(scores) > worth(best_scores):
                    best, best_scores = tried, scores
            report(
                f"{name} = {getattr(best, name)}: onset F1 {best_scores.f1:.4f}, "
                f"with offsets {best_scores.f1_with_offsets:.4f}"
            )
        if best == before:
            break
    return best
