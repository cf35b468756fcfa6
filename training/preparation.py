"""From rendered sound to what a training run reads: shards of 8-bit spectra with their notes.

Segments are numbered and each depends on nothing but the pianos, the seed and its number, so any
hands may share the work (`training.crew`), and a run that was stopped goes on with the shards it
lacks. They may be rendered before a training begins, or while it runs (`training.stream`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from edge.features import FeatureParameters
from training.render.segment import Conditions, Segment, Sources, render_segment, segment_rng
from training.shards import Shard, shard_bytes, spectrum_to_levels
from training.targets import NOTE_DTYPE

SEGMENTS_PER_SHARD = 16


def notes_of(segment: Segment) -> NDArray[np.void]:
    """A segment's labels as the targets are drawn from."""
    notes = np.zeros(len(segment.notes), NOTE_DTYPE)
    notes["pitch"] = segment.notes["pitch_midi"]
    for field in ("velocity", "onset_s", "offset_s", "silence_s"):
        notes[field] = segment.notes[field]
    return notes


def prepare_shard(
    sources: Sources,
    features: FeatureParameters,
    duration_s: float,
    shard: tuple[int, int],
    conditions: Mapping[int, Conditions] = MappingProxyType({}),
) -> bytes:
    """Render the shard of this seed and number: the content of its file.

    ``conditions`` are those of a seed, where they are not the usual ones.
    """
    seed, number = shard
    first = number * SEGMENTS_PER_SHARD
    segments = [
        render_segment(segment_rng(seed, first + i), sources, duration_s, conditions.get(seed))
        for i in range(SEGMENTS_PER_SHARD)
    ]
    spectra = np.stack([spectrum_to_levels(s.samples, features) for s in segments])
    return shard_bytes(Shard(spectra, tuple(notes_of(s) for s in segments)))


def shard_path(folder: Path, seed: int, number: int) -> Path:
    """Where a shard lies that a training run reads."""
    return folder / f"{seed:03}-{number:05}.npz"
