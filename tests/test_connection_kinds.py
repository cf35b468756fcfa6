"""Every way to reach a broker, each with a real mosquitto and certificates made here."""

from __future__ import annotations

import logging
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from edge.errors import UsageError
from edge.messages import Session, SessionState
from edge.publish.address import BrokerAddress, Tls
from edge.publish.publisher import Publisher
from edge.settings import Settings, broker_address
from tests.certificates import Authority
from tests.conftest import free_port

HOST = "127.0.0.1"


class Door:
    """One mosquitto with two listeners: an open one to look in by, and the one under test."""

    def __init__(self, folder: Path, *lines: str, port: int | None = None) -> None:
        program = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
        assert program is not None, "mosquitto is not installed"
        self.open_port, self.port = free_port(), port or free_port()
        settings = folder / "door.conf"
        settings.write_text(
            "\n".join(
                [
                    *("per_listener_settings true", "user root", "log_type none"),
                    f"listener {self.open_port} {HOST}",
                    *("allow_anonymous true", f"listener {self.port} {HOST}", *lines),
                    "allow_anonymous true",
                ]
            )
        )
        self._process = subprocess.Popen(
            [program, "-c", str(settings)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()


@pytest.fixture
def door(tmp_path: Path, wait_until) -> Iterator[Callable[..., Door]]:
    made: list[Door] = []

    def open_door(*lines: str, port: int | None = None) -> Door:
        made.append(Door(tmp_path, *lines, port=port))
        for port in (made[-1].open_port, made[-1].port):
            wait_until(lambda port=port: _listens(port), f"mosquitto on port {port}")
        return made[-1]

    yield open_door
    for each in made:
        each.stop()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


@pytest.fixture
def house(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def publisher() -> Iterator[Callable[[BrokerAddress], Publisher]]:
    made: list[Publisher] = []

    def make(address: BrokerAddress) -> Publisher:
        identity = f"test-{os.getpid()}-{time.monotonic_ns()}"
        made.append(Publisher(address, "parlour", identity=identity))
        return made[-1]

    yield make
    for each in made:
        each.close(timeout_s=1.0)


TLS = ("cafile {ca}", "certfile {cert}", "keyfile {key}")
WEBSOCKET = ("protocol websockets", "socket_domain ipv4")


def tls_lines(house: Authority, **which) -> list[str]:
    server = house.sign("server", host=HOST, **which)
    return [
        line.format(ca=house.certificate, cert=server.certificate, key=server.key) for line in TLS
    ]


@pytest.mark.parametrize("version", ["5", "3.1.1"])
@pytest.mark.parametrize("scheme", ["mqtt", "mqtts", "ws", "wss"])
def test_messages_arrive_by_every_door(door, house, publisher, subscribe, scheme, version):
    lines = tls_lines(house) if scheme in ("mqtts", "wss") else []
    lines += WEBSOCKET if scheme in ("ws", "wss") else ()
    broker = door(*lines)
    settings = Settings(
        broker_mqtt=version, broker_ca=str(house.certificate) if "s" in scheme[2:] else None
    )
    address = broker_address(f"{scheme}://{HOST}:{broker.port}", settings)
    assert address.scheme == scheme
    dashboard = subscribe(BrokerAddress(HOST, broker.open_port))
    piano = publisher(address)
    piano.start(require_connection_s=20.0)
    for i in range(300):
        piano.publish("session", Session(id="x" * (i * 7 + 1), state=SessionState.UPDATE, notes=i))
    dashboard.wait_for(lambda: len(dashboard.seqs("session")) >= 300, "300 sessions")
    assert dashboard.seqs("session") == list(range(300))
    assert piano.counters.reconnects == 0


def test_a_broker_that_asks_for_a_certificate_gets_this_devices(door, house, publisher, subscribe):
    broker = door(*tls_lines(house), "require_certificate true", "use_identity_as_username true")
    mine = house.sign("parlour")
    address = broker_address(
        f"mqtts://{HOST}:{broker.port}",
        Settings(
            broker_ca=str(house.certificate),
            broker_certificate=str(mine.certificate),
            broker_key=str(mine.key),
        ),
    )
    piano = publisher(address)
    piano.start(require_connection_s=20.0)
    assert piano.counters.connected


def trouble_of(publisher, wait_until, caplog, address: BrokerAddress) -> str:
    """What a patient publisher says of a broker; it has tried more than once by then."""
    piano = publisher(address)
    with caplog.at_level(logging.WARNING):
        piano.start()
        wait_until(lambda: piano.counters.trouble is not None, "a trouble")
        time.sleep(1.2)  # the second attempt comes after half a second
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 1, lines
    assert lines[0].endswith("(trying again until it works)")
    assert piano.counters.faults == 0
    assert "\n" not in lines[0]
    return lines[0]


@pytest.mark.parametrize("scheme", ["mqtts", "wss"])
def test_an_expired_certificate_is_named(door, house, publisher, wait_until, caplog, scheme):
    broker = door(*tls_lines(house, expired=True), *(WEBSOCKET if scheme == "wss" else ()))
    address = broker_address(
        f"{scheme}://{HOST}:{broker.port}", Settings(broker_ca=str(house.certificate))
    )
    line = trouble_of(publisher, wait_until, caplog, address)
    assert "its certificate has expired; renew it there, and check the clock" in line


def test_a_certificate_that_is_renewed_is_found_without_a_hand(door, house, publisher, wait_until):
    expired = door(*tls_lines(house, expired=True))
    settings = Settings(broker_ca=str(house.certificate))
    piano = publisher(broker_address(f"mqtts://{HOST}:{expired.port}", settings))
    piano.start()
    wait_until(lambda: piano.counters.trouble is not None, "a trouble")
    expired.stop()
    door(*tls_lines(house), port=expired.port)
    wait_until(lambda: piano.counters.connected, "the connection")
    assert piano.counters.trouble is None


@pytest.mark.parametrize("scheme", ["mqtts", "ws", "wss"])
def test_a_host_that_lets_in_and_says_nothing_is_given_up(
    publisher, wait_until, caplog, monkeypatch, scheme
):
    monkeypatch.setattr("edge.publish.connection.CONNECT_TIMEOUT_S", 0.3)
    with socket.create_server((HOST, 0), backlog=16) as mute:
        address = BrokerAddress.parse(f"{scheme}://{HOST}:{mute.getsockname()[1]}")
        line = trouble_of(publisher, wait_until, caplog, address)
    assert "no answer; check host, port and firewall" in line


def test_a_wrong_authority_is_named(door, house, publisher, wait_until, caplog, tmp_path):
    broker = door(*tls_lines(house))
    other = Authority(tmp_path, "elsewhere")
    address = broker_address(
        f"mqtts://{HOST}:{broker.port}", Settings(broker_ca=str(other.certificate))
    )
    line = trouble_of(publisher, wait_until, caplog, address)
    assert "an authority that is not trusted here" in line
    assert "broker_ca" in line


def test_a_certificate_for_another_name_is_named(door, house, publisher, wait_until, caplog):
    broker = door(*tls_lines(house))
    address = broker_address(
        f"mqtts://localhost:{broker.port}", Settings(broker_ca=str(house.certificate))
    )
    line = trouble_of(publisher, wait_until, caplog, address)
    assert "its certificate is for another name" in line


def test_a_missing_certificate_of_ours_is_named(door, house, publisher, wait_until, caplog):
    broker = door(*tls_lines(house), "require_certificate true")
    address = broker_address(
        f"mqtts://{HOST}:{broker.port}", Settings(broker_ca=str(house.certificate))
    )
    line = trouble_of(publisher, wait_until, caplog, address)
    assert "asks for a certificate of this device" in line


def test_an_expired_certificate_of_ours_is_named(door, house, publisher, wait_until, caplog):
    broker = door(*tls_lines(house), "require_certificate true")
    mine = house.sign("parlour", expired=True)
    address = broker_address(
        f"mqtts://{HOST}:{broker.port}",
        Settings(
            broker_ca=str(house.certificate),
            broker_certificate=str(mine.certificate),
            broker_key=str(mine.key),
        ),
    )
    line = trouble_of(publisher, wait_until, caplog, address)
    assert "this device's certificate has expired" in line


def test_tls_where_there_is_none_is_named(door, house, publisher, wait_until, caplog):
    address = BrokerAddress(HOST, door().port, tls=Tls(house.certificate))
    # mosquitto says nothing to a greeting that is not MQTT, and hangs up.
    line = trouble_of(publisher, wait_until, caplog, address)
    assert "TLS" in line


def test_a_websocket_where_there_is_none_is_named(door, publisher, wait_until, caplog):
    address = BrokerAddress.parse(f"ws://{HOST}:{door().port}")
    line = trouble_of(publisher, wait_until, caplog, address)
    assert "opens no websocket; check port and path" in line


def test_a_refused_login_under_tls_is_named(door, house, publisher, wait_until, caplog, tmp_path):
    passwords = tmp_path / "passwords"
    command = ["mosquitto_passwd", "-b", "-c", str(passwords), "clara", "träumerei"]
    subprocess.run(command, check=True, capture_output=True)
    broker = door(*tls_lines(house), f"password_file {passwords}")
    (tmp_path / "word").write_text("kinderszenen\n")
    settings = Settings(
        broker_ca=str(house.certificate), broker_password_file=str(tmp_path / "word")
    )
    address = broker_address(f"mqtts://clara@{HOST}:{broker.port}", settings)
    assert address.password == "kinderszenen"
    line = trouble_of(publisher, wait_until, caplog, address)
    assert "refuses the login" in line
    assert "kinderszenen" not in line
    assert replace(address, password="träumerei") != address


@pytest.mark.parametrize(
    ("url", "settings", "reason"),
    [
        ("mqtt://host", Settings(broker_ca="x.crt"), "write mqtts:// or wss://"),
        ("mqtts://host", Settings(broker_ca="none.crt"), "No such file"),
        ("mqtts://host", Settings(broker_ca="settings.toml"), "not what OpenSSL can read"),
        ("mqtts://host", Settings(broker_key="x.key"), "without broker_certificate"),
        ("mqtt://host", Settings(broker_password_file="x"), "needs a user"),
        ("mqtt://clara@host", Settings(broker_password_file="none"), "No such file"),
    ],
)
def test_settings_that_cannot_work_are_refused(tmp_path, monkeypatch, url, settings, reason):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "settings.toml").write_text("x = 1\n")
    with pytest.raises(UsageError, match=reason) as error:
        broker_address(url, settings)
    assert "\n" not in str(error.value)


def test_a_key_of_another_certificate_is_refused(house, tmp_path):
    mine, hers = house.sign("parlour"), house.sign("hall")
    settings = Settings(broker_certificate=str(mine.certificate), broker_key=str(hers.key))
    with pytest.raises(UsageError, match="the key belongs to another certificate"):
        broker_address("mqtts://host", settings)
