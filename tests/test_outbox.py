from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge.messages import DroppedRange, topic_of
from edge.publish.outbox import DropLedger, MemoryOutbox, Outgoing


def entry(seq: int, size: int = 10, name: str = "session") -> Outgoing:
    return Outgoing(topic_of(name), name, seq, b"x" * size, made_s=0.0)


def sequence(outbox: MemoryOutbox) -> list[int]:
    taken = []
    while (each := outbox.next()) is not None:
        taken.append(each.seq)
    return taken


def test_messages_leave_oldest_first_and_stay_until_acknowledged():
    outbox = MemoryOutbox()
    entries = [entry(i) for i in range(3)]
    for each in entries:
        assert outbox.append(each) == []
    assert outbox.next() is entries[0]
    assert outbox.next() is entries[1]
    assert len(outbox) == 3
    outbox.acknowledge(entries[0])
    assert len(outbox) == 2
    assert not outbox.holds(entries[0])
    assert outbox.holds(entries[1])
    assert outbox.holds(entries[2])


def test_what_was_on_its_way_when_the_connection_broke_goes_again_before_the_rest():
    outbox = MemoryOutbox()
    entries = [entry(i) for i in range(4)]
    for each in entries:
        outbox.append(each)
    outbox.next(), outbox.next(), outbox.next()
    outbox.acknowledge(entries[1])
    outbox.rewind()
    assert sequence(outbox) == [0, 2, 3]


def test_the_oldest_goes_when_there_are_too_many():
    outbox = MemoryOutbox(max_messages=2)
    assert outbox.append(entry(0)) == []
    assert outbox.append(entry(1)) == []
    assert [e.seq for e in outbox.append(entry(2))] == [0]
    assert sequence(outbox) == [1, 2]


def test_the_oldest_go_when_they_are_too_large():
    outbox = MemoryOutbox(max_bytes=100)
    for i in range(4):
        outbox.append(entry(i, size=25))
    assert [e.seq for e in outbox.append(entry(4, size=60))] == [0, 1, 2]
    assert sequence(outbox) == [3, 4]


def test_acknowledging_twice_or_out_of_turn_does_no_harm():
    outbox = MemoryOutbox(max_bytes=10)
    first = entry(0)
    outbox.append(first)
    outbox.next()
    outbox.acknowledge(first)
    outbox.acknowledge(first)
    assert outbox.append(entry(1)) == []
    assert len(outbox) == 1


def test_gaps_that_touch_are_one():
    drops = DropLedger()
    for seq in (4, 5, 6, 9):
        drops.add("notes", seq)
    drops.add("position", 7)
    assert drops.take() == [
        DroppedRange(topic="notes", first_seq=4, last_seq=6, count=3),
        DroppedRange(topic="notes", first_seq=9, last_seq=9, count=1),
        DroppedRange(topic="position", first_seq=7, last_seq=7, count=1),
    ]
    assert drops.take() == []
    assert drops.total == 5


def test_a_gap_that_is_not_to_be_announced_is_counted():
    drops = DropLedger()
    drops.add("event", 0, announce=False)
    assert drops.total == 1
    assert not drops


@given(st.lists(st.integers(0, 10_000), unique=True, max_size=400))
def test_every_gap_is_counted_once_and_lies_in_a_range(seqs):
    drops = DropLedger()
    for seq in seqs:
        drops.add("notes", seq)
    ranges = drops.take()
    assert sum(r.count for r in ranges) == len(seqs) == drops.total
    assert len(ranges) <= DropLedger.MAX_RANGES + 1
    for seq in seqs:
        assert any(r.first_seq <= seq <= r.last_seq for r in ranges)
