"""Over a short gap the wave goes on as it was."""

from __future__ import annotations

import numpy as np
import pytest

from edge.audio.block import STREAM_RATE_HZ
from edge.audio.bridge import Bridge, continued


def chord(seconds: float) -> np.ndarray:
    t = np.arange(round(seconds * STREAM_RATE_HZ)) / STREAM_RATE_HZ
    sound = np.zeros(len(t), np.float32)
    for hz in (110.0, 220.0, 330.0):
        sound += 0.1 * np.sin(2 * np.pi * hz * t)
    return sound


@pytest.mark.parametrize("lost", [1, 320, 480, 800])
def test_a_chord_goes_on_over_the_gap(lost: int) -> None:
    sound = chord(1.0)
    at = 8_000
    bridge = Bridge()
    before = [bridge.push(piece) for piece in np.split(sound[:at], 25)]
    assert bridge.spans(lost)
    after = bridge.push(sound[at + lost :], lost)
    np.testing.assert_allclose(np.concatenate([*before, after]), sound, atol=0.02)


def test_silence_goes_on_as_silence() -> None:
    assert not continued(np.zeros(2_000, np.float32), 480).any()


def test_what_cannot_be_bridged_is_told() -> None:
    bridge = Bridge()
    assert not bridge.spans(320)  # nothing has sounded
    bridge.push(chord(0.2))
    assert bridge.spans(800)
    assert not bridge.spans(801)
    assert not bridge.spans(-320)
