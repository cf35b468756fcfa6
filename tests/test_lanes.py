"""What leaves in which order, without a network: the rules of the contract on a broker of chalk."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.messages import (
    AudioState,
    Envelope,
    Health,
    Info,
    Notes,
    Piece,
    PieceState,
    Response,
    ResponseStatus,
    Session,
    SessionState,
    decode,
    encode,
    topic_of,
)
from edge.publish.lanes import LIVE_MESSAGES, Dispatch, Lanes
from edge.publish.outbox import DropLedger, MemoryOutbox, Outgoing

MESSAGES: dict[str, Envelope] = {
    "info": Info(software="1"),
    "health": Health(audio=AudioState.RUNNING, uptime_s=1.0),
    "notes": Notes(),
    "piece": Piece(state=PieceState.SEARCHING),
    "session": Session(id="s", state=SessionState.NEW),
    "rsp/listen": Response(status=ResponseStatus.OK, transaction="t"),
}


class Bench:
    """Lanes, numbers, and a broker that takes everything when it is asked to."""

    def __init__(self, live_s: float = 2.0, outbox: MemoryOutbox | None = None) -> None:
        self.drops = DropLedger()
        self.lanes = Lanes(MemoryOutbox() if outbox is None else outbox, self.drops, live_s)
        self.now_s = 0.0
        self.seq: dict[str, int] = {}

    def make(self, name: str) -> Outgoing:
        seq = self.seq[name] = self.seq.get(name, -1) + 1
        stamped = encode(_stamped(MESSAGES[name], seq))
        made = Outgoing(topic_of(name), name, seq, stamped, self.now_s)
        self.lanes.accept(made)
        return made

    def send(self, room: bool = True) -> list[Dispatch]:
        sent = []
        while (dispatch := self.lanes.next(self.now_s, room)) is not None:
            sent.append(dispatch)
        return sent

    def send_and_acknowledge(self) -> list[str]:
        sent = self.send()
        for dispatch in sent:
            self.lanes.acknowledge(dispatch.entry)
        return told(sent)


def _stamped(message: Envelope, seq: int) -> Envelope:
    return msgspec.structs.replace(message, boot="b", seq=seq, t="2026-11-20T18:02:11.120Z")


def told(sent: list[Dispatch]) -> list[str]:
    """Each message in short: name, number, ``r`` for retained, ``h`` for historical."""
    words = []
    for dispatch in sent:
        message = decode(dispatch.entry.name, dispatch.payload)
        assert isinstance(message, Envelope)
        marks = "r" * dispatch.retain + "h" * message.historical
        words.append(f"{dispatch.entry.name} {message.seq}{' ' + marks if marks else ''}")
    return words


def test_with_a_broker_everything_leaves_at_once():
    bench = Bench()
    bench.lanes.connected()
    for name in ("session", "notes", "piece", "info"):
        bench.make(name)
    assert sorted(bench.send_and_acknowledge()) == ["info 0 r", "notes 0", "piece 0 r", "session 0"]
    assert len(bench.lanes) == 0


def test_what_waited_long_goes_first_and_marked_and_an_old_piece_never_as_the_present():
    bench = Bench()
    for name in ("piece", "session", "piece", "piece"):
        bench.make(name)
    bench.now_s = 60.0
    bench.make("session")
    bench.lanes.connected()
    assert bench.send_and_acknowledge() == [
        "piece 0 h",
        "session 0 h",
        "piece 1 h",
        "piece 2 r",
        "session 1",
    ]


def test_what_waited_for_a_moment_is_not_history():
    bench = Bench()
    bench.make("session")
    bench.now_s = 1.0
    bench.lanes.connected()
    assert bench.send_and_acknowledge() == ["session 0"]


def test_at_every_connect_the_retained_set_goes_out_again_with_the_same_numbers():
    bench = Bench()
    bench.lanes.connected()
    for name in ("info", "health", "piece", "notes", "session"):
        bench.make(name)
    bench.send_and_acknowledge()
    bench.lanes.disconnected()
    bench.now_s = 100.0
    bench.lanes.connected()
    assert bench.send_and_acknowledge() == ["info 0 r", "health 0 r", "piece 0 r"]
    assert len(bench.lanes) == 0
    assert bench.drops.total == 0


def test_what_was_not_acknowledged_goes_again_in_order():
    bench = Bench()
    bench.lanes.connected()
    for _ in range(3):
        bench.make("session")
    sent = bench.send()
    bench.lanes.acknowledge(sent[1].entry)
    bench.lanes.disconnected()
    bench.make("session")
    bench.lanes.connected()
    assert bench.send_and_acknowledge() == ["session 0", "session 2", "session 3"]


def test_live_messages_that_come_too_late_are_dropped():
    bench = Bench(live_s=2.0)
    bench.make("notes")
    bench.now_s = 1.5
    bench.make("notes")
    bench.now_s = 2.5
    bench.lanes.expire(bench.now_s)
    bench.lanes.connected()
    assert bench.send_and_acknowledge() == ["notes 1"]
    assert [(r.topic, r.first_seq, r.last_seq) for r in bench.drops.take()] == [("notes", 0, 0)]


def test_only_the_newest_health_waits_and_the_others_are_named():
    bench = Bench()
    for _ in range(3):
        bench.make("health")
    bench.lanes.connected()
    assert bench.send_and_acknowledge() == ["health 2 r"]
    assert [(r.topic, r.first_seq, r.last_seq) for r in bench.drops.take()] == [("health", 0, 1)]


def test_notes_do_not_wait_for_acknowledgements():
    bench = Bench()
    bench.lanes.connected()
    bench.make("session")
    bench.make("notes")
    assert told(bench.send(room=False)) == ["notes 0"]
    assert told(bench.send(room=True)) == ["session 0"]


def test_an_answer_that_got_lost_is_given_again_while_anybody_waits_for_it():
    bench = Bench(live_s=2.0)
    bench.lanes.connected()
    bench.make("rsp/listen")
    assert told(bench.send()) == ["rsp/listen 0"]
    assert len(bench.lanes) == 1
    bench.lanes.disconnected()
    bench.lanes.connected()
    assert bench.send_and_acknowledge() == ["rsp/listen 0"]
    assert len(bench.lanes) == 0


def test_a_refused_message_is_dropped_and_a_refused_event_is_not_announced():
    bench = Bench()
    bench.lanes.connected()
    bench.make("session")
    bench.lanes.refuse(bench.send()[0].entry)
    assert len(bench.lanes) == 0
    assert len(bench.drops.take()) == 1


def test_the_present_piece_survives_a_full_outbox():
    bench = Bench(outbox=MemoryOutbox(max_messages=2))
    for name in ("piece", "session", "session", "session"):
        bench.make(name)
    bench.lanes.connected()
    assert bench.send_and_acknowledge() == ["session 1", "session 2", "piece 0 r"]
    assert [(r.topic, r.first_seq) for r in bench.drops.take()] == [("session", 0)]


def test_a_piece_that_a_full_outbox_let_go_is_named_once_a_newer_one_replaces_it():
    bench = Bench(outbox=MemoryOutbox(max_messages=1))
    bench.lanes.connected()
    bench.make("session")
    on_its_way = bench.send()
    bench.make("piece")
    bench.make("piece")
    for dispatch in on_its_way:
        bench.lanes.acknowledge(dispatch.entry)
    assert bench.send_and_acknowledge() == ["piece 1 r"]
    assert [(r.topic, r.first_seq, r.last_seq) for r in bench.drops.take()] == [("piece", 0, 0)]


def test_too_many_live_messages_drop_the_oldest():
    bench = Bench()
    for _ in range(LIVE_MESSAGES + 3):
        bench.make("notes")
    assert bench.drops.total == 3
    assert bench.drops.take()[0].last_seq == 2


STEPS = st.one_of(
    st.sampled_from(sorted(MESSAGES)),
    st.sampled_from(["connect", "lose", "send", "send half", "wait", "acknowledge one"]),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(STEPS, max_size=60))
def test_whatever_happens_every_message_is_delivered_dropped_or_still_there(steps):
    bench = Bench(live_s=2.0, outbox=MemoryOutbox(max_messages=5))
    delivered: dict[str, set[int]] = {name: set() for name in MESSAGES}
    first_time: dict[str, list[int]] = {name: [] for name in MESSAGES}
    on_their_way: list[Dispatch] = []
    there = False

    def deliver(dispatch: Dispatch) -> None:
        name, seq = dispatch.entry.name, dispatch.entry.seq
        if seq not in delivered[name]:
            first_time[name].append(seq)
        delivered[name].add(seq)
        bench.lanes.acknowledge(dispatch.entry)

    def send(room: bool) -> None:
        for dispatch in bench.send(room):
            if dispatch.entry.topic.qos == 0:
                deliver(dispatch)
            else:
                on_their_way.append(dispatch)

    for step in [*steps, "lose", "connect", "send", "acknowledge all"]:
        if step in MESSAGES:
            bench.make(step)
        elif step == "connect" and not there:
            bench.lanes.connected()
            there = True
        elif step == "lose" and there:
            bench.lanes.disconnected()
            on_their_way.clear()
            there = False
        elif step.startswith("send") and there:
            send(room=step == "send")
        elif step == "wait":
            bench.now_s += 1.5
            bench.lanes.expire(bench.now_s)
        elif step == "acknowledge one" and on_their_way:
            deliver(on_their_way.pop(0))
        elif step == "acknowledge all":
            for dispatch in on_their_way:
                deliver(dispatch)

    missing = bench.drops.take()
    for name, last in bench.seq.items():
        gone = {
            seq
            for seq in range(last + 1)
            if any(r.topic == name and r.first_seq <= seq <= r.last_seq for r in missing)
        }
        assert delivered[name] | gone == set(range(last + 1)), name
        assert first_time[name] == sorted(first_time[name]), name
    assert len(bench.lanes) == 0


@pytest.mark.parametrize("name", sorted(MESSAGES))
def test_nothing_is_sent_without_room_but_what_needs_no_acknowledgement(name):
    bench = Bench()
    bench.lanes.connected()
    bench.make(name)
    assert len(bench.send(room=False)) == (1 if topic_of(name).qos == 0 else 0)
