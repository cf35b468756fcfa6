from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from edge.audio.block import STREAM_RATE_HZ, Block, MidiBlock
from edge.audio.source import SourceEvent, SourceEventKind
from edge.errors import InputError
from edge.listen import BlockQueue, Event, Faults, Item, Listener, ListenReport
from edge.matching import Candidate, MatchState, PieceMatch
from edge.messages import (
    AudioState,
    Envelope,
    EventKind,
    EventMessage,
    Health,
    HistoryNotes,
    Info,
    Notes,
    Piece,
    PieceState,
    Session,
    SessionState,
    Severity,
)
from edge.note import NoteEvent, NoteState, NoteUpdate, PedalEvent
from edge.publish.notices import Notice, leave, take
from edge.publish.publisher import Publisher

BLOCK_SAMPLES = 320
ELISE = Candidate("elise", "woo59", "Für Elise", "Beethoven", 0.93, 0.0, 1, 0.9, 0)


def block(index: int, level: float = 0.1) -> Block:
    return Block(index * BLOCK_SAMPLES, np.full(BLOCK_SAMPLES, level, np.float32))


@dataclass
class ListSource:
    """A source that gives what a test lays out; ``origin_s`` makes it live."""

    laid_out: Sequence[Item | Exception]
    kind: str = "file"
    name: str = "test"
    origin_s: float | None = None
    sample_rate_hz: int | None = 48_000
    channels: int | None = 2
    stays_open: bool = False
    closed: bool = False
    stopped: threading.Event = field(default_factory=threading.Event)
    handed_out: int = 0

    def open(self) -> None: ...

    def items(self) -> Iterator[Item]:
        while self.handed_out < len(self.laid_out):
            item = self.laid_out[self.handed_out]
            self.handed_out += 1
            if isinstance(item, Exception):
                raise item
            yield item
        if self.stays_open:
            self.stopped.wait(10.0)

    def stop(self) -> None:
        self.stopped.set()

    def close(self) -> None:
        self.closed = True


class OneNotePerBlock:
    """A recogniser that hears a note in every block."""

    def __init__(self, fails_at: int | None = None) -> None:
        self.blocks: list[Block | MidiBlock] = []
        self.fails_at = fails_at
        self.recoveries = 0

    def push(self, block: Block | MidiBlock) -> list[Event]:
        self.blocks.append(block)
        if len(self.blocks) == self.fails_at:
            raise ZeroDivisionError("a bad frame")
        note = NoteEvent(60, block.start_sample / STREAM_RATE_HZ, None, 64, 0.9)
        return [NoteUpdate(len(self.blocks), NoteState.CONFIRMED, note)]

    def flush(self) -> list[Event]:
        return [PedalEvent(9.0, False)]

    def recover(self) -> list[Event]:
        self.recoveries += 1
        return []


@dataclass
class Run:
    said: list[tuple[str, Envelope]]
    report: ListenReport

    def of(self, topic: str) -> list[Envelope]:
        return [message for name, message in self.said if name == topic]

    @property
    def faults(self) -> list[str]:
        return [m.kind for m in self.of("event") if isinstance(m, EventMessage)]


def listen(source: ListSource, recogniser: object = None, **options: object) -> Run:
    said: list[tuple[str, Envelope]] = []
    listener = Listener(
        source,
        recogniser or OneNotePerBlock(),  # type: ignore[arg-type]
        Publisher(None, "test"),
        Info(software="0"),
        on_message=lambda topic, message: said.append((topic, message)),
        **options,  # type: ignore[arg-type]
    )
    return Run(said, listener.run())


def test_what_is_heard_is_published_in_the_order_of_a_session() -> None:
    run = listen(ListSource([block(0), block(1)]))
    topics = [topic for topic, _ in run.said]
    assert topics[:3] == ["info", "piece", "session"]
    assert topics.count("notes") == 3  # two notes, and the pedal at the end
    states = [m.state for m in run.of("session") if isinstance(m, Session)]
    assert states == [SessionState.NEW, SessionState.END]
    assert run.faults == ["source_ended"]
    last = run.of("session")[-1]
    assert isinstance(last, Session)
    assert last.notes == 2
    assert run.report.notes == 2
    assert run.report.published.last_seq["notes"] == 2
    assert run.report.published.dropped == 0


def test_the_numbers_of_each_topic_have_no_gap() -> None:
    run = listen(ListSource([block(i) for i in range(50)]), health_every_s=0.0)
    for topic, last in run.report.published.last_seq.items():
        assert [m.seq for m in run.of(topic)] == list(range(last + 1))


def test_an_empty_source_still_has_a_session_and_health() -> None:
    run = listen(ListSource([]))
    states = [m.state for m in run.of("session") if isinstance(m, Session)]
    assert states == [SessionState.NEW, SessionState.END]
    (health,) = run.of("health")
    assert isinstance(health, Health)
    assert health.audio is AudioState.OFF


def test_the_piece_is_published_when_the_recogniser_says_so_and_summed_up() -> None:
    class KnowsThePiece(OneNotePerBlock):
        def push(self, block: Block | MidiBlock) -> list[Event]:
            events = super().push(block)
            if len(self.blocks) == 2:
                events.append(PieceMatch(MatchState.MATCHED, (ELISE,)))
            if len(self.blocks) == 4:
                events.append(PieceMatch(MatchState.LOST, ()))
            return events

    run = listen(ListSource([block(i) for i in range(6)]), KnowsThePiece())
    pieces = [m for m in run.of("piece") if isinstance(m, Piece)]
    assert [(p.state, p.title) for p in pieces] == [
        (PieceState.SEARCHING, None),
        (PieceState.MATCHED, "Für Elise"),
        (PieceState.LOST, "Für Elise"),
    ]
    end = run.of("session")[-1]
    assert isinstance(end, Session)
    assert [p.piece_id for p in end.pieces] == ["elise"]


def test_a_recogniser_that_fails_recovers_and_is_listened_to_again() -> None:
    recogniser = OneNotePerBlock(fails_at=2)
    run = listen(ListSource([block(i) for i in range(4)]), recogniser)
    assert recogniser.recoveries == 1
    assert run.report.notes == 3
    assert "recogniser_error" in run.faults
    assert run.report.faults["recogniser_error"] == 1


def test_damage_told_by_the_source_is_published_and_the_gap_reaches_the_recogniser() -> None:
    recogniser = OneNotePerBlock()
    damage = SourceEvent(SourceEventKind.INPUT_ERROR, "broken at 0.02 s", 640)
    run = listen(ListSource([block(0), damage, block(3)]), recogniser)
    assert run.faults == ["input_error", "source_ended"]
    assert [b.start_sample for b in recogniser.blocks] == [0, 960]
    assert run.report.dropped_samples == 640


def test_an_error_in_a_file_ends_the_session_properly() -> None:
    run = listen(ListSource([block(0), InputError("broken at 0.02 s")]))
    assert run.faults == ["input_error", "source_ended"]
    assert run.report.notes == 1


def test_a_live_source_that_fails_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.listen.REOPEN_S", 0.0)
    source = ListSource([block(0), RuntimeError("odd"), block(1)], kind="microphone")
    run = listen(source)
    assert run.report.notes == 2
    assert run.report.faults["input_error"] == 1


def test_stop_ends_a_session_that_waits_for_sound() -> None:
    source = ListSource([block(0)], kind="microphone", stays_open=True)
    source.origin_s = time.monotonic()
    listener = Listener(source, OneNotePerBlock(), Publisher(None, "test"), Info(software="0"))
    reports: list[ListenReport] = []
    thread = threading.Thread(target=lambda: reports.append(listener.run()))
    thread.start()
    listener.stop()
    thread.join(5.0)
    assert not thread.is_alive()
    assert source.closed
    assert reports[0].published.last_seq["session"] == 1


def test_a_live_source_that_is_not_heard_in_time_loses_blocks_and_says_so() -> None:
    class Slow(OneNotePerBlock):
        def push(self, block: Block | MidiBlock) -> list[Event]:
            first = not self.blocks
            events = super().push(block)
            if first:
                assert ready.wait(10.0)
            return events

    ready = threading.Event()

    class Flood(ListSource):
        def items(self) -> Iterator[Item]:
            for index in range(40):
                yield block(index)
            ready.set()
            while len(recogniser.blocks) < 10:
                time.sleep(0.001)
            yield block(40)

    recogniser = Slow()
    source = Flood([], kind="microphone", origin_s=time.monotonic())
    run = listen(source, recogniser, queue_blocks=10)
    heard = [b.start_sample // BLOCK_SAMPLES for b in recogniser.blocks]
    assert heard[-1] == 40
    lost = 41 - len(heard)
    assert lost >= 29
    assert run.report.dropped_blocks == lost
    assert run.report.dropped_samples == lost * BLOCK_SAMPLES
    assert "overrun" in run.faults
    health = run.of("health")[-1]
    assert isinstance(health, Health)
    assert health.overruns == 1
    assert health.dropped_samples == lost * BLOCK_SAMPLES


def test_a_file_without_pace_waits_for_the_recogniser_and_loses_nothing() -> None:
    recogniser = OneNotePerBlock()
    run = listen(ListSource([block(i) for i in range(300)]), recogniser, queue_blocks=3)
    assert len(recogniser.blocks) == 300
    assert run.report.dropped_blocks == 0


def test_the_delay_of_a_note_is_counted_from_its_sound() -> None:
    source = ListSource([block(0)], kind="microphone", origin_s=time.monotonic() - 5.0)
    health = listen(source).of("health")[-1]
    assert isinstance(health, Health)
    assert health.end_to_end is not None
    assert health.end_to_end.p50_ms == pytest.approx(5000, abs=1000)


def test_every_note_lies_in_exactly_one_message() -> None:
    run = listen(ListSource([block(i) for i in range(20)]))
    ids = [n.id for m in run.of("notes") if isinstance(m, Notes) for n in m.notes]
    assert ids == list(range(1, 21))


def test_the_queue_tells_of_a_gap_right_before_the_block_after_it() -> None:
    queue = BlockQueue(capacity_blocks=2)
    for index in range(5):
        queue.put(block(index))
    taken: list[Item | None] = [queue.get(0.0), queue.get(0.0)]
    queue.put(block(5))
    taken += [queue.get(0.0), queue.get(0.0), queue.get(0.0)]
    gap = taken[2]
    assert isinstance(gap, SourceEvent)
    assert gap.kind is SourceEventKind.OVERRUN
    assert gap.lost_samples == 3 * BLOCK_SAMPLES
    starts = [t.start_sample // BLOCK_SAMPLES for t in taken if isinstance(t, Block)]
    assert starts == [0, 1, 5]
    assert taken[-1] is None
    assert queue.dropped_blocks == 3


def test_who_hears_four_blocks_in_the_time_of_five_hears_whole_phrases() -> None:
    queue = BlockQueue(capacity_blocks=250)
    taken: list[int] = []
    for index in range(6000):  # two minutes
        queue.put(block(index))
        while index % 5 and isinstance(item := queue.get(0.0), Block | SourceEvent):
            if isinstance(item, Block):
                taken.append(item.start_sample // BLOCK_SAMPLES)
                break
    heard_on = np.diff(np.flatnonzero(np.diff([-1, *taken]) > 1))
    assert len(taken) > 0.75 * 6000
    assert min(heard_on) > 5 / 0.02 * 0.9  # blocks between two gaps: what the queue holds, and more


def test_a_fault_is_told_at_once_and_then_counted() -> None:
    faults = Faults(retell_s=10.0)
    told = []
    for now_s in (0.0, 1.0, 2.0, 11.0):
        faults.add(EventKind.OVERRUN, f"at {now_s}")
        told.append([(f.line, f.count) for f in faults.take_due(now_s)])
    assert told == [[("at 0.0", 1)], [], [], [("at 11.0", 3)]]
    faults.add(EventKind.DEVICE_LOST, "gone")
    assert [f.kind for f in faults.take_due(12.0)] == [EventKind.DEVICE_LOST]
    assert faults.counts["overrun"] == 4


class EndsWhatItHears(OneNotePerBlock):
    """A recogniser whose notes are over a block later."""

    def push(self, block: Block | MidiBlock) -> list[Event]:
        (struck,) = super().push(block)
        assert isinstance(struck, NoteUpdate)
        over = replace(struck.note, offset_s=struck.note.onset_s + 0.02)
        return [struck, NoteUpdate(struck.id, NoteState.ENDED, over)]


def test_every_note_that_ended_is_in_the_history_under_its_session() -> None:
    run = listen(ListSource([block(i) for i in range(250)]), EndsWhatItHears())
    batches = [m for m in run.of("history/notes") if isinstance(m, HistoryNotes)]
    assert [note.id for batch in batches for note in batch.notes] == list(range(1, 251))
    assert 2 < len(batches) < 10  # two seconds in each
    (session_id,) = {m.id for m in run.of("session") if isinstance(m, Session)}
    assert {batch.session_id for batch in batches} == {session_id}


def test_what_was_heard_before_a_device_was_lost_is_told_at_once() -> None:
    lost = SourceEvent(SourceEventKind.DEVICE_LOST, "gone")
    back = SourceEvent(SourceEventKind.DEVICE_RECOVERED, "back", 16_000)
    run = listen(ListSource([block(0), lost, back, block(51)], kind="microphone"))
    topics = [topic for topic, _ in run.said]
    first_event = topics.index("event")
    # the pedal of the recogniser's flush
    assert topics[first_event - 2 : first_event] == ["notes", "history/notes"]
    assert run.faults == ["device_lost", "device_recovered", "source_ended"]
    states = [m.audio for m in run.of("health") if isinstance(m, Health)]
    assert AudioState.LOST in states
    assert run.report.faults == {"device_lost": 1}
    assert run.report.dropped_samples == 16_000


def test_a_device_that_is_back_recovers_and_then_runs(monkeypatch) -> None:
    monkeypatch.setattr("edge.listen.AUDIO_STATE_S", 0.0)
    lost = SourceEvent(SourceEventKind.DEVICE_LOST, "gone")
    back = SourceEvent(SourceEventKind.DEVICE_RECOVERED, "back", 16_000)
    three_seconds = [block(51 + i) for i in range(151)]
    run = listen(ListSource([block(0), lost, back, *three_seconds], kind="microphone"))
    states = [m.audio for m in run.of("health") if isinstance(m, Health)]
    assert states == ["running", "lost", "recovering", "running", "off"]


def test_whoever_watches_is_told_how_it_is_and_nothing_more_is_published() -> None:
    vitals: list[Health] = []
    run = listen(ListSource([block(i) for i in range(5)]), on_vitals=vitals.append)
    assert [v.audio for v in vitals] == ["running"]
    assert [m.audio for m in run.of("health") if isinstance(m, Health)] == ["running", "off"]


def test_what_others_on_the_device_left_is_told_as_an_event(tmp_path: Path) -> None:
    leave(Notice(EventKind.UPDATE_REFUSED, Severity.WARNING, "older"), tmp_path)
    run = listen(ListSource([block(0)]), notices=partial(take, tmp_path))
    told = [m for m in run.of("event") if isinstance(m, EventMessage)]
    assert [(m.kind, m.text) for m in told[:1]] == [("update_refused", "older")]
    assert run.faults == ["update_refused", "source_ended"]
    assert run.report.faults == {}, "it is no fault of the ear's"


def test_messages_are_stamped_in_the_order_of_time() -> None:
    run = listen(ListSource([block(i) for i in range(10)]))
    for before, after in pairwise(message.mono_ms for _, message in run.said):
        assert after >= before


class Instrument:
    """Another instrument, which writes down what it is told."""

    def __init__(self, faults: Sequence[SourceEvent] = ()) -> None:
        self.told: list[object] = []
        self._faults = list(faults)

    def push(self, events: Sequence[object]) -> None:
        self.told += events

    def silence(self) -> None:
        self.told.append("silence")

    def faults(self) -> Sequence[SourceEvent]:
        faults, self._faults = self._faults, []
        return faults

    def close(self) -> None:
        self.told.append("closed")


def states_and_silences(told: Sequence[object]) -> list[object]:
    return [each.state if isinstance(each, NoteUpdate) else each for each in told]


@pytest.mark.parametrize(
    "fault",
    [
        SourceEvent(SourceEventKind.OVERRUN, "too slow", 320),
        SourceEvent(SourceEventKind.DEVICE_LOST, "gone"),
    ],
)
def test_another_instrument_plays_along_and_is_silenced_at_a_gap(fault: SourceEvent) -> None:
    instrument = Instrument()
    source = ListSource([block(0), fault, block(2)], kind="microphone")
    listen(source, midi_out=instrument)
    told = states_and_silences(instrument.told)
    assert told[0] == told[-3] == NoteState.CONFIRMED
    assert "silence" in told[1:-3]
    assert told[-2:] == [PedalEvent(9.0, False), "closed"]


def test_another_instrument_is_silenced_when_the_recogniser_fails() -> None:
    instrument = Instrument()
    listen(ListSource([block(0), block(1)]), OneNotePerBlock(fails_at=2), midi_out=instrument)
    assert states_and_silences(instrument.told)[:2] == [NoteState.CONFIRMED, "silence"]


def test_an_instrument_that_goes_and_comes_is_told_of() -> None:
    faults = [
        SourceEvent(SourceEventKind.DEVICE_LOST, "gone"),
        SourceEvent(SourceEventKind.DEVICE_RECOVERED, "back"),
    ]
    run = listen(ListSource([block(0)]), midi_out=Instrument(faults))
    assert set(run.faults) == {"midi_out_lost", "midi_out_recovered", "source_ended"}
    assert AudioState.LOST not in [m.audio for m in run.of("health") if isinstance(m, Health)]
