from __future__ import annotations

import itertools
import logging
import os
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import edge.publish.lanes as lanes_module
import edge.publish.publisher as publisher_module
from edge.errors import BrokerError
from edge.messages import (
    AudioState,
    Health,
    Info,
    Notes,
    Piece,
    PieceState,
    Position,
    Session,
    SessionState,
    decode,
)
from edge.publish.address import BrokerAddress
from edge.publish.embedded import EmbeddedBroker
from edge.publish.outbox import MemoryOutbox, Outgoing
from edge.publish.publisher import LONGEST_RETRY_S, Publisher, retry_delay_s

ROOT = Path(__file__).parents[1]


@pytest.fixture
def publisher() -> Iterator[Callable[..., Publisher]]:
    """Makes publishers of the device `parlour`, each with a client id of its own."""
    made: list[Publisher] = []

    def make(address: BrokerAddress | None, **options: Any) -> Publisher:
        identity = f"test-{os.getpid()}-{len(made)}-{time.monotonic_ns()}"
        made.append(Publisher(address, "parlour", identity=identity, **options))
        return made[-1]

    yield make
    for each in made:
        each.close(timeout_s=1.0)


def session(notes: int = 0) -> Session:
    return Session(id="a-sitting", state=SessionState.UPDATE, notes=notes)


@pytest.fixture
def mute_server() -> Iterator[BrokerAddress]:
    """Something that lets everybody in and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=16) as server:
        yield BrokerAddress("127.0.0.1", server.getsockname()[1])


def test_messages_arrive_in_order_and_numbered_per_topic(broker, subscribe, publisher, wait_until):
    dashboard = subscribe(broker.address)
    piano = publisher(broker.address)
    piano.start(require_connection_s=20.0)
    for i in range(50):
        piano.publish("session", session(i))
        if i % 2:
            piano.publish("notes", Notes(heard_s=float(i)))
    dashboard.wait_for(
        lambda: len(dashboard.seqs("session")) == 50 and len(dashboard.seqs("notes")) == 25,
        "50 sessions and 25 notes",
    )
    assert dashboard.seqs("session") == list(range(50))
    assert dashboard.seqs("notes") == list(range(25))
    assert [m.json["notes"] for m in dashboard.messages("session")] == list(range(50))
    for message in dashboard.messages("session") + dashboard.messages("notes"):
        decode(message.name, message.payload)
        assert message.json["boot"] == piano.boot
        assert not message.json["historical"]


def test_a_late_subscriber_finds_what_is_retained_and_nothing_else(
    broker, subscribe, publisher, wait_until
):
    piano = publisher(broker.address)
    piano.start(require_connection_s=20.0)
    piano.publish("info", Info(software="1.2.3"))
    piano.publish("health", Health(audio=AudioState.RUNNING, uptime_s=1.0))
    piano.publish("piece", Piece(state=PieceState.SEARCHING))
    piano.publish("piece", Piece(state=PieceState.MATCHED, title="Gymnopédie"))
    piano.publish("notes", Notes(heard_s=1.0))
    piano.publish("session", session())
    wait_until(lambda: piano.counters.sent == 6, "six messages sent")

    late = subscribe(broker.address)
    late.wait_for(lambda: len(late.messages()) >= 4, "the retained set")
    names = sorted(m.name for m in late.messages())
    assert names == ["availability", "health", "info", "piece"]
    assert all(m.retain for m in late.messages())
    assert late.words() == ["online"]
    assert late.messages("piece")[0].json["title"] == "Gymnopédie"
    assert late.messages("info")[0].json["software"] == "1.2.3"


def test_closing_hands_over_everything_and_says_offline(broker, subscribe, publisher, wait_until):
    dashboard = subscribe(broker.address)
    piano = publisher(broker.address)
    piano.start()
    for i in range(100):
        piano.publish("session", session(i))
    report = piano.close(timeout_s=20.0)
    assert report.boot == piano.boot
    assert report.last_seq == {"session": 99}
    assert (report.dropped, report.undelivered) == (0, 0)
    dashboard.wait_for(lambda: "offline" in dashboard.words(), "offline")
    assert dashboard.seqs("session") == list(range(100))
    assert dashboard.messages()[-1].name == "availability"
    late = subscribe(broker.address)
    late.wait_for(lambda: late.words()[-1:] == ["offline"], "offline, retained")


CHILD = """
import sys, time
from edge.messages import Session, SessionState
from edge.publish import BrokerAddress, Publisher
piano = Publisher(BrokerAddress("127.0.0.1", int(sys.argv[1]), speaks_mqtt5=sys.argv[2] == "5"),
                  "parlour", identity="a-child")
piano.start(require_connection_s=20)
piano.publish("session", Session(id="a-sitting", state=SessionState.NEW))
time.sleep(60)
"""


def test_the_broker_says_offline_for_a_killed_program(broker, subscribe):
    dashboard = subscribe(broker.address)
    version = "5" if broker.address.speaks_mqtt5 else "4"
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(broker.port), version], cwd=ROOT)
    try:
        dashboard.wait_for(
            lambda: dashboard.messages("session") and dashboard.words() == ["online"],
            "the child's first words",
        )
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    dashboard.wait_for(lambda: dashboard.words() == ["online", "offline"], "offline")
    late = subscribe(broker.address)
    late.wait_for(lambda: late.words()[-1:] == ["offline"], "offline, retained")


def test_after_a_restart_of_the_broker_nothing_acknowledged_later_is_missing(
    broker, subscribe, publisher, wait_until
):
    piano = publisher(broker.address)
    piano.start()
    piano.publish("info", Info(software="1.2.3"))
    piano.publish("piece", Piece(state=PieceState.MATCHED, title="Gymnopédie"))
    for i in range(10):
        piano.publish("session", session(i))
    wait_until(lambda: piano.counters.sent == 12, "all sent")
    broker.stop()
    for i in range(10, 30):
        piano.publish("session", session(i))
    wait_until(lambda: not piano.counters.connected, "the loss noticed")
    broker.start()
    dashboard = subscribe(broker.address)
    piano.publish("session", session(30))
    dashboard.wait_for(lambda: 30 in dashboard.seqs("session"), "the newest session")

    seqs = dashboard.seqs("session")
    assert sorted(set(seqs)) == list(range(seqs[0], 31))
    assert seqs[0] <= 10
    assert [s for i, s in enumerate(seqs) if s not in seqs[:i]] == sorted(set(seqs))
    # The broker forgot everything in its death, and has the retained set again.
    dashboard.wait_for(
        lambda: dashboard.messages("piece") and dashboard.messages("info"), "the retained set"
    )
    assert dashboard.words()[-1] == "online"
    assert dashboard.messages("piece")[-1].json["seq"] == 0
    assert piano.counters.reconnects == 1
    assert piano.counters.dropped == 0


def test_notes_that_nobody_could_hear_are_dropped_and_the_gap_is_named(
    broker, subscribe, publisher, wait_until
):
    piano = publisher(broker.address, live_s=0.2)
    piano.start(require_connection_s=20.0)
    broker.stop()
    wait_until(lambda: not piano.counters.connected, "the loss noticed")
    for i in range(5):
        piano.publish("notes", Notes(heard_s=float(i)))
    wait_until(lambda: piano.counters.dropped == 5, "five dropped")
    broker.start()
    dashboard = subscribe(broker.address)
    dashboard.wait_for(lambda: dashboard.messages("event"), "the event")
    event = dashboard.messages("event")[0].json
    assert event["kind"] == "messages_dropped"
    gap = {"topic": "notes", "first_seq": 0, "last_seq": 4, "count": 5, "boot": None}
    assert event["dropped"] == gap
    assert not dashboard.messages("event")[0].retain
    report = piano.close(timeout_s=20.0)
    assert report.last_seq == {"event": 0, "notes": 4}
    assert report.dropped == 5
    assert report.undelivered == 0
    assert dashboard.messages("notes") == []


def test_a_broker_that_hangs_is_left_and_found_again(
    mosquitto, subscribe, publisher, wait_until, monkeypatch
):
    monkeypatch.setattr(publisher_module, "ACKNOWLEDGE_S", 0.3)
    dashboard = subscribe(mosquitto.address)
    piano = publisher(mosquitto.address)
    piano.start(require_connection_s=20.0)
    wait_until(lambda: piano.counters.queued == 0, "all acknowledged")
    mosquitto.hang()
    piano.publish("session", session())
    wait_until(lambda: "acknowledges nothing" in (piano.counters.trouble or ""), "the trouble")
    mosquitto.go_on()
    wait_until(lambda: piano.counters.sent == 1, "the session acknowledged")
    dashboard.wait_for(lambda: dashboard.seqs("session"), "the session")
    assert set(dashboard.seqs("session")) == {0}
    assert piano.counters.dropped == 0


def test_a_broker_that_comes_late_gets_what_waited(broker, subscribe, publisher, wait_until):
    broker.stop()
    piano = publisher(broker.address)
    piano.start()
    for i in range(5):
        piano.publish("session", session(i))
    wait_until(lambda: piano.counters.trouble, "the first attempt to fail")
    broker.start()
    dashboard = subscribe(broker.address)
    dashboard.wait_for(lambda: dashboard.seqs("session") == list(range(5)), "what waited")
    assert piano.counters.trouble is None


@pytest.fixture
def nobody() -> Iterator[BrokerAddress]:
    """An address at which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield BrokerAddress("127.0.0.1", taken.getsockname()[1], "clara", "secret")


def test_a_required_broker_that_is_missing_is_one_line_without_the_password(
    nobody, publisher, caplog
):
    with caplog.at_level(logging.INFO), pytest.raises(BrokerError) as error:
        publisher(nobody).start(require_connection_s=1.5)
    assert "nobody listens there" in str(error.value)
    assert f"mqtt://clara@127.0.0.1:{nobody.port}" in str(error.value)
    assert "secret" not in str(error.value)
    assert "\n" not in str(error.value)
    assert caplog.records == []


def test_a_missing_broker_is_said_once_however_long_it_is_missing(
    nobody, publisher, caplog, wait_until, monkeypatch
):
    monkeypatch.setattr(publisher_module, "LONGEST_RETRY_S", 0.01)
    attempts = []
    real = publisher_module.Connection.open
    monkeypatch.setattr(
        publisher_module.Connection,
        "open",
        lambda self, timeout_s: (attempts.append(1), real(self, timeout_s)),
    )
    with caplog.at_level(logging.INFO):
        publisher(nobody).start()
        wait_until(lambda: len(attempts) > 5, "six attempts")
    assert len(caplog.records) == 1
    assert "trying again" in caplog.text


def test_a_host_that_does_not_exist_is_said_to(publisher, wait_until, monkeypatch):
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    piano = publisher(BrokerAddress("no-such-piano"))
    piano.start()
    wait_until(lambda: piano.counters.trouble, "the trouble")
    assert "mqtt://no-such-piano:1883: no such host" in piano.counters.trouble


def test_a_refused_login_says_so_and_the_right_one_is_let_in(locked_mosquitto, publisher):
    port = locked_mosquitto.port
    for user, password in (("clara", "wrong"), ("robert", "träumerei"), (None, None)):
        with pytest.raises(BrokerError, match="refuses the login") as error:
            publisher(BrokerAddress("127.0.0.1", port, user, password)).start(20.0)
        assert "wrong" not in str(error.value)
    right = BrokerAddress.parse(f"mqtt://clara:tr%C3%A4umerei@127.0.0.1:{port}")
    publisher(right).start(require_connection_s=20.0)


def test_a_broker_of_the_older_mqtt_is_greeted_again_in_its_own_way(publisher, subscribe):
    with EmbeddedBroker() as older:
        unknowing = BrokerAddress("127.0.0.1", older.address.port)
        dashboard = subscribe(unknowing)
        piano = publisher(unknowing)
        piano.start(require_connection_s=10.0)
        piano.publish("session", session())
        dashboard.wait_for(lambda: dashboard.seqs("session") == [0], "the session")
        piano.close()


def test_closing_is_quick_when_nobody_listens(nobody, publisher, wait_until):
    piano = publisher(nobody)
    piano.start()
    for i in range(7):
        piano.publish("session", session(i))
    wait_until(lambda: piano.counters.trouble, "the failed attempt")
    began_s = time.monotonic()
    report = piano.close(timeout_s=5.0)
    assert time.monotonic() - began_s < 3.0
    assert report.last_seq == {"session": 6}
    assert report.undelivered == report.dropped == 7


def test_closing_ends_in_time_when_the_broker_is_mute(mute_server, publisher):
    piano = publisher(mute_server)
    piano.start()
    piano.publish("session", session())
    began_s = time.monotonic()
    report = piano.close(timeout_s=0.5)
    assert time.monotonic() - began_s < 3.0
    assert report.undelivered == 1


def test_closing_tries_again_while_there_is_time(mosquitto, subscribe, publisher, wait_until):
    piano = publisher(mosquitto.address)
    piano.start(require_connection_s=20.0)
    mosquitto.stop()
    piano.publish("session", session())
    wait_until(lambda: not piano.counters.connected, "the loss noticed")
    reports = []
    closing = threading.Thread(target=lambda: reports.append(piano.close(timeout_s=15.0)))
    closing.start()
    mosquitto.start()
    closing.join()
    assert reports[0].dropped == 0
    late = subscribe(mosquitto.address)
    late.wait_for(lambda: late.words()[-1:] == ["offline"], "offline, retained")


def test_publishing_never_waits_and_what_does_not_fit_is_counted(
    mute_server, publisher, monkeypatch
):
    monkeypatch.setattr(publisher_module, "INBOX_MESSAGES", 500)
    monkeypatch.setattr(lanes_module, "LIVE_MESSAGES", 500)
    piano = publisher(mute_server, live_s=3600.0)
    piano.start()
    too_many = 3000
    longest_s = 0.0
    for _ in range(too_many):
        began_s = time.monotonic()
        piano.publish("position", Position(piece_id="p", bar=1, beat=1.0, confidence=1.0))
        longest_s = max(longest_s, time.monotonic() - began_s)
    assert longest_s < 3.0
    counters = piano.counters
    assert counters.queued <= 1000
    assert counters.queued + counters.dropped == too_many


def test_without_a_broker_messages_are_numbered_and_forgotten(publisher):
    piano = publisher(None)
    piano.start()
    assert piano.publish("notes", Notes()).seq == 0
    assert piano.publish("notes", Notes()).seq == 1
    report = piano.close()
    assert report.last_seq == {"notes": 1}
    assert report.dropped == 0


def test_what_is_published_after_the_end_is_counted_as_dropped(mosquitto, publisher):
    piano = publisher(mosquitto.address)
    piano.start(require_connection_s=20.0)
    piano.close()
    piano.publish("notes", Notes())
    assert piano.counters.dropped == 1


def test_a_message_on_the_wrong_topic_is_an_error_of_the_program(publisher):
    piano = publisher(None)
    with pytest.raises(TypeError, match="piece carries Piece"):
        piano.publish("piece", Notes())
    with pytest.raises(ValueError, match="no topic 'nots'"):
        piano.publish("nots", Notes())
    assert piano.close().last_seq == {}


class BrokenOutbox(MemoryOutbox):
    """Fails once, as a full disk might."""

    def __init__(self) -> None:
        super().__init__()
        self.fails = True

    def next(self) -> Outgoing | None:
        if self.fails and len(self):
            self.fails = False
            raise OSError("No space left on device")
        return super().next()


def test_an_error_within_is_counted_and_publishing_goes_on(mosquitto, subscribe, publisher):
    dashboard = subscribe(mosquitto.address)
    piano = publisher(mosquitto.address, outbox=BrokenOutbox())
    piano.start(require_connection_s=20.0)
    piano.publish("session", session())
    dashboard.wait_for(lambda: dashboard.seqs("session") == [0], "the session")
    assert piano.counters.faults == 1


class FullOutbox(MemoryOutbox):
    """Takes in nothing."""

    def append(self, entry: Outgoing) -> list[Outgoing]:
        raise OSError("No space left on device")


def test_an_outbox_that_takes_nothing_costs_its_messages_and_no_others(
    mosquitto, subscribe, publisher, wait_until
):
    dashboard = subscribe(mosquitto.address)
    piano = publisher(mosquitto.address, outbox=FullOutbox())
    piano.start(require_connection_s=20.0)
    piano.publish("session", session())
    wait_until(lambda: piano.counters.faults, "the fault")
    piano.publish("notes", Notes())
    dashboard.wait_for(lambda: dashboard.seqs("notes") == [0], "the notes")
    assert piano.counters.dropped >= 1


def test_a_message_is_at_the_subscriber_at_once(mosquitto, subscribe, publisher):
    dashboard = subscribe(mosquitto.address)
    piano = publisher(mosquitto.address)
    piano.start(require_connection_s=20.0)
    delays_s = []
    for i in range(40):
        began_s = time.monotonic()
        piano.publish("notes", Notes())
        dashboard.wait_for(lambda i=i: len(dashboard.messages("notes")) > i, "the notes")
        delays_s.append(dashboard.messages("notes")[i].at_s - began_s)
    assert statistics.median(delays_s) < 0.1


def test_two_starts_of_the_program_are_told_apart(publisher):
    assert publisher(None).boot != publisher(None).boot


def test_patience_between_attempts_grows_up_to_its_bound():
    delays_s = [retry_delay_s(attempt, jitter=0.0) for attempt in range(40)]
    assert delays_s[0] == 0.5
    assert all(b == min(2 * a, LONGEST_RETRY_S) for a, b in itertools.pairwise(delays_s))
    assert retry_delay_s(3, jitter=1.0) == delays_s[3] / 2
