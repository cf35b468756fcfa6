"""The way to the broker and back: its name, the network, its certificate, the login, a message.

Each step is tried on a connection of its own (`edge.dashboard.reaching`), and the first that fails
says who has to do something: the network, the broker's owner, or whoever set the password.
"""

from __future__ import annotations

import time
import uuid

from paho.mqtt.enums import MQTTProtocolVersion

from device.selftest.verdict import failed, passed
from edge.dashboard.reaching import PATIENCE_S, Stage, Step, try_broker
from edge.errors import BrokerError
from edge.messages import Check, SelfTest, SelfTestResult, encode, full_topic
from edge.publish.address import BrokerAddress
from edge.publish.clock import WallClock
from edge.publish.connection import Connection, ProtocolRefusedError, Waker

REMEDIES = {
    Step.DNS: "check the broker's name in the settings, and the network: cable or Wi-Fi",
    Step.TCP: "does the broker run, on this port? switch its machine off and on; a firewall?",
    Step.TLS: "check `broker_ca` in the settings, and the clock; docs/broker.md",
    Step.LOGIN: "check user and password: docs/broker.md",
    Step.PUBLISH: "let this user write below the device's topics: docs/broker.md",
}


def judge_broker(address: BrokerAddress, stages: list[Stage]) -> Check:
    """Every step taken that had to be."""
    for stage in stages:
        if stage.passed is False:
            text = f"{address}: {stage.name.value} fails: {stage.text}"
            return failed("broker", text, REMEDIES[stage.name])
    return passed("broker", f"{address}: {stages[-1].text}")


def check_broker(address: BrokerAddress, device: str) -> Check:
    """Try the broker, a message on the device's `event` included."""
    return judge_broker(address, try_broker(address, device))


def tell(address: BrokerAddress, device: str, found: SelfTest) -> None:
    """Publish ``found``, retained, on the device's `self_test`.

    Raises
    ------
    BrokerError
        The broker did not take it.
    """
    stamp = WallClock()()
    message = SelfTestResult(
        boot=uuid.uuid4().hex,
        t=stamp.t,
        mono_ms=stamp.mono_ms,
        clock=stamp.clock,
        passed=found.passed,
        checks=found.checks,
    )
    acknowledged: dict[int, str | None] = {}
    waker = Waker()
    connection = _connected(address, waker, acknowledged)
    try:
        topic = full_topic(device, "self_test")
        mid = connection.send(topic, encode(message), qos=1, retain=True)
        until_s = time.monotonic() + PATIENCE_S
        while mid not in acknowledged and connection.lost is None:
            if time.monotonic() > until_s:
                raise BrokerError(f"broker {address}: no answer to a message on {topic}")
            connection.service(0.1)
        refused = acknowledged.get(mid, connection.lost)
        if refused is not None:
            raise BrokerError(f"broker {address}: {refused}; may this user write on {topic}?")
    finally:
        connection.farewell()
        waker.close()


def _connected(
    address: BrokerAddress, waker: Waker, acknowledged: dict[int, str | None]
) -> Connection:
    """A connection without a will: the device is no less there when this program ends."""
    versions = [MQTTProtocolVersion.MQTTv5] if address.speaks_mqtt5 else []
    for protocol in (*versions, MQTTProtocolVersion.MQTTv311):
        name = f"sostenuto-selftest-{uuid.uuid4().hex[:8]}"
        keep = acknowledged.__setitem__
        connection = Connection(address, name, protocol, None, waker, keep)
        try:
            connection.open(PATIENCE_S)
        except ProtocolRefusedError:
            connection.abandon()
            continue
        return connection
    raise BrokerError(f"broker {address} speaks no MQTT that we know")
