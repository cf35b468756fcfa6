"""A real broker, the embedded one, and a subscriber that waits for what it wants to see."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import paho.mqtt.client as paho
import pytest

from edge.publish.address import BrokerAddress
from edge.publish.embedded import EmbeddedBroker

PATIENCE_S = 20.0
"""How long a test waits for what must come; generous, because machines are busy."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until(holds: Callable[[], Any], what: str) -> None:
    until_s = time.monotonic() + PATIENCE_S
    while not holds():
        if time.monotonic() > until_s:
            pytest.fail(f"in {PATIENCE_S:.0f} s not seen: {what}")
        time.sleep(0.005)


@pytest.fixture(autouse=True)
def own_state(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test writes into the outbox of whoever runs it, nor finds another test's."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)


@pytest.fixture
def wait_until() -> Callable[[Callable[[], Any], str], None]:
    """Waits for a condition that nothing announces; fails with what was awaited."""
    return _wait_until


class Mosquitto:
    """A mosquitto on a port of its own; killed as by a power cut, or started again."""

    def __init__(self, folder: Path, *, user: str | None = None, password: str = "") -> None:
        program = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
        if program is None:
            pytest.fail("mosquitto is not installed: apt-get install mosquitto")
        self._program = program
        self.port = free_port()
        self._settings = folder / f"mosquitto-{self.port}.conf"
        lines = [f"listener {self.port} 127.0.0.1", "log_type none"]
        if user is None:
            lines.append("allow_anonymous true")
        else:
            passwords = folder / "passwords"
            command = ["mosquitto_passwd", "-b", "-c", str(passwords), user, password]
            subprocess.run(command, check=True, capture_output=True)
            passwords.chmod(0o644)
            folder.chmod(0o755)
            lines += ["allow_anonymous false", f"password_file {passwords}", "user root"]
        self._settings.write_text("\n".join(lines) + "\n")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> BrokerAddress:
        return BrokerAddress("127.0.0.1", self.port)

    def start(self) -> None:
        command = [self._program, "-c", str(self._settings)]
        self._process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        _wait_until(self._listens, f"mosquitto on port {self.port}")

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def hang(self) -> None:
        """Be there and do nothing, until `go_on`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None


class Embedded:
    """The embedded broker with the same handles."""

    def __init__(self) -> None:
        self.port = free_port()
        self._broker: EmbeddedBroker | None = None

    @property
    def address(self) -> BrokerAddress:
        return BrokerAddress("127.0.0.1", self.port, speaks_mqtt5=False)

    def start(self) -> None:
        self._broker = EmbeddedBroker(self.port)
        self._broker.start()

    def stop(self) -> None:
        if self._broker is not None:
            self._broker.stop()
            self._broker = None


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Mosquitto]:
    """A real mosquitto, running."""
    broker = Mosquitto(tmp_path)
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture
def locked_mosquitto(tmp_path: Path) -> Iterator[Mosquitto]:
    """A real mosquitto that lets in `clara` with the password `träumerei`, and nobody else."""
    broker = Mosquitto(tmp_path, user="clara", password="träumerei")
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture(params=["mosquitto", "embedded"])
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Mosquitto | Embedded]:
    """A running broker: the test is made with mosquitto, and with the embedded one."""
    made: Mosquitto | Embedded = Mosquitto(tmp_path) if request.param == "mosquitto" else Embedded()
    made.start()
    yield made
    made.stop()


@dataclass(frozen=True)
class Received:
    """One message as it came."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    at_s: float

    @property
    def name(self) -> str:
        """The topic below the device's root."""
        return self.topic.split("/", 3)[3]

    @property
    def json(self) -> dict[str, Any]:
        document: dict[str, Any] = msgspec.json.decode(self.payload)
        return document


class Subscriber:
    """Collects everything below ``sostenuto/`` and waits for what must come."""

    def __init__(self, address: BrokerAddress) -> None:
        self._changed = threading.Condition()
        self._messages: list[Received] = []
        self._ready = threading.Event()
        self._client = paho.Client(paho.CallbackAPIVersion.VERSION2)
        self._client.username_pw_set(address.username, address.password)
        self._client.on_connect = lambda client, *_: client.subscribe("sostenuto/#", qos=1)
        self._client.on_subscribe = lambda *_: self._ready.set()
        self._client.on_message = self._take
        self._client.reconnect_delay_set(1, 1)
        self._client.connect(address.host, address.port)
        self._client.loop_start()
        assert self._ready.wait(PATIENCE_S), "the subscriber could not subscribe"

    def _take(self, _client: Any, _userdata: Any, message: paho.MQTTMessage) -> None:
        at_s = time.monotonic()
        with self._changed:
            self._messages.append(
                Received(message.topic, message.payload, message.qos, message.retain, at_s)
            )
            self._changed.notify_all()

    def messages(self, name: str | None = None) -> list[Received]:
        with self._changed:
            return [m for m in self._messages if name is None or m.name == name]

    def words(self) -> list[str]:
        """What came on `availability`."""
        return [m.payload.decode() for m in self.messages("availability")]

    def seqs(self, name: str) -> list[int]:
        return [m.json["seq"] for m in self.messages(name)]

    def wait_for(self, holds: Callable[[], Any], what: str) -> None:
        """Wait until ``holds``, which is asked again whenever a message comes."""
        with self._changed:
            if not self._changed.wait_for(holds, PATIENCE_S):
                got = [(m.name, m.payload[:160]) for m in self._messages[-20:]]
                pytest.fail(f"in {PATIENCE_S:.0f} s not seen: {what}; the last were {got}")

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@pytest.fixture
def subscribe() -> Iterator[Callable[[BrokerAddress], Subscriber]]:
    """Makes subscribers, and closes them after the test."""
    made: list[Subscriber] = []

    def subscriber(address: BrokerAddress) -> Subscriber:
        made.append(Subscriber(address))
        return made[-1]

    yield subscriber
    for each in made:
        each.close()
