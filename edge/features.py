"""What the ear sees: a spectrum whose steps are keys, and the same spectrum by harmonics.

A piano note is a stack of partials near whole multiples of its fundamental. On a logarithmic
frequency axis the distance from a fundamental to its h-th partial is the same for every key,
so shifting the spectrum by that distance and laying the shifted copies behind one another puts
all partials of a key into one column: the harmonic stack of Bittner et al. ("Deep salience
representations for F0 estimation in polyphonic music", ISMIR 2017), here a cube of
time x pitch x harmonic.

We differ in using one short-time Fourier transform pooled into log-frequency bands instead of a
constant-Q transform: it costs a fiftieth, and its window is the same for every key, so that the
look-ahead is one number. The model learns what the poor resolution of the bass looks like.

A piano that stands a third of a semitone flat puts every partial a whole bin too low. So the bins
can be laid out by the piano's own tuning (`FilterBank`): the spectrum is then read where this piano
sounds, and a model sees a piano in tune. That costs nothing while listening.

This is the only implementation: training computes its features here as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Annotated, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge.note import KEYS, LOWEST_PITCH_MIDI, pitch_to_hz
from edge.tuning import CONCERT_PITCH, Tuning

Float32 = NDArray[np.float32]
Level = TypeVar("Level", np.float32, np.int8)

# Frames transformed at once: bounds the memory of a long signal to a few MB.
_SLICE_FRAMES = 256
# Beyond it even the lowest key has no partial that a string still makes.
_HIGHEST_HARMONIC = 100

Count = Annotated[int, msgspec.Meta(ge=1)]


class FeatureParameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True, dict=True):
    """Everything the front end is built from; a model's manifest carries it.

    Levels are decibels relative to a full-scale sine: ``floor_db`` becomes 0, and 0 dB becomes 1.

    Raises
    ------
    ValueError
        The harmonics do not ascend from above 0, or frames would leave out samples between them.
    """

    sample_rate_hz: Count = 16_000
    window_samples: Annotated[int, msgspec.Meta(ge=2)] = 2048
    hop_samples: Count = 320
    bins_per_semitone: Count = 3
    harmonics: tuple[float, ...] = (0.5, 1, 2, 3, 4, 5, 6, 7)
    floor_db: Annotated[float, msgspec.Meta(le=-1)] = -100.0

    def __post_init__(self) -> None:
        bounded = (0, *self.harmonics, _HIGHEST_HARMONIC)
        if not self.harmonics or 0 in self.harmonics or list(bounded) != sorted(bounded):
            raise ValueError(
                f"harmonics are {list(self.harmonics)}, must ascend, above 0 and up to "
                f"{_HIGHEST_HARMONIC}"
            )
        if self.hop_samples > self.window_samples:
            raise ValueError(
                f"hop_samples is {self.hop_samples}, must be at most window_samples, "
                f"{self.window_samples}"
            )

    @property
    def half_window_samples(self) -> int:
        return self.window_samples // 2

    @property
    def hop_s(self) -> float:
        return self.hop_samples / self.sample_rate_hz

    @property
    def pitch_bins(self) -> int:
        """Bins of one harmonic's layer: 88 keys times the bins of a semitone."""
        return KEYS * self.bins_per_semitone

    @cached_property
    def harmonic_shift_bins(self) -> tuple[int, ...]:
        """How far up the log-frequency axis each harmonic lies, in bins."""
        octave = 12 * self.bins_per_semitone
        return tuple(round(octave * float(np.log2(h))) for h in self.harmonics)

    @cached_property
    def bin_hz(self) -> NDArray[np.float64]:
        """Centre frequencies of the log-frequency bins, in Hz.

        From the lowest key's lowest harmonic up to the Nyquist frequency. The bins of a key lie
        symmetrically about its pitch.
        """
        b = self.bins_per_semitone
        first = self.harmonic_shift_bins[0] - (b - 1) // 2
        nyquist_hz = self.sample_rate_hz / 2
        last = self.pitch_bins + self.harmonic_shift_bins[-1]
        hz = np.array([pitch_to_hz(LOWEST_PITCH_MIDI + k / b) for k in range(first, last)])
        below_nyquist: NDArray[np.float64] = hz[hz < nyquist_hz * 2.0 ** (-1 / (12 * b))]
        return below_nyquist

    @property
    def bins(self) -> int:
        return len(self.bin_hz)

    @cached_property
    def _window(self) -> Float32:
        phase = 2 * np.pi * np.arange(self.window_samples) / self.window_samples
        hann = 0.5 - 0.5 * np.cos(phase)
        window: Float32 = (hann * 2 / hann.sum()).astype(np.float32)
        return window

    @cached_property
    def _cube_index(self) -> NDArray[np.intp]:
        """Which bin each cell of the cube reads, shape (pitch_bins, harmonics); ``bins`` = none."""
        shift = np.array(self.harmonic_shift_bins) - self.harmonic_shift_bins[0]
        index = np.arange(self.pitch_bins)[:, None] + shift[None, :]
        clipped: NDArray[np.intp] = np.minimum(index, self.bins)
        return clipped


@dataclass(frozen=True, slots=True, eq=False)
class FilterBank:
    """The triangular filters that pool FFT bins into log-frequency bins.

    Attributes
    ----------
    index : intp, shape (n,)
        The FFT bins of all filters, one filter after the other.
    weight : float32, shape (n,)
        What each of them counts.
    start : intp, shape (bins,)
        Where each filter begins.
    """

    index: NDArray[np.intp]
    weight: Float32
    start: NDArray[np.intp]

    def pool(self, power: NDArray[np.floating]) -> NDArray[np.floating]:
        """Power of FFT bins, shape (n, window_samples / 2 + 1), to power of bins, (n, bins)."""
        pooled: NDArray[np.floating] = np.add.reduceat(
            power[:, self.index] * self.weight, self.start, axis=1
        )
        return pooled


@lru_cache(maxsize=8)
def filter_bank(parameters: FeatureParameters, tuning: Tuning = CONCERT_PITCH) -> FilterBank:
    """The filters of a front end, for a piano so tuned.

    A filter reaches to its neighbours' centres, but never less than one FFT bin, where it
    interpolates between two. What a sharp piano would move beyond the Nyquist frequency stays
    there.
    """
    half = parameters.window_samples // 2
    fft_bin_hz = parameters.sample_rate_hz / parameters.window_samples
    ratio = 2.0 ** (1 / (12 * parameters.bins_per_semitone))
    indices: list[NDArray[np.intp]] = []
    weights: list[NDArray[np.float64]] = []
    for centre in np.minimum(tuning.sounding_hz(parameters.bin_hz) / fft_bin_hz, half):
        below = max(centre * (1 - 1 / ratio), 1.0)
        above = max(centre * (ratio - 1), 1.0)
        k = np.arange(int(np.ceil(centre - below)), int(np.floor(centre + above)) + 1)
        k = k[(k >= 0) & (k <= half)]
        distance = k - centre
        weight = 1 - np.where(distance < 0, -distance / below, distance / above)
        indices.append(k[weight > 0])
        weights.append(weight[weight > 0])
    starts = np.cumsum([0] + [len(k) for k in indices[:-1]])
    return FilterBank(
        np.concatenate(indices),
        np.concatenate(weights).astype(np.float32),
        starts.astype(np.intp),
    )


def _frames_to_spectrum(
    frames: Float32, parameters: FeatureParameters, filters: FilterBank
) -> Float32:
    """Windowed samples, shape (frames, window_samples), to levels, shape (frames, bins)."""
    spectrum = np.fft.rfft(frames * parameters._window, axis=1)
    power = np.square(spectrum.real) + np.square(spectrum.imag)
    banded = filters.pool(power)
    floor_power = 10.0 ** (parameters.floor_db / 10)
    decibels = 10 * np.log10(np.maximum(banded, floor_power))
    level = 1 - decibels / parameters.floor_db
    clipped: Float32 = np.clip(level, 0.0, 1.0).astype(np.float32)
    return clipped


def frame_count(samples: int, parameters: FeatureParameters) -> int:
    """Frames of a signal: one each hop, the first centred on sample 0, none after the end."""
    return -(-samples // parameters.hop_samples)


def log_frequency_spectrum(
    samples: Float32, parameters: FeatureParameters, tuning: Tuning = CONCERT_PITCH
) -> Float32:
    """Levels on a log-frequency axis, the whole signal at once.

    Parameters
    ----------
    samples : float32, shape (n,)
        Mono, at ``parameters.sample_rate_hz``, full scale 1.
    tuning : Tuning, optional
        Of the piano: a bin is read where this piano sounds its pitch.

    Returns
    -------
    float32, shape (ceil(n / hop_samples), bins)
        0 at ``floor_db`` or below, 1 at a full-scale sine. Frame k is centred on sample
        ``k * hop_samples``; outside the signal there is silence.
    """
    stream = FeatureStream(parameters, tuning)
    return np.concatenate([stream.push(samples), stream.flush()])


def harmonic_cube(
    spectrum: NDArray[Level], parameters: FeatureParameters, nothing: float = 0
) -> NDArray[Level]:
    """Stack the harmonics behind one another.

    Parameters
    ----------
    spectrum : shape (frames, bins)
        Levels, as they are or in the steps of an 8-bit model.
    nothing : float
        The level of silence in these steps.

    Returns
    -------
    the same type, shape (frames, pitch_bins, harmonics)
        Cell (t, p, h) is the level at h times the frequency of pitch bin p; silence beyond Nyquist.
    """
    padded = np.pad(spectrum, ((0, 0), (0, 1)), constant_values=nothing)
    return padded[:, parameters._cube_index]


@dataclass(slots=True)
class FeatureStream:
    """The same spectrum, frame by frame, as samples arrive in blocks of any size.

    Frame k comes out once sample ``k * hop_samples + half_window_samples - 1`` has arrived.
    """

    parameters: FeatureParameters
    _filters: FilterBank
    _pending: Float32
    _received_samples: int
    _emitted_frames: int

    def __init__(self, parameters: FeatureParameters, tuning: Tuning = CONCERT_PITCH) -> None:
        self.parameters = parameters
        self._filters = filter_bank(parameters, tuning)
        self.reset()

    def reset(self) -> None:
        self._pending = np.zeros(self.parameters.half_window_samples, np.float32)
        self._received_samples = 0
        self._emitted_frames = 0

    def push(self, samples: Float32) -> Float32:
        """Take float32 samples, shape (n,); give the finished frames, shape (frames, bins)."""
        self._received_samples += len(samples)
        self._pending = np.concatenate([self._pending, np.asarray(samples, np.float32)])
        p = self.parameters
        ready = max(0, (len(self._pending) - p.window_samples) // p.hop_samples + 1)
        if not ready:
            return np.empty((0, p.bins), np.float32)
        windows = np.lib.stride_tricks.sliding_window_view(self._pending, p.window_samples)
        spectrum = self._in_slices(windows[: ready * p.hop_samples : p.hop_samples])
        self._pending = self._pending[ready * p.hop_samples :].copy()
        self._emitted_frames += ready
        return spectrum

    def flush(self) -> Float32:
        """End the signal: the frames whose window still reaches past its last sample."""
        p = self.parameters
        missing = frame_count(self._received_samples, p) - self._emitted_frames
        received = self._received_samples
        frames = self.push(np.zeros(max(0, missing) * p.hop_samples + p.window_samples, np.float32))
        self.reset()
        self._received_samples = received
        return frames[: max(0, missing)]

    def _in_slices(self, windows: Float32) -> Float32:
        return np.concatenate(
            [
                _frames_to_spectrum(
                    windows[start : start + _SLICE_FRAMES], self.parameters, self._filters
                )
                for start in range(0, len(windows), _SLICE_FRAMES)
            ]
        )
