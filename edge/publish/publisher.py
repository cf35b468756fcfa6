"""The hand that publishes: it takes messages at once and brings them to the broker in its own time.

`Publisher.publish` numbers and stamps a message, puts it into a bounded queue and returns; it
never waits, for it is called from the hand that listens. One thread does the rest, and it is
the only one that knows the network: it connects, again and again with growing patience, says
`online`, repeats what is retained, sends what waited, and then what is new (`edge.publish.lanes`).

A message that is dropped on the way leaves a gap in its topic's numbers, and an `event` names
the gap once there is somebody to tell.
"""

from __future__ import annotations

import logging
import random
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec
from paho.mqtt.enums import MQTTProtocolVersion

from edge.errors import BrokerError
from edge.messages import (
    TOPICS,
    Availability,
    DroppedRange,
    Envelope,
    EventKind,
    EventMessage,
    Severity,
    check_device_name,
    encode,
    full_topic,
    topic_of,
)
from edge.publish.address import BrokerAddress, client_id
from edge.publish.clock import Stamp, WallClock
from edge.publish.connection import (
    CONNECT_TIMEOUT_S,
    Connection,
    Guest,
    LoginRefusedError,
    ProtocolRefusedError,
    Waker,
)
from edge.publish.lanes import LIVE_S, Lanes
from edge.publish.outbox import DropLedger, MemoryOutbox, Outbox, Outgoing

log = logging.getLogger(__name__)

INBOX_MESSAGES = 10_000
"""Messages between `publish` and the thread: minutes of playing, though the thread sleeps."""

FIRST_RETRY_S = 0.5
LONGEST_RETRY_S = 30.0
"""Patience between two attempts to connect: doubled each time, from the first to the longest."""

RETRY_JITTER = 0.5
"""An attempt comes up to this share of its wait early: a house of pianos must not come at once."""

CLOSING_RETRY_S = 0.2
"""When the program is about to end there is no time for patience."""

STABLE_S = 10.0
"""A connection that lasted so long was a good one: patience begins anew."""

ACKNOWLEDGE_S = 20.0
"""A broker that acknowledges nothing for so long is left and connected to again."""

ANNOUNCE_DROPS_S = 1.0
"""Gaps are announced at most this often, so that a torrent of drops is no torrent of events."""

ANNOUNCE_UNHEARD_S = 60.0
"""Without a broker, gaps among what is kept for it are announced this often: into the outbox."""

PERSISTENCE = " (trying again until it works)"

TICK_S = 1.0
"""The thread looks up at least this often, as keeping the connection alive demands."""

FAREWELL_S = 0.5
"""What is kept of the time to close for saying `offline`."""


@dataclass(frozen=True, slots=True)
class PublishReport:
    """What became of the messages of one start of the program.

    Attributes
    ----------
    boot : str
        As in the envelopes.
    last_seq : dict of str to int
        Per topic, the number of its last message.
    dropped : int
        Messages that were numbered and, as far as is known, did not reach the broker.
    undelivered : int
        Messages that were still waiting when time was up.
    kept : int
        Those of them that lie on the card: the next start sends them, so they are not dropped.
    """

    boot: str
    last_seq: dict[str, int]
    dropped: int
    undelivered: int
    kept: int = 0


@dataclass(frozen=True, slots=True)
class PublisherCounters:
    """How the publisher is, for `health` and the screen. ``trouble`` is one line, or None."""

    connected: bool
    reconnects: int
    queued: int
    sent: int
    dropped: int
    faults: int
    trouble: str | None


def retry_delay_s(attempt: int, jitter: float) -> float:
    """Seconds to wait after the ``attempt``-th failure in a row (from 0); ``jitter`` is 0 to 1."""
    full_s = min(LONGEST_RETRY_S, FIRST_RETRY_S * 2.0 ** min(attempt, 16))
    return full_s * (1.0 - RETRY_JITTER * jitter)


class Publisher:
    """Publishes the messages of one device to one broker.

    Parameters
    ----------
    broker : BrokerAddress or None
        None publishes nowhere: messages are numbered and forgotten.
    device : str
        The device's name in the topics.
    outbox : Outbox, optional
        Where messages of QoS 1 wait; in memory unless given.
    now : callable, optional
        Gives the `Stamp` of a message.
    identity : str, optional
        The MQTT client id; from the hardware unless given.
    live_s : float, optional
        How long a live message waits for the broker, in seconds.
    guests : sequence of Guest, optional
        Others who speak and listen through the same connection.
    """

    def __init__(
        self,
        broker: BrokerAddress | None,
        device: str,
        *,
        outbox: Outbox | None = None,
        now: Callable[[], Stamp] | None = None,
        identity: str | None = None,
        live_s: float = LIVE_S,
        guests: Sequence[Guest] = (),
    ) -> None:
        self.boot = uuid.uuid4().hex
        self.device = check_device_name(device)
        self._broker = broker
        self._client_id = identity or client_id(device)
        self._now = now or WallClock()

        # Shared with the callers. The lock keeps the order of the numbers that of the queue.
        self._lock = threading.Lock()
        self._next_seq: dict[str, int] = {}
        self._inbox: deque[Outgoing] = deque()
        self._drops = DropLedger(self.boot)
        self._closing_at_s: float | None = None
        self._online = threading.Event()
        self._answered = threading.Event()
        self._trouble: str | None = None
        self._on_trial = False
        self._waker = Waker()

        # The thread's own.
        self._guests = tuple(guests)
        self._to_retain: deque[tuple[str, bytes]] = deque()
        self._lanes = Lanes(MemoryOutbox() if outbox is None else outbox, self._drops, live_s)
        self._unacknowledged: dict[int, tuple[Outgoing | None, float]] = {}
        five = broker is None or broker.speaks_mqtt5
        self._protocol = MQTTProtocolVersion.MQTTv5 if five else MQTTProtocolVersion.MQTTv311
        self._drops_told_s = float("-inf")
        self._connections = 0
        self._sent = 0
        self._faults = 0
        self._last_fault = ""
        self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)

    # What callers use.

    def start(self, require_connection_s: float | None = None) -> None:
        """Begin to connect, and go on until it works.

        Raises
        ------
        BrokerError
            Only with ``require_connection_s``: no connection in so many seconds, or the login
            refused, which no waiting mends.
        """
        if self._broker is None:
            return
        if require_connection_s is None:
            self._thread.start()
            return
        self._on_trial = True  # whatever goes wrong now is said once, by the error
        self._thread.start()
        self._answered.wait(require_connection_s)
        if not self._online.is_set():
            trouble = self._trouble or f"broker {self._broker}: no answer; check host and port"
            self.close(timeout_s=0.0)
            raise BrokerError(trouble)
        self._on_trial = False

    def wait_connected(self, timeout_s: float) -> bool:
        """Wait for the broker; True when it is there."""
        return self._online.wait(timeout_s)

    def publish(self, name: str, message: Envelope) -> Envelope:
        """Number and stamp ``message`` and have it sent on topic ``name``; returns it so.

        Never waits. What cannot be sent is dropped, counted and announced by an `event`.

        Raises
        ------
        ValueError, TypeError
            A topic that is not in the contract, or not of this message: errors of the program.
        """
        return self._number(name, message)

    def _number(self, name: str, message: Envelope, *, of_our_own: bool = False) -> Envelope:
        topic = topic_of(name)
        if type(message) is not topic.message:
            raise TypeError(f"{name} carries {topic.message.__name__}, not {type(message)}")
        with self._lock:
            seq = self._next_seq.get(name, 0)
            self._next_seq[name] = seq + 1
            stamp = self._now()
            stamped = msgspec.structs.replace(
                message,
                boot=self.boot,
                seq=seq,
                t=stamp.t,
                mono_ms=stamp.mono_ms,
                clock=stamp.clock,
                historical=False,
            )
            if self._broker is None:
                return stamped
            if self._closing_at_s is not None and not of_our_own:
                self._drops.add(name, seq)
                return stamped
            payload, made_s = encode(stamped), time.monotonic()
            entry = Outgoing(topic, name, seq, payload, made_s, self.boot, stamp.mono_ms)
            self._inbox.append(entry)
            if len(self._inbox) > INBOX_MESSAGES:
                lost = self._inbox.popleft()
                self._drops.add(lost.name, lost.seq)
        self._waker.wake()
        return stamped

    def close(self, timeout_s: float = 5.0) -> PublishReport:
        """Hand over what waits, say `offline`, hang up: in ``timeout_s`` seconds at most."""
        with self._lock:
            if self._closing_at_s is None:
                self._closing_at_s = time.monotonic() + timeout_s
        if self._thread.is_alive():
            self._waker.wake()
            self._thread.join(max(0.0, self._closing_at_s - time.monotonic()))
        else:
            self._waker.close()
        undelivered, kept = self._queued(), self._lanes.kept
        dropped = self._drops.total + undelivered - kept
        with self._lock:
            last_seq = {name: seq - 1 for name, seq in sorted(self._next_seq.items())}
        return PublishReport(self.boot, last_seq, dropped, undelivered, kept)

    @property
    def counters(self) -> PublisherCounters:
        """How things stand; any thread may ask."""
        return PublisherCounters(
            connected=self._online.is_set(),
            reconnects=max(0, self._connections - 1),
            queued=self._queued(),
            sent=self._sent,
            dropped=self._drops.total,
            faults=self._faults,
            trouble=self._trouble,
        )

    def _queued(self) -> int:
        return len(self._inbox) + len(self._lanes)

    # The thread: from one connection to the next.

    def _run(self) -> None:
        attempt = 0
        delay_s = 0.0
        while not self._gives_up():
            began_s = time.monotonic()
            again_at_once = False
            try:
                self._pause(delay_s)
                began_s = time.monotonic()
                if not self._gives_up():
                    self._serve()
                break
            except ProtocolRefusedError as error:
                again_at_once = attempt == 0
                self._protocol = _other_protocol(self._protocol)
                self._note(str(error), quietly=again_at_once)
            except LoginRefusedError as error:
                self._note(str(error))
                self._answered.set()
            except BrokerError as error:
                self._note(str(error))
            except Exception as error:  # noqa: BLE001 - the thread must outlive any error of ours
                self._own_fault(error)
            lasted = time.monotonic() - began_s > STABLE_S
            attempt = 0 if lasted else attempt
            delay_s = 0.0 if again_at_once else retry_delay_s(attempt, random.random())
            attempt += 1
        self._write_down_the_rest()
        self._waker.close()

    def _write_down_the_rest(self) -> None:
        """The last thing: what was not delivered is on the card for the next start."""
        try:
            self._sort()
            self._keep()
            self._lanes.keep(self._now(), closing=True)
        except Exception as error:  # noqa: BLE001 - the program ends in any case
            self._own_fault(error)

    def _own_fault(self, error: Exception) -> None:
        """An error of ours must not end the publishing: it is shown once, then counted."""
        self._faults += 1
        if repr(error) != self._last_fault:
            log.exception("publishing failed by an error of the program; going on")
        self._last_fault = repr(error)

    def _note(self, trouble: str, *, quietly: bool = False, retrying: bool = True) -> None:
        """Say a trouble once, however long it lasts."""
        if quietly:
            return
        if trouble != self._trouble and not self._on_trial:
            log.warning("%s%s", trouble, PERSISTENCE if retrying else "")
        self._trouble = trouble

    def _gives_up(self) -> bool:
        """Whether the thread has nothing more to do, or no time."""
        if self._closing_at_s is None:
            return False
        nothing_to_lose = self._connections == 0 or self._queued() == self._lanes.kept
        hopeless = self._trouble is not None and nothing_to_lose
        return hopeless or time.monotonic() >= self._closing_at_s or self._queued() == 0

    def _pause(self, delay_s: float) -> None:
        until_s = time.monotonic() + delay_s
        while (remaining_s := until_s - time.monotonic()) > 0:
            if self._closing_at_s is not None:
                remaining_s = min(remaining_s, CLOSING_RETRY_S)
                until_s = min(until_s, time.monotonic() + remaining_s)
            self._waker.wait(min(remaining_s, TICK_S, self._lanes.rest_s(connected=False)))
            self._sort()
            self._keep()
            self._announce_unheard_drops()
            if self._gives_up():
                return

    # The thread: one connection.

    def _serve(self) -> None:
        """Connect and publish until the connection is lost (`BrokerError`) or we close."""
        assert self._broker is not None
        connection = Connection(
            self._broker,
            self._client_id,
            self._protocol,
            full_topic(self.device, "availability"),
            self._waker,
            self._acknowledged,
            self._received,
        )
        try:
            connection.open(self._time_left_s(CONNECT_TIMEOUT_S))
            self._greet(connection)
            while not self._said_farewell(connection):
                if connection.lost is not None:
                    raise BrokerError(f"broker {self._broker}: connection lost: {connection.lost}")
                self._check_acknowledgements()
                rest_s = min(TICK_S, self._lanes.rest_s(connected=True))
                connection.service(self._time_left_s(rest_s))
                self._send_what_may_go(connection)
        finally:
            connection.abandon()
            self._online.clear()
            self._unacknowledged.clear()
            self._lanes.disconnected()

    def _greet(self, connection: Connection) -> None:
        """Say `online`, then everything retained, then what waited."""
        if self._trouble is not None and not self._on_trial:
            log.warning("broker %s: connected again", self._broker)
        self._trouble = None
        self._connections += 1
        self._lanes.connected()
        self._say(connection, Availability.ONLINE)
        connection.subscribe(tuple(topic for guest in self._guests for topic in guest.topics))
        self._to_retain.clear()
        self._to_retain.extend(each for guest in self._guests for each in guest.greeting())
        self._online.set()
        self._answered.set()
        self._send_what_may_go(connection)

    def _say(self, connection: Connection, word: Availability) -> None:
        topic = topic_of("availability")
        where = full_topic(self.device, topic.name)
        mid = connection.send(where, word.encode(), topic.qos, topic.retain)
        self._unacknowledged[mid] = (None, time.monotonic())

    def _received(self, topic: str, payload: bytes, retain: bool) -> None:
        for guest in self._guests:
            self._to_retain.extend(guest.received(topic, payload, retain))

    def _send_what_may_go(self, connection: Connection) -> None:
        while self._to_retain and connection.ready:
            mid = connection.send(*self._to_retain.popleft(), qos=1, retain=True)
            self._unacknowledged[mid] = (None, time.monotonic())
        self._sort()
        self._announce_drops()
        self._send(connection)  # what is live does not wait for the card
        self._keep()
        self._send(connection)

    def _send(self, connection: Connection) -> None:
        while connection.ready:
            room = len(self._unacknowledged) < connection.window
            dispatch = self._lanes.next(time.monotonic(), room)
            if dispatch is None:
                return
            entry = dispatch.entry
            where = full_topic(self.device, entry.name)
            mid = connection.send(where, dispatch.payload, entry.topic.qos, dispatch.retain)
            if entry.topic.qos > 0:
                self._unacknowledged[mid] = (entry, time.monotonic())
            else:
                self._sent += 1

    def _sort(self) -> None:
        """Bring what came in since the last time onto its lane."""
        while self._inbox:
            entry = self._inbox.popleft()
            try:
                self._lanes.accept(entry)
            except Exception as error:  # noqa: BLE001 - whatever an outbox on a full disk raises
                self._drops.add(entry.name, entry.seq, announce=entry.name != "event")
                self._own_fault(error)
        self._lanes.expire(time.monotonic())

    def _keep(self) -> None:
        """Let the outbox write down what came, and tell what happened to it."""
        for notice in self._lanes.keep(self._now()):
            log.warning("%s", notice.text)
            self._number("event", notice, of_our_own=True)
            self._sort()

    def _announce_drops(self) -> None:
        now_s = time.monotonic()
        told_lately = now_s - self._drops_told_s < ANNOUNCE_DROPS_S
        if not self._drops or (told_lately and self._closing_at_s is None):
            return
        self._tell_drops(self._drops.take())

    def _announce_unheard_drops(self) -> None:
        """Nobody can be told now, but the gaps on the card are not to be forgotten with us."""
        lately = time.monotonic() - self._drops_told_s < ANNOUNCE_UNHEARD_S
        if self._drops and self._lanes.kept and not lately:
            self._tell_drops(self._drops.take(n for n, t in TOPICS.items() if t.through_outbox))

    def _tell_drops(self, gaps: Sequence[DroppedRange]) -> None:
        self._drops_told_s = time.monotonic()
        for gap in gaps:
            self._number("event", _drop_event(gap), of_our_own=True)
        self._sort()

    def _acknowledged(self, mid: int, refused: str | None) -> None:
        entry, _ = self._unacknowledged.pop(mid, (None, 0.0))
        if entry is None:
            return
        if refused is None:
            self._sent += 1
            self._lanes.acknowledge(entry)
        else:
            trouble = f"broker {self._broker}: refuses {entry.name} ({refused})"
            self._note(trouble, retrying=False)
            self._lanes.refuse(entry)

    def _check_acknowledgements(self) -> None:
        if self._unacknowledged:
            _, sent_s = next(iter(self._unacknowledged.values()))
            if time.monotonic() - sent_s > ACKNOWLEDGE_S:
                raise BrokerError(f"broker {self._broker}: acknowledges nothing any more")

    # The thread: the end.

    def _time_left_s(self, otherwise_s: float) -> float:
        if self._closing_at_s is None:
            return otherwise_s
        return max(0.0, min(otherwise_s, self._closing_at_s - time.monotonic()))

    def _said_farewell(self, connection: Connection) -> bool:
        """When closing: whether all is said and done, `offline` included."""
        if self._closing_at_s is None:
            return False
        left_s = self._closing_at_s - time.monotonic()
        pressing = len(self._inbox) + self._lanes.pressing
        settled = pressing == 0 and not self._unacknowledged and not self._drops
        if not settled and left_s > FAREWELL_S:
            return False
        self._say(connection, Availability.OFFLINE)
        while self._unacknowledged and connection.lost is None and self._time_left_s(1.0) > 0:
            connection.service(self._time_left_s(TICK_S))
        if not self._unacknowledged and connection.ready:
            connection.farewell()
        return True


def _other_protocol(protocol: MQTTProtocolVersion) -> MQTTProtocolVersion:
    five, older = MQTTProtocolVersion.MQTTv5, MQTTProtocolVersion.MQTTv311
    return older if protocol == five else five


def _drop_event(gap: DroppedRange) -> EventMessage:
    numbers = f"{gap.first_seq} to {gap.last_seq}{' of an earlier start' if gap.boot else ''}"
    return EventMessage(
        kind=EventKind.MESSAGES_DROPPED,
        severity=Severity.WARNING,
        text=f"{gap.count} messages on {gap.topic} could not be sent: numbers {numbers}",
        count=gap.count,
        dropped=gap,
    )
