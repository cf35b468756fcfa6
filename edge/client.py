"""A client for dashboards: what the pianos of a house publish, as values with types.

Every message names the start of the program that made it (``boot``) and its number on its topic
(``seq``), so whoever listens can tell what is missing and what came twice. `Dashboard` does that
counting, drops what it has given out before, and marks what tells of the past::

    from edge.client import Dashboard
    from edge.messages import Notes

    with Dashboard("mqtt://house.local", device="parlour") as house:
        for message in house.messages():
            if isinstance(message.body, Notes) and not message.historical:
                for note in message.body.notes:
                    print(note.state, note.pitch_midi)

and it can ask::

        answer = house.ask("parlour", "listen", False)
        print(answer.listening)

``docs/client.md`` has more of both. The network is paho-mqtt's, on a thread of its own; messages
wait in a bounded queue until they are taken.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from bisect import bisect_right
from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import msgspec
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from edge.errors import BrokerError, SostenutoError, UsageError
from edge.messages import (
    COMMANDS,
    ROOT,
    TOPICS,
    USUAL_ANSWER_BYTES,
    Availability,
    Command,
    Envelope,
    Refusal,
    Response,
    check_device_name,
    decode,
    encode,
    full_topic,
    topic_of,
)
from edge.publish.address import BrokerAddress
from edge.publish.connection import GREETING_S, UNSUPPORTED_VERSION

log = logging.getLogger(__name__)

WAITING_MESSAGES = 10_000
"""Messages that wait to be taken: minutes of a fast player. Then the oldest are dropped."""

CONNECT_S = 10.0
ANSWER_S = 10.0

SERIES_REMEMBERED = 4096
"""Series whose numbers are remembered; the one that was silent for longest is forgotten."""

GAPS_REMEMBERED = 256
"""Gaps of one series that a late message may still fill; of more, the oldest stay missing."""

READ = tuple(name for name, topic in TOPICS.items() if name != "cmd/+")


class RefusedByDeviceError(SostenutoError):
    """The device did not carry out a command; ``reason`` says why to programs."""

    def __init__(self, command: str, reason: Refusal | None, text: str) -> None:
        self.reason = reason
        super().__init__(f"{command}: {text}")


class Series(NamedTuple):
    """What is numbered together: one topic of one start of one device."""

    device: str
    boot: str
    topic: str


@dataclass(frozen=True, slots=True)
class Count:
    """How many messages of a series came, came again, and are missing between the others."""

    received: int
    repeats: int
    missing: int


class SeqCounter:
    """Counts the numbers of one series, in whatever order they come.

    The first that comes is where the counting begins: what was before was not subscribed to.
    """

    def __init__(self) -> None:
        self._firsts: list[int] = []
        self._lasts: list[int] = []
        self._received = 0
        self._repeats = 0

    def push(self, seq: int) -> bool:
        """Take a number; whether it is new."""
        at = bisect_right(self._firsts, seq) - 1
        if at >= 0 and seq <= self._lasts[at]:
            self._repeats += 1
            return False
        self._received += 1
        joins_before = at >= 0 and self._lasts[at] == seq - 1
        joins_after = at + 1 < len(self._firsts) and self._firsts[at + 1] == seq + 1
        if joins_before and joins_after:
            self._lasts[at] = self._lasts.pop(at + 1)
            self._firsts.pop(at + 1)
        elif joins_before:
            self._lasts[at] = seq
        elif joins_after:
            self._firsts[at + 1] = seq
        else:
            self._firsts.insert(at + 1, seq)
            self._lasts.insert(at + 1, seq)
        if len(self._firsts) > GAPS_REMEMBERED:
            self._lasts.pop(0)
            self._firsts.pop(1)
        return True

    @property
    def count(self) -> Count:
        """How it stands."""
        spanned = self._lasts[-1] - self._firsts[0] + 1 if self._firsts else 0
        return Count(self._received, self._repeats, spanned - self._received)


@dataclass(frozen=True, slots=True)
class Message:
    """One message as it came.

    Attributes
    ----------
    device : str
        Whose it is.
    topic : str
        Below the device's root, as in ``notes`` or ``rsp/health``.
    body : Envelope or Availability
        What it says; its class tells what it is.
    retained : bool
        True for what the broker had kept: the present state, given at subscribing.
    """

    device: str
    topic: str
    body: Envelope | Availability
    retained: bool

    @property
    def historical(self) -> bool:
        """Whether it waited for the broker, and tells of the past."""
        return isinstance(self.body, Envelope) and self.body.historical


class Dashboard:
    """Subscribes to one piano or to all of them; use it as a context.

    Parameters
    ----------
    broker : str or BrokerAddress
        As `sostenuto listen --broker` takes it.
    device : str, optional
        One piano; all of them unless given.
    topics : sequence of str, optional
        Names of `edge.messages.TOPICS`; all that devices publish unless given.
    repeats : bool
        Also give what was given before.

    Raises
    ------
    BrokerError
        On entering, when there is no connection within `CONNECT_S` seconds. A connection that
        is lost later is made again for ever.
    """

    def __init__(
        self,
        broker: str | BrokerAddress,
        device: str | None = None,
        *,
        topics: tuple[str, ...] = READ,
        repeats: bool = False,
    ) -> None:
        address = BrokerAddress.parse(broker) if isinstance(broker, str) else broker
        for name in topics:
            if name not in TOPICS or name == "cmd/+":
                raise UsageError(f"no topic {name!r} to read; there are {', '.join(READ)}")
        self._address = address
        whose = "+" if device is None else check_device_name(device)
        self._filters = [(full_topic(whose, name), 1) for name in topics]
        self._all_repeats = repeats
        self._series: OrderedDict[Series, SeqCounter] = OrderedDict()
        self._arrived: deque[Message] = deque()
        self._changed = threading.Condition()
        self._answers: dict[str, Response | None] = {}
        self._subscribed = False
        self._greeted_s: float | None = None  # when, as long as there is no answer
        self._misunderstood = False
        self._trouble: str | None = None
        self._closed = False
        self.illegible = 0
        """Messages that are not what the contract says."""
        self.overflowed = 0
        """Messages that were dropped because nobody took them."""
        self._client = self._make_client(address, five=address.speaks_mqtt5)

    def _make_client(self, address: BrokerAddress, *, five: bool) -> paho.Client:
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=f"dashboard-{secrets.token_hex(6)}",
            protocol=MQTTProtocolVersion.MQTTv5 if five else MQTTProtocolVersion.MQTTv311,
            transport="tcp" if address.path is None else "websockets",
        )
        if address.path is not None:
            client.ws_set_options(path=address.path)
        if address.tls is not None:
            client.tls_set_context(address.tls.context())
        if address.username is not None:
            client.username_pw_set(address.username, address.password)
        client.on_socket_open = self._greeted
        client.on_connect = self._connected
        client.on_disconnect = self._disconnected
        client.on_subscribe = self._listens
        client.on_message = self._received
        client.reconnect_delay_set(1, 30)
        return client

    def __enter__(self) -> Self:
        until_s = time.monotonic() + CONNECT_S
        self._connect(until_s)
        if self._misunderstood:
            self._client.disconnect()
            self._client.loop_stop()
            self._client = self._make_client(self._address, five=False)
            self._connect(until_s)
        if not self._subscribed:
            self.close()
            trouble = self._trouble or "no answer; check host and port"
            raise BrokerError(f"broker {self._address}: {trouble}")
        return self

    def _connect(self, until_s: float) -> None:
        """Go on trying until ``until_s``, or until it shows that the broker knows no MQTT 5."""
        five = self._client.protocol == MQTTProtocolVersion.MQTTv5
        self._client.connect_async(self._address.host, self._address.port)
        self._client.loop_start()
        with self._changed:
            while not self._subscribed and (now_s := time.monotonic()) < until_s:
                patient_until_s = until_s
                if five and self._greeted_s is not None:
                    patient_until_s = min(until_s, self._greeted_s + GREETING_S)
                self._misunderstood = five and (self._misunderstood or now_s >= patient_until_s)
                if self._misunderstood:
                    return
                self._changed.wait(patient_until_s - now_s)

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave; whoever waits for messages gets no more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._client.disconnect()
        self._client.loop_stop()

    # ---- what is said

    def messages(self, timeout_s: float | None = None) -> Iterator[Message]:
        """Messages in the order of their coming, until `close`.

        ``timeout_s``: end when none has come for so long.
        """
        while True:
            with self._changed:
                came = self._changed.wait_for(lambda: self._arrived or self._closed, timeout_s)
                if not came or not self._arrived:
                    return
                message = self._arrived.popleft()
            yield message

    @property
    def counts(self) -> dict[Series, Count]:
        """How many messages came, came again, and are missing, by device, boot and topic."""
        with self._changed:
            return {series: counter.count for series, counter in self._series.items()}

    def _greeted(self, *_: object) -> None:
        with self._changed:
            self._greeted_s = time.monotonic()
            self._changed.notify_all()

    def _connected(self, client: paho.Client, _data: Any, _flags: Any, reason: Any, _: Any) -> None:
        with self._changed:
            self._greeted_s = None
            self._misunderstood = reason.value == UNSUPPORTED_VERSION
            self._changed.notify_all()
        if reason.is_failure:
            self._trouble = f"refuses ({reason}); check user and password"
            return
        client.subscribe(self._filters)

    def _disconnected(self, *_: object) -> None:
        with self._changed:
            self._misunderstood |= self._greeted_s is not None  # it hung up at the greeting
            self._changed.notify_all()

    def _listens(self, *_: object) -> None:
        with self._changed:
            self._subscribed = True
            self._changed.notify_all()

    def _received(self, _client: Any, _data: Any, message: paho.MQTTMessage) -> None:
        # An exception here would end paho's thread.
        try:
            read = _read(message)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            self.illegible += 1
            return
        with self._changed:
            if not self._is_new(read) and not self._all_repeats:
                return
            if isinstance(read.body, Response) and read.body.transaction in self._answers:
                self._answers[read.body.transaction] = read.body
            self._arrived.append(read)
            if len(self._arrived) > WAITING_MESSAGES:
                self._arrived.popleft()
                self.overflowed += 1
            self._changed.notify_all()

    def _is_new(self, message: Message) -> bool:
        if not isinstance(message.body, Envelope):
            return True
        series = Series(message.device, message.body.boot, message.topic)
        counter = self._series.setdefault(series, SeqCounter())
        self._series.move_to_end(series)
        if len(self._series) > SERIES_REMEMBERED:
            self._series.popitem(last=False)
        return counter.push(message.body.seq)

    # ---- what is asked

    def ask(
        self,
        device: str,
        command: str,
        value: Any = None,
        *,
        timeout_s: float = ANSWER_S,
        max_bytes: int = USUAL_ANSWER_BYTES,
    ) -> Any:
        """Ask a device something and wait; returns the answer's data, of the command's type.

        Needs ``rsp/+`` among the topics.

        Raises
        ------
        UsageError
            No such command.
        RefusedByDeviceError
            The device would not, or could not.
        BrokerError
            No answer in time.
        """
        kind = COMMANDS.get(command)
        if kind is None:
            raise UsageError(f"no command {command!r}; there are {', '.join(COMMANDS)}")
        transaction = secrets.token_hex(8)
        payload = encode(Command(value=value, transaction=transaction, max_bytes=max_bytes))
        with self._changed:
            self._answers[transaction] = None
        self._client.publish(full_topic(check_device_name(device), f"cmd/{command}"), payload, 1)
        until_s = time.monotonic() + timeout_s
        with self._changed:
            self._changed.wait_for(
                lambda: self._answers[transaction] is not None, until_s - time.monotonic()
            )
            answer = self._answers.pop(transaction)
        if answer is None:
            raise BrokerError(f"device {device!r} does not answer {command!r}; is it online?")
        if answer.error is not None or answer.reason is not None:
            raise RefusedByDeviceError(command, answer.reason, answer.error or "refused")
        if kind.answer is None:
            return None
        return msgspec.convert(answer.data, kind.answer)


def _read(message: paho.MQTTMessage) -> Message:
    """What came, read; raises what `decode` raises, and ValueError for a topic of a later time."""
    device, _, name = message.topic.removeprefix(f"{ROOT}/").partition("/")
    topic_of(name)
    body = decode(name, bytes(message.payload))
    assert isinstance(body, Envelope | Availability)
    return Message(device, name, body, message.retain)
