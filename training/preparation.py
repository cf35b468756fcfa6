"""From rendered sound to what a training run reads: shards of 8-bit spectra with their notes.

Segments are numbered and each depends on nothing but the seed and its number, so any number of
processes may share the work, and a run that was stopped goes on with the shards it lacks. A
training run may already be reading the folder while it fills.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.features import FeatureParameters
from training.render.segment import Segment, Sources, render_segment, segment_rng
from training.shards import Shard, save_shard, spectrum_to_levels
from training.targets import NOTE_DTYPE

SEGMENTS_PER_SHARD = 16


def notes_of(segment: Segment) -> NDArray[np.void]:
    """A segment's labels as the targets are drawn from."""
    notes = np.zeros(len(segment.notes), NOTE_DTYPE)
    notes["pitch"] = segment.notes["pitch_midi"]
    for field in ("velocity", "onset_s"):
        notes[field] = segment.notes[field]
    notes["offset_s"], notes["silence_s"] = segment.notes["key_offset_s"], segment.notes["offset_s"]
    return notes


def prepare_shards(
    folder: Path,
    sources: Sources,
    features: FeatureParameters,
    seed: int,
    shards: Iterable[int],
    duration_s: float,
    done: Callable[[int], None] = lambda shard: None,
) -> None:
    """Render the shards of these numbers into ``folder``, leaving out those already there."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in shards:
        path = folder / f"{seed:03}-{number:05}.npz"
        if not path.exists():
            first = number * SEGMENTS_PER_SHARD
            segments = [
                render_segment(segment_rng(seed, first + i), sources, duration_s)
                for i in range(SEGMENTS_PER_SHARD)
            ]
            spectra = np.stack([spectrum_to_levels(s.samples, features) for s in segments])
            save_shard(path, Shard(spectra, tuple(notes_of(s) for s in segments)))
        done(number)
