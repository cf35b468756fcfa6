"""The flux says when something was struck: at the right time, soon, and only then."""

from __future__ import annotations

from itertools import pairwise

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge.onsets import (
    Onset,
    OnsetParameters,
    OnsetStream,
    onset_strength,
    pick_onsets,
)

Float32 = NDArray[np.float32]
RATE_HZ = 16_000
ORDINARY = OnsetParameters()
HALF_A_WINDOW_S = 0.016


def struck(
    at_s: float, pitch_hz: float = 440.0, level: float = 0.3, length_s: float = 2.0
) -> Float32:
    """A tone of falling harmonics that begins abruptly and decays."""
    t = np.arange(int(length_s * RATE_HZ)) / RATE_HZ - at_s
    partials = [h for h in range(1, 9) if h * pitch_hz < 7_500]
    tone = sum(np.sin(2 * np.pi * pitch_hz * h * t) / h for h in partials)
    return np.asarray(np.where(t < 0, 0, level * tone * np.exp(-3 * t)), np.float32)


def onset_times_s(samples: Float32, parameters: OnsetParameters = ORDINARY) -> list[float]:
    found = pick_onsets(onset_strength(samples, parameters), parameters)
    return [onset.sample / RATE_HZ for onset in found]


@pytest.mark.parametrize("pitch_hz", [55.0, 110.0, 440.0, 1760.0, 3520.0])
def test_one_decaying_tone_is_one_onset_within_half_a_window(pitch_hz: float) -> None:
    [time_s] = onset_times_s(struck(0.5037, pitch_hz))
    assert time_s == pytest.approx(0.5037, abs=HALF_A_WINDOW_S)


def test_silence_gives_nothing() -> None:
    assert onset_times_s(np.zeros(RATE_HZ, np.float32)) == []
    assert onset_times_s(np.zeros(0, np.float32)) == []


def test_going_noise_gives_few() -> None:
    noise = np.random.default_rng(1).normal(0, 0.03, 20 * RATE_HZ).astype(np.float32)
    assert len(onset_times_s(noise)) < 20


def test_a_note_is_found_in_noise() -> None:
    noise = np.random.default_rng(2).normal(0, 0.003, 2 * RATE_HZ).astype(np.float32)
    assert any(abs(t - 1.2) < 0.03 for t in onset_times_s(noise + struck(1.2)))


def test_a_loud_strike_after_a_soft_one_and_a_soft_one_after_a_loud_are_both_heard() -> None:
    soft_then_loud = struck(0.4, level=0.01) + struck(0.9, 523.25, level=0.5)
    loud_then_soft = struck(0.4, level=0.5) + struck(0.9, 523.25, level=0.05)
    for samples in (soft_then_loud, loud_then_soft):
        assert onset_times_s(samples) == pytest.approx([0.4, 0.9], abs=HALF_A_WINDOW_S)


def test_a_key_struck_eight_times_a_second_is_heard_eight_times() -> None:
    times_s = [0.3 + n / 8 for n in range(8)]
    samples = np.zeros(2 * RATE_HZ, np.float32)
    for time_s in times_s:
        samples += struck(time_s)
    assert onset_times_s(samples) == pytest.approx(times_s, abs=0.015)


def test_a_tone_whose_two_strings_beat_is_struck_once() -> None:
    samples = struck(0.3, 440.0) + struck(0.3, 441.8, level=0.05)
    assert onset_times_s(samples) == pytest.approx([0.3], abs=HALF_A_WINDOW_S)


def test_a_recording_that_breaks_off_is_not_an_onset() -> None:
    assert onset_times_s(struck(0.3)[: RATE_HZ // 2]) == pytest.approx([0.3], abs=HALF_A_WINDOW_S)


def test_an_onset_is_given_when_less_than_60_ms_of_it_have_been_heard() -> None:
    start = 8_037
    samples = struck(start / RATE_HZ)
    stream = OnsetStream(ORDINARY)
    heard, [onset] = next(
        (n + 1, found) for n in range(len(samples)) if (found := stream.push(samples[n : n + 1]))
    )
    assert heard - start < 0.060 * RATE_HZ
    assert onset.known_sample == heard


@pytest.mark.parametrize("switch", ["weighted", "scaled", "differenced"])
def test_each_refinement_can_be_switched_off_and_changes_the_strength(switch: str) -> None:
    plain = msgspec.structs.replace(ORDINARY, **{switch: False})
    samples = struck(0.5)
    strength, without = onset_strength(samples, ORDINARY), onset_strength(samples, plain)
    assert strength.shape == without.shape
    assert np.max(np.abs(strength - without)) > 0.1 * np.max(strength)
    assert onset_times_s(samples, plain)[0] == pytest.approx(0.5, abs=HALF_A_WINDOW_S)


def test_power_scaling_lets_a_soft_note_show_more_beside_a_loud_one() -> None:
    def soft_to_loud(parameters: OnsetParameters) -> float:
        strength = onset_strength(struck(0.4, level=0.5) + struck(1.4, level=0.01), parameters)
        return float(strength[120:].max() / strength[:80].max())

    unscaled = OnsetParameters(scaled=False)
    assert soft_to_loud(ORDINARY) > 3 * soft_to_loud(unscaled)


def test_the_difference_to_an_earlier_window_sees_more_of_the_rise() -> None:
    samples = struck(0.5)
    adjacent = OnsetParameters(differenced=False)
    assert onset_strength(samples, ORDINARY).max() > onset_strength(samples, adjacent).max()


splits = st.lists(st.integers(0, 16_000), max_size=8)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), cuts=splits)
def test_any_split_gives_the_whole_signals_onsets(seed: int, cuts: list[int]) -> None:
    rng = np.random.default_rng(seed)
    samples = sum(
        struck(float(rng.uniform(0, 1)), float(rng.uniform(60, 2_000)), length_s=1.0)
        for _ in range(4)
    ) + rng.normal(0, 0.002, RATE_HZ).astype(np.float32)
    samples = np.asarray(samples, np.float32)
    stream = OnsetStream(ORDINARY)
    found: list[Onset] = []
    for a, b in pairwise([0, *sorted(cuts), RATE_HZ]):
        found += stream.push(samples[a:b])
    found += stream.flush()
    assert found == pick_onsets(onset_strength(samples, ORDINARY), ORDINARY)


def test_a_stream_that_was_reset_knows_nothing_of_before() -> None:
    stream = OnsetStream(ORDINARY)
    first = stream.push(struck(0.5)) + stream.flush()
    stream.push(struck(0.1))
    stream.reset()
    assert stream.push(struck(0.5)) + stream.flush() == first
