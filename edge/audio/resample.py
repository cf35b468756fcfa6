"""Any rate to the stream's rate, without moving an onset.

Band-limited interpolation with a windowed sinc, after J. O. Smith, "Digital audio
resampling", as E. de Castro Lopo's libsamplerate does it (``sinc_medium``: 121 dB, flat to
90 % of the band). The filter is symmetric and its centre sits on the sample it makes, so
the group delay is zero: a sound at t in the file is at t in the stream. What streaming
costs is latency, ``FILTER_REACH`` samples of the slower of the two rates: 3 ms.

The pull side of libsamplerate is used, because the push side of its Python binding loses
input without a word whenever a call fills its output.
"""

from __future__ import annotations

import math
from collections import deque

import numpy as np
import samplerate
from numpy.typing import NDArray

from edge.audio.block import STREAM_RATE_HZ

LOWEST_RATE_HZ = 8_000
HIGHEST_RATE_HZ = 192_000

FILTER_REACH = 48
"""Samples of the slower rate that one output sample needs after itself. Half the length of
``sinc_medium`` is 46.3; measured for all rates in tests/test_resample.py."""


def to_mono(frames: NDArray[np.float32]) -> NDArray[np.float32]:
    """Average the channels of ``frames``, shape (n,) or (n, channels), into shape (n,)."""
    if frames.ndim == 1:
        return frames
    if frames.shape[1] == 1:
        return frames[:, 0]
    mono: NDArray[np.float32] = frames.mean(axis=1, dtype=np.float32)
    return mono


def resample(
    samples: NDArray[np.float32], rate_hz: int, stream_rate_hz: int = STREAM_RATE_HZ
) -> NDArray[np.float32]:
    """All of ``samples``, mono at ``rate_hz``, at the stream's rate.

    Returns
    -------
    float32, shape (round(n * stream_rate_hz / rate_hz),)
    """
    stream = ResampleStream(rate_hz, stream_rate_hz)
    return np.concatenate([stream.push(samples), stream.flush()])


class ResampleStream:
    """The same, a piece at a time; every split gives the same samples, bit for bit."""

    def __init__(self, rate_hz: int, stream_rate_hz: int = STREAM_RATE_HZ) -> None:
        self.rate_hz = rate_hz
        self.stream_rate_hz = stream_rate_hz
        self._ratio = stream_rate_hz / rate_hz
        self._reach_samples = math.ceil(FILTER_REACH * max(1.0, 1.0 / self._ratio))
        self.reset()

    def reset(self) -> None:
        """Forget everything: the next sample pushed is the first."""
        self._waiting: deque[NDArray[np.float32]] = deque()
        self._held = np.zeros(0, np.float32)
        self._in = 0
        self._out = 0
        self._converter = samplerate.CallbackResampler(
            self._next_piece, self._ratio, "sinc_medium", 1
        )

    def push(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Add mono samples, float32 of shape (n,); what can be said for certain comes back."""
        if self.rate_hz == self.stream_rate_hz:
            return samples
        if len(samples) > 0:
            self._waiting.append(np.ascontiguousarray(samples, dtype=np.float32))
            self._in += len(samples)
        certain = (self._in - self._reach_samples) * self.stream_rate_hz // self.rate_hz
        return self._read(certain - self._out)

    def flush(self) -> NDArray[np.float32]:
        """The rest, as if silence followed; then start anew."""
        if self.rate_hz == self.stream_rate_hz:
            return np.zeros(0, np.float32)
        missing = round(self._in * self._ratio) - self._out
        silence = math.ceil(self._reach_samples + 2.0 / self._ratio + 2)
        self._waiting.append(np.zeros(silence, np.float32))
        rest = self._read(missing)
        self.reset()
        return rest

    def _read(self, count: int) -> NDArray[np.float32]:
        if count <= 0:
            return np.zeros(0, np.float32)
        self._out += count
        made: NDArray[np.float32] = self._converter.read(count)
        return made

    def _next_piece(self) -> NDArray[np.float32]:
        # The converter keeps a bare pointer into the piece until it asks for the next one.
        self._held = self._waiting.popleft()
        return self._held
