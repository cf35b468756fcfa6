"""How the device is: what the live loop counted and what the board says, as one message.

The live loop counts, the board is read, and `health_message` only puts the two together.
Anything that cannot be read on a board is null there and never a made-up number.
"""

from __future__ import annotations

import shutil
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from edge.messages import AudioState, Detail, Health, Percentiles, Throttling
from edge.publish.publisher import PublisherCounters

HEALTH_S = 60.0
"""How often `health` is published: the contract."""

RECENT_DURATIONS = 4096
"""Durations kept for the percentiles; blocks of 20 ms fill it in 80 s."""

ATTENTION = Path("/run/sostenuto-attention.txt")
"""What somebody has to look after, a line each; whoever looks after the board writes it
(`device.firstboot.report`)."""

MOST_LINES = 16

LEAST_FREE_BYTES = 100 << 20
"""With less than this a disk is called full: the outbox at its largest, a day's record and a log
still fit."""

_MILLI = 1000.0
_MS_DIGITS = 2
_DB_DIGITS = 1
_PROC_STATUS = Path("/proc/self/status")
_THERMAL = Path("/sys/class/thermal")
_THROTTLED = Path("/sys/devices/platform/soc/soc:firmware/get_throttled")


@dataclass(frozen=True, slots=True)
class LoopReadings:
    """What the live loop counted since it began, and its last minute.

    Attributes
    ----------
    audio : AudioState
        How the sound comes in.
    uptime_s : float
        Since the program started.
    overruns, dropped_samples : int
        Lost sound: how often, and how much at the recogniser's rate.
    level_dbfs, peak_dbfs : float or None
        RMS of the last second and highest sample of the last minute; None without sound.
    inference, end_to_end : Percentiles or None
        As `percentiles` gives them.
    load : float or None
        Processor time used over the last minute; 1 is one core.
    queue_blocks : int
        Blocks of sound waiting to be heard.
    listening : bool
        False while it is switched off.
    detail : Detail or None
        What is published live.
    commands_refused : int
        Commands that were not carried out.
    """

    audio: AudioState
    uptime_s: float
    overruns: int = 0
    dropped_samples: int = 0
    level_dbfs: float | None = None
    peak_dbfs: float | None = None
    inference: Percentiles | None = None
    end_to_end: Percentiles | None = None
    load: float | None = None
    queue_blocks: int = 0
    listening: bool = True
    detail: Detail | None = None
    commands_refused: int = 0


@dataclass(frozen=True, slots=True)
class BoardReadings:
    """What the board says of itself; None where it says nothing."""

    temperature_c: float | None = None
    disk_free_bytes: int | None = None
    memory_bytes: int | None = None
    throttling: tuple[Throttling, ...] | None = None
    attention: tuple[str, ...] = ()


def health_message(
    loop: LoopReadings, publisher: PublisherCounters, board: BoardReadings
) -> Health:
    """The `health` message of this moment."""
    return Health(
        audio=loop.audio,
        uptime_s=round(loop.uptime_s, 1),
        overruns=loop.overruns,
        dropped_samples=loop.dropped_samples,
        level_dbfs=_rounded(loop.level_dbfs, _DB_DIGITS),
        peak_dbfs=_rounded(loop.peak_dbfs, _DB_DIGITS),
        inference=loop.inference,
        end_to_end=loop.end_to_end,
        load=_rounded(loop.load, 3),
        queue_blocks=loop.queue_blocks,
        queue_messages=publisher.queued,
        messages_dropped=publisher.dropped,
        reconnects=publisher.reconnects,
        temperature_c=_rounded(board.temperature_c, 1),
        disk_free_bytes=board.disk_free_bytes,
        memory_bytes=board.memory_bytes,
        listening=loop.listening,
        detail=loop.detail,
        throttling=board.throttling,
        attention=board.attention,
        commands_refused=loop.commands_refused,
    )


def percentiles(durations_ms: Iterable[float]) -> Percentiles | None:
    """Median and 95th percentile by nearest rank: each is a duration that did occur."""
    ordered = sorted(durations_ms)
    if not ordered:
        return None
    return Percentiles(
        p50_ms=round(_nearest_rank(ordered, 50), _MS_DIGITS),
        p95_ms=round(_nearest_rank(ordered, 95), _MS_DIGITS),
        count=len(ordered),
    )


def _nearest_rank(ordered: list[float], percent: int) -> float:
    return ordered[-(-percent * len(ordered) // 100) - 1]


class RecentDurations:
    """Durations of the last ``window_s`` seconds. One thread adds; another may read."""

    def __init__(self, window_s: float = HEALTH_S) -> None:
        self._window_s = window_s
        self._measured: deque[tuple[float, float]] = deque(maxlen=RECENT_DURATIONS)

    def add(self, now_s: float, duration_ms: float) -> None:
        """``duration_ms`` was measured at ``now_s`` of `time.monotonic`."""
        self._measured.append((now_s, duration_ms))

    def percentiles(self, now_s: float) -> Percentiles | None:
        """Of those not older than the window."""
        since_s = now_s - self._window_s
        return percentiles(ms for at_s, ms in list(self._measured) if at_s >= since_s)


def read_board(
    disk: Path,
    thermal: Path = _THERMAL,
    proc_status: Path = _PROC_STATUS,
    throttled: Path = _THROTTLED,
    attention: Path = ATTENTION,
) -> BoardReadings:
    """Read the board: the hottest sensor, what is free where ``disk`` lies, our own memory."""
    try:
        free = shutil.disk_usage(disk).free
    except OSError:
        free = None
    return BoardReadings(
        _temperature_c(thermal),
        free,
        _resident_bytes(proc_status),
        _throttling(throttled),
        _lines(attention),
    )


def _throttling(path: Path) -> tuple[Throttling, ...] | None:
    """What a Raspberry Pi's firmware says of this moment: the four low bits of its word."""
    try:
        word = int(path.read_text(), 16)
    except (OSError, ValueError):
        return None
    return tuple(kind for bit, kind in enumerate(Throttling) if word >> bit & 1)


def _temperature_c(thermal: Path) -> float | None:
    """The hottest thermal zone; Linux gives them in thousandths of a degree."""
    found = []
    for zone in sorted(thermal.glob("thermal_zone*/temp")):
        try:
            found.append(int(zone.read_text()) / _MILLI)
        except (OSError, ValueError):
            continue
    return max(found, default=None)


def _resident_bytes(proc_status: Path) -> int | None:
    try:
        lines = proc_status.read_text().splitlines()
    except OSError:
        return None
    sizes = [line.split()[1] for line in lines if line.startswith("VmRSS:")]
    return int(sizes[0]) * 1024 if sizes else None


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def _lines(path: Path) -> tuple[str, ...]:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ()
    return tuple(line for line in lines if line)[:MOST_LINES]
