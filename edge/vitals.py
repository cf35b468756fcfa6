"""How the listening goes: the level of the sound, and the work it makes.

Levels are in dB against full scale, where a full-scale square wave has 0 dB: RMS as in AES17,
without the 3 dB that standard adds for a sine.
"""

from __future__ import annotations

import math
import time
from collections import deque

import numpy as np
from numpy.typing import NDArray

from edge.audio.block import STREAM_RATE_HZ
from edge.messages import AudioState

WINDOW_S = 60.0
"""The peak is that of the last minute, as `health` is sent once a minute."""

LEVEL_S = 1.0
"""The level is that of the last second: long enough for a meter that can be read."""

SILENT_PEAK_DBFS = -80.0
"""A minute that stays below this is silent: the hiss of any open microphone lies above it, a
muted or dead one gives zeros, or the last bit of 16 (-90 dBFS)."""

CLIPPED_SAMPLE = 0.999
CLIPPED_SAMPLES = 16
"""So many samples at full scale within a minute are clipping: a millisecond's worth."""


def dbfs(amplitude: float) -> float | None:
    """Decibels of an amplitude against full scale, 1.0; None for nothing at all."""
    return 20.0 * math.log10(amplitude) if amplitude > 0.0 else None


class Meter:
    """Level of the sound; counts in samples of the stream, so it needs no clock."""

    def __init__(self) -> None:
        self._recent: deque[tuple[int, float, float, int]] = deque()
        self._samples = 0

    def push(self, samples: NDArray[np.float32]) -> None:
        """Hear a block: float32 of shape (n,), -1 to 1."""
        if len(samples) == 0:
            return
        magnitude = np.abs(samples)
        energy = float(np.dot(samples, samples))
        clipped = int(np.count_nonzero(magnitude >= CLIPPED_SAMPLE))
        self._samples += len(samples)
        self._recent.append((len(samples), energy, float(magnitude.max()), clipped))
        while self._samples - self._recent[0][0] >= WINDOW_S * STREAM_RATE_HZ:
            self._samples -= self._recent.popleft()[0]

    @property
    def level_dbfs(self) -> float | None:
        """RMS level over the last second."""
        counted, energy = 0, 0.0
        for count, block_energy, _, _ in reversed(self._recent):
            counted += count
            energy += block_energy
            if counted >= LEVEL_S * STREAM_RATE_HZ:
                break
        return dbfs(math.sqrt(energy / counted)) if counted else None

    @property
    def peak_dbfs(self) -> float | None:
        """Highest sample of the last minute."""
        return dbfs(max((peak for _, _, peak, _ in self._recent), default=0.0))

    @property
    def state(self) -> AudioState:
        """Running, silent or clipping."""
        if sum(clipped for *_, clipped in self._recent) >= CLIPPED_SAMPLES:
            return AudioState.CLIPPING
        peak_dbfs = self.peak_dbfs
        whole_minute = self._samples >= 0.9 * WINDOW_S * STREAM_RATE_HZ
        if whole_minute and (peak_dbfs is None or peak_dbfs < SILENT_PEAK_DBFS):
            return AudioState.SILENT
        return AudioState.RUNNING


class Load:
    """Processor time of this process, in cores, since the last reading."""

    def __init__(self) -> None:
        self._wall_s = time.monotonic()
        self._cpu_s = time.process_time()

    def read(self) -> float | None:
        """Cores used since the last call; None when that was a moment ago."""
        wall_s, cpu_s = time.monotonic(), time.process_time()
        elapsed_s = wall_s - self._wall_s
        if elapsed_s < 0.5:
            return None
        load = (cpu_s - self._cpu_s) / elapsed_s
        self._wall_s, self._cpu_s = wall_s, cpu_s
        return round(load, 4)
