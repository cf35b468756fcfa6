"""The machine under the ear: its clock, its disk, its watchdogs, its power.

None of these makes a sound, and each can leave a piano that does not listen, or that listens
worse: a full or worn card loses the record of what was played, a weak power supply slows the
processor down, a hang that nobody watches lasts until somebody pulls the plug.
"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from device.selftest.verdict import failed, not_tried, passed
from edge.commander import HOTTEST_C
from edge.messages import Check, Clock, Throttling
from edge.publish.clock import clock_quality
from edge.publish.health import LEAST_FREE_BYTES, read_board

BUILT_YEAR = 2026
"""No time before this is the present: the software itself is not older."""

PATIENCE_S = 5.0
"""For a program of the system that is asked something."""

# ---- clock


@dataclass(frozen=True, slots=True)
class ClockReading:
    """What the wall clock says, and who set it."""

    now: datetime
    quality: Clock


def read_clock() -> ClockReading:
    """The clock of this moment."""
    return ClockReading(datetime.fromtimestamp(time.time(), UTC), clock_quality())


def judge_clock(reading: ClockReading) -> Check:
    """A year that can be; and whether anybody has compared it."""
    now = f"{reading.now:%Y-%m-%d %H:%M} UTC"
    if reading.now.year < BUILT_YEAR:
        return failed(
            "clock",
            f"it says {now}, before this software was made; what is played is heard and kept all "
            "the same, marked `unsynced`, and put in its place when the time is known",
            "connect the network once, so that the time comes by NTP; certificates of brokers with "
            "TLS are refused until then",
        )
    if reading.quality is Clock.NTP:
        return passed("clock", f"{now}, set over the network")
    whose = "a battery-backed clock" if reading.quality is Clock.RTC else "nobody since the start"
    return not_tried(
        "clock",
        f"{now}, set by {whose}: there is no time to compare it with",
        "nothing, where there is no network; else let it reach a time server (NTP, port 123)",
    )


# ---- disk


@dataclass(frozen=True, slots=True)
class DiskReading:
    """The folder that keeps what is played.

    Attributes
    ----------
    folder : Path
    free_bytes : int or None
        None where even that cannot be read.
    trouble : int or None
        errno of writing a small file there and fetching it back; None: it went well.
    """

    folder: Path
    free_bytes: int | None
    trouble: int | None


def read_disk(folder: Path) -> DiskReading:
    """Write a page there to the disk, read it back, take it away."""
    there = next(each for each in (folder, *folder.absolute().parents) if each.exists())
    try:
        free_bytes = shutil.disk_usage(there).free
    except OSError:
        free_bytes = None
    return DiskReading(folder, free_bytes, _write_trouble(there))


def _write_trouble(folder: Path) -> int | None:
    page = os.urandom(4096)
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".selftest-") as file:
            file.write(page)
            file.flush()
            os.fsync(file.fileno())
            file.seek(0)
            return None if file.read() == page else errno.EIO
    except OSError as error:
        return error.errno or errno.EIO


def judge_disk(reading: DiskReading) -> Check:
    """Enough room, and what is written stays."""
    where = str(reading.folder)
    free = "unknown" if reading.free_bytes is None else f"{reading.free_bytes // 2**20} MB"
    if reading.trouble in (errno.EACCES, errno.EPERM):
        return not_tried(
            "disk",
            f"{where}: this user may not write there ({free} free)",
            "run it as root: sudo sostenuto-device selftest",
        )
    if reading.trouble == errno.EROFS:
        return failed(
            "disk",
            f"{where} is read-only: what is played is heard and told, and forgotten at power-off",
            "a card that turns itself read-only is worn: see `dmesg`, and flash a new one",
        )
    few = reading.free_bytes is not None and reading.free_bytes < LEAST_FREE_BYTES
    if reading.trouble in (errno.ENOSPC, errno.EDQUOT) or few:
        return failed(
            "disk",
            f"{where} is full: {free} free, {LEAST_FREE_BYTES // 2**20} MB are needed; the oldest "
            "of the record is given up first",
            "make room, or take a larger card; `history_mb` in the settings bounds the record",
        )
    if reading.trouble is not None or reading.free_bytes is None:
        reason = "cannot be read" if reading.trouble is None else os.strerror(reading.trouble)
        return failed("disk", f"{where}: {reason}", "see `dmesg`; flash a new card")
    return passed("disk", f"{where}: {free} free, written and read back")


# ---- watchdogs


@dataclass(frozen=True, slots=True)
class ServiceReading:
    """What systemd says of the service.

    Attributes
    ----------
    state : str
        ``active``, ``inactive``, ``failed``, …; ``not-found`` where it is not installed.
    watchdog_s : float
        The service is ended when it gives no sign for so long; 0: never.
    restarts : int
        How often it was started anew by itself.
    """

    state: str
    watchdog_s: float
    restarts: int


def ask_systemd(*words: str) -> dict[str, str] | None:
    """``systemctl show`` as a table; None where no systemd runs."""
    try:
        ran = subprocess.run(
            ["systemctl", "show", *words],
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    if ran.returncode != 0:
        return None
    lines = (line.partition("=") for line in ran.stdout.splitlines())
    return {key: value for key, _, value in lines}


def read_service(table: dict[str, str] | None) -> ServiceReading | None:
    """The answer of `ask_systemd` about the service, as a reading; None where there is none."""
    if table is None or "ActiveState" not in table:
        return None
    state = table["ActiveState"]
    if table.get("LoadState") == "not-found":
        state = "not-found"
    restarts = table.get("NRestarts", "0")
    return ServiceReading(
        state, _span_s(table.get("WatchdogUSec", "0")), int(restarts) if restarts.isdigit() else 0
    )


_UNITS_S = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0}


def _span_s(text: str) -> float:
    """systemd's spans: ``1min 30s``, ``30s``, ``infinity``, ``0``."""
    total_s = 0.0
    for part in text.split():
        digits = part.rstrip("abcdefghijklmnopqrstuvwxyz")
        unit = _UNITS_S.get(part[len(digits) :])
        if unit is not None and digits:
            total_s += float(digits) * unit
    return total_s


def judge_service(reading: ServiceReading | None) -> Check:
    """Running, and watched: a hang is ended and started anew."""
    if reading is None:
        return not_tried("service", "no systemd runs here")
    if reading.state == "not-found":
        return not_tried(
            "service",
            "it is not installed here",
            "sostenuto-device install, for a piano that stays",
        )
    if reading.state != "active":
        return failed(
            "service",
            f"it is {reading.state}, started anew {reading.restarts} times",
            "mend what `settings` says; switch it off and on; journalctl -u sostenuto says why",
        )
    if reading.watchdog_s <= 0:
        return failed(
            "service",
            "active, and its watchdog is not armed: a hang would last until the plug is pulled",
            "install again: sostenuto-device install",
        )
    return passed(
        "service",
        f"active, watchdog armed at {reading.watchdog_s:.0f} s, "
        f"started anew {reading.restarts} times",
    )


@dataclass(frozen=True, slots=True)
class WatchdogReading:
    """The board's own watchdog, which starts it anew when the kernel hangs.

    Attributes
    ----------
    name : str
        As it calls itself.
    armed : bool
        Whether it counts.
    timeout_s : int
        Seconds without a sign of life.
    """

    name: str
    armed: bool
    timeout_s: int


def read_watchdog(folder: Path = Path("/sys/class/watchdog")) -> WatchdogReading | None:
    """The first watchdog of the board; None where there is none."""
    for each in sorted(folder.glob("watchdog*")):
        try:
            return WatchdogReading(
                (each / "identity").read_text().strip(),
                (each / "state").read_text().strip() == "active",
                int((each / "timeout").read_text()),
            )
        except (OSError, ValueError):
            continue
    return None


def judge_watchdog(reading: WatchdogReading | None) -> Check:
    """Armed, where there is one."""
    if reading is None:
        return not_tried("hardware watchdog", "this board has none, or its driver is not loaded")
    if not reading.armed:
        return failed(
            "hardware watchdog",
            f"{reading.name} is not armed: a kernel that hangs stays so",
            "RuntimeWatchdogSec=14s in /etc/systemd/system.conf.d/, then restart the board",
        )
    return passed("hardware watchdog", f"{reading.name}, armed at {reading.timeout_s} s")


# ---- power and heat


@dataclass(frozen=True, slots=True)
class PowerReading:
    """What holds the processor back; None where the board does not tell.

    Attributes
    ----------
    temperature_c : float or None
        The hottest sensor.
    now, since_start : tuple of Throttling or None
        At this moment, and at any since the board was started.
    """

    temperature_c: float | None
    now: tuple[Throttling, ...] | None
    since_start: tuple[Throttling, ...] | None


SINCE_START_BIT = 16
"""In the firmware's word the low four bits are of now, the same four from here of since start."""


def read_power() -> PowerReading:
    """Sensors by the kernel; on a Raspberry Pi the firmware's word too, where it can be had."""
    board = read_board(Path("/"))
    word = firmware_word()
    if word is not None:
        return PowerReading(board.temperature_c, *throttled_by(word))
    alarm = under_voltage_alarm()
    now = board.throttling if alarm is None else (Throttling.UNDER_VOLTAGE,) * alarm
    return PowerReading(board.temperature_c, now, None)


def throttled_by(word: int) -> tuple[tuple[Throttling, ...], tuple[Throttling, ...]]:
    """A Raspberry Pi's word (`vcgencmd get_throttled`) as what holds it back now, and ever did."""
    now = tuple(kind for bit, kind in enumerate(Throttling) if word >> bit & 1)
    ever = tuple(k for bit, k in enumerate(Throttling) if word >> (bit + SINCE_START_BIT) & 1)
    return now, ever


def firmware_word() -> int | None:
    try:
        ran = subprocess.run(
            ["vcgencmd", "get_throttled"],
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        return int(ran.stdout.strip().removeprefix("throttled="), 16)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None


def under_voltage_alarm(hwmon: Path = Path("/sys/class/hwmon")) -> bool | None:
    """Under-voltage as mainline's driver ``raspberrypi-hwmon`` tells it; None without one."""
    for each in sorted(hwmon.glob("hwmon*")):
        try:
            if (each / "name").read_text().strip() == "rpi_volt":
                return (each / "in0_lcrit_alarm").read_text().strip() == "1"
        except OSError:
            continue
    return None


def judge_power(reading: PowerReading) -> Check:
    """Cool, and with enough power: nothing holds the processor back, or has since the start."""
    degrees = (
        "temperature unknown"
        if reading.temperature_c is None
        else f"{reading.temperature_c:.0f} °C"
    )
    held_back = dict.fromkeys((*(reading.now or ()), *(reading.since_start or ())))
    if held_back:
        words = ", ".join(
            f"{kind.value.replace('_', ' ')} {'now' if kind in (reading.now or ()) else 'before'}"
            for kind in held_back
        )
        weak = Throttling.UNDER_VOLTAGE in held_back
        remedy = (
            "the power supply is too weak or its cable too thin: take the board's own"
            if weak
            else "give the board air, or a heat sink"
        )
        return failed("power", f"{degrees}, held back by {words}", remedy)
    if reading.temperature_c is not None and reading.temperature_c >= HOTTEST_C:
        remedy = "give the board air, or a heat sink: it is about to slow itself down"
        return failed("power", f"{degrees}, {HOTTEST_C:.0f} °C is the limit", remedy)
    if reading.now is None and reading.temperature_c is None:
        return not_tried("power", "this board tells neither its temperature nor of its power")
    told = "nothing holds it back" if reading.now is not None else "its power it does not tell"
    return passed("power", f"{degrees}, {told}")
