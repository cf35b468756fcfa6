"""`sostenuto listen` as a service: it obeys, restarts, is found, is measured, and stays off."""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from edge.cli.household import a_household, scrubbed
from edge.client import Dashboard, RefusedByDeviceError
from edge.errors import UsageError
from edge.messages import AudioState
from edge.publish.address import BrokerAddress
from edge.settings import Settings, read_settings
from tests.conftest import free_port

ROOT = Path(__file__).parents[1]


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts `sostenuto listen` to a minute of quiet; ends what is left of it."""
    made: list[subprocess.Popen[str]] = []
    recording = tmp_path / "quiet.wav"
    soundfile.write(recording, np.zeros(16_000 * 60, np.float32), 16_000)

    def start(*options: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "edge.cli", "listen", "--file", str(recording)]
        command += ["--model", "templates", "--device", "parlour", *options]
        environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}
        made.append(
            subprocess.Popen(
                command,
                cwd=ROOT,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        return made[-1]

    yield start
    for each in made:
        each.kill()
        each.communicate()


@pytest.mark.slow
def test_a_service_answers_is_measured_and_leaves_to_be_started_again(
    service, locked_mosquitto, tmp_path
) -> None:
    metrics = free_port()
    url = f"mqtt://clara:tr%C3%A4umerei@127.0.0.1:{locked_mosquitto.port}"
    settings = tmp_path / "sostenuto.toml"
    settings.write_text(f'broker = "{url}"\ncommands = ["health", "diagnostics", "restart"]\n')
    program = service(*("--settings", str(settings), "--metrics", str(metrics), "--home-assistant"))
    with Dashboard(url, device="parlour") as house:
        assert any(message.topic == "health" for message in house.messages(timeout_s=60.0))
        health = house.ask("parlour", "health", timeout_s=30.0)
        assert health.audio is AudioState.RUNNING
        with pytest.raises(RefusedByDeviceError) as refused:
            house.ask("parlour", "listen", False)
        assert refused.value.reason == "not_allowed"
        found = house.ask("parlour", "diagnostics")
        assert found.info.software
        assert found.settings["broker"] == f"mqtt://clara:…@127.0.0.1:{locked_mosquitto.port}"
        assert "umerei" not in str(found)
        assert any("not among the commands" in line for line in found.log)
        with urllib.request.urlopen(f"http://127.0.0.1:{metrics}/metrics", timeout=10) as answer:
            assert b"sostenuto_commands_refused_total" in answer.read()
        house.ask("parlour", "restart")
    _, complaints = program.communicate(timeout=30)
    assert program.returncode == 75, complaints
    assert "Traceback" not in complaints


def test_settings_are_told_without_passwords() -> None:
    told = scrubbed(Settings(broker="mqtt://clara:secret@house", broker_password_file="/etc/word"))
    assert told["broker"] == "mqtt://clara:…@house"
    assert "secret" not in str(told)


def test_an_unknown_command_in_the_settings_is_named(tmp_path: Path) -> None:
    path = tmp_path / "sostenuto.toml"
    path.write_text('commands = ["listen", "dance"]\n')
    with pytest.raises(UsageError, match=r"no command 'dance'; there are listen, piece"):
        read_settings(path)


def test_a_household_keeps_switched_off_and_can_be_switched_on(tmp_path: Path) -> None:
    def listening(*, switch_on: bool = False) -> bool:
        with a_household(
            Settings(),
            "parlour",
            "1.2.3",
            BrokerAddress("house"),
            state=tmp_path,
            record=None,
            switch_on=switch_on,
        ) as household:
            assert len(household.guests) == 1
            return household.listening

    assert listening()
    (tmp_path / "listening.json").write_text('{"listening":false}')
    assert not listening()
    assert not listening()
    assert listening(switch_on=True)
    assert listening()


def test_home_assistant_is_a_guest_when_it_is_wished_or_to_be_removed() -> None:
    for wish, announced in ((True, True), (False, False)):
        with a_household(
            Settings(home_assistant=wish), "parlour", "1.2.3", None, state=None, record=None
        ) as household:
            ((_, payload),) = household.guests[1].greeting()
            assert bool(payload) is announced
