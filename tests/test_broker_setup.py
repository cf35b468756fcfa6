"""The broker that is set up, started for real: who may write what, and who may not."""

from __future__ import annotations

import json
import shutil
import socket
import ssl
import stat
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest

from edge.broker_setup import (
    DASHBOARD,
    HOME_ASSISTANT,
    OWN_PAGE,
    BrokerPlan,
    Ports,
    acl,
    set_up,
)
from edge.cli.app import run_command
from edge.cli.dashboard import broker_for_dashboards
from edge.client import Dashboard
from edge.errors import UsageError
from edge.messages import TOPICS, Piece, PieceState, Session, SessionState
from edge.publish.address import BrokerAddress, Tls
from edge.publish.commands import CommandDesk
from edge.publish.home_assistant import HomeAssistant, config_topic
from edge.publish.publisher import Publisher
from edge.settings import broker_address, read_settings
from tests.conftest import free_port

HOST = "127.0.0.1"


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that mosquitto's own user may look into, which pytest's is not."""
    made = Path(tempfile.mkdtemp(prefix="sostenuto-broker-"))
    made.chmod(0o755)
    yield made / "broker"
    shutil.rmtree(made)


def plan_of(folder: Path, *devices: str, house: bool) -> BrokerPlan:
    ports = Ports(free_port(), free_port(), free_port(), free_port())
    return BrokerPlan(folder, devices, (HOST, "house.local"), house, ports)


@dataclass
class Running:
    """A mosquitto as it was set up."""

    plan: BrokerPlan
    process: subprocess.Popen[bytes]

    def stop(self) -> None:
        """End it in form: it writes down what it keeps."""
        self.process.terminate()
        self.process.wait()

    def address(self, account: str, *, wss: bool = False) -> BrokerAddress:
        """As whoever has the folder of ``account`` connects."""
        where = self.plan.folder / "accounts" / account
        password = (where / "password").read_text().strip()
        port = self.plan.ports.wss if wss else self.plan.ports.tls
        path = "/mqtt" if wss else None
        return BrokerAddress(HOST, port, account, password, tls=Tls(where / "ca.crt"), path=path)


@pytest.fixture
def start(wait_until) -> Iterator[Callable[[BrokerPlan], Running]]:
    program = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
    assert program is not None, "mosquitto is not installed"
    made: list[subprocess.Popen[bytes]] = []

    def run(plan: BrokerPlan) -> Running:
        command = [program, "-c", str(plan.folder / "mosquitto.conf")]
        made.append(subprocess.Popen(command, stderr=subprocess.DEVNULL))
        ports = [plan.ports.tls, plan.ports.wss]
        ports += [] if plan.house else [plan.ports.local, plan.ports.local_ws]
        for port in ports:
            wait_until(lambda port=port: _listens(port), f"mosquitto on port {port}")
        return Running(plan, made[-1])

    yield run
    for each in made:
        each.terminate()
        each.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


class Client:
    """Somebody with an account who tries things."""

    def __init__(self, address: BrokerAddress) -> None:
        self.got: list[tuple[str, bytes]] = []
        self._denied: dict[int, bool] = {}
        self._ready = threading.Event()
        self.refused = False
        self._client = paho.Client(
            paho.CallbackAPIVersion.VERSION2,
            protocol=paho.MQTTv5,
            transport="websockets" if address.path else "tcp",
        )
        if address.tls is not None:
            self._client.tls_set_context(address.tls.context())
        self._client.username_pw_set(address.username, address.password)
        self._client.on_connect = self._connected
        self._client.on_subscribe = lambda *_: self._ready.set()
        self._client.on_message = lambda _c, _u, m: self.got.append((m.topic, m.payload))
        self._client.on_publish = self._published
        self._client.connect(address.host, address.port)
        self._client.loop_start()
        assert self._ready.wait(10.0) or self.refused

    def _connected(self, client: Any, _u: Any, _f: Any, reason: Any, _p: Any) -> None:
        if reason.is_failure:
            self.refused = True
            self._ready.set()
        else:
            client.subscribe("#", 1)

    def _published(self, _c: Any, _u: Any, mid: int, reason: Any, _p: Any) -> None:
        self._denied[mid] = reason.value == 135

    def may_write(self, topic: str, payload: bytes = b"x") -> bool:
        """Whether the broker takes it; MQTT 5 says so in its acknowledgement."""
        mid = self._client.publish(topic, payload, 1).mid
        until_s = time.monotonic() + 10.0
        while mid not in self._denied and time.monotonic() < until_s:
            time.sleep(0.002)
        return not self._denied[mid]

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@pytest.fixture
def client() -> Iterator[Callable[[BrokerAddress], Client]]:
    made: list[Client] = []

    def make(address: BrokerAddress) -> Client:
        made.append(Client(address))
        return made[-1]

    yield make
    for each in made:
        each.close()


def below(device: str, name: str) -> str:
    return f"sostenuto/v1/{device}/{name.replace('+', 'listen')}"


PUBLISHED = [name for name in TOPICS if name != "cmd/+"]


def test_in_a_house_everybody_may_do_what_is_theirs_and_nothing_else(
    folder, start, client, wait_until
) -> None:
    house = start(set_up(plan_of(folder, "parlour", "hall", house=True)))
    parlour, hall = client(house.address("parlour")), client(house.address("hall"))
    dashboard = client(house.address(DASHBOARD, wss=True))
    assistant = client(house.address(HOME_ASSISTANT))

    for name in PUBLISHED:
        assert parlour.may_write(below("parlour", name)), name
        assert not parlour.may_write(below("hall", name)), name
        assert not dashboard.may_write(below("parlour", name)), name
    assert parlour.may_write(config_topic("parlour"))
    for topic in (
        config_topic("hall"),
        below("parlour", "cmd/listen"),
        below("hall", "cmd/listen"),
        below("parlour", "anything"),
        "homeassistant/status",
        "else",
    ):
        assert not parlour.may_write(topic), topic
    assert dashboard.may_write(below("hall", "cmd/listen"))
    assert not dashboard.may_write("homeassistant/status")
    assert assistant.may_write("homeassistant/status", b"online")
    assert assistant.may_write(below("parlour", "cmd/listen"))

    wait_until(lambda: len(dashboard.got) >= len(PUBLISHED), "all that the parlour published")
    wait_until(lambda: len(hall.got) >= 2, "the hall's command and Home Assistant's word")
    assert {topic for topic, _ in dashboard.got} == {below("parlour", n) for n in PUBLISHED}
    assert {topic for topic, _ in hall.got} == {below("hall", "cmd/listen"), "homeassistant/status"}
    assert not any(topic.startswith("sostenuto") and "/cmd/" not in topic for topic, _ in hall.got)
    assert (config_topic("parlour"), b"x") in assistant.got


def test_whoever_looks_at_a_pianos_own_page_sees_that_piano_and_commands_it(
    folder, start, client, wait_until
) -> None:
    house = start(set_up(plan_of(folder, "parlour", "hall", house=True)))
    settings = read_settings(folder / "accounts" / "parlour" / "sostenuto.toml")
    address = broker_for_dashboards(settings, None)
    assert address is not None
    assert address.username == f"parlour{OWN_PAGE}"
    assert (address.scheme, address.host, address.port) == ("mqtts", HOST, house.plan.ports.tls)
    looking = client(address)
    parlour, hall = client(house.address("parlour")), client(house.address("hall"))
    for piano, device in ((parlour, "parlour"), (hall, "hall")):
        for name in PUBLISHED:
            assert piano.may_write(below(device, name))
            assert not looking.may_write(below(device, name)), name
    assert looking.may_write(below("parlour", "cmd/listen"))
    assert not looking.may_write(below("hall", "cmd/listen"))
    wait_until(lambda: len(looking.got) >= len(PUBLISHED), "all that the parlour published")
    assert {topic for topic, _ in looking.got} == {below("parlour", n) for n in PUBLISHED}


def test_nobody_comes_in_without_an_account_or_in_the_clear(folder, start, client) -> None:
    house = start(set_up(plan_of(folder, "parlour", house=True)))
    good = house.address("parlour")
    assert client(replace(good, password="wrong")).refused
    assert client(replace(good, username=None, password=None)).refused
    with pytest.raises(ssl.SSLCertVerificationError):
        Client(replace(good, tls=Tls()))


def test_one_piano_publishes_and_is_commanded_through_its_own_broker(
    folder, start, wait_until
) -> None:
    one = start(set_up(plan_of(folder, "parlour", house=False)))
    settings = read_settings(folder / "accounts" / "parlour" / "sostenuto.toml")
    assert settings.device == "parlour"
    address = broker_address(settings.broker or "", settings)
    assert (address.scheme, address.port) == ("mqtt", one.plan.ports.local)
    desk = CommandDesk("parlour")
    piano = Publisher(
        address, "parlour", identity="piano", guests=[desk, HomeAssistant("parlour", "1")]
    )
    piano.start(require_connection_s=20.0)
    piano.publish("piece", Piece(state=PieceState.SEARCHING))
    wait_until(lambda: piano.counters.sent == 1, "the piece")
    page = broker_for_dashboards(settings, address)
    assert page is not None
    with Dashboard(page, device="parlour", topics=("piece",)) as own_page:
        (seen,) = own_page.messages(timeout_s=1.0)
        assert seen.topic == "piece"
    with Dashboard(one.address(DASHBOARD, wss=True), device="parlour") as dashboard:
        piano.publish("session", Session(id="s", state=SessionState.NEW))
        got = {message.topic for message in dashboard.messages(timeout_s=1.0)}
        assert got == {"availability", "piece", "session"}
        with pytest.raises(Exception, match="does not answer"):
            dashboard.ask("parlour", "health", timeout_s=0.2)
    assert desk.take() is not None
    assert piano.counters.trouble is None
    piano.close(timeout_s=2.0)


def test_what_is_retained_outlasts_the_broker(folder, start, client, wait_until) -> None:
    plan = set_up(plan_of(folder, "parlour", house=True))
    first = start(plan)
    piano = Publisher(first.address("parlour"), "parlour", identity="piano")
    piano.start(require_connection_s=20.0)
    piano.publish("piece", Piece(state=PieceState.MATCHED, title="Gymnopédie"))
    wait_until(lambda: piano.counters.sent == 1, "the piece")
    piano.close(timeout_s=2.0)
    first.stop()
    wait_until(lambda: not _listens(plan.ports.tls), "the end of the broker")
    second = start(plan)
    with Dashboard(second.address(DASHBOARD), topics=("piece",)) as dashboard:
        (message,) = dashboard.messages(timeout_s=1.0)
        assert message.retained


def test_a_second_run_adds_a_piano_and_changes_no_password(folder) -> None:
    first = set_up(plan_of(folder, "parlour", house=True))
    before = {f.parent.name: f.read_text() for f in folder.glob("accounts/*/password")}
    authority = (folder / "tls" / "ca.crt").read_bytes()
    server = (folder / "tls" / "server.crt").read_bytes()
    both = set_up(replace(first, devices=("hall",)))
    assert both.devices == ("hall", "parlour")
    after = {f.parent.name: f.read_text() for f in folder.glob("accounts/*/password")}
    assert after == {**after, **before}
    pages = {f"parlour{OWN_PAGE}", f"hall{OWN_PAGE}"}
    assert set(after) == {"parlour", "hall", *pages, DASHBOARD, HOME_ASSISTANT}
    assert (folder / "tls" / "ca.crt").read_bytes() == authority
    assert (folder / "tls" / "server.crt").read_bytes() != server
    assert "user parlour" in (folder / "acl").read_text()


def test_what_is_secret_is_for_nobody_else(folder) -> None:
    set_up(plan_of(folder, "parlour", house=False))
    for name in (
        *("passwords", "acl", "tls/ca.key", "tls/server.key"),
        *("accounts/parlour/password", "accounts/parlour/sostenuto.toml"),
    ):
        mode = stat.S_IMODE((folder / name).stat().st_mode)
        assert mode & 0o027 == 0, f"{name}: {mode:o}"
    for file in folder.rglob("*"):
        if file.is_file() and file.name not in ("password",):
            password = (folder / "accounts" / "parlour" / "password").read_text().strip()
            assert password.encode() not in file.read_bytes(), file


def test_the_rights_name_every_topic_of_the_contract() -> None:
    text = acl(("parlour",))
    for name in TOPICS:
        assert f" sostenuto/v1/parlour/{name}\n" in text


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"devices": ("a b",)}, "device name 'a b'"),
        ({"devices": ("dashboard",)}, "an account of that name"),
        ({"devices": ("one", "two")}, "for more than one, or none, --house"),
        ({"hosts": ("house:1883/x",)}, "give a name or an address without port"),
        ({"folder": Path("/proc/nowhere")}, "cannot be written"),
        ({"folder": Path("/tmp/a b")}, "no name with a space"),
    ],
)
def test_a_plan_that_cannot_be_is_refused_in_one_line(folder, change, reason) -> None:
    with pytest.raises(UsageError, match=reason) as error:
        set_up(replace(plan_of(folder, "parlour", house=False), **change))
    assert "\n" not in str(error.value)


def test_the_command_says_where_everything_is_and_no_password(folder, capsys) -> None:
    options = ["--device", "parlour", "--host", "piano.local"]
    assert run_command(["broker", "setup", str(folder), *options]) == 0
    said = capsys.readouterr().out
    assert f"mosquitto -c {folder.resolve()}/mosquitto.conf" in said
    assert "mqtts://dashboard@piano.local:8883" in said
    assert run_command(["broker", "setup", str(folder), *options, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [a["name"] for a in told["accounts"]] == ["parlour", DASHBOARD, HOME_ASSISTANT]
    for account in told["accounts"]:
        assert Path(account["password_file"]).read_text().strip() not in said
    assert run_command(["broker", "start", str(folder)]) == 2
