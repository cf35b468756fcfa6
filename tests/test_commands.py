"""Commands: what is asked of a piano, who is refused, and that nothing hostile changes anything."""

from __future__ import annotations

import itertools
import logging
import os
import string
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import paho.mqtt.client as paho
import pytest

from edge.audio.block import STREAM_RATE_HZ, Block
from edge.cli.household import known_recording
from edge.commander import Commander, LogTail, Standing, changed, recorded_in, self_test
from edge.errors import CatalogueError
from edge.full_test import FullTest
from edge.listen import Listener
from edge.messages import (
    COMMANDS,
    LEAST_ANSWER_BYTES,
    MOST_COMMAND_BYTES,
    AudioState,
    Check,
    Detail,
    DetailChange,
    Envelope,
    EventKind,
    EventMessage,
    Health,
    HistoryAnswer,
    HistoryNote,
    HistoryNotes,
    HistoryRequest,
    Info,
    Refusal,
    Response,
    ResponseStatus,
    SelfTest,
    SelfTestResult,
    Verdict,
    encode,
    full_topic,
)
from edge.note import NoteEvent, NoteState, NoteUpdate, PedalEvent, Strike
from edge.publish.address import BrokerAddress
from edge.publish.commands import Arrival, CommandDesk, RefusedError, legible, read_command
from edge.publish.compose import DetailFilter
from edge.publish.disk_outbox import DiskOutbox
from edge.publish.publisher import Publisher
from edge.settings import Settings

BLOCK_SAMPLES = 320


def command(value: Any = None, transaction: str = "t1", **more: Any) -> bytes:
    return msgspec.json.encode({"value": value, "transaction": transaction, **more})


def arrival(name: str, payload: bytes, retained: bool = False) -> Arrival:
    desk = CommandDesk("parlour")
    desk.received(full_topic("parlour", f"cmd/{name}"), payload, retained)
    found = desk.take()
    assert found is not None
    return found


def refusal(name: str, payload: bytes, retained: bool = False, **options: Any) -> RefusedError:
    with pytest.raises(RefusedError) as error:
        read_command(arrival(name, payload, retained), **options)
    return error.value


# ---- reading


def test_a_command_is_read_with_a_value_of_its_own_type() -> None:
    asked = read_command(arrival("detail", command({"strikes": False})))
    assert asked.value == DetailChange(strikes=False)
    assert asked.transaction == "t1"
    assert read_command(arrival("listen", command(True))).value is True
    assert read_command(arrival("piece", command(None))).value is None


@pytest.mark.parametrize(
    ("name", "payload", "reason", "text"),
    [
        ("listen", b"", Refusal.MALFORMED, "truncated"),
        ("listen", b"\xff\xfe", Refusal.MALFORMED, ""),
        ("listen", b"true", Refusal.MALFORMED, "expected `object`, got `bool`"),
        ("listen", b"[" * 4000, Refusal.MALFORMED, ""),
        ("listen", command("true"), Refusal.MALFORMED, "value: expected `bool`, got `str`"),
        ("listen", command(1), Refusal.MALFORMED, "value: expected `bool`, got `int`"),
        ("listen", b'{"value":true}', Refusal.MALFORMED, "`transaction`"),
        ("listen", command(True, ""), Refusal.MALFORMED, "length >= 1"),
        ("listen", command(True, "x" * 65), Refusal.MALFORMED, "length <= 64"),
        ("listen", command(True, max_bytes=10), Refusal.MALFORMED, "`int` >= 2048"),
        ("detail", command({"strikse": False}), Refusal.MALFORMED, "unknown field `strikse`"),
        ("piece", command("x" * 300), Refusal.MALFORMED, "length <= 200"),
        ("history", command({"since": "yesterday"}), Refusal.MALFORMED, "regex"),
        ("restart", command("now"), Refusal.MALFORMED, "expected `null`, got `str`"),
        ("listne", command(True), Refusal.UNKNOWN, "there are listen, piece"),
        ("", command(True), Refusal.UNKNOWN, ""),
        ("\x1b[2J", command(True), Refusal.UNKNOWN, "?[2J"),
        ("listen", command(True, "x" * 5000), Refusal.OVERSIZED, "4096 are allowed"),
    ],
)
def test_what_is_no_command_is_refused_with_its_reason(name, payload, reason, text) -> None:
    refused = refusal(name, payload)
    assert refused.reason is reason
    assert text in refused.text
    assert refused.text.isprintable()


def test_a_retained_command_is_refused_and_never_answered() -> None:
    refused = refusal("listen", command(False), retained=True)
    assert refused.reason is Refusal.RETAINED
    assert refused.transaction is None


def test_what_the_settings_leave_out_is_not_allowed() -> None:
    refused = refusal("restart", command(), allowed=("listen",))
    assert (refused.reason, refused.transaction) == (Refusal.NOT_ALLOWED, "t1")


def test_a_stranger_s_word_is_shown_short_and_harmless() -> None:
    assert legible("a\nb\x1b[31m\u202e" + "x" * 500, 20) == "a?b?[31m?xxxxxxxxxx…"


def test_the_desk_keeps_few_and_counts_the_rest() -> None:
    desk = CommandDesk("parlour")
    for _ in range(100):
        desk.received(full_topic("parlour", "cmd/listen"), command(False), False)
    desk.received(full_topic("hall", "cmd/listen"), command(False), False)
    assert desk.turned_away == 84
    assert sum(1 for _ in iter(desk.take, None)) == 16


# ---- detail


def note(number: int, state: NoteState) -> NoteUpdate:
    return NoteUpdate(number, state, NoteEvent(60, 1.0, None, 64, 0.9))


def test_less_detail_is_told_and_no_note_is_left_sounding() -> None:
    told = DetailFilter()
    first = [note(1, NoteState.PROVISIONAL), Strike(0.5, 0.1), PedalEvent(0.1, True)]
    assert told.push(first) == first
    told.detail = Detail(notes=False, strikes=False)
    assert told.push([Strike(0.6, 0.1), note(2, NoteState.CONFIRMED), PedalEvent(0.2, False)]) == []
    rest = [note(1, NoteState.CONFIRMED), note(1, NoteState.ENDED)]
    assert told.push([*rest, note(2, NoteState.ENDED)]) == rest


def test_without_provisional_notes_a_withdrawn_one_was_never_there() -> None:
    told = DetailFilter()
    told.detail = Detail(provisional=False)
    sure = [note(1, NoteState.CONFIRMED), note(1, NoteState.ENDED)]
    assert told.push([note(1, NoteState.PROVISIONAL), *sure]) == sure
    assert told.push([note(2, NoteState.PROVISIONAL), note(2, NoteState.WITHDRAWN)]) == []


def test_a_change_of_detail_changes_what_it_names() -> None:
    before = Detail(position=False)
    assert changed(before, DetailChange(strikes=False)) == Detail(strikes=False, position=False)


# ---- standing


def test_switched_off_is_kept_and_read(tmp_path: Path) -> None:
    standing = Standing(tmp_path / "state" / "listening.json")
    assert standing.listening()
    assert standing.keep(False)
    assert not Standing(tmp_path / "state" / "listening.json").listening()
    assert standing.keep(True)
    assert standing.listening()


@pytest.mark.parametrize("content", [b"", b"\x00" * 16, b"{}", b"[]", b'{"listening":"yes"}'])
def test_a_state_that_cannot_be_read_counts_as_off(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "listening.json"
    path.write_bytes(content)
    assert not Standing(path).listening()


def test_a_disk_that_cannot_be_written_is_admitted(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file where a folder should be")
    assert not Standing(tmp_path / "state" / "listening.json").keep(False)


# ---- the self-test


def test_a_device_that_is_well_passes() -> None:
    well = Health(audio=AudioState.RUNNING, uptime_s=1.0, disk_free_bytes=2**33, temperature_c=50.0)
    assert self_test(well, None).passed


def test_every_fault_fails_its_own_check_and_more_can_be_looked_at() -> None:
    ill = Health(
        audio=AudioState.LOST,
        uptime_s=1.0,
        overruns=3,
        queue_blocks=100,
        disk_free_bytes=5,
        temperature_c=85.0,
    )
    moon = Check(name="moon", passed=False, text="is full")
    found = self_test(ill, "nobody there", [lambda _: moon])
    assert [c.name for c in found.checks] == ["sound", "pace", "broker", "disk", "heat", "moon"]
    assert not any(check.passed for check in found.checks)


# ---- a piano that listens


@dataclass
class Room:
    """A microphone that is paced by the clock, and says whether it is open."""

    kind: str = "microphone"
    name: str = "test"
    sample_rate_hz: int | None = 48_000
    channels: int | None = 1
    origin_s: float | None = 0.0
    opened: int = 0
    is_open: bool = False
    sample: int = 0
    stopped: threading.Event = field(default_factory=threading.Event)

    def open(self) -> None:
        self.opened += 1
        self.is_open = True

    def items(self) -> Iterator[Block]:
        if not self.is_open:
            self.open()
        while not self.stopped.wait(0.005):
            yield Block(self.sample, np.full(BLOCK_SAMPLES, 0.1, np.float32))
            self.sample += BLOCK_SAMPLES

    def stop(self) -> None:
        self.stopped.set()

    def close(self) -> None:
        self.is_open = False


class Ear:
    """Hears a note a block, and knows one piece."""

    def __init__(self) -> None:
        self.blocks = 0
        self.piece: str | None = None

    def push(self, block: Block) -> list[Any]:
        self.blocks += 1
        at_s = block.start_sample / STREAM_RATE_HZ
        return [NoteUpdate(self.blocks, NoteState.CONFIRMED, NoteEvent(60, at_s, None, 64, 0.9))]

    def flush(self) -> list[Any]:
        return []

    def recover(self) -> list[Any]:
        return []

    def choose_piece(self, piece_id: str | None) -> None:
        if piece_id not in (None, "elise"):
            raise CatalogueError(f"no piece {piece_id!r}")
        self.piece = piece_id


class Parlour:
    """A listener with a desk, and whoever asks it."""

    def __init__(self, folder: Path, publisher: Publisher, desk: CommandDesk, **more: Any) -> None:
        self.room, self.ear, self.desk = Room(), Ear(), desk
        self.standing = Standing(folder / "listening.json")
        self.commander = Commander(desk, standing=self.standing, **more)
        self.said: list[tuple[str, Envelope]] = []
        self.listener = Listener(
            self.room,  # type: ignore[arg-type]
            self.ear,  # type: ignore[arg-type]
            publisher,
            Info(software="0"),
            on_message=lambda topic, message: self.said.append((topic, message)),
            commander=self.commander,
            listening=self.standing.listening(),
        )
        self.room.open()
        self.report: Any = None
        self._numbers = itertools.count()

    def run(self) -> None:
        self.report = self.listener.run()

    def of(self, topic: str) -> list[Any]:
        return [message for name, message in list(self.said) if name == topic]

    def ask(self, name: str, value: Any = None, **more: Any) -> Response:
        transaction = f"q{next(self._numbers)}"
        payload = command(value, transaction, **more)
        self.desk.received(full_topic("parlour", f"cmd/{name}"), payload, False)
        until_s = time.monotonic() + 10.0
        while time.monotonic() < until_s:
            for topic, message in list(self.said):
                if isinstance(message, Response) and message.transaction == transaction:
                    assert topic == f"rsp/{name}" or topic == "rsp/unknown"
                    return message
            time.sleep(0.005)
        pytest.fail(f"no answer to {name}")


@contextmanager
def a_parlour(folder: Path, **more: Any) -> Iterator[Parlour]:
    parlour = Parlour(folder, Publisher(None, "parlour"), CommandDesk("parlour"), **more)
    worker = threading.Thread(target=parlour.run)
    worker.start()
    try:
        yield parlour
    finally:
        parlour.listener.stop()
        worker.join(10.0)
    assert not worker.is_alive()


def test_switched_off_the_microphone_is_given_back_and_stays_so_through_a_restart(
    tmp_path, wait_until
) -> None:
    with a_parlour(tmp_path) as parlour:
        wait_until(lambda: parlour.ear.blocks > 3, "some sound")
        answer = parlour.ask("listen", False)
        assert (answer.status, answer.error) == ("ok", None)
        assert answer.data.listening is False
        assert answer.data.kept is True
        heard = parlour.ear.blocks
        wait_until(lambda: not parlour.room.is_open, "the microphone given back")
        wait_until(lambda: parlour.of("health")[-1].audio == "off", "health says off")
        assert parlour.of("health")[-1].listening is False
        assert [s.state for s in parlour.of("session")] == ["new", "end"]
        time.sleep(0.2)
        assert parlour.ear.blocks == heard
    with a_parlour(tmp_path) as again:
        time.sleep(0.2)
        assert again.ear.blocks == 0
        assert not again.room.is_open
        assert again.ask("listen", True).data.listening is True
        wait_until(lambda: again.ear.blocks > 3, "sound again")
        assert again.room.is_open
        wait_until(lambda: again.of("health")[-1].listening, "health says on")
    assert Standing(tmp_path / "listening.json").listening()


def test_every_command_answers_with_what_the_contract_says(tmp_path, wait_until) -> None:
    tail = LogTail(secrets=("träumerei",))
    tail.emit(logging.LogRecord("x", 30, "", 1, "password träumerei\nrefused", (), None))

    def history(asked: HistoryRequest, max_bytes: int) -> HistoryAnswer:
        assert 60_000 < max_bytes < 65_536
        return HistoryAnswer(more=asked.since is not None)

    settings = {"broker": "mqtt://clara:…@house"}
    with a_parlour(tmp_path, history=history, log_tail=tail, settings=settings) as parlour:
        values = {
            "listen": True,
            "piece": "elise",
            "detail": {"strikes": False},
            "history": {"since": "2026-11-20T18:00:00Z"},
        }
        for name, kind in COMMANDS.items():
            answer = parlour.ask(name, values.get(name))
            assert (answer.status, answer.error) == ("ok", None), name
            if kind.answer is None:
                assert answer.data is None
            else:
                assert isinstance(answer.data, kind.answer), name
                plain = msgspec.json.encode(answer.data)
                assert msgspec.json.decode(plain, type=kind.answer) == answer.data
            if name == "diagnostics":
                assert answer.data.log == ("WARNING x: password …?refused",)
                assert answer.data.settings == settings
        assert parlour.ear.piece == "elise"
        assert parlour.listener.detail == Detail(strikes=False)
    assert parlour.report.restart


def test_what_is_refused_changes_nothing_and_is_counted(tmp_path, wait_until) -> None:
    with a_parlour(tmp_path) as parlour:
        unknown = parlour.ask("dance")
        assert (unknown.status, unknown.reason) == ("error", "unknown")
        missing = parlour.ask("piece", "gymnopedie")
        assert (missing.reason, missing.error) == ("not_possible", "no piece 'gymnopedie'")
        assert parlour.ask("history", {"since": "2026-11-20T18:00:00Z"}).reason == "not_possible"
        malformed = parlour.ask("listen", "off")
        assert malformed.reason == "malformed"
        parlour.desk.received(full_topic("parlour", "cmd/listen"), command(False), True)
        parlour.desk.received(full_topic("parlour", "cmd/listen"), b"{", False)
        wait_until(lambda: parlour.commander.refused == 6, "six refusals")
        health = parlour.ask("health").data
        assert (health.commands_refused, health.listening) == (6, True)
        wait_until(lambda: parlour.of("event"), "an event")
        assert parlour.of("event")[0].kind == "command_refused"
        assert parlour.of("event")[0].count == 2
    assert not (tmp_path / "listening.json").exists()


def test_a_failing_command_is_an_answer_and_no_end(tmp_path) -> None:
    def broken(asked: HistoryRequest, max_bytes: int) -> HistoryAnswer:
        raise ZeroDivisionError("at the end of time")

    with a_parlour(tmp_path, history=broken) as parlour:
        answer = parlour.ask("history", {"since": "2026-11-20T18:00:00Z"})
        assert (answer.reason, answer.error) == ("failed", "ZeroDivisionError: at the end of time")
        assert parlour.ask("health").status == "ok"


def test_the_past_is_told_as_far_as_the_answer_may_reach(tmp_path) -> None:
    outbox = DiskOutbox(tmp_path / "outbox")
    publisher = Publisher(BrokerAddress("127.0.0.1", 1), "parlour", outbox=outbox)
    publisher.start()
    notes = [
        HistoryNote(
            id=i, pitch_midi=60, onset_s=i / 10, offset_s=i / 10, velocity=64, confidence=0.9
        )
        for i in range(400)
    ]
    for at in range(0, 400, 100):
        batch = HistoryNotes(notes=tuple(notes[at : at + 100]), stream_start_mono_ms=0)
        publisher.publish("history/notes", batch)
    publisher.close(timeout_s=1.0)
    with a_parlour(tmp_path, history=recorded_in(tmp_path / "outbox")) as parlour:
        whole = parlour.ask("history", {"what": "notes"}).data
        assert (len(whole.notes), whole.more) == (400, False)
        part = parlour.ask("history", {"what": "notes"}, max_bytes=8192)
        assert len(encode(part)) <= 8192
        assert 30 < len(part.data.notes) < 80
        assert part.data.more
        assert part.data.notes == whole.notes[: len(part.data.notes)]
        assert parlour.ask("history", {"what": "sessions"}).data.sessions == ()
    with a_parlour(tmp_path, history=recorded_in(tmp_path / "nowhere")) as parlour:
        assert parlour.ask("history", {}).reason == "not_possible"


def test_diagnostics_grow_no_larger_than_asked(tmp_path) -> None:
    tail = LogTail()
    for i in range(500):
        tail.emit(logging.LogRecord("x", 30, "", 1, f"{i} " + "é" * 1000, (), None))
    with a_parlour(tmp_path, log_tail=tail) as parlour:
        full = parlour.ask("diagnostics", max_bytes=256 * 1024)
        assert len(full.data.log) == 100
        assert len(encode(full)) < 80_000
        small = parlour.ask("diagnostics", max_bytes=8192)
        assert small.status == "ok"
        assert len(encode(small)) <= 8192
        assert small.data.log[-1] == full.data.log[-1]
        least = parlour.ask("diagnostics", max_bytes=LEAST_ANSWER_BYTES)
        assert len(encode(least)) <= LEAST_ANSWER_BYTES


# ---- hostile commands

HOSTILE = 10_000


def hostile(seed: int) -> Iterator[tuple[str, bytes, bool]]:
    """Names, payloads and retain flags of a sender that means harm, or knows no better.

    None of them is a command that may be carried out.
    """
    random = np.random.default_rng(seed)
    names = [*COMMANDS, "", "LISTEN", "listen ", "listen\x00", "löschen", "x" * 300, "unknown"]
    values: list[Any] = [
        *(None, "true", 1, 0, -1.5, 1e308, 10**40, [], {}, [[]], {"on": False}, {"since": ""}),
        *("x" * 201, {"strikes": "no"}, {"strikes": False, "more": 1}, {"since": 5}, "\x00\ud7ff"),
        *({"since": "2026-11-20T18:00:00Z", "after": "y" * 65}, {"listening": False}),
    ]
    transactions: list[Any] = [*("t", "", "x" * 65, None, 7, [], "\x1b[31m", "𝄞" * 64, "\x00" * 64)]
    while True:
        name = names[random.integers(len(names))]
        kind = random.integers(8)
        retained = False
        if kind == 0:
            payload = random.bytes(int(random.integers(0, 200)))
        elif kind == 1:
            payload = bytes(random.choice(list(b'{}[]",:0truefalsn \\u'), 60).tolist())
        elif kind == 2:
            whole = command(True)
            payload = whole[: random.integers(len(whole))]
        elif kind == 3:
            payload = command(True, "t" * int(random.integers(MOST_COMMAND_BYTES, 70_000)))
        elif kind == 4:
            payload, retained = command(False), True
        elif kind == 5:
            deep = int(random.integers(500, 2000))
            payload = b'{"transaction":"t","value":' + b"[" * deep + b"]" * deep + b"}"
        else:
            document = {
                "value": values[random.integers(len(values))],
                "transaction": transactions[random.integers(len(transactions))],
                "max_bytes": [2048, 0, -1, 2**70, "big", 65536][random.integers(6)],
            }
            payload = msgspec.json.encode(document)
            if kind == 7:
                at = int(random.integers(len(payload)))
                payload = payload[:at] + random.bytes(1) + payload[at + 1 :]
        if not _may_be_carried_out(name, payload, retained):
            yield name, payload, retained


def _may_be_carried_out(name: str, payload: bytes, retained: bool) -> bool:
    try:
        read_command(arrival(name, payload, retained))
    except RefusedError:
        return False
    return True


def test_hostile_commands_change_nothing_and_get_small_answers(tmp_path) -> None:
    class Untouched:
        """A piano that fails the test when it is asked for anything."""

        def __init__(self) -> None:
            self.answers: list[Response] = []
            self.faults: list[str] = []

        def say(self, topic: str, message: Any) -> None:
            assert topic.removeprefix("rsp/") in (*COMMANDS, "unknown")
            stamped = msgspec.structs.replace(
                message, boot="b" * 32, seq=10**9, t="2026-11-20T18:02:11.120Z", mono_ms=10**12
            )
            assert len(encode(stamped)) <= LEAST_ANSWER_BYTES
            self.answers.append(message)

        def fault(self, kind: EventKind, line: str) -> None:
            assert kind is EventKind.COMMAND_REFUSED
            assert len(line.encode()) < 1000
            assert line.isprintable()
            self.faults.append(line)

        def __getattr__(self, name: str) -> Any:
            pytest.fail(f"a hostile command reached {name}")

    desk = CommandDesk("parlour")
    piano = Untouched()
    commander = Commander(desk, standing=Standing(tmp_path / "listening.json"))
    for name, payload, retained in itertools.islice(hostile(seed=1828), HOSTILE):
        desk.received(full_topic("parlour", f"cmd/{name}"), payload, retained)
        commander.serve(piano)
    assert commander.refused == HOSTILE == len(piano.answers) + len(piano.faults)
    assert {answer.status.value for answer in piano.answers} == {"error"}
    assert not (tmp_path / "listening.json").exists()


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_hostile_commands_at_a_real_broker(tmp_path, mosquitto, subscribe, version: str) -> None:
    desk = CommandDesk("parlour")
    identity = f"test-{os.getpid()}-{time.monotonic_ns()}"
    address = BrokerAddress("127.0.0.1", mosquitto.port, speaks_mqtt5=version == "5")
    publisher = Publisher(address, "parlour", identity=identity, guests=[desk])
    publisher.start(require_connection_s=20.0)
    parlour = Parlour(tmp_path, publisher, desk)
    worker = threading.Thread(target=parlour.run)
    worker.start()
    dashboard = subscribe(mosquitto.address)
    stranger = paho.Client(paho.CallbackAPIVersion.VERSION2)
    stranger.connect("127.0.0.1", mosquitto.port)
    stranger.loop_start()
    allowed = set(string.printable) - set("+#\x00/")
    sent = 0
    for name, payload, retained in itertools.islice(hostile(seed=1829), 300):
        told = version == "5" or not retained  # 3.1.1 does not say that a sender wished it kept
        if told and name and set(name) <= allowed:
            told = stranger.publish(full_topic("parlour", f"cmd/{name}"), payload, 1, retained)
            told.wait_for_publish(10.0)
            sent += 1
            time.sleep(0.002)
    stranger.publish(full_topic("parlour", "cmd/health"), command(None, "last"), 1)
    try:
        dashboard.wait_for(
            lambda: any(m.json["transaction"] == "last" for m in dashboard.messages("rsp/health")),
            "an answer to an honest question",
        )
    finally:
        stranger.disconnect()
        stranger.loop_stop()
        parlour.listener.stop()
        worker.join(10.0)
    health = dashboard.messages("rsp/health")[-1].json["data"]
    assert health["commands_refused"] == sent
    assert health["listening"] is True
    assert publisher.counters.reconnects == 0
    assert parlour.report.faults.keys() <= {"command_refused"}
    for message in dashboard.messages():
        if message.name.startswith("rsp/"):
            assert len(message.payload) <= max(LEAST_ANSWER_BYTES, 65536)
            if message.json["status"] == "error":
                assert len(message.payload) <= LEAST_ANSWER_BYTES
    assert dashboard.messages("event"), "illegible commands are told of"


def test_a_command_that_waits_retained_is_refused_at_the_next_connect(
    tmp_path, mosquitto, wait_until
) -> None:
    stranger = paho.Client(paho.CallbackAPIVersion.VERSION2)
    stranger.connect("127.0.0.1", mosquitto.port)
    stranger.loop_start()
    topic = full_topic("parlour", "cmd/listen")
    stranger.publish(topic, command(False), 1, retain=True).wait_for_publish(10.0)
    desk = CommandDesk("parlour")
    publisher = Publisher(mosquitto.address, "parlour", identity="waits", guests=[desk])
    publisher.start(require_connection_s=20.0)
    parlour = Parlour(tmp_path, publisher, desk)
    worker = threading.Thread(target=parlour.run)
    worker.start()
    wait_until(lambda: parlour.commander.refused == 1, "the refusal")
    # MQTT 5 says of a live message, too, that its sender wanted it retained.
    stranger.publish(topic, command(False), 1, retain=True).wait_for_publish(10.0)
    wait_until(lambda: parlour.commander.refused == 2, "the second refusal")
    parlour.listener.stop()
    worker.join(10.0)
    stranger.disconnect()
    stranger.loop_stop()
    assert all(m.listening for m in parlour.of("health"))
    assert isinstance(parlour.of("event")[0], EventMessage)


def test_under_mqtt_3_1_1_a_retained_command_is_carried_out_as_it_comes_and_never_again(
    tmp_path, mosquitto, wait_until
) -> None:
    """The older standard sets the flag only for whoever subscribes later (3.3.1.3)."""
    stranger = paho.Client(paho.CallbackAPIVersion.VERSION2)
    stranger.connect("127.0.0.1", mosquitto.port)
    stranger.loop_start()
    desk = CommandDesk("parlour")
    older = BrokerAddress("127.0.0.1", mosquitto.port, speaks_mqtt5=False)
    publisher = Publisher(older, "parlour", identity="older", guests=[desk])
    publisher.start(require_connection_s=20.0)
    parlour = Parlour(tmp_path, publisher, desk)
    worker = threading.Thread(target=parlour.run)
    worker.start()
    assert parlour.ask("listen", True).status == "ok"  # it has subscribed
    topic = full_topic("parlour", "cmd/listen")
    stranger.publish(topic, command(False), 1, retain=True).wait_for_publish(10.0)
    wait_until(
        lambda: any(not health.listening for health in parlour.of("health")), "the ear switched off"
    )
    assert parlour.ask("listen", True).status == "ok"
    parlour.listener.stop()
    worker.join(10.0)
    desk = CommandDesk("parlour")
    publisher = Publisher(older, "parlour", identity="older", guests=[desk])
    publisher.start(require_connection_s=20.0)
    again = Parlour(tmp_path, publisher, desk)
    worker = threading.Thread(target=again.run)
    worker.start()
    wait_until(lambda: again.commander.refused == 1, "the refusal")
    again.listener.stop()
    worker.join(10.0)
    stranger.disconnect()
    stranger.loop_stop()
    assert "retained at the broker" in again.of("event")[0].text
    assert again.standing.listening()


# ---- the full self-test


def heard(*checks: Check, code: int = 0, first: str = "") -> tuple[str, ...]:
    """A program that says so as `sostenuto-device selftest --json` does."""
    found = SelfTest(passed=all(check.passed for check in checks), checks=checks)
    text = f"{first}; print({encode(found).decode()!r}); raise SystemExit({code})"
    return (sys.executable, "-c", text.lstrip("; "))


BAR = Check(name="known bar, separable3d", passed=True, text="bar 9", verdict=Verdict.PASSED)
DEAF = Check(name="known notes, separable3d", passed=False, text="0.12", remedy="go back")


def test_a_full_self_test_goes_on_beside_the_listening_and_is_told_to_all(tmp_path) -> None:
    slow = "import os, time; time.sleep(0.5); assert os.nice(0) == 19"
    with a_parlour(tmp_path, full_test=FullTest(heard(BAR, first=slow))) as parlour:
        before = parlour.ear.blocks
        answer = parlour.ask("self_test", "full")
        assert parlour.ear.blocks > before + 20, "it went on hearing"
        assert answer.status is ResponseStatus.OK
        names = [check.name for check in answer.data.checks]
        assert names == [BAR.name, "sound", "pace", "broker", "disk", "heat"]
        (told,) = parlour.of("self_test")
        assert isinstance(told, SelfTestResult)
        assert told.checks == answer.data.checks
        assert parlour.ask("self_test").data.checks[0].name == "sound"
        assert len(parlour.of("self_test")) == 1, "what is looked at at once is told to nobody else"


def test_a_second_full_self_test_is_refused_while_one_is_under_way(tmp_path) -> None:
    slow = FullTest(heard(BAR, first="import time; time.sleep(60)"))
    with a_parlour(tmp_path, full_test=slow) as parlour:
        payload = command("full", "first")
        parlour.desk.received(full_topic("parlour", "cmd/self_test"), payload, False)
        refused = parlour.ask("self_test", "full")
        assert refused.reason is Refusal.NOT_POSSIBLE
        assert "under way" in (refused.error or "")
        slow.close()


@pytest.mark.parametrize(
    ("words", "most_s", "said"),
    [
        (heard(DEAF, code=1), 60.0, "0.12"),
        ((sys.executable, "-c", "raise SystemExit(3)"), 60.0, "the program ended with 3"),
        ((sys.executable, "-c", "import time; time.sleep(60)"), 0.2, "not heard within 0 s"),
        (("/nowhere/sostenuto-device",), 60.0, "the program ended with 127"),
    ],
)
def test_a_full_self_test_that_fails_hangs_or_is_not_there_fails(
    tmp_path, words, most_s, said
) -> None:
    with a_parlour(tmp_path, full_test=FullTest(words, most_s)) as parlour:
        data = parlour.ask("self_test", "full").data
    assert not data.passed
    assert said in data.checks[0].text
    assert data.checks[0].remedy


def test_where_there_is_no_full_self_test_that_is_said(tmp_path) -> None:
    with a_parlour(tmp_path) as parlour:
        assert parlour.ask("self_test", "full").reason is Refusal.NOT_POSSIBLE
        assert parlour.ask("self_test", "whole").reason is Refusal.MALFORMED


@pytest.mark.slow
def test_the_known_recording_is_heard_by_the_program_beside_this_one() -> None:
    """The true program, with every model there is."""
    words = known_recording(Settings())
    assert Path(words[0]).is_file()
    assert known_recording(Settings(catalog="/c"))[-2:] == ("--catalog", "/c")
    test = FullTest(words)
    test.begin(time.monotonic())
    until_s = time.monotonic() + 170.0
    while (checks := test.ended(time.monotonic())) is None and time.monotonic() < until_s:
        time.sleep(0.05)
    assert checks is not None
    assert {"models", "catalogue", "known notes, separable3d"} <= {check.name for check in checks}
    assert all(check.passed for check in checks), checks
