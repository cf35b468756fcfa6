"""That something was struck, before anybody knows what: spectral flux.

When a hammer meets a string, energy appears that was not there a moment before. The flux sums, over
the spectrum, what has risen; what has fallen does not count. It is cheap, needs no pitch, and comes
within 60 ms of the sound: it gives the first "heard you", and tells when it is worth asking the
note model what it will probably make of it (`edge.provisional`). Three refinements, each of which
can be switched off to see what it is worth:

- *Band weighting*: power is pooled into bands of equal width in octaves, and each band has its own
  weight, so that a bass note counts as much as the hundred treble bins over it. (Weighted bands:
  Klapuri, "Sound onset detection by applying psychoacoustic knowledge", ICASSP 1999; the weight
  rises with frequency in Masri's high-frequency content, 1996.) Without, every bin of the Fourier
  transform weighs alike.
- *Power scaling*: magnitudes are raised to a power below 1, as loudness is (Stevens' law), so that
  a soft note beside a loud chord still shows. Without, magnitudes are plain (Dixon, "Onset
  detection revisited", DAFx 2006).
- *Window differencing*: a frame is compared with the loudest of some frames a good part of a window
  earlier, not with its overlapping neighbour: the whole rise counts, and partials that beat are
  not taken for strikes (the lag of Böck & Widmer, "Maximum filter vibrato suppression for onset
  detection", DAFx 2013; their maximum runs over neighbouring frequencies, ours over time, since a
  piano's pitch does not waver but its unisons beat). Without, it is compared with the frame before.

What each is worth (onset F1 within 50 ms, 40 rendered segments of 10 s): all three 0.85,
without weighting 0.84, without scaling 0.75, without differencing 0.72;
each at its own best threshold (``python -m training.worth``). The defaults below were chosen
on the same kind of segments.

An onset stands out from the median of the last second (Bello et al., "A tutorial on onset detection
in music signals", IEEE TSAP 2005), and is told with the first frame that does: who waits for its
peak, as they do, is 18 ms later and no surer. The middle
of that frame lies within 10 ms of a hammer's strike, most times, and within half a window of any.
The window is the onset detector's own and short; its frames count the same samples as those of
`edge.features`.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from functools import cached_property
from typing import Annotated, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]

Positive = Annotated[float, msgspec.Meta(gt=0.0)]
Count = Annotated[int, msgspec.Meta(ge=1)]


class OnsetParameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True, dict=True):
    """How the flux is made and how its rises become onsets.

    Attributes
    ----------
    window_samples, hop_samples : int
        32 ms and 10 ms: short, because half the window is heard before a frame is complete.
    weighted, scaled, differenced : bool
        The three refinements of the module's introduction.
    bands_per_octave : int
        Width of the pooled bands; in the bass a band is never narrower than one Fourier bin.
    lowest_hz, highest_hz : float
        Where the bands begin and end.
    tilt : float
        Weight of a band: its centre frequency to this power.
    power : float
        The exponent of the magnitudes; 1 leaves them plain.
    lag_frames, lag_width_frames : int
        A frame is compared with the loudest of ``lag_width_frames`` frames that lie
        ``lag_frames`` and more before it.
    median_s : float
        Over how long the running median of the strength is taken.
    median_factor : float
        An onset's strength exceeds its running median so many times ...
    least_strength : float
        ... and by so much besides; in units of the strength, where a full-scale broadband
        attack is about 1.
    shadow_fraction : float
        An onset's strength also exceeds this part of the last one's ...
    shadow_half_life_s : float
        ... which fades so fast: after silence the running median knows nothing yet.
    spacing_s : float
        Fewest seconds between two onsets.
    """

    sample_rate_hz: int = 16_000
    window_samples: int = 512
    hop_samples: int = 160
    weighted: bool = True
    scaled: bool = True
    differenced: bool = True
    bands_per_octave: Count = 12
    lowest_hz: Positive = 40.0
    highest_hz: Positive = 7_600.0
    tilt: float = 0.0
    power: Positive = 0.3
    lag_frames: Count = 2
    lag_width_frames: Count = 4
    median_s: Positive = 1.0
    median_factor: float = 2.0
    least_strength: Positive = 0.003
    shadow_fraction: float = 0.3
    shadow_half_life_s: Positive = 0.05
    spacing_s: Positive = 0.05

    @property
    def half_window_samples(self) -> int:
        return self.window_samples // 2

    @property
    def median_frames(self) -> int:
        return max(1, round(self.median_s * self.sample_rate_hz / self.hop_samples))

    @property
    def spacing_samples(self) -> float:
        return self.spacing_s * self.sample_rate_hz

    @property
    def lags(self) -> range:
        """How many frames back the frames lie that a frame is compared with."""
        if not self.differenced:
            return range(1, 2)
        return range(self.lag_frames, self.lag_frames + self.lag_width_frames)

    @property
    def bands(self) -> int:
        return len(self._weights)

    @cached_property
    def _window(self) -> Float32:
        phase = 2 * np.pi * np.arange(self.window_samples) / self.window_samples
        hann = 0.5 - 0.5 * np.cos(phase)
        return np.asarray(hann * 2 / hann.sum(), np.float32)

    @cached_property
    def _band_starts(self) -> NDArray[np.intp]:
        """First Fourier bin of each band, and one past the last; every band has a bin."""
        bin_hz = self.sample_rate_hz / self.window_samples
        octaves = np.log2(self.highest_hz / self.lowest_hz)
        edges_hz = self.lowest_hz * 2.0 ** (
            np.arange(int(octaves * self.bands_per_octave) + 1) / self.bands_per_octave
        )
        bins = np.unique(np.maximum(1, np.round(edges_hz / bin_hz)).astype(np.intp))
        return np.asarray(bins[bins <= self.window_samples // 2], np.intp)

    @cached_property
    def _weights(self) -> Float32:
        """What each band (or bin, where bands are switched off) counts; sums to 1."""
        if not self.weighted:
            bins = self.window_samples // 2
            return np.full(bins, 1 / bins, np.float32)
        edges = self._band_starts
        centre = np.sqrt(edges[:-1] * edges[1:])
        weight = centre**self.tilt
        return np.asarray(weight / weight.sum(), np.float32)


class Onset(NamedTuple):
    """Something was struck.

    Attributes
    ----------
    sample : int
        The sample of the stream at which the sound began.
    strength : float
        Flux of the first frame that stood out, at most about 1.
    known_sample : int
        How many samples of the stream had to be heard for it.
    """

    sample: int
    strength: float
    known_sample: int


def onset_strength(samples: Float32, parameters: OnsetParameters) -> Float32:
    """How much sound appears, the whole signal at once.

    Parameters
    ----------
    samples : float32, shape (n,)
        Mono, at ``parameters.sample_rate_hz``, full scale 1.

    Returns
    -------
    float32, shape (ceil(n / hop_samples),)
        Weighted mean rise of the scaled magnitudes. Frame k is centred on sample
        ``k * hop_samples``; before the signal there is silence, and frames whose window reaches
        past its end are 0.
    """
    stream = FluxStream(parameters)
    return np.concatenate([stream.push(samples), stream.flush()])


def pick_onsets(strength: Float32, parameters: OnsetParameters) -> list[Onset]:
    """Where the strength, shape (frames,), rises and stands out from what went before."""
    return _Picker(parameters).push(strength)


class FluxStream:
    """The strength, frame by frame, as samples arrive in blocks of any size.

    Frame k comes out once sample ``k * hop_samples + half_window_samples - 1`` has arrived.
    """

    def __init__(self, parameters: OnsetParameters) -> None:
        self.parameters = parameters
        self.reset()

    def reset(self) -> None:
        p = self.parameters
        self._pending = np.zeros(p.half_window_samples, np.float32)
        self._earlier = np.zeros((p.lags[-1], p.bands), np.float32)
        self.received_samples = 0
        self._emitted_frames = 0

    def push(self, samples: Float32) -> Float32:
        """Take float32 samples, shape (n,); give the strength of the finished frames."""
        p = self.parameters
        self.received_samples += len(samples)
        self._pending = np.concatenate([self._pending, np.asarray(samples, np.float32)])
        ready = max(0, (len(self._pending) - p.window_samples) // p.hop_samples + 1)
        self._emitted_frames += ready
        if not ready:
            return np.empty(0, np.float32)
        windows = np.lib.stride_tricks.sliding_window_view(self._pending, p.window_samples)
        frames = windows[: ready * p.hop_samples : p.hop_samples]
        strength = [
            self._rise(frames[start : start + _SLICE_FRAMES])
            for start in range(0, ready, _SLICE_FRAMES)
        ]
        self._pending = self._pending[ready * p.hop_samples :].copy()
        return np.concatenate(strength)

    def flush(self) -> Float32:
        """End the signal: the frames whose window reaches past its last sample, all 0.

        That a recording breaks off is heard all over the spectrum, but nothing was struck.
        """
        frames = -(-self.received_samples // self.parameters.hop_samples)
        missing = max(0, frames - self._emitted_frames)
        self.reset()
        return np.zeros(missing, np.float32)

    def _rise(self, frames: Float32) -> Float32:
        p = self.parameters
        levels = np.concatenate([self._earlier, _scaled_bands(frames, p)])
        kept = p.lags[-1]
        now = levels[kept:]
        reference = levels[kept - p.lags[0] : len(levels) - p.lags[0]]
        for lag in p.lags[1:]:
            reference = np.maximum(reference, levels[kept - lag : len(levels) - lag])
        self._earlier = levels[len(levels) - kept :].copy()
        rise: Float32 = (np.maximum(now - reference, 0) * p._weights).sum(axis=1)
        return rise


# Frames transformed at once: bounds the memory of a long signal.
_SLICE_FRAMES = 1024


def _scaled_bands(frames: Float32, parameters: OnsetParameters) -> Float32:
    """Windowed samples, shape (frames, window_samples), to magnitudes, shape (frames, bands).

    A full-scale sine has magnitude 1 in its band, before and after scaling.
    """
    spectrum = np.fft.rfft(frames * parameters._window, axis=1)
    power = (np.square(spectrum.real) + np.square(spectrum.imag)).astype(np.float32)
    if parameters.weighted:
        edges = parameters._band_starts
        power = np.add.reduceat(power[:, : edges[-1]], edges[:-1], axis=1)
    else:
        power = power[:, 1:]
    exponent = (parameters.power if parameters.scaled else 1.0) / 2
    return np.asarray(power ** np.float32(exponent), np.float32)


class OnsetStream:
    """Onsets, as samples arrive in blocks of any size.

    An onset is given with the first frame that shows it: with the standard parameters when 18 ms
    of its own sound have been heard at the median, 38 ms at the 95th percentile.
    """

    def __init__(self, parameters: OnsetParameters) -> None:
        self.parameters = parameters
        self._flux = FluxStream(parameters)
        self._picker = _Picker(parameters)

    def reset(self) -> None:
        self._flux.reset()
        self._picker.reset()

    def push(self, samples: Float32) -> list[Onset]:
        """Take float32 samples, shape (n,); give the onsets that have become sure."""
        return self._picker.push(self._flux.push(samples))

    def flush(self) -> list[Onset]:
        """End the signal."""
        onsets = self._picker.push(self._flux.flush())
        self.reset()
        return onsets


class _RunningMedian:
    """Median of the last ``length`` values; before the first, silence had gone before."""

    def __init__(self, length: int) -> None:
        self._in_order_of_time = [0.0] * length
        self._in_order_of_size = [0.0] * length
        self._oldest = 0

    @property
    def value(self) -> float:
        return self._in_order_of_size[len(self._in_order_of_size) // 2]

    def add(self, value: float) -> None:
        gone = self._in_order_of_time[self._oldest]
        self._in_order_of_time[self._oldest] = value
        self._oldest = (self._oldest + 1) % len(self._in_order_of_time)
        del self._in_order_of_size[bisect_left(self._in_order_of_size, gone)]
        insort(self._in_order_of_size, value)


class _Picker:
    """Causal picking: an onset is known with the first frame that stands out, peak or not."""

    def __init__(self, parameters: OnsetParameters) -> None:
        self.parameters = parameters
        self.reset()

    def reset(self) -> None:
        p = self.parameters
        self._median = _RunningMedian(p.median_frames)
        self._before = self._at = 0.0
        self._frame = 0
        self._last_sample = -float("inf")
        self._told = False
        self._shadow = 0.0
        half_life_frames = p.shadow_half_life_s * p.sample_rate_hz / p.hop_samples
        self._shadow_decay = 0.5 ** (1 / half_life_frames)

    def push(self, strength: Float32) -> list[Onset]:
        found: list[Onset] = []
        for value in map(float, strength):
            onset = self._judge(value)
            if onset is not None:
                found.append(onset)
            self._median.add(self._before)
            self._shadow *= self._shadow_decay
            self._before, self._at = self._at, value
            self._frame += 1
        return found

    def _judge(self, strength: float) -> Onset | None:
        """The onset that this frame shows first, if it does; one rise is one onset."""
        p = self.parameters
        rises = strength > self._at
        self._told = self._told and rises
        if self._told:
            self._shadow = max(self._shadow, strength)
        sample = self._frame * p.hop_samples
        needed = p.median_factor * self._median.value + p.least_strength
        needed = max(needed, p.shadow_fraction * self._shadow)
        apart = sample - self._last_sample >= p.spacing_samples
        if self._told or not (rises and apart and strength > needed):
            return None
        self._told = True
        self._last_sample = sample
        self._shadow = strength
        return Onset(sample, strength, sample + p.half_window_samples)
