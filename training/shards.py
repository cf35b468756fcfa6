"""Rendered segments on disk: a spectrum of 8 bits and the notes that sound in it.

Rendering is slow, so a segment's spectrum is computed once and kept: 331 bytes a frame, 60 MB an
hour, in steps of 0.4 dB, which is what an 8-bit model will see of it anyway.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.features import FeatureParameters, log_frequency_spectrum
from training.targets import NOTE_DTYPE

LEVELS = 255


@dataclass(frozen=True, slots=True)
class Shard:
    """Segments of equal length: spectra uint8 (segments, frames, bins), and their notes."""

    spectra: NDArray[np.uint8]
    notes: tuple[NDArray[np.void], ...]


def spectrum_to_levels(
    samples: NDArray[np.float32], features: FeatureParameters
) -> NDArray[np.uint8]:
    """The 8-bit spectrum of a segment, shape (frames, bins), steps of 1/255 of the range."""
    spectrum = log_frequency_spectrum(samples, features)
    return np.round(spectrum * LEVELS).astype(np.uint8)


def save_shard(path: Path, shard: Shard) -> None:
    lengths = np.array([len(n) for n in shard.notes])
    notes = np.concatenate([*shard.notes, np.empty(0, NOTE_DTYPE)])
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        np.savez(file, spectra=shard.spectra, lengths=lengths, notes=notes)
    partial.rename(path)


def load_shard(path: Path) -> Shard:
    with np.load(path) as stored:
        ends = np.cumsum(stored["lengths"])
        return Shard(stored["spectra"], tuple(np.split(stored["notes"], ends[:-1])))
