"""The harmonic log-frequency cube: where a tone lands, and that a stream equals the whole."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.features import (
    FeatureParameters,
    FeatureStream,
    filter_bank,
    harmonic_cube,
    log_frequency_spectrum,
)
from edge.note import KEYS, LOWEST_PITCH_MIDI, pitch_to_hz
from edge.tuning import Tuning

PARAMETERS = FeatureParameters()


def sine(hz: float, seconds: float = 0.5, amplitude: float = 1.0) -> np.ndarray:
    t = np.arange(round(seconds * PARAMETERS.sample_rate_hz)) / PARAMETERS.sample_rate_hz
    return (amplitude * np.sin(2 * np.pi * hz * t)).astype(np.float32)


@pytest.mark.parametrize("pitch_midi", [45, 57, 69, 81, 93, 105])
def test_a_sine_is_loudest_at_its_own_key(pitch_midi: int) -> None:
    spectrum = log_frequency_spectrum(sine(pitch_to_hz(pitch_midi)), PARAMETERS)
    cube = harmonic_cube(spectrum, PARAMETERS)
    fundamental = PARAMETERS.harmonics.index(1)
    key = cube[12, :, fundamental].reshape(KEYS, -1).max(axis=1).argmax()
    assert key == pitch_midi - LOWEST_PITCH_MIDI


def test_a_full_scale_sine_is_one_and_silence_is_zero() -> None:
    loud = log_frequency_spectrum(sine(440.0), PARAMETERS)
    assert loud[12].max() == pytest.approx(1.0, abs=0.02)
    assert not log_frequency_spectrum(np.zeros(4000, np.float32), PARAMETERS).any()


def test_ten_decibels_less_is_a_tenth_less() -> None:
    loud = log_frequency_spectrum(sine(440.0), PARAMETERS)[12].max()
    soft = log_frequency_spectrum(sine(440.0, amplitude=10 ** (-30 / 20)), PARAMETERS)[12].max()
    assert loud - soft == pytest.approx(0.30, abs=0.01)


def test_all_partials_of_a_key_stand_in_its_column() -> None:
    tone = sum(sine(pitch_to_hz(57) * h, amplitude=0.1) for h in range(1, 8))
    cube = harmonic_cube(log_frequency_spectrum(tone, PARAMETERS), PARAMETERS)
    column = cube[12].reshape(KEYS, -1, len(PARAMETERS.harmonics))[57 - LOWEST_PITCH_MIDI]
    partials = column.max(axis=0)[1:]
    assert (partials > 0.75).all()


def test_beyond_nyquist_the_cube_is_silent() -> None:
    noise = np.random.default_rng(1).normal(size=8000).astype(np.float32)
    cube = harmonic_cube(log_frequency_spectrum(noise, PARAMETERS), PARAMETERS)
    assert not cube[:, -1, -1].any()
    assert cube[:, 0, -1].all()


def test_a_click_is_strongest_in_the_frame_centred_on_it() -> None:
    samples = np.zeros(8000, np.float32)
    samples[10 * PARAMETERS.hop_samples] = 1.0
    energy = log_frequency_spectrum(samples, PARAMETERS).sum(axis=1)
    assert energy.argmax() == 10


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 5000), max_size=12), st.integers(0, 3))
def test_any_split_into_blocks_gives_the_whole_signals_frames(cuts: list[int], seed: int) -> None:
    samples = np.random.default_rng(seed).normal(scale=0.1, size=5000).astype(np.float32)
    whole = log_frequency_spectrum(samples, PARAMETERS)
    stream = FeatureStream(PARAMETERS)
    blocks = np.split(samples, sorted(cuts))
    parts = [stream.push(block) for block in blocks] + [stream.flush()]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_a_frame_comes_as_soon_as_its_window_is_full() -> None:
    stream = FeatureStream(PARAMETERS)
    assert len(stream.push(np.zeros(PARAMETERS.half_window_samples - 1, np.float32))) == 0
    assert len(stream.push(np.zeros(1, np.float32))) == 1


@pytest.mark.parametrize("cents", [-60.0, -23.0, 60.0])
def test_a_front_end_laid_out_by_the_tuning_hears_a_detuned_tone_where_its_key_is(
    cents: float,
) -> None:
    tempered_hz = pitch_to_hz(84)
    in_tune, detuned = sine(tempered_hz), sine(tempered_hz * 2 ** (cents / 1200))
    expected = log_frequency_spectrum(in_tune, PARAMETERS)[12]
    retuned = log_frequency_spectrum(detuned, PARAMETERS, Tuning(cents))[12]
    untuned = log_frequency_spectrum(detuned, PARAMETERS)[12]
    assert np.argmax(retuned) == np.argmax(expected)
    loud = expected > 0.5
    assert np.abs(retuned - expected)[loud].max() < np.abs(untuned - expected)[loud].max() / 3


@pytest.mark.parametrize("tuning", [Tuning(100.0, 5.0), Tuning(-100.0, -5.0)])
def test_no_tuning_moves_a_bin_out_of_the_spectrum(tuning: Tuning) -> None:
    filters = filter_bank(PARAMETERS, tuning)
    assert len(filters.start) == PARAMETERS.bins
    assert np.all(np.diff(filters.start) > 0)
    assert filters.index.max() <= PARAMETERS.half_window_samples
