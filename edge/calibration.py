"""One piano in one room, heard once: how it is tuned, how loud it comes in, how quiet the room is.

A note model knows pianos within some forty cents of A 440, played neither very loud nor very soft.
A piano that nobody tuned for years, or a microphone across the room, lies outside of that, though
a little playing tells all that is needed:

- the *tuning*: partials of sounding strings are sought in windows of half a second, sharp enough
  to read one to a cent. What is no second to seventh partial of another is taken for a fundamental.
  All fundamentals together point to one offset from A 440 (the circular mean of Dressler & Streich,
  "Tuning frequency estimation using circular statistics", ISMIR 2007), then a straight line over
  the octaves is laid through them, from which strays count ever less (iteratively reweighted least
  squares);
- the *level*: the peak that one window in twenty exceeds;
- the *noise floor*: what lies between the partials, and of that the least over time (the minimum
  statistics of Martin, "Noise power spectral density estimation", IEEE TSAP 2001, in the plain form
  of one low quantile). A piano that always rings covers it: the floor is about this, or lower.

The tuning is that of all keys together; semitones are all alike, so it is known only up to whole
semitones, and the one nearest to what is expected is taken.

What an ear uses: the offset lays out the spectrum (`edge.features.filter_bank`), and a soft
recording is made louder. The stretch and the noise floor are told, not used: laying out the
spectrum by the stretch, and raising the onset threshold with the noise, gained nothing
(``python -m benchmarks.detuned``).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge.audio.block import STREAM_RATE_HZ
from edge.errors import InputError, UsageError
from edge.note import A4_HZ, A4_PITCH_MIDI
from edge.tuning import Tuning
from edge.vitals import CLIPPED_SAMPLE, SILENT_PEAK_DBFS

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

FORMAT = 1

# Half a second: a semitone at A2 is more than three FFT bins.
WINDOW_SAMPLES = 8192
HOP_SAMPLES = 4096
TONES_HZ = (100.0, 2_200.0)
"""Below, semitones lie too close for the window; above, stiffness leads the partials astray."""
LEAST_PROMINENCE_DB = 12.0
PROMINENCE_BINS = 8
"""A peak stands so high above the median of so many bins on either side."""
RANGE_DB = 45.0
"""And no lower than this below the loudest of its window."""
OVERTONES = (2, 3, 4, 5, 6, 7)
SAME_PARTIAL_CENTS = 35.0
STRAY_CENTS = (25.0, 12.0)
"""How far from the line a tone counts a quarter, at the first and at the last of the fits."""
FITS = 10

LEAST_HEARD_S = 5.0
LEAST_KEYS = 5
LEAST_AGREEMENT = 0.3
CERTAINTY = 3.0
"""Length of the mean pointer: 1 where all tones agree on the tuning. From few tones it is long by
chance, so it must also reach `CERTAINTY` over the square root of their number (Rayleigh's test).
From 5 to 30 s of rendered pianos it was 0.46 and more, and 4.6 times that; of rendered voices and
noise up to 0.45 in half a minute, but never more than 2.3 times."""
CLIPPED_SHARE = 1e-3
LOUD_SHARE = 0.05
NOISE_BAND_BINS = 64
NOISE_QUANTILE = 0.05
NOISE_FLOOR_DBFS = -120.0

QUIET_PEAK_DBFS = -20.0
"""A softer recording is brought here: the middle of the levels that note models are trained with,
peaks of -40 to -3 dBFS."""
MOST_GAIN_DB = 60.0


class Calibration(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was found out about a piano and its microphone; a file of its own.

    Attributes
    ----------
    format : int
    sample_rate_hz : int
        Of the stream in which it was measured.
    offset_cents : float
        Of A4, against 440 Hz.
    stretch_cents : float
        By how much each octave is wider than 2:1; told, not used.
    peak_dbfs : float
        Peak of loud playing.
    noise_dbfs : float
        RMS at most of what sounds when the piano does not; told, not used.
    heard_s : float
        Length of what was listened to.
    made_on : date or None
    """

    format: int = FORMAT
    sample_rate_hz: int = STREAM_RATE_HZ
    offset_cents: float = 0.0
    stretch_cents: float = 0.0
    peak_dbfs: float = QUIET_PEAK_DBFS
    noise_dbfs: float = NOISE_FLOOR_DBFS
    heard_s: float = 0.0
    made_on: date | None = None

    @property
    def tuning(self) -> Tuning:
        """What the front end is laid out by."""
        return Tuning(self.offset_cents)

    @property
    def a4_hz(self) -> float:
        """Where this piano's A4 stands."""
        return float(A4_HZ * 2.0 ** (self.offset_cents / 1200))

    @property
    def gain_db(self) -> float:
        """By how much the sound is made louder before it is heard; never softer."""
        return min(max(0.0, QUIET_PEAK_DBFS - self.peak_dbfs), MOST_GAIN_DB)


UNCALIBRATED = Calibration()


def calibrate(samples: Float32, expected_cents: float = 0.0) -> Calibration:
    """Find out how a piano stands, from some seconds of playing.

    Parameters
    ----------
    samples : float32, shape (n,)
        Mono, at `STREAM_RATE_HZ`, full scale 1.
    expected_cents : float
        About where A4 is, against 440 Hz: of the offsets a semitone apart that sound alike, the
        nearest is taken.

    Raises
    ------
    InputError
        Too short, silent, clipped, or no piano in it.
    """
    peak_dbfs = _check_sound(samples)
    power = _power_spectra(samples)
    fundamentals_hz, weight = _fundamentals(power)
    agreement, tuning = _tuning(fundamentals_hz, weight, expected_cents)
    keys = len(np.unique(np.round(_pitch_midi(fundamentals_hz) - tuning.offset_cents / 100)))
    tones = weight.sum() ** 2 / max(np.square(weight).sum(), 1e-30)
    needed = min(max(LEAST_AGREEMENT, CERTAINTY / np.sqrt(max(tones, 1.0))), 1.0)
    if agreement < needed:
        raise InputError(
            f"no piano heard: its tones agree on a tuning by {agreement:.2f}, at least "
            f"{needed:.2f} is needed; play more, in a quiet room, or nearer to the microphone"
        )
    if keys < LEAST_KEYS:
        raise InputError(
            f"only {keys} different keys heard, at least {LEAST_KEYS} are needed: "
            "play a scale, or a piece"
        )
    return Calibration(
        offset_cents=round(tuning.offset_cents, 1),
        stretch_cents=round(tuning.stretch_cents, 1),
        peak_dbfs=round(peak_dbfs, 1),
        noise_dbfs=round(_noise_dbfs(power), 1),
        heard_s=round(len(samples) / STREAM_RATE_HZ, 1),
    )


def _check_sound(samples: Float32) -> float:
    """The level of a recording that can be used, as a peak in dBFS."""
    heard_s = len(samples) / STREAM_RATE_HZ
    if heard_s < LEAST_HEARD_S:
        raise InputError(
            f"{heard_s:.1f} s of sound; at least {LEAST_HEARD_S:.0f} s of playing are needed"
        )
    magnitude = np.abs(samples)
    loudest_dbfs = _decibels(float(magnitude.max()) ** 2)
    if loudest_dbfs < SILENT_PEAK_DBFS:
        raise InputError(
            f"silent: the peak is {loudest_dbfs:.0f} dBFS, {SILENT_PEAK_DBFS:.0f} at least is "
            "needed; is the microphone muted?"
        )
    clipped = float(np.mean(magnitude >= CLIPPED_SAMPLE))
    if clipped > CLIPPED_SHARE:
        raise InputError(
            f"clipped: {clipped:.1%} of the samples are at full scale, {CLIPPED_SHARE:.1%} at most "
            "can be used; turn the microphone down"
        )
    count = len(magnitude) // HOP_SAMPLES
    peaks = magnitude[: count * HOP_SAMPLES].reshape(count, HOP_SAMPLES).max(axis=1)
    return _decibels(float(np.quantile(peaks, 1 - LOUD_SHARE)) ** 2)


def _power_spectra(samples: Float32) -> Float32:
    """Power, shape (frames, WINDOW_SAMPLES / 2 + 1); the sum over a frame is its mean square."""
    phase = 2 * np.pi * np.arange(WINDOW_SAMPLES) / WINDOW_SAMPLES
    window = (0.5 - 0.5 * np.cos(phase)).astype(np.float32)
    scale = np.float32(2 / (WINDOW_SAMPLES * np.square(window).sum()))
    frames = np.lib.stride_tricks.sliding_window_view(samples, WINDOW_SAMPLES)[::HOP_SAMPLES]
    power = np.empty((len(frames), WINDOW_SAMPLES // 2 + 1), np.float32)
    for row, frame in zip(power, frames, strict=True):
        spectrum = np.fft.rfft(frame * window)
        row[:] = scale * (np.square(spectrum.real) + np.square(spectrum.imag))
    return power


def _fundamentals(power: Float32) -> tuple[Float64, Float64]:
    """The fundamentals of all frames: Hz, and how much each counts."""
    hz: list[Float64] = [np.empty(0)]
    weight: list[Float64] = [np.empty(0)]
    for frame in power:
        found_hz, amplitude = _peaks(frame)
        ratio = np.log2(found_hz[:, None] / found_hz[None, :])
        overtone = [np.abs(ratio - np.log2(h)) * 1200 < SAME_PARTIAL_CENTS for h in OVERTONES]
        fundamental = ~np.any(overtone, axis=(0, 2))
        hz.append(found_hz[fundamental])
        weight.append(np.sqrt(amplitude[fundamental]))
    return np.concatenate(hz), np.concatenate(weight)


def _peaks(power: Float32) -> tuple[Float64, Float64]:
    """Prominent peaks of one frame: Hz, by a parabola through decibels, and amplitude."""
    bin_hz = STREAM_RATE_HZ / WINDOW_SAMPLES
    level_db = 10 * np.log10(np.maximum(power, 1e-14)).astype(np.float64)
    low, high = (round(hz / bin_hz) for hz in TONES_HZ)
    at = np.arange(low, high)
    is_peak = (level_db[at] > level_db[at - 1]) & (level_db[at] >= level_db[at + 1])
    at = at[is_peak & (level_db[at] > level_db[at].max() - RANGE_DB)]
    around = level_db[at[:, None] + np.arange(-PROMINENCE_BINS, PROMINENCE_BINS + 1)]
    at = at[level_db[at] - np.median(around, axis=1) > LEAST_PROMINENCE_DB]
    before, top, after = level_db[at - 1], level_db[at], level_db[at + 1]
    shift = 0.5 * (before - after) / (before - 2 * top + after)
    return (at + shift) * bin_hz, 10 ** ((top - 0.25 * (before - after) * shift) / 20)


def _tuning(hz: Float64, weight: Float64, expected_cents: float) -> tuple[float, Tuning]:
    """How much the tones agree, 0 to 1, and the tuning that they agree on."""
    if weight.sum() <= 0:
        return 0.0, Tuning()
    cents = (_pitch_midi(hz) - A4_PITCH_MIDI) * 100
    # A pointer that turns once a semitone; turned back by what is expected, so that it points to
    # the nearest of the offsets that are alike.
    mean = np.sum(weight * np.exp(2j * np.pi * (cents - expected_cents) / 100))
    common_cents = expected_cents + float(np.angle(mean)) * 100 / (2 * np.pi)
    deviation = (cents - common_cents + 50) % 100 - 50
    octaves = cents / 1200
    offset = stretch = 0.0
    for stray_cents in np.geomspace(*STRAY_CENTS, FITS):
        stray = (deviation - offset - stretch * octaves) / stray_cents
        counts = weight / np.square(1 + np.square(stray))
        mean_octave = np.average(octaves, weights=counts)
        mean_cents = np.average(deviation, weights=counts)
        spread = np.average(np.square(octaves - mean_octave), weights=counts)
        slope = np.average((octaves - mean_octave) * (deviation - mean_cents), weights=counts)
        # A little of a square octave keeps a melody of few keys from a wild slope.
        stretch = float(slope / (spread + 0.02))
        offset = float(mean_cents - stretch * mean_octave)
    return float(np.abs(mean) / weight.sum()), Tuning(common_cents + offset, stretch)


def _noise_dbfs(power: Float32) -> float:
    """RMS of steady noise: bands of 125 Hz by their median, which partials do not move.

    The power of noise in one bin is distributed exponentially, so its median is ln 2 of its mean.
    """
    bands = power[:, 1:].reshape(len(power), -1, NOISE_BAND_BINS)
    noise = np.median(bands, axis=2) * NOISE_BAND_BINS / np.log(2)
    return _decibels(float(np.quantile(noise, NOISE_QUANTILE, axis=0).sum()))


def _pitch_midi(hz: Float64) -> Float64:
    return A4_PITCH_MIDI + 12 * np.log2(hz / A4_HZ)


def _decibels(power: float) -> float:
    return max(10 * float(np.log10(max(power, 1e-30))), NOISE_FLOOR_DBFS)


class LoudestMinute:
    """The minute of a stream in which most was played: bounded, however long it listens.

    Whole stretches of `STRETCH_S` seconds are kept, in the order in which they were heard.
    """

    STRETCH_S = 5
    STRETCHES = 12

    def __init__(self) -> None:
        self._stretches: list[Float32] = []
        self._current: list[Float32] = []
        self._current_samples = 0

    def push(self, samples: Float32) -> None:
        """Hear float32 samples, shape (n,), of any length."""
        self._current.append(np.array(samples, np.float32))
        self._current_samples += len(samples)
        if self._current_samples >= self.STRETCH_S * STREAM_RATE_HZ:
            self._stretches.append(np.concatenate(self._current))
            self._current, self._current_samples = [], 0
            if len(self._stretches) > self.STRETCHES:
                energy = [float(np.dot(s, s)) / len(s) for s in self._stretches]
                del self._stretches[int(np.argmin(energy))]

    @property
    def samples(self) -> Float32:
        """All that was kept, float32, shape (n,)."""
        return np.concatenate([*self._stretches, *self._current, np.empty(0, np.float32)])


def default_calibration_file() -> Path:
    """Where `sostenuto calibrate` writes and `sostenuto listen` looks."""
    configuration = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(configuration) / "sostenuto" / "calibration.json"


def read_calibration(path: Path) -> Calibration:
    """Read and check a calibration.

    Raises
    ------
    UsageError
        Missing, not a calibration, or made by another version or for another stream.
    """
    remedy = "make it anew with `sostenuto calibrate`"
    try:
        content = path.read_bytes()
        # The version first: another one may have other fields.
        for field, expected in (("format", FORMAT), ("sample_rate_hz", STREAM_RATE_HZ)):
            found = msgspec.json.decode(content, type=dict).get(field)
            if found != expected:
                raise UsageError(
                    f"calibration {path}: {field} is {found}, this version of Sostenuto uses "
                    f"{expected}: {remedy}"
                )
        return msgspec.json.decode(content, type=Calibration)
    except OSError as error:
        reason = error.strerror or str(error)
        raise UsageError(
            f"{path}: calibration cannot be read ({reason}); make it with `sostenuto calibrate`"
        ) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: no calibration ({error}); {remedy}") from None


def write_calibration(calibration: Calibration, path: Path) -> None:
    """Write a calibration, whole or not at all.

    Raises
    ------
    UsageError
        The file cannot be written.
    """
    document = msgspec.json.format(msgspec.json.encode(calibration), indent=2)
    unfinished = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_bytes(document + b"\n")
        unfinished.replace(path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise UsageError(f"{path}: cannot be written ({reason}); choose another FILE") from None


def in_words(calibration: Calibration) -> Sequence[str]:
    """A calibration as a person reads it, a line each."""
    c = calibration
    cents = round(c.offset_cents)
    stands = f"{abs(cents)} cents {'sharp' if cents > 0 else 'flat'}" if cents else "at A 440"
    wide = "wider" if c.stretch_cents >= 0 else "narrower"
    louder = f"heard {c.gain_db:.0f} dB louder" if c.gain_db >= 0.5 else "loud enough as it is"
    below = c.peak_dbfs - c.noise_dbfs
    return (
        f"your piano stands {stands}: A4 at {c.a4_hz:.1f} Hz",
        f"stretch: octaves are {abs(c.stretch_cents):.1f} cents {wide} than 2:1",
        f"level: peaks at {c.peak_dbfs:.0f} dBFS, {louder}",
        f"noise: at most {c.noise_dbfs:.0f} dBFS, {below:.0f} dB below the playing",
    )
