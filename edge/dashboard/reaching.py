"""A broker tried step by step, so that whoever sets it up sees which step fails.

First its name (DNS), then the network (TCP), then its certificate (TLS), then user and password,
and last whether it takes a message: an `event` of kind ``connection_test``, which says on every
dashboard what it is. Each step has a connection of its own and is told in the words of
`edge.publish.connection`.
"""

from __future__ import annotations

import socket
import ssl
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum

from paho.mqtt.enums import MQTTProtocolVersion

from edge.errors import BrokerError, UsageError
from edge.messages import EventKind, EventMessage, encode, full_topic
from edge.publish.address import BrokerAddress
from edge.publish.clock import WallClock
from edge.publish.connection import Connection, ProtocolRefusedError, Waker, network_trouble

PATIENCE_S = 5.0
"""For each step."""


class Step(StrEnum):
    """The steps, in their order."""

    DNS = "DNS"
    TCP = "TCP"
    TLS = "TLS"
    LOGIN = "login"
    PUBLISH = "publish"


@dataclass(frozen=True, slots=True)
class Stage:
    """How one step went; ``passed`` None: there was nothing to do."""

    name: Step
    passed: bool | None
    text: str


class _FailedError(Exception):
    """This step failed, and why."""


def try_broker(address: BrokerAddress, device: str) -> list[Stage]:
    """All steps up to the first that fails; those after it are left out."""
    stages: list[Stage] = []
    with _attempt(address) as attempt:
        for step, do in (
            (Step.DNS, attempt.find),
            (Step.TCP, attempt.reach),
            (Step.TLS, attempt.trust),
            (Step.LOGIN, attempt.log_in),
            (Step.PUBLISH, lambda: attempt.publish(device)),
        ):
            try:
                text = do()
            except (OSError, UnicodeError) as error:
                stages.append(Stage(step, False, network_trouble(error)))
                break
            except (BrokerError, UsageError, _FailedError) as error:
                stages.append(Stage(step, False, str(error)))
                break
            stages.append(Stage(step, None if text is None else True, text or "not asked for"))
    return stages


@contextmanager
def _attempt(address: BrokerAddress) -> Iterator[_Attempt]:
    attempt = _Attempt(address)
    try:
        yield attempt
    finally:
        attempt.end()


class _Attempt:
    """One broker, step after step."""

    def __init__(self, address: BrokerAddress) -> None:
        self._address = address
        self._socket: socket.socket | None = None
        self._waker = Waker()
        self._connection: Connection | None = None
        self._acknowledged: dict[int, str | None] = {}

    def find(self) -> str:
        """The addresses behind the name."""
        found = socket.getaddrinfo(self._address.host, self._address.port, type=socket.SOCK_STREAM)
        return ", ".join(dict.fromkeys(str(each[4][0]) for each in found))

    def reach(self) -> str:
        """Whether somebody listens on the port."""
        began_s = time.monotonic()
        where = (self._address.host, self._address.port)
        self._socket = socket.create_connection(where, PATIENCE_S)
        return f"port {self._address.port} answers after {_ms_since(began_s)} ms"

    def trust(self) -> str | None:
        """Whether the certificate is that of this broker, by an authority that is trusted."""
        if self._address.tls is None or self._socket is None:
            return None
        context = self._address.tls.context()
        try:
            secured = context.wrap_socket(self._socket, server_hostname=self._address.host)
        except (ConnectionError, ssl.SSLEOFError):
            raise _FailedError("hangs up at the greeting: it speaks no TLS on this port") from None
        with secured:
            certificate = secured.getpeercert() or {}
            until = certificate.get("notAfter", "an unknown day")
            return f"{secured.version()}, certificate good until {until}"

    def log_in(self) -> str:
        """Whether it speaks MQTT, and knows the user."""
        self._hang_up()
        greetings = [MQTTProtocolVersion.MQTTv5, MQTTProtocolVersion.MQTTv311]
        if not self._address.speaks_mqtt5:
            greetings = greetings[1:]
        for protocol in greetings:
            self._connection = self._client(protocol)
            try:
                self._connection.open(PATIENCE_S)
            except ProtocolRefusedError:
                self._connection.abandon()
                if protocol == greetings[-1]:
                    raise
                continue
            version = "MQTT 5" if protocol == MQTTProtocolVersion.MQTTv5 else "MQTT 3.1.1"
            who = f"user {self._address.username!r}" if self._address.username else "nobody by name"
            return f"{version}, let in as {who}"
        raise _FailedError("speaks no MQTT that we know")

    def _client(self, protocol: MQTTProtocolVersion) -> Connection:
        name = f"sostenuto-test-{uuid.uuid4().hex[:8]}"
        keep: Callable[[int, str | None], None] = self._acknowledged.__setitem__
        return Connection(self._address, name, protocol, None, self._waker, keep)

    def publish(self, device: str) -> str:
        """Whether it takes a message below the device's root and says so."""
        connection = self._connection
        if connection is None:
            raise _FailedError("no connection")
        stamp = WallClock()()
        event = EventMessage(
            boot=uuid.uuid4().hex,
            t=stamp.t,
            mono_ms=stamp.mono_ms,
            clock=stamp.clock,
            kind=EventKind.CONNECTION_TEST,
            text="somebody tests the connection to the broker",
        )
        began_s = time.monotonic()
        topic = full_topic(device, "event")
        mid = connection.send(topic, encode(event), qos=1, retain=False)
        while mid not in self._acknowledged and connection.lost is None:
            remaining_s = PATIENCE_S - (time.monotonic() - began_s)
            if remaining_s <= 0:
                raise _FailedError(f"no answer in {PATIENCE_S:.0f} s to a message on {topic}")
            connection.service(remaining_s)
        if mid not in self._acknowledged:
            raise _FailedError(f"{connection.lost}; may this user write on {topic}?")
        refused = self._acknowledged[mid]
        if refused is not None:
            raise _FailedError(f"{refused}; this user may not write on {topic}")
        return f"taken and acknowledged after {_ms_since(began_s)} ms"

    def end(self) -> None:
        """Leave nothing open."""
        self._hang_up()
        if self._connection is not None:
            self._connection.farewell()
        self._waker.close()

    def _hang_up(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _ms_since(began_s: float) -> int:
    return round((time.monotonic() - began_s) * 1000)
