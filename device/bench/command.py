"""`sostenuto-device bench`: every ear once through, the best for a minute, and a verdict."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import msgspec

from device.bench.measure import WINDOW_S, EarReading, Window
from device.bench.verdict import Judgement, judge, judge_ear
from device.selftest.command import Asked, Told, progress, settings_asked
from device.selftest.known_answer import LEAST_MARGIN
from device.selftest.machine import PowerReading, read_power
from edge.board import board_name, system_name
from edge.cli import console
from edge.ear import DEFAULT_MODEL, TEMPLATES, installed_models
from edge.errors import ModelError
from edge.messages import Percentiles

FAILED_EXIT = 1
BAR_COLUMNS = 32
STEPS = "▁▂▃▄▅▆▇█"


class Bench(msgspec.Struct, frozen=True):
    """All that was measured, as ``--json`` prints it."""

    board: str | None
    system: str
    ears: tuple[EarReading, ...]
    warm_ear: str
    warm: tuple[Window, ...]
    power_before: PowerReading
    power_after: PowerReading
    verdict: Judgement


def ears_by_accuracy() -> list[str]:
    """Installed models, the most accurate on real recordings first, and the templates last."""
    found = installed_models()
    found.sort(key=lambda manifest: -manifest.figures.get("real_onset_f1", 0.0))
    return [*(manifest.name for manifest in found), TEMPLATES]


def measured(ear: str) -> EarReading:
    """``ear`` once through, in a process of its own.

    Raises
    ------
    ModelError
        It cannot hear on this board; with its last words.
    """
    ran = subprocess.run(_command(ear), capture_output=True, text=True, check=False)
    if ran.returncode != 0:
        raise ModelError(f"{ear} does not run on this board: {_last_words(ran.stderr)}")
    return msgspec.json.decode(ran.stdout, type=EarReading)


def warmed(ear: str, seconds: float) -> Iterator[Window]:
    """The windows of ``ear`` without a pause, as they end.

    Raises
    ------
    ModelError
        It failed on the way; with its last words.
    """
    command = [*_command(ear), "--warm", str(seconds)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout is not None and running.stderr is not None
        try:
            for line in running.stdout:
                yield msgspec.json.decode(line, type=Window)
        finally:
            running.terminate()
        if running.wait() not in (0, -15):
            raise ModelError(f"{ear} failed: {_last_words(running.stderr.read())}")


def _command(ear: str) -> list[str]:
    return [sys.executable, "-m", "device.bench.measure", ear]


def _last_words(text: str) -> str:
    return (text.strip().splitlines() or ["no reason given"])[-1]


def bench(ears: list[str], used: str, seconds: float, told: Told) -> Bench:
    """Measure ``ears``, the most accurate first, and judge the board."""
    before = read_power()
    readings = []
    for number, ear in enumerate(ears):
        told(f"{ear}, once through", number / len(ears))
        readings.append(measured(ear))
    fresh = [judge_ear(reading, slowdown=1.0) for reading in readings]
    warm_ear = next((each.ear for each in fresh if each.carried), ears[-1])
    windows = []
    for window in warmed(warm_ear, seconds):
        windows.append(window)
        told(f"{warm_ear}, without a pause", window.until_s / seconds)
    return Bench(
        board_name(),
        system_name(),
        tuple(readings),
        warm_ear,
        tuple(windows),
        before,
        read_power(),
        judge(readings, before, windows, used),
    )


def run(*, seconds: float, models: list[str], json: bool) -> int:
    """Measure, tell, and return the exit code: 0 where an ear is carried."""
    settings, _ = settings_asked(Asked())
    used = settings.model or DEFAULT_MODEL
    with progress() as told:
        found = bench(models or ears_by_accuracy(), used, seconds, told)
    if json:
        console.out(msgspec.json.encode(found).decode())
    else:
        for line in picture(found):
            console.out(line)
    return 0 if found.verdict.best is not None else FAILED_EXIT


def picture(found: Bench) -> Iterator[str]:
    """The figures as bars, for a terminal of 80 columns."""
    yield f"{found.board or 'a board without a name'}, {found.system}"
    yield ""
    yield f"how many times as fast as the piano, when warm (┆ {LEAST_MARGIN:.0f} are needed)"
    most = max(*(each.speed for each in found.verdict.ears), 2 * LEAST_MARGIN)
    width = max(len(each.ear) for each in found.ears)
    for each in found.verdict.ears:
        mark = "" if each.carried else f"  {each.reason}"
        yield f"  {each.ear:<{width}} {speed_bar(each.speed, most)} {each.speed:5.1f}{mark}"
    yield ""
    heading = f"{'':<{width}}  CPU s   block ms    onset to told ms  memory"
    yield f"  {heading}\n  {'':<{width}}  per s   p50   p95     p50   p95        MB"
    for ear in found.ears:
        delay = "    –     –" if ear.delay is None else _pair(ear.delay, 0)
        yield (
            f"  {ear.ear:<{width}}  {ear.cpu_s_per_s:5.3f} {_pair(ear.compute, 2)}   {delay}"
            f"      {ear.memory_mb:4.0f}"
        )
    yield ""
    yield from _warmth(found)
    yield ""
    yield found.verdict.text


def _pair(spread: Percentiles, digits: int) -> str:
    return f"{spread.p50_ms:5.{digits}f} {spread.p95_ms:5.{digits}f}"


def speed_bar(speed: float, most: float, columns: int = BAR_COLUMNS) -> str:
    """A bar as long as ``speed``, with a mark at what is needed."""
    filled = round(columns * min(speed / most, 1.0))
    cells = ["█"] * filled + ["·"] * (columns - filled)
    cells[min(columns - 1, round(columns * LEAST_MARGIN / most))] = "┆"
    return "".join(cells)


def _warmth(found: Bench) -> Iterator[str]:
    speeds = [1.0 / window.cpu_s_per_s for window in found.warm]
    if speeds:
        seconds = found.warm[-1].until_s
        yield (
            f"{found.warm_ear} without a pause for {seconds:.0f} s: {steps(speeds)}  "
            f"{speeds[0]:.1f} → {speeds[-1]:.1f} times, a step each {WINDOW_S:.0f} s"
        )
    readings = (found.power_before, *(window.power for window in found.warm), found.power_after)
    degrees = [each.temperature_c for each in readings if each.temperature_c is not None]
    if degrees:
        yield (
            f"temperature: {degrees[0]:.0f} °C before, {degrees[-1]:.0f} °C after, "
            f"{max(degrees):.0f} °C at most"
        )
    else:
        yield "temperature: this board does not tell"
    if found.power_after.now is None:
        yield "power: this board does not tell whether it has enough"
    else:
        before, after = (_words(p) for p in (found.power_before, found.power_after))
        yield f"held back before: {before}; after: {after}"


def _words(power: PowerReading) -> str:
    ever = dict.fromkeys((*(power.now or ()), *(power.since_start or ())))
    return ", ".join(kind.value.replace("_", " ") for kind in ever) or "by nothing"


def steps(values: list[float]) -> str:
    """Values above 0 as blocks, the largest of full height."""
    top = max(values)
    return "".join(STEPS[min(7, int(8 * value / top))] for value in values)
