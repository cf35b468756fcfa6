"""Rendered segments as the training sees them: random crops in endless variation.

What can be varied in the spectrum itself is varied anew at every visit: level and colouration are
sums in decibels, and moving everything by whole semitones with its labels gives a piano that
nobody built, its resonances shifted against its keys.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from edge.errors import InputError
from edge.features import FeatureParameters
from edge.note import HIGHEST_PITCH_MIDI, LOWEST_PITCH_MIDI
from training.shards import Shard, levels_to_spectrum, load_shard
from training.skipped import Skipped, report_skipped
from training.targets import draw_targets

# Two semitones: partials of one note are coloured apart, as by another soundboard.
FINE_RIPPLE_BINS = 6

# A spectrum's loud and quiet: contrast turns about the one, noise lies over the other.
LOUD_QUANTILE, QUIET_QUANTILE = 0.98, 0.02
# Noise, in shares of the spectrum's range: how it scatters about its floor, how far that may rise
# or fall towards the highest bin (one standard deviation), how far it stays below the loudest.
NOISE_SCATTER, NOISE_TILT, NOISE_BELOW_LOUDEST = 0.03, 0.05, 0.35


@dataclass(frozen=True, slots=True)
class Variation:
    """How far each visit of a segment may stray.

    ``contrast`` stretches or narrows all level differences by up to this share: strings that die
    away faster or slower, a hand with more or less difference between loud and soft.
    """

    level_db: float = 12.0
    tilt_db: float = 8.0
    ripple_db: float = 5.0
    fine_ripple_db: float = 3.0
    contrast: float = 0.2
    noise_floor_db: float = 35.0
    shift_semitones: int = 3


USUAL_VARIATION = Variation()


def vary(
    spectrum: NDArray[np.float32],
    notes: NDArray[np.void],
    features: FeatureParameters,
    variation: Variation,
    rng: np.random.Generator,
) -> tuple[NDArray[np.float32], NDArray[np.void]]:
    """One random variation of a spectrum in 0..1 and of its notes."""
    range_db = -features.floor_db
    bins = spectrum.shape[1]
    position = np.linspace(-1, 1, bins, dtype=np.float32)
    colour = rng.uniform(-1, 1) * variation.tilt_db * position
    for waves in (1, 2, 4):
        phase = rng.uniform(0, 2 * np.pi)
        colour = colour + variation.ripple_db / waves * rng.normal(0, 0.5) * np.sin(
            np.pi * waves * position + phase
        )
    knots = rng.normal(0, rng.uniform(0, variation.fine_ripple_db), bins // FINE_RIPPLE_BINS + 2)
    colour = colour + np.interp(np.arange(bins) / FINE_RIPPLE_BINS, np.arange(len(knots)), knots)
    colour = colour + rng.uniform(-variation.level_db, variation.level_db)
    heard = spectrum > 0
    loud = np.quantile(spectrum, LOUD_QUANTILE)
    stretched = loud + (spectrum - loud) * (1 + rng.uniform(-1, 1) * variation.contrast)
    varied = np.where(heard, stretched + colour.astype(np.float32) / range_db, 0)
    if rng.random() < 0.5:
        quiet = np.quantile(spectrum, QUIET_QUANTILE)
        floor = quiet + rng.uniform(0, variation.noise_floor_db) / range_db
        scatter = rng.exponential(NOISE_SCATTER, spectrum.shape)
        noise = floor + scatter - NOISE_SCATTER + NOISE_TILT * position * rng.normal()
        varied = np.maximum(varied, np.minimum(noise, varied.max() - NOISE_BELOW_LOUDEST))
    semitones = int(rng.integers(-variation.shift_semitones, variation.shift_semitones + 1))
    return _transpose(np.clip(varied, 0, 1).astype(np.float32), notes, features, semitones)


def _transpose(
    spectrum: NDArray[np.float32],
    notes: NDArray[np.void],
    features: FeatureParameters,
    semitones: int,
) -> tuple[NDArray[np.float32], NDArray[np.void]]:
    if not semitones or not len(notes):
        return spectrum, notes
    pitch = notes["pitch"].astype(int) + semitones
    if pitch.min() < LOWEST_PITCH_MIDI or pitch.max() > HIGHEST_PITCH_MIDI:
        return spectrum, notes
    shift = semitones * features.bins_per_semitone
    moved = np.roll(spectrum, shift, axis=1)
    edge = slice(None, shift) if shift > 0 else slice(shift, None)
    nearest = shift if shift > 0 else shift - 1
    moved[:, edge] = moved[:, nearest, None]
    transposed = notes.copy()
    transposed["pitch"] = pitch
    return moved, transposed


class SegmentBatches(keras.utils.PyDataset):  # type: ignore[misc]
    """Endless random crops of a folder's shards as (spectrum, targets) batches.

    The folder is read anew after every epoch: shards may come and go while the training runs
    (`training.stream`). One that cannot be used is named and left out.
    """

    def __init__(
        self,
        folder: Path,
        features: FeatureParameters,
        batch: int,
        frames: int,
        steps: int,
        variation: Variation,
        seed: int,
    ) -> None:
        super().__init__(workers=1, use_multiprocessing=False, max_queue_size=8)
        self.folder = folder
        self.features = features
        self.batch, self.frames, self.steps = batch, frames, steps
        self.shards: dict[Path, Shard] = {}
        self.broken: dict[Path, Skipped] = {}
        self._read_new_shards()
        self.variation = variation
        self.seed = seed
        self.epoch = 0

    def __len__(self) -> int:
        return self.steps

    def on_epoch_end(self) -> None:
        self.epoch += 1
        self._read_new_shards()

    def _read_new_shards(self) -> None:
        self.shards = {path: shard for path, shard in self.shards.items() if path.exists()}
        broken = {}
        for path in sorted(self.folder.glob("*.npz")):
            if path not in self.shards and path not in self.broken:
                try:
                    self.shards[path] = self._usable_shard(path)
                except InputError as trouble:
                    broken[path] = Skipped(f"{self.folder.name}/{path.name}", str(trouble))
        self.broken |= broken
        if broken:
            console = Console(stderr=True)
            report_skipped(list(broken.values()), console)
            console.print(
                f"{len(self.broken)} of {len(self.broken) + len(self.shards)} shards skipped: "
                "delete them, and they are rendered again"
            )
        if not self.shards:
            raise InputError(f"no training shards in {self.folder}: render some first")

    def _usable_shard(self, path: Path) -> Shard:
        shard = load_shard(path)
        _, frames, bins = shard.spectra.shape
        if bins != self.features.bins or frames < self.frames:
            raise InputError(
                f"{frames} frames of {bins} bins: {self.frames} frames or more of "
                f"{self.features.bins} bins are needed"
            )
        return shard

    def __getitem__(self, step: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        rng = np.random.default_rng((self.seed, self.epoch, step))
        crops = list(self._crops(rng))
        return np.stack([s for s, _ in crops]), np.stack([t for _, t in crops])

    def _crops(self, rng: np.random.Generator) -> Iterator[tuple[Any, Any]]:
        shards = list(self.shards.values())
        for _ in range(self.batch):
            shard = shards[rng.integers(len(shards))]
            i = int(rng.integers(len(shard.spectra)))
            first = int(rng.integers(shard.spectra.shape[1] - self.frames + 1))
            levels = shard.spectra[i, first : first + self.frames]
            spectrum, notes = vary(
                levels_to_spectrum(levels), shard.notes[i], self.features, self.variation, rng
            )
            yield spectrum, draw_targets(notes, first, self.frames, self.features)
