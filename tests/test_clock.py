from __future__ import annotations

import re
import time

from edge.messages import Clock
from edge.publish import clock
from edge.publish.clock import WallClock, clock_quality, rfc3339


def test_wall_time_is_written_with_milliseconds_in_utc():
    assert rfc3339(0.0) == "1970-01-01T00:00:00.000Z"
    assert rfc3339(1795197731.12) == "2026-11-20T18:02:11.120Z"


def test_a_stamp_keeps_to_the_contract():
    stamp = WallClock()()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", stamp.t)
    assert abs(stamp.mono_ms - time.monotonic() * 1000) < 1000
    assert stamp.clock in set(Clock)


def test_the_monotonic_clock_never_goes_back():
    now = WallClock()
    stamps = [now().mono_ms for _ in range(100)]
    assert stamps == sorted(stamps)


def test_a_kernel_that_has_no_answer_leaves_the_battery_clock_or_nothing(monkeypatch, tmp_path):
    def no_library(_name: object) -> object:
        raise OSError("no C library")

    monkeypatch.setattr(clock.ctypes, "CDLL", no_library)
    monkeypatch.setattr(clock, "_RTC", tmp_path / "rtc0")
    assert clock_quality() is Clock.UNSYNCED
    (tmp_path / "rtc0").touch()
    assert clock_quality() is Clock.RTC


def test_the_quality_is_asked_for_only_now_and_then(monkeypatch):
    asked = []
    monkeypatch.setattr(clock, "clock_quality", lambda: asked.append(1) or Clock.NTP)
    now = WallClock()
    assert [now().clock for _ in range(50)] == [Clock.NTP] * 50
    assert len(asked) == 1
