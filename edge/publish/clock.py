"""The clocks that a message carries: wall time, what it is worth, and monotonic milliseconds.

A piano in a parlour may have no network and a Raspberry Pi no battery: its wall clock then
starts in the past. So every message says whether the kernel counts its clock as synchronised
(adjtimex(2)), whether a battery-backed clock has set it, or neither.
"""

from __future__ import annotations

import ctypes
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from edge.messages import Clock

RECHECK_S = 30.0
"""How long an answer about the clock's quality is believed."""

_NOT_SYNCHRONISED = 5  # TIME_ERROR of adjtimex(2)
_TIMEX_BYTES = 512  # struct timex has 208; all zero asks and sets nothing
_RTC = Path("/dev/rtc0")


@dataclass(frozen=True, slots=True)
class Stamp:
    """When a message was made: ``t`` in UTC, ``mono_ms``, and the quality of ``t``."""

    t: str
    mono_ms: int
    clock: Clock

    @property
    def wall_minus_mono_ms(self) -> int:
        """By how much the wall clock, in ms since 1970, is ahead of the monotonic one."""
        return round(datetime.fromisoformat(self.t).timestamp() * 1e3) - self.mono_ms


def clock_quality() -> Clock:
    """How far the wall clock can be trusted at this moment."""
    try:
        answer = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))
    except (OSError, AttributeError):
        answer = -1
    if 0 <= answer < _NOT_SYNCHRONISED:
        return Clock.NTP
    return Clock.RTC if _RTC.exists() else Clock.UNSYNCED


def rfc3339(seconds: float) -> str:
    """Seconds since 1970 as ``2026-11-20T18:02:11.120Z``."""
    text = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    return text.removesuffix("+00:00") + "Z"


class WallClock:
    """Stamps messages; asks about the clock's quality at most every `RECHECK_S` seconds."""

    def __init__(self) -> None:
        self._quality = Clock.UNSYNCED
        self._asked_s = float("-inf")

    def __call__(self) -> Stamp:
        mono_s = time.monotonic()
        if mono_s - self._asked_s > RECHECK_S:
            self._quality, self._asked_s = clock_quality(), mono_s
        return Stamp(rfc3339(time.time()), int(mono_s * 1000), self._quality)
