"""Templates look like the tones of their keys, and the tuning is read from the spectrum."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from edge.features import FeatureParameters, log_frequency_spectrum
from edge.note import LOWEST_PITCH_MIDI, pitch_to_hz
from edge.pitch_templates import (
    hann_response,
    pitch_templates,
    salience,
    tuning_from_phasors,
    tuning_phasors,
)
from edge.tuning import Tuning

Float32 = NDArray[np.float32]
PARAMETERS = FeatureParameters()
RATE_HZ = PARAMETERS.sample_rate_hz


def chord(*pitches_midi: float) -> Float32:
    """One frame of the spectrum in the middle of a chord of falling harmonics."""
    t = np.arange(RATE_HZ // 2) / RATE_HZ
    samples = np.zeros(len(t))
    for pitch in pitches_midi:
        for h in range(1, 9):
            hz = h * pitch_to_hz(pitch)
            if hz < RATE_HZ / 2:
                samples += 0.1 * h**-1.5 * np.sin(2 * np.pi * hz * t + h)
    frame: Float32 = log_frequency_spectrum(samples.astype(np.float32), PARAMETERS)[12]
    return frame


def test_the_window_shows_a_sine_half_as_strong_in_the_next_bin() -> None:
    assert hann_response(np.array([0.0, 1.0, -1.0, 2.0])) == pytest.approx(
        [1, 0.5, 0.5, 0], abs=1e-4
    )


@pytest.mark.parametrize("pitch_midi", [40, 57, 69, 81, 100])
def test_a_tone_is_most_salient_at_its_own_key(pitch_midi: int) -> None:
    found = salience(chord(pitch_midi), pitch_templates(PARAMETERS, Tuning()), PARAMETERS)
    assert int(np.argmax(found)) == pitch_midi - LOWEST_PITCH_MIDI


def test_the_three_loudest_keys_of_a_triad_are_its_own() -> None:
    found = salience(chord(60, 64, 67), pitch_templates(PARAMETERS, Tuning()), PARAMETERS)
    loudest = np.argsort(found)[-3:] + LOWEST_PITCH_MIDI
    assert sorted(loudest.tolist()) == [60, 64, 67]


def test_silence_has_no_salience() -> None:
    silent = np.zeros(PARAMETERS.bins, np.float32)
    found = salience(silent, pitch_templates(PARAMETERS, Tuning()), PARAMETERS)
    assert float(found.max()) < 1e-3


@pytest.mark.parametrize("cents", [-35.0, -10.0, 0.0, 20.0, 40.0])
def test_a_pianos_tuning_is_read_within_five_cents(cents: float) -> None:
    phasors = sum(
        (tuning_phasors(chord(p + cents / 100), PARAMETERS) for p in (60, 64, 69, 77)),
        np.zeros(3, np.complex128),
    )
    assert tuning_from_phasors(phasors).offset_cents == pytest.approx(cents, abs=5)


def test_nothing_heard_is_taken_for_standard_tuning() -> None:
    assert tuning_from_phasors(np.zeros(3, np.complex128)) == Tuning(0.0, 0.0)


def test_templates_move_with_the_tuning() -> None:
    sharp = chord(69.4)
    standard = salience(sharp, pitch_templates(PARAMETERS, Tuning()), PARAMETERS)
    retuned = salience(sharp, pitch_templates(PARAMETERS, Tuning(40.0)), PARAMETERS)
    share = [float(found[48] / found.sum()) for found in (standard, retuned)]
    assert share[1] > share[0]
