from __future__ import annotations

import re
import shutil
import subprocess
from configparser import RawConfigParser
from pathlib import Path

import pytest

from device.service.install import SETTINGS, shipped
from device.service.software import CURRENT
from edge import errors
from edge.audio.microphone import FIRST_CALLBACK_S
from edge.listen import HAND_OVER_S
from edge.watchdog import BEHIND_S, FEEDS, NOTHING_HEARD_S
from tests.base_dependencies import ROOT

UNIT = ROOT / "device" / "service" / "sostenuto.service"
MOST_EXPOSED = 1.5

needs_analyze = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed"
)


def said(section: str, key: str) -> list[str]:
    """All values of a key; systemd allows it more than once."""
    part = UNIT.read_text().partition(f"[{section}]")[2].partition("\n[")[0]
    return re.findall(rf"^{key}=(.*)$", part, re.MULTILINE)


@needs_analyze
def test_systemd_finds_the_service_exposed_to_little() -> None:
    ran = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", str(UNIT)],
        capture_output=True,
        text=True,
        check=False,
    )
    found = re.search(r"Overall exposure level for sostenuto.service: ([\d.]+)", ran.stdout)
    assert found is not None, ran.stdout + ran.stderr
    assert float(found[1]) <= MOST_EXPOSED


@needs_analyze
def test_systemd_knows_every_word_of_the_unit(tmp_path: Path) -> None:
    # Its program is not installed here.
    text = re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", UNIT.read_text(), flags=re.MULTILINE)
    (tmp_path / UNIT.name).write_text(text)
    ran = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(tmp_path / UNIT.name)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert UNIT.name not in ran.stderr, ran.stderr


def test_it_starts_a_command_that_there_is_with_options_that_it_has() -> None:
    (start,) = said("Service", "ExecStart")
    program, command, *options = start.split()
    assert program == f"{CURRENT}/bin/sostenuto"
    assert options[options.index("--settings") + 1] == SETTINGS
    from typer.main import get_command

    from edge.cli.app import app

    listen = get_command(app).commands[command]  # type: ignore[attr-defined]
    known = {name for parameter in listen.params for name in parameter.opts}
    assert {option for option in options if option.startswith("--")} <= known


def test_every_code_but_a_proper_end_starts_it_again_for_ever_and_never_in_a_storm() -> None:
    codes = {kind.exit_code for kind in vars(errors).values() if hasattr(kind, "exit_code")}
    assert errors.RESTART_EXIT not in codes
    assert 0 not in codes
    assert said("Service", "Restart") == ["on-failure"]
    assert said("Service", "SuccessExitStatus") == []
    assert said("Service", "RestartPreventExitStatus") == []
    assert said("Unit", "StartLimitIntervalSec") == ["0"]
    (pause_s,) = said("Service", "RestartSec")
    assert float(pause_s) >= 5.0


def test_nothing_that_may_never_come_is_waited_for() -> None:
    waited = " ".join(said("Unit", "After")).split()
    assert not {"network-online.target", "time-sync.target", "time-set.target"} & set(waited)
    for bond in ("Wants", "Requires", "Requisite", "BindsTo", "ConditionPathExists"):
        assert said("Unit", bond) == []


def test_the_watchdog_waits_longer_than_anything_that_mends_itself() -> None:
    (watchdog,) = said("Service", "WatchdogSec")
    (stop,) = said("Service", "TimeoutStopSec")
    assert float(watchdog) > HAND_OVER_S  # while it hands over nothing is fed
    assert float(stop) > 2 * HAND_OVER_S
    assert float(watchdog) / FEEDS < NOTHING_HEARD_S  # a feed is never late by itself
    assert min(NOTHING_HEARD_S, BEHIND_S) > FIRST_CALLBACK_S


def test_what_is_played_is_not_written_to_the_journal() -> None:
    assert said("Service", "StandardOutput") == ["null"]
    assert said("Service", "StandardError") == ["journal"]


@pytest.mark.parametrize("name", ["journald.conf", "mosquitto.conf"])
def test_what_is_laid_beside_other_configuration_is_legible(name: str) -> None:
    read = RawConfigParser(strict=False)
    read.optionxform = str  # type: ignore[assignment,method-assign]
    read.read_string(shipped(name))
    assert read.sections()


@pytest.mark.parametrize(
    ("port", "name"),
    [("1-1.2", "usb1-1_2"), ("1-1.4", "usb1-1_4"), ("3-1.4.3.2.1", "usb3-1_4_3_2_1")],
)
def test_a_sound_card_of_usb_is_called_after_its_port_as_alsa_allows(port: str, name: str) -> None:
    rule = shipped("60-sostenuto-audio.rules")
    found = re.search(r'PROGRAM="/bin/sh -c \'(.*?)\'"', rule)
    assert found is not None
    ran = subprocess.run(
        ["/bin/sh", "-c", found[1].replace("%b", port)], capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == name
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,15}", name)  # sound/core/init.c: what `id` may be
