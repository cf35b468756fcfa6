"""A short gap in the sound, filled with what sounded before it.

A sound card on a busy board loses 20 or 30 ms now and then. What rang before such a gap rings on
behind it. So the last moments are repeated, from the place where the wave was most like what it is
now, and what comes is faded in over them (after Wasem et al. 1988, waveform substitution). Strings
that ring are then neither ended by the gap nor struck by it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge.audio.block import STREAM_RATE_HZ

Float32 = NDArray[np.float32]

LONGEST_BRIDGED_S = 0.05
"""A longer gap may hide a stroke, and behind it the strings sound otherwise."""

_ALIKE = round(0.010 * STREAM_RATE_HZ)
"""Samples that are compared."""

_NEAREST, _FARTHEST = round(0.0125 * STREAM_RATE_HZ), round(0.075 * STREAM_RATE_HZ)
"""How far back the repeated piece may begin: a period of the lowest strings, or some."""

_FADE = round(0.005 * STREAM_RATE_HZ)
_KEPT = _FARTHEST + _ALIKE


def continued(tail: Float32, count: int) -> Float32:
    """``count`` samples that go on after ``tail``, of which the last 85 ms are needed."""
    before = tail[-_KEPT:]
    now = before[-_ALIKE:]
    earlier = np.lib.stride_tricks.sliding_window_view(before[:-_NEAREST], _ALIKE)
    strength = np.sqrt(np.einsum("ij,ij->i", earlier, earlier)) + 1e-9
    at = int(np.argmax(earlier @ now / strength))
    return np.resize(before[at + _ALIKE :], count)


class Bridge:
    """Keeps the last moments of a stream, and goes on from them over a gap."""

    def __init__(self) -> None:
        self._tail = np.zeros(0, np.float32)

    def spans(self, lost: int) -> bool:
        """Whether a gap of so many samples can be filled."""
        return 0 <= lost <= LONGEST_BRIDGED_S * STREAM_RATE_HZ and len(self._tail) == _KEPT

    def push(self, samples: Float32, lost: int = 0) -> Float32:
        """What is to be heard for ``samples`` before which ``lost`` samples are missing."""
        if lost > 0:
            fade = min(_FADE, len(samples))
            filled = continued(self._tail, lost + fade)
            rising = np.linspace(0, 1, fade, dtype=np.float32)
            joint = rising * samples[:fade] + (1 - rising) * filled[lost:]
            samples = np.concatenate([filled[:lost], joint, samples[fade:]])
        self._tail = np.concatenate([self._tail, samples])[-_KEPT:]
        return samples
