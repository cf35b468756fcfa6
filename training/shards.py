"""Rendered segments on disk: a spectrum of 8 bits and the notes that sound in it.

Rendering is slow, so a segment's spectrum is computed once and kept: 331 bytes a frame, 60 MB an
hour, in steps of 0.4 dB, which is what an 8-bit model will see of it anyway.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.errors import InputError
from edge.features import FeatureParameters, log_frequency_spectrum
from edge.note import HIGHEST_PITCH_MIDI, LOWEST_PITCH_MIDI
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


def levels_to_spectrum(levels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """A stored spectrum in 0..1 again, of the same shape."""
    return levels.astype(np.float32) / LEVELS


def shard_bytes(shard: Shard) -> bytes:
    """A shard as its file's content; the same shard gives the same bytes."""
    lengths = np.array([len(n) for n in shard.notes])
    notes = np.concatenate([*shard.notes, np.empty(0, NOTE_DTYPE)])
    content = io.BytesIO()
    np.savez(content, spectra=shard.spectra, lengths=lengths, notes=notes)
    return content.getvalue()


def load_shard(path: Path) -> Shard:
    """Read a shard.

    Raises
    ------
    InputError
        It is damaged, or its notes cannot be a piano's.
    """
    try:
        with np.load(path) as stored:
            spectra, lengths, notes = (stored[name] for name in ("spectra", "lengths", "notes"))
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as trouble:
        raise InputError(f"not a readable shard: {str(trouble) or 'it is cut short'}") from trouble
    if spectra.ndim != 3 or spectra.dtype != np.uint8 or notes.dtype != NOTE_DTYPE:
        raise InputError(
            f"spectra of {spectra.dtype} in {spectra.ndim} dimensions, notes of "
            f"{notes.dtype.names}: not a shard of this version"
        )
    if len(lengths) != len(spectra) or lengths.sum() != len(notes):
        raise InputError(
            f"{len(spectra)} spectra and {len(notes)} notes, but {len(lengths)} counts of "
            f"{lengths.sum()} notes in all"
        )
    if not spectra.any():
        raise InputError("silent")
    if impossible := int(np.sum(~_possible(notes))):
        raise InputError(f"{impossible} of {len(notes)} notes cannot be a piano's")
    return Shard(spectra, tuple(np.split(notes, np.cumsum(lengths)[:-1])))


def _possible(notes: NDArray[np.void]) -> NDArray[np.bool_]:
    """Which notes lie on the keyboard and end after they begin."""
    on_keyboard = (notes["pitch"] >= LOWEST_PITCH_MIDI) & (notes["pitch"] <= HIGHEST_PITCH_MIDI)
    struck = (notes["velocity"] >= 1) & (notes["velocity"] <= 127)
    # Comparisons with NaN are false.
    in_time = (notes["offset_s"] >= notes["onset_s"]) & np.isfinite(notes["silence_s"])
    possible: NDArray[np.bool_] = on_keyboard & struck & in_time
    return possible
