"""What each key looks like in the spectrum, drawn with ruler and pencil: nothing is trained.

A template is the spectrum that a struck string of one key ought to have: partials at the equally
tempered pitch, moved by the piano's tuning offset and stretch, spread by the stiffness of the
strings (Fletcher, "Normal vibration frequencies of a stiff piano string", JASA 1964), and weaker
the higher they are. What is heard is then explained as a sum of templates with weights that cannot
be negative: non-negative matrix factorisation with the dictionary held fixed (Lee & Seung, 2001;
for the piano Vincent, Bertin & Badeau, "Adaptive harmonic spectral decomposition", IEEE TASLP
2010). A key's weight is its *salience*.

This is the ear without learning, against which a trained model is measured.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from edge.features import FeatureParameters, filter_bank
from edge.note import A4_PITCH_MIDI, KEYS, LOWEST_PITCH_MIDI, pitch_to_hz
from edge.tuning import Tuning

Float32 = NDArray[np.float32]

PARTIALS = 24
# Amplitude of partial h is h^-2: of 0.7 to 2 the steepest served best, on segments rendered from
# the training pianos.
PARTIAL_SLOPE = 2.0
# Below this the soundboard hardly radiates (Fletcher & Rossing, "The physics of musical
# instruments", 12): the fundamental of a bass note falls in proportion to its frequency.
SOUNDBOARD_HZ = 80.0
# Stiffness B, partial h at h * f0 * sqrt(1 + B h^2): some 5e-5 in the bass, where strings are
# wound, rising about tenfold in 29 keys above key 20.
LEAST_STIFFNESS = 5e-5
STIFFNESS_KEY = 20
STIFFNESS_KEYS_PER_DECADE = 29.0
# Magnitudes are matched by their square root, so that weak partials and soft notes count: 0.5 did
# better than 0.7 and 1 on the same segments.
MATCHED_POWER = 0.5
# Of 0.35 to 3 the best on the same segments; without smooth templates onset F1 was 0.05 lower.
NOISE_OCTAVES = 1.0
UPDATES = 20

TUNING_BANDS_HZ = (500.0, 1_000.0, 2_000.0, 4_000.0)
TUNING_STEP_CENTS = 5.0
LARGEST_OFFSET_CENTS = 45.0
# Of an octave in the middle of a piano. The estimate tends to the upper limit, because partials
# sharpened by stiffness look like a stretch; more would spoil the outer octaves.
STRETCH_LIMITS_CENTS = (0.0, 3.0)


def rounded(tuning: Tuning) -> Tuning:
    """To the steps in which templates are made."""
    step = TUNING_STEP_CENTS
    return Tuning(round(tuning.offset_cents / step) * step, float(round(tuning.stretch_cents)))


def magnitude(level: Float32, parameters: FeatureParameters) -> Float32:
    """Levels of `edge.features`, 0 to 1 over decibels, back to magnitudes; a full sine is 1."""
    return np.asarray(10.0 ** ((1 - level) * np.float32(parameters.floor_db / 20)), np.float32)


@lru_cache(maxsize=8)
def pitch_templates(parameters: FeatureParameters, tuning: Tuning) -> Float32:
    """Draw the templates of all keys, and some smooth ones for what has no pitch.

    A hammer's knock fills the spectrum; without smooth templates the lowest keys, whose partials
    lie densest, would be taken for it.

    Returns
    -------
    float32, shape (88 + noises, bins)
        Magnitudes to the power `MATCHED_POWER`, each row of length 1; the keys first.
    """
    keys = np.arange(KEYS)
    tempered_hz = np.array([pitch_to_hz(LOWEST_PITCH_MIDI + key) for key in range(KEYS)])
    fundamental_hz = tuning.sounding_hz(tempered_hz)
    stiff_keys = np.maximum(keys - STIFFNESS_KEY, 0)
    stiffness = LEAST_STIFFNESS * 10.0 ** (stiff_keys / STIFFNESS_KEYS_PER_DECADE)
    h = np.arange(1, PARTIALS + 1)
    stretch = np.sqrt((1 + stiffness[:, None] * h**2) / (1 + stiffness[:, None]))
    partial_hz = np.asarray(fundamental_hz[:, None] * h * stretch, np.float64)
    amplitude = np.asarray(
        h**-PARTIAL_SLOPE * np.minimum(1.0, partial_hz / SOUNDBOARD_HZ), np.float64
    )
    power = _lines_to_bands(partial_hz, amplitude, parameters)
    keys_and_noise = np.concatenate([power, _noise_power(parameters)])
    template = keys_and_noise ** (MATCHED_POWER / 2)
    template /= np.linalg.norm(template, axis=1, keepdims=True)
    return np.asarray(template, np.float32)


def _noise_power(parameters: FeatureParameters) -> NDArray[np.float64]:
    """Bells `NOISE_OCTAVES` wide, one beside the other over all bins, of white noise."""
    octave = np.log2(parameters.bin_hz / parameters.bin_hz[0])
    centres = np.arange(NOISE_OCTAVES / 2, octave[-1], NOISE_OCTAVES)
    distance = (octave[None, :] - centres[:, None]) / (NOISE_OCTAVES / 2)
    white = filter_bank(parameters).pool(np.ones((1, parameters.window_samples // 2 + 1)))
    return np.asarray(np.exp(-(distance**2)) * white, np.float64)


def _lines_to_bands(
    hz: NDArray[np.float64], amplitude: NDArray[np.float64], parameters: FeatureParameters
) -> NDArray[np.float64]:
    """Sines, shape (keys, partials), as the front end sees them: power, shape (keys, bins)."""
    fft_bins = parameters.window_samples // 2 + 1
    place = hz * parameters.window_samples / parameters.sample_rate_hz
    power = np.zeros((len(hz), fft_bins))
    key = np.broadcast_to(np.arange(len(hz))[:, None], hz.shape)
    for step in range(-2, 4):
        at = np.floor(place).astype(np.intp) + step
        inside = (at >= 0) & (at < fft_bins)
        line = amplitude * hann_response(at - place)
        np.add.at(power, (key[inside], at[inside]), line[inside] ** 2)
    return np.asarray(filter_bank(parameters).pool(power))


def hann_response(bins_away: NDArray[np.float64]) -> NDArray[np.float64]:
    """How a Hann window shows a sine that lies so many Fourier bins away: 1 at 0, 0.5 at 1."""
    distance = np.where(np.abs(np.abs(bins_away) - 1) < 1e-6, 1 + 1e-6, bins_away)
    return np.asarray(np.sinc(distance) / (1 - distance**2))


def salience(level: Float32, templates: Float32, parameters: FeatureParameters) -> Float32:
    """How much of each key is in one frame.

    Parameters
    ----------
    level : float32, shape (bins,)
        A frame of `edge.features.log_frequency_spectrum`.
    templates : float32, shape (88 + noises, bins)
        Of `pitch_templates`.

    Returns
    -------
    float32, shape (88 + noises,)
        Magnitude of each key, then of the noises: the weights that make the templates' sum most
        like the frame, by the Kullback-Leibler divergence after `UPDATES` multiplicative updates
        from equal weights, brought back to the scale of magnitudes.
    """
    heard = magnitude(level, parameters) ** np.float32(MATCHED_POWER)
    weight = np.full(len(templates), heard.mean(), np.float32)
    total = templates.sum(axis=1)
    for _ in range(UPDATES):
        explained = weight @ templates + np.float32(1e-7)
        weight = weight * (templates @ (heard / explained)) / total
    return np.asarray(weight ** np.float32(1 / MATCHED_POWER), np.float32)


def tuning_phasors(level: Float32, parameters: FeatureParameters) -> NDArray[np.complex128]:
    """Where, between the semitones of A 440, the energy of a frame lies, in each tuning band.

    Each bin is a pointer that turns once a semitone, as long as the bin is loud; their sum points
    at the tuning (as a circular mean does; Dressler & Streich, "Tuning frequency estimation using
    circular statistics", ISMIR 2007). Sums of many frames point more surely.

    Returns
    -------
    complex128, shape (len(TUNING_BANDS_HZ) - 1,)
    """
    hz = parameters.bin_hz
    semitones = 12 * np.log2(hz / pitch_to_hz(A4_PITCH_MIDI))
    pointer = magnitude(level, parameters) * np.exp(2j * np.pi * semitones)
    edges = np.searchsorted(hz, TUNING_BANDS_HZ)
    return np.array([pointer[a:b].sum() for a, b in pairwise(edges)])


def tuning_from_phasors(phasors: NDArray[np.complex128]) -> Tuning:
    """The tuning that summed phasors point at: a straight line through the bands' offsets."""
    length = np.abs(phasors)
    if length.sum() <= 0:
        return Tuning()
    middle = np.angle(phasors.sum())
    # Offsets relative to the common one, so that none wraps from +50 to -50 cents.
    cents = (middle + np.angle(phasors * np.exp(-1j * middle))) * 100 / (2 * np.pi)
    band_hz = np.sqrt(np.multiply(TUNING_BANDS_HZ[:-1], TUNING_BANDS_HZ[1:]))
    octaves = np.log2(band_hz / pitch_to_hz(A4_PITCH_MIDI))
    mean_octave = np.average(octaves, weights=length)
    mean_cents = np.average(cents, weights=length)
    spread = np.average((octaves - mean_octave) ** 2, weights=length)
    slope = np.average((octaves - mean_octave) * (cents - mean_cents), weights=length)
    stretch = float(np.clip(slope / max(spread, 1e-9), *STRETCH_LIMITS_CENTS))
    offset = float(mean_cents - stretch * mean_octave)
    return Tuning(float(np.clip(offset, -LARGEST_OFFSET_CENTS, LARGEST_OFFSET_CENTS)), stretch)
