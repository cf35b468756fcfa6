"""The dashboard's client: every number counted, nothing given twice, and examples that run."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.client import Count, Dashboard, RefusedByDeviceError, SeqCounter, Series
from edge.errors import BrokerError, UsageError
from edge.messages import (
    Availability,
    Listening,
    NoteMessage,
    Notes,
    Piece,
    PieceState,
    Session,
    SessionState,
    encode,
    full_topic,
)
from edge.note import NoteState
from edge.publish.address import BrokerAddress
from edge.publish.commands import CommandDesk
from edge.publish.embedded import EmbeddedBroker
from edge.publish.publisher import Publisher
from tests.test_commands import Parlour

PAGE = (Path(__file__).parents[1] / "docs" / "client.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


# ---- counting


def test_a_gap_is_missing_until_it_is_filled_and_a_repeat_is_told() -> None:
    counter = SeqCounter()
    assert [counter.push(seq) for seq in (5, 6, 9)] == [True, True, True]
    assert counter.count == Count(received=3, repeats=0, missing=2)
    assert [counter.push(seq) for seq in (6, 7, 8, 8)] == [False, True, True, False]
    assert counter.count == Count(received=5, repeats=2, missing=0)


def test_what_comes_from_before_the_first_is_new() -> None:
    counter = SeqCounter()
    assert [counter.push(seq) for seq in (9, 7, 8, 7)] == [True, True, True, False]
    assert counter.count == Count(received=3, repeats=1, missing=0)


@given(st.lists(st.integers(0, 60), max_size=120))
def test_counting_is_that_of_a_set(seqs: list[int]) -> None:
    counter, seen = SeqCounter(), set[int]()
    for seq in seqs:
        assert counter.push(seq) is (seq not in seen)
        seen.add(seq)
    missing = max(seen) - min(seen) + 1 - len(seen) if seen else 0
    assert counter.count == Count(len(seen), len(seqs) - len(seen), missing)


def test_a_series_full_of_gaps_takes_no_more_memory() -> None:
    counter = SeqCounter()
    for seq in range(0, 100_000, 2):
        assert counter.push(seq)
    assert counter.count == Count(received=50_000, repeats=0, missing=49_999)
    assert len(counter._firsts) <= 256


# ---- with a real broker


@pytest.fixture
def piano(mosquitto) -> Iterator[Callable[..., Publisher]]:
    made: list[Publisher] = []

    def make(device: str = "parlour", **options: Any) -> Publisher:
        identity = f"test-{os.getpid()}-{time.monotonic_ns()}"
        made.append(Publisher(mosquitto.address, device, identity=identity, **options))
        made[-1].start(require_connection_s=20.0)
        return made[-1]

    yield make
    for each in made:
        each.close(timeout_s=2.0)


def session(notes: int) -> Session:
    return Session(id="a-sitting", state=SessionState.UPDATE, notes=notes)


@pytest.mark.parametrize("older", [False, True], ids=["5", "3.1.1"])
def test_one_piano_or_all_of_them(mosquitto, piano, wait_until, older: bool) -> None:
    parlour, hall = piano("parlour"), piano("hall")
    parlour.publish("piece", Piece(state=PieceState.MATCHED, title="Gymnopédie"))
    wait_until(lambda: parlour.counters.sent == 1, "the piece at the broker")
    address = BrokerAddress("127.0.0.1", mosquitto.port, speaks_mqtt5=not older)
    with Dashboard(address, topics=("session", "piece", "availability")) as house:
        parlour.publish("session", session(1))
        hall.publish("session", session(2))
        got = list(house.messages(timeout_s=1.0))
        bodies = [(m.device, m.topic) for m in got]
        assert ("hall", "session") in bodies
        assert ("parlour", "session") in bodies
        retained = [m for m in got if m.retained]
        assert {type(m.body) for m in retained} == {Availability, Piece}
        assert house.counts[Series("hall", hall.boot, "session")] == Count(1, 0, 0)
    with Dashboard(address, device="hall", topics=("session",)) as one:
        hall.publish("session", session(3))
        parlour.publish("session", session(4))
        assert [m.body.notes for m in one.messages(timeout_s=1.0)] == [3]


def test_a_broker_of_the_older_mqtt_is_greeted_again_in_its_own_way() -> None:
    with EmbeddedBroker() as older:
        unknowing = BrokerAddress("127.0.0.1", older.address.port)
        stranger = paho.Client(paho.CallbackAPIVersion.VERSION2)
        stranger.connect(unknowing.host, unknowing.port)
        stranger.loop_start()
        with Dashboard(unknowing, topics=("availability",)) as house:
            stranger.publish(full_topic("parlour", "availability"), b"online", 1)
            assert [m.body for m in house.messages(timeout_s=1.0)] == [Availability.ONLINE]
        stranger.disconnect()
        stranger.loop_stop()


def test_repeats_are_dropped_and_counted_and_nonsense_harms_nobody(mosquitto) -> None:
    stranger = paho.Client(paho.CallbackAPIVersion.VERSION2)
    stranger.connect("127.0.0.1", mosquitto.port)
    stranger.loop_start()

    def say(seq: int, historical: bool = False) -> None:
        message = Session(
            id="s",
            state=SessionState.UPDATE,
            boot="b",
            seq=seq,
            t="2026-11-20T18:02:11.120Z",
            historical=historical,
        )
        stranger.publish(full_topic("parlour", "session"), encode(message), 1)

    with Dashboard(mosquitto.address) as house:
        for seq in (0, 1, 1, 4):
            say(seq)
        for name, payload in (("session", b"{"), ("session", b"\xff"), ("later", b"{}")):
            stranger.publish(full_topic("parlour", name), payload, 1)
        stranger.publish(full_topic("parlour", "availability"), b"perhaps", 1)
        say(2, historical=True)
        got = list(house.messages(timeout_s=1.0))
        assert [(m.body.seq, m.historical) for m in got] == [
            (0, False),
            (1, False),
            (4, False),
            (2, True),
        ]
        assert house.counts == {Series("parlour", "b", "session"): Count(4, 1, 1)}
        assert house.illegible == 3
    stranger.disconnect()
    stranger.loop_stop()


def test_the_broker_s_restart_is_survived_and_shows_in_the_numbers(
    mosquitto, piano, wait_until
) -> None:
    parlour = piano()
    with Dashboard(mosquitto.address, topics=("session",)) as house:
        parlour.publish("session", session(0))
        assert [m.body.seq for m in house.messages(timeout_s=1.0)] == [0]
        mosquitto.stop()
        mosquitto.start()
        wait_until(lambda: parlour.counters.reconnects == 1, "the piano back")
        for notes in range(1, 200):
            parlour.publish("session", session(notes))
            if list(house.messages(timeout_s=0.1)):
                break
        else:
            pytest.fail("the dashboard did not come back")


def test_a_dashboard_that_nobody_reads_keeps_the_newest(mosquitto, piano, monkeypatch) -> None:
    monkeypatch.setattr("edge.client.WAITING_MESSAGES", 10)
    parlour = piano()
    with Dashboard(mosquitto.address, topics=("session",)) as house:
        for i in range(30):
            parlour.publish("session", session(i))
        time.sleep(1.0)
        assert [m.body.notes for m in house.messages(timeout_s=0.1)] == list(range(20, 30))
        assert house.overflowed == 20


def test_nobody_there_and_a_refused_login_are_one_line(locked_mosquitto, monkeypatch) -> None:
    monkeypatch.setattr("edge.client.CONNECT_S", 1.0)
    with pytest.raises(BrokerError, match="no answer"), Dashboard("mqtt://127.0.0.1:1"):
        pass
    url = f"mqtt://clara:wrong@127.0.0.1:{locked_mosquitto.port}"
    reason = "refuses .*check user and password"
    with pytest.raises(BrokerError, match=reason) as error, Dashboard(url):
        pass
    assert "wrong" not in str(error.value)
    with pytest.raises(UsageError, match="no topic 'cmd/"):
        Dashboard(url, topics=("cmd/+",))


def test_a_piano_answers_through_either_broker(broker, tmp_path) -> None:
    desk = CommandDesk("parlour")
    identity = f"test-{os.getpid()}-{time.monotonic_ns()}"
    publisher = Publisher(broker.address, "parlour", identity=identity, guests=[desk])
    publisher.start(require_connection_s=20.0)
    made = Parlour(tmp_path, publisher, desk)
    worker = threading.Thread(target=made.run)
    worker.start()
    with Dashboard(broker.address, device="parlour") as house:
        assert house.ask("parlour", "listen", False).kept
        assert house.ask("parlour", "restart") is None
    worker.join(10.0)
    assert made.report.restart


@pytest.fixture
def parlour(mosquitto, piano, tmp_path) -> Iterator[Parlour]:
    """A piano in the parlour that listens and obeys, over the real broker."""
    desk = CommandDesk("parlour")
    made = Parlour(tmp_path, piano(guests=[desk]), desk)
    worker = threading.Thread(target=made.run)
    worker.start()
    yield made
    made.listener.stop()
    worker.join(10.0)


def test_a_piano_answers_with_values_of_the_command_s_type(mosquitto, parlour) -> None:
    with Dashboard(mosquitto.address, device="parlour") as house:
        assert house.ask("parlour", "listen", False) == Listening(listening=False, kept=True)
        assert house.ask("parlour", "detail", {"strikes": False}).strikes is False
        assert house.ask("parlour", "health").listening is False
        with pytest.raises(RefusedByDeviceError, match=r"listen: value: expected `bool`") as error:
            house.ask("parlour", "listen", "off")
        assert error.value.reason == "malformed"
        with pytest.raises(UsageError, match="no command 'dance'"):
            house.ask("parlour", "dance")
        with pytest.raises(BrokerError, match="does not answer"):
            house.ask("hall", "health", timeout_s=0.3)
        assert house.ask("parlour", "restart") is None
    assert parlour.report is None or parlour.report.restart


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_the_examples_of_the_documentation_run(
    mosquitto, parlour, tmp_path, capsys, number: int
) -> None:
    code = EXAMPLES[number]
    if "note:" in code:
        # This piano plays for ever: the example is left at its first note.
        code = code.replace("note.state.value)", "note.state.value); raise EOFError")
    names = {"BROKER": f"mqtt://127.0.0.1:{mosquitto.port}"}
    if "Tls(" in code:
        code = code.replace('Path("house.crt")', "None")
    try:
        exec(code, names)
    except EOFError:
        assert "note: 60 confirmed" in capsys.readouterr().out
        return
    assert capsys.readouterr().out or "Tls(" in code


def test_a_note_is_read_as_it_was_published(mosquitto, piano) -> None:
    parlour = piano()
    note = NoteMessage(
        id=1,
        state=NoteState.CONFIRMED,
        pitch_midi=60,
        onset_s=1.0,
        velocity=64,
        confidence=0.9,
    )
    with Dashboard(mosquitto.address, device="parlour", topics=("notes",)) as house:
        sent = parlour.publish("notes", Notes(notes=(note,)))
        assert next(house.messages(timeout_s=5.0)).body == sent
