from __future__ import annotations

import numpy as np
import pytest

from edge.audio.block import STREAM_RATE_HZ
from edge.messages import AudioState
from edge.vitals import CLIPPED_SAMPLES, WINDOW_S, Meter, dbfs


def second(level: float) -> np.ndarray:
    return np.full(STREAM_RATE_HZ, level, np.float32)


def test_half_of_full_scale_is_six_decibels_down() -> None:
    assert dbfs(0.5) == pytest.approx(-6.02, abs=0.01)
    assert dbfs(0.0) is None


def test_the_level_is_that_of_the_last_second_and_the_peak_of_the_last_minute() -> None:
    meter = Meter()
    meter.push(second(0.5))
    meter.push(second(0.05))
    assert meter.level_dbfs == pytest.approx(-26.02, abs=0.01)
    assert meter.peak_dbfs == pytest.approx(-6.02, abs=0.01)
    for _ in range(int(WINDOW_S)):
        meter.push(second(0.05))
    assert meter.peak_dbfs == pytest.approx(-26.02, abs=0.01)


def test_a_muted_microphone_is_silent_after_a_minute_and_not_before() -> None:
    meter = Meter()
    meter.push(second(0.0))
    assert meter.state is AudioState.RUNNING
    for _ in range(int(WINDOW_S)):
        meter.push(second(0.00002))
    assert meter.state is AudioState.SILENT


def test_samples_at_full_scale_are_clipping() -> None:
    meter = Meter()
    loud = second(0.1)
    loud[: CLIPPED_SAMPLES - 1] = 1.0
    meter.push(loud)
    assert meter.state is AudioState.RUNNING
    meter.push(np.array([-1.0], np.float32))
    assert meter.state is AudioState.CLIPPING


def test_nothing_heard_has_no_level() -> None:
    meter = Meter()
    meter.push(np.zeros(0, np.float32))
    assert meter.level_dbfs is None
    assert meter.peak_dbfs is None
