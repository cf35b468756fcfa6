"""Rendered playing that no training saw, and what a model hears in it.

Thresholds are fitted to it, forms of a model are compared on it, ideas are ranked by it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.errors import InputError
from edge.note import NoteEvent
from training.architecture import Architecture
from training.shards import levels_to_spectrum, load_shard
from training.thresholds import Judged

Float32 = NDArray[np.float32]

JUDGED_SEGMENTS = 60


@dataclass(frozen=True, slots=True)
class PlayedSegment:
    """The spectrum of a segment, shape (frames, bins) in 0..1, and the notes that begin in it."""

    spectrum: Float32
    notes: tuple[NoteEvent, ...]


def played_segments(folder: Path, most: int = JUDGED_SEGMENTS) -> list[PlayedSegment]:
    """The segments of a folder of shards in which somebody plays.

    Raises
    ------
    InputError
        There is none.
    """
    played = []
    for path in sorted(folder.glob("*.npz")):
        shard = load_shard(path)
        for levels, notes in zip(shard.spectra, shard.notes, strict=True):
            begun = tuple(
                NoteEvent(
                    int(n["pitch"]),
                    float(n["onset_s"]),
                    float(n["offset_s"]),
                    int(n["velocity"]),
                    1.0,
                )
                for n in notes
                if n["onset_s"] >= 0
            )
            if begun:
                played.append(PlayedSegment(levels_to_spectrum(levels), begun))
    if not played:
        raise InputError(f"nothing to judge by in {folder}: it needs shards of rendered playing")
    return played[:most]


def heard(
    played: Sequence[PlayedSegment],
    activations_of: Callable[[Float32], Float32],
    hop_s: float,
) -> list[Judged]:
    """Each segment with the activations, shape (frames, 88, 5), that a model gives it."""
    return [Judged(activations_of(one.spectrum), one.notes, hop_s) for one in played]


def heard_in_keras(
    played: Sequence[PlayedSegment], model: Any, architecture: Architecture
) -> list[Judged]:
    """What the trained model hears, whole sequences at once."""

    def activations_of(spectrum: Float32) -> Float32:
        logits = np.asarray(model(spectrum[None]), np.float32)[0]
        return np.asarray(1 / (1 + np.exp(-logits)), np.float32)

    return heard(played, activations_of, architecture.features.hop_s)
