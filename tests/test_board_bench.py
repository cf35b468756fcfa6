"""The bench: its verdict by figures made up here, its measuring on the machine at hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from device.app import app
from device.bench import command, measure
from device.bench.command import Bench, picture, speed_bar, steps
from device.bench.measure import EarReading, Window, live_delays_ms, most_memory_mb
from device.bench.verdict import held_back_in, judge, judge_ear, slowdown_of
from device.selftest.known_answer import KnownAnswer, Struck
from device.selftest.machine import PowerReading
from edge.errors import ModelError
from edge.messages import Percentiles, Throttling
from edge.note import NoteEvent

COOL = PowerReading(50.0, (), ())
UNTOLD = PowerReading(None, None, None)


def reading(ear: str, cost: float, p95_ms: float = 250.0) -> EarReading:
    spread = Percentiles(p50_ms=220.0, p95_ms=p95_ms, count=70)
    return EarReading(ear, cost, cost, Percentiles(p50_ms=1.0, p95_ms=9.0, count=9), spread, 90.0)


def window(until_s: float, cost: float, power: PowerReading = COOL) -> Window:
    return Window(until_s, cost, power)


def note(pitch_midi: int, onset_s: float) -> NoteEvent:
    return NoteEvent(pitch_midi, onset_s, None, 64, 1.0)


# ---- the delay


def test_the_delay_counts_from_the_true_onset_to_the_end_of_the_block_that_told() -> None:
    answer = KnownAnswer("x.flac", 1.0, "x", (Struck(60, 0.10),), (0.0,))
    heard = [(0.2, 0.01, []), (0.3, 0.02, [note(60, 0.12)])]
    assert live_delays_ms(heard, answer) == pytest.approx([220.0])


def test_a_board_that_falls_behind_tells_ever_later() -> None:
    """Each block of 0.1 s takes 0.15 s: the third begins 0.1 s late and ends 0.25 s late."""
    answer = KnownAnswer("x.flac", 1.0, "x", (Struck(60, 0.0),), (0.0,))
    heard = [(0.1, 0.15, []), (0.2, 0.15, []), (0.3, 0.15, [note(60, 0.0)])]
    assert live_delays_ms(heard, answer) == pytest.approx([550.0])


def test_only_notes_that_are_right_have_a_delay_and_each_onset_one() -> None:
    answer = KnownAnswer("x.flac", 1.0, "x", (Struck(60, 0.0),), (0.0,))
    heard = [(0.2, 0.0, [note(61, 0.0), note(60, 0.06), note(60, 0.01), note(60, 0.02)])]
    assert len(live_delays_ms(heard, answer)) == 1


# ---- the verdict


def test_the_most_accurate_ear_that_is_carried_is_the_best() -> None:
    found = judge([reading("large", 0.3), reading("small", 0.1)], COOL, [], used="large")
    assert found.best == "small"
    assert [each.carried for each in found.ears] == [False, True]
    assert "3.3 times as fast as the piano, 4 are needed" in found.ears[0].reason
    assert found.text == (
        "this board carries small; large is in use: "
        'model = "small" in the settings, since that is too much for it'
    )


def test_a_better_ear_than_the_one_in_use_is_recommended() -> None:
    found = judge([reading("large", 0.1), reading("small", 0.1)], COOL, [], used="small")
    assert found.text.endswith('model = "large" in the settings would hear better')
    assert judge([reading("large", 0.1)], COOL, [], used="large").text == "this board carries large"


def test_a_board_that_carries_none_says_so() -> None:
    found = judge([reading("large", 1.2)], COOL, [], used="large")
    assert found.best is None
    assert "take a faster one" in found.text


def test_an_ear_that_tells_too_late_or_hears_nothing_is_not_carried() -> None:
    late = judge_ear(reading("large", 0.1, p95_ms=340.0), slowdown=1.0)
    assert not late.carried and late.reason == "too late: 340 ms, 300 are allowed"
    deaf = EarReading("large", 0.1, 0.1, Percentiles(p50_ms=1, p95_ms=1, count=1), None, 90.0)
    assert "heard no note" in judge_ear(deaf, slowdown=1.0).reason


def test_a_board_that_gets_warm_is_judged_warm() -> None:
    windows = [window(5.0, 0.10), window(10.0, 0.12), window(15.0, 0.20), window(20.0, 0.21)]
    assert slowdown_of(windows) == pytest.approx(2.0)
    assert judge([reading("large", 0.2)], COOL, windows[:1], used="large").best == "large"
    assert judge([reading("large", 0.2)], COOL, windows, used="large").best is None


def test_one_disturbed_window_is_no_slowdown() -> None:
    disturbed = [window(5.0, 0.10), window(10.0, 0.30), window(15.0, 0.10)]
    assert slowdown_of(disturbed) == 1.0
    assert slowdown_of([]) == slowdown_of(disturbed[:1]) == 1.0


def test_what_held_the_processor_back_is_told_also_when_it_was_over_at_each_look() -> None:
    weak = PowerReading(60.0, (), (Throttling.UNDER_VOLTAGE,))
    hot = PowerReading(85.0, (Throttling.THROTTLED,), (Throttling.UNDER_VOLTAGE,))
    assert held_back_in(COOL, [weak]) == (Throttling.UNDER_VOLTAGE,)
    assert held_back_in(weak, [weak, hot]) == (Throttling.THROTTLED,)
    assert held_back_in(UNTOLD, [UNTOLD]) == ()
    found = judge([reading("large", 0.1)], COOL, [window(5.0, 0.1, weak)], used="large")
    assert found.text.endswith("held back by under voltage: give it its own power supply")


# ---- the picture


def test_bars_are_as_long_as_the_speed_with_a_mark_at_what_is_needed() -> None:
    assert speed_bar(8.0, 8.0, columns=8) == "████┆███"
    assert speed_bar(2.0, 8.0, columns=8) == "██··┆···"
    assert steps([8.0, 4.0, 1.0]) == "█▅▂"


@pytest.mark.parametrize("power", [COOL, UNTOLD])
def test_a_board_that_tells_nothing_of_itself_is_pictured_too(power: PowerReading) -> None:
    ears = (reading("large", 0.1), reading("small", 0.3))
    windows = (window(5.0, 0.1, power), window(10.0, 0.125, power))
    verdict = judge([*ears], power, [*windows], used="large")
    lines = list(picture(Bench(None, "Linux", ears, "large", windows, power, power, verdict)))
    assert "10.0 → 8.0 times" in "\n".join(lines)
    assert lines[-1] == "this board carries large"
    told = any("does not tell" in line for line in lines)
    assert told is (power is UNTOLD)
    assert all(len(line) <= 110 for line in lines)


# ---- on this machine


def test_every_installed_ear_is_measured_the_most_accurate_first() -> None:
    assert command.ears_by_accuracy() == ["separable3d", "compressed", "templates"]


def test_the_most_memory_is_the_kernel_s_high_water_mark(tmp_path: Path) -> None:
    status = tmp_path / "status"
    status.write_text("Name:\tx\nVmHWM:\t   2048 kB\n")
    assert most_memory_mb(status) == 2.0


def test_windows_come_until_the_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "WINDOW_S", 0.3)
    found = list(measure.windows("templates", 0.5, read=lambda: UNTOLD))
    assert len(found) == 2
    assert all(each.cpu_s_per_s > 0 for each in found)
    assert found[-1].until_s >= 0.5


def test_an_ear_that_cannot_run_says_why_in_one_line() -> None:
    with pytest.raises(ModelError, match=r"nonesuch does not run on this board: .*no note model"):
        command.measured("nonesuch")
    with pytest.raises(ModelError, match="no note model"):
        list(command.warmed("nonesuch", 1.0))


def test_the_command_measures_and_judges_this_machine_for_programs() -> None:
    ran = CliRunner().invoke(app, ["bench", "--seconds", "1", "--model", "templates", "--json"])
    found: dict[str, Any] = json.loads(ran.stdout)
    (ear,) = found["ears"]
    assert ear["ear"] == found["warm_ear"] == "templates"
    assert 150 < ear["delay"]["p50_ms"] < 1000
    assert ear["delay"]["count"] > 60
    assert ear["memory_mb"] > 30
    assert found["warm"]
    assert ran.exit_code == (0 if found["verdict"]["best"] == "templates" else 1)
