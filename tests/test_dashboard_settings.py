from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge.dashboard import keeping
from edge.dashboard.keeping import Changed, Keeper, with_line
from edge.dashboard.reaching import Stage, Step, try_broker
from edge.errors import UsageError
from edge.publish.address import BrokerAddress, Tls
from edge.settings import read_settings
from tests.certificates import Authority
from tests.conftest import free_port

FILE = """\
# the piano in the parlour
device = "parlour"
mic = "USB Audio"  # the one on the lid
commands = [
  "listen",
  "health",
]
"""


@pytest.fixture(autouse=True)
def one_microphone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "microphones", lambda: ["USB Audio"])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "sostenuto.toml"
    path.write_text(FILE)
    path.chmod(0o640)
    return path


def test_a_line_is_set_changed_and_taken_out_and_all_else_stays() -> None:
    assert with_line("", "mic", "a") == 'mic = "a"\n'
    assert with_line("x = 1", "mic", "a") == 'x = 1\nmic = "a"\n'
    assert with_line(FILE, "mic", 'new "one"\\').count("\n") == FILE.count("\n")
    assert with_line(with_line(FILE, "broker", "b"), "broker", None) == FILE
    assert "mic" not in with_line(FILE, "mic", None)


def test_only_the_lines_that_change_are_written_anew(file: Path) -> None:
    Keeper("parlour", file).keep(Changed(mic="Röde NT1", broker="mqtt://house.local"))
    settings = read_settings(file)
    assert (settings.mic, settings.broker) == ("Röde NT1", "mqtt://house.local:1883")
    assert settings.commands == ("listen", "health")
    assert file.read_text().startswith("# the piano in the parlour\n")
    assert file.stat().st_mode & 0o777 == 0o640
    assert [each.name for each in file.parent.iterdir()] == [file.name]


def test_the_password_goes_into_a_file_of_its_own_and_is_never_told(file: Path) -> None:
    keeper = Keeper("parlour", file)
    keeper.keep(Changed(mic="USB Audio", broker="mqtt://anna:geheim@house"))
    kept = file.with_name("broker-password")
    assert kept.read_text() == "geheim"
    assert kept.stat().st_mode & 0o077 == 0
    assert "geheim" not in file.read_text()
    shown = keeper.show()
    assert shown["password_kept"] is True
    assert "geheim" not in str(shown)
    keeper.keep(Changed(mic="Other", broker="mqtt://anna@house"))
    assert read_settings(file).broker_password_file == str(kept)


def test_a_password_that_is_kept_goes_to_no_other_address(file: Path) -> None:
    keeper = Keeper("parlour", file)
    keeper.keep(Changed(broker="mqtt://anna@house", broker_password="geheim"))
    keeper.keep(Changed(broker="mqtt://anna@elsewhere"))
    assert read_settings(file).broker_password_file is None


def test_a_password_in_the_file_stays_there_while_the_address_does(file: Path) -> None:
    file.write_text('broker = "mqtt://anna:geheim@house"\n')
    keeper = Keeper("parlour", file)
    assert keeper.show()["settings"]["broker"] == "mqtt://anna@house:1883"
    keeper.keep(Changed(mic="USB Audio", broker="mqtt://anna@house:1883"))
    assert read_settings(file).broker == "mqtt://anna:geheim@house"


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        (Changed(broker="house.local"), "write it as mqtt://"),
        (Changed(broker="mqtt://house", broker_password="geheim"), "needs a user"),
    ],
)
def test_what_would_be_no_settings_is_not_kept(
    file: Path, changed: Changed, complaint: str
) -> None:
    with pytest.raises(UsageError, match=complaint):
        Keeper("parlour", file).keep(changed)
    assert file.read_text() == FILE


@pytest.mark.parametrize("document", [{"mic": 7}, {"mic": "a\nb"}, {"outbox": "/"}, [], "x"])
def test_what_the_page_never_sends_is_refused(file: Path, document: Any) -> None:
    with pytest.raises(ValueError, match=r"Expected|unknown|legible"):
        Keeper("parlour", file).desk()["PUT settings"](document)
    assert file.read_text() == FILE


def test_without_a_file_nothing_can_be_kept_and_it_is_said_why() -> None:
    assert Keeper("parlour", None).show()["can_be_kept"] is False
    with pytest.raises(UsageError, match="--settings FILE"):
        Keeper("parlour", None).keep(Changed(mic="USB Audio"))


# -- the broker, step by step --------------------------------------------------------------------


def failed(stages: list[Stage]) -> tuple[Step, str]:
    assert [stage.passed for stage in stages[:-1]] != [False]
    assert stages[-1].passed is False
    return stages[-1].name, stages[-1].text


def test_a_broker_that_is_well_passes_every_step(broker: Any, subscribe: Any) -> None:
    subscriber = subscribe(broker.address)
    stages = try_broker(broker.address, "parlour")
    assert [(stage.name.value, stage.passed) for stage in stages] == [
        ("DNS", True),
        ("TCP", True),
        ("TLS", None),
        ("login", True),
        ("publish", True),
    ]
    subscriber.wait_for(lambda: subscriber.messages("event"), "the test's message")
    assert subscriber.messages("event")[0].json["kind"] == "connection_test"
    assert subscriber.words() == []


def test_each_step_fails_in_its_own_words(locked_mosquitto: Any) -> None:
    port = locked_mosquitto.port
    for address, step, words in (
        (BrokerAddress("no-such-host.invalid"), Step.DNS, "no such host"),
        (BrokerAddress("127.0.0.1", free_port()), Step.TCP, "nobody listens"),
        (BrokerAddress("127.0.0.1", port, tls=Tls()), Step.TLS, "speaks no TLS"),
        (BrokerAddress("127.0.0.1", port, "clara", "wrong"), Step.LOGIN, "refuses the login"),
    ):
        found, text = failed(try_broker(address, "parlour"))
        assert found == step
        assert words in text, text
    right = BrokerAddress("127.0.0.1", port, "clara", "träumerei")
    assert all(stage.passed is not False for stage in try_broker(right, "parlour"))


def test_a_kept_password_is_used_by_the_test_and_a_typed_one_wins(
    file: Path, locked_mosquitto: Any
) -> None:
    keeper = Keeper("parlour", file)
    url = f"mqtt://clara@127.0.0.1:{locked_mosquitto.port}"
    keeper.keep(Changed(broker=url, broker_password="träumerei"))

    def passed(changed: Changed) -> bool:
        return keeper.test(changed)["stages"][-1]["name"] == "publish"

    assert passed(Changed(broker=url))
    assert not passed(Changed(broker=url, broker_password="kinderszenen"))


def test_a_strangers_certificate_is_named(tmp_path: Path, mosquitto_tls: Any) -> None:
    port, authority = mosquitto_tls
    address = BrokerAddress("127.0.0.1", port, tls=Tls())
    step, text = failed(try_broker(address, "parlour"))
    assert step == Step.TLS
    assert "authority that is not trusted" in text
    trusted = BrokerAddress("127.0.0.1", port, tls=Tls(ca=authority.certificate))
    stages = try_broker(trusted, "parlour")
    assert stages[-1].passed
    assert "certificate good until" in stages[2].text


@pytest.fixture
def mosquitto_tls(tmp_path: Path, wait_until: Any) -> Iterator[tuple[int, Authority]]:
    """A mosquitto under TLS, and the authority that vouches for it."""
    authority = Authority(tmp_path)
    own = authority.sign("broker", host="127.0.0.1")
    port = free_port()
    settings = tmp_path / "mosquitto.conf"
    settings.write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous true\nlog_type none\nuser root\n"
        f"certfile {own.certificate}\nkeyfile {own.key}\n"
    )
    program = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
    process = subprocess.Popen([program, "-c", str(settings)])

    def listens() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    wait_until(listens, "mosquitto under TLS")
    yield port, authority
    process.kill()
    process.wait()
