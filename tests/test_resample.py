from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.audio.block import STREAM_RATE_HZ
from edge.audio.resample import ResampleStream, resample, to_mono

RATES_HZ = (8_000, 11_025, 12_345, 22_050, 32_000, 44_100, 48_000, 96_000, 192_000)


def test_channels_are_averaged() -> None:
    frames = np.array([[1.0, 0.0, 0.5], [-1.0, 1.0, 0.0]], np.float32)
    assert to_mono(frames) == pytest.approx([0.5, 0.0])
    assert to_mono(frames[:, 0]) == pytest.approx([1.0, -1.0])


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_an_onset_stays_where_it_was_within_a_tenth_of_a_millisecond(rate_hz: int) -> None:
    click = np.zeros(rate_hz, np.float32)
    click[rate_hz // 2] = 1.0
    heard = resample(click, rate_hz)
    weights = heard.astype(np.float64) ** 2
    centre_s = float(np.average(np.arange(len(heard)), weights=weights)) / STREAM_RATE_HZ
    assert centre_s == pytest.approx((rate_hz // 2) / rate_hz, abs=1e-4)


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_a_tone_keeps_its_pitch_and_level(rate_hz: int) -> None:
    tone = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(rate_hz) / rate_hz)
    heard = resample(tone.astype(np.float32), rate_hz)
    expected = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(len(heard)) / STREAM_RATE_HZ)
    assert np.abs(heard - expected)[400:-400].max() < 1e-3


def test_what_lies_above_the_band_does_not_fold_back() -> None:
    whistle = 0.5 * np.sin(2 * np.pi * 11_000 * np.arange(48_000) / 48_000)
    heard = resample(whistle.astype(np.float32), 48_000)
    assert np.abs(heard[400:-400]).max() < 1e-4


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_the_length_is_that_of_the_time(rate_hz: int) -> None:
    assert len(resample(np.zeros(rate_hz * 2 + 7, np.float32), rate_hz)) == round(
        (rate_hz * 2 + 7) * STREAM_RATE_HZ / rate_hz
    )


@given(
    rate_hz=st.sampled_from((*RATES_HZ, STREAM_RATE_HZ)),
    splits=st.lists(st.integers(0, 3000), max_size=30),
    seed=st.integers(0, 2**16),
)
@settings(max_examples=60, deadline=None)
def test_any_split_gives_the_same_samples(rate_hz: int, splits: list[int], seed: int) -> None:
    samples = np.random.default_rng(seed).uniform(-1, 1, 20_000).astype(np.float32)
    stream = ResampleStream(rate_hz)
    cuts = np.minimum(np.cumsum(splits), len(samples)).astype(int)
    pieces = [stream.push(piece) for piece in np.split(samples, cuts)]
    pieces.append(stream.flush())
    assert np.array_equal(np.concatenate(pieces), resample(samples, rate_hz))


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_single_samples_never_starve_the_filter(rate_hz: int) -> None:
    samples = np.random.default_rng(1).uniform(-1, 1, 3000).astype(np.float32)
    stream = ResampleStream(rate_hz)
    pieces = [stream.push(samples[k : k + 1]) for k in range(len(samples))]
    pieces.append(stream.flush())
    assert np.array_equal(np.concatenate(pieces), resample(samples, rate_hz))


def test_a_flushed_stream_starts_anew() -> None:
    samples = np.random.default_rng(2).uniform(-1, 1, 5000).astype(np.float32)
    stream = ResampleStream(44_100)
    first = np.concatenate([stream.push(samples), stream.flush()])
    second = np.concatenate([stream.push(samples), stream.flush()])
    assert np.array_equal(first, second)
