"""What is lost on the way from Keras to the device: the same playing through all three forms.

The trained model over whole sequences, the streaming TensorFlow Lite graph in floats, and the one
in 8 bits hear the same segments. Their activations are compared head by head, and so are the notes
that come out: a step of the activations is of no consequence until it costs a note.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from edge.manifest import HEADS
from edge.segmentation import SegmentationParameters
from training.evaluation import NoteScores
from training.thresholds import Judged, judge

Float32 = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Form:
    """One form of a model against the first: what it hears, and how far off its heads are.

    Attributes
    ----------
    scores : NoteScores
    mean_difference, worst_difference : float per head
        Of activations, 0 to 1; the worst is the 99.9th percentile.
    """

    scores: NoteScores
    mean_difference: tuple[float, ...]
    worst_difference: tuple[float, ...]


def compare(
    forms: Mapping[str, Sequence[Judged]], parameters: SegmentationParameters, edge_frames: int
) -> dict[str, Form]:
    """Compare each form with the first one.

    Parameters
    ----------
    forms : name to the same segments as this form heard them
    parameters : SegmentationParameters
        The thresholds that ship, for all forms alike.
    edge_frames : int
        Frames at either end of a segment that are left out: there the forms begin from different
        silences.
    """
    first = next(iter(forms.values()))
    return {
        name: Form(judge(heard, parameters), *_differences(first, heard, edge_frames))
        for name, heard in forms.items()
    }


def _differences(
    first: Sequence[Judged], other: Sequence[Judged], edge_frames: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    inner = slice(edge_frames, -edge_frames)
    apart = np.concatenate(
        [
            np.abs(a.activations[inner] - b.activations[inner]).reshape(-1, len(HEADS))
            for a, b in zip(first, other, strict=True)
        ]
    )
    worst = np.quantile(apart, 0.999, axis=0)
    return tuple(map(float, apart.mean(axis=0))), tuple(map(float, worst))


def parity_table(forms: Mapping[str, Form]) -> Table:
    """The comparison as people read it."""
    table = Table("", "onset F1", "with offsets", *(f"{head} ±" for head in HEADS))
    for name, form in forms.items():
        pairs = zip(form.mean_difference, form.worst_difference, strict=True)
        table.add_row(
            name,
            f"{form.scores.f1:.4f}",
            f"{form.scores.f1_with_offsets:.4f}",
            *(f"{mean:.4f} ({worst:.2f})" for mean, worst in pairs),
        )
    return table
