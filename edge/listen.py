"""The live loop: three hands that carry sound to the broker.

The first takes blocks from the source and lays them into a bounded queue; it never waits, for
a microphone does not. The second takes them out and asks the recogniser, whose answer becomes
messages at once. The third, the publisher's, brings them to the broker in its own time.

What the queue cannot hold is dropped, counted, and told: the next block then starts later than
the last one ended, and an `overrun` says by how much. A board that is too slow drops seldom and
much, so that it hears whole phrases and not crumbs of every note. Nothing that happens after the
start ends the loop but the end of a file or the wish of the user. A fault is published, counted
and lived with.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar, cast

from msgspec.structs import replace

from edge.audio.block import STREAM_RATE_HZ, Block, MidiBlock
from edge.audio.source import Source, SourceEvent, SourceEventKind
from edge.commander import Commander
from edge.errors import SostenutoError
from edge.following import Position
from edge.matching import Candidate, MatchState, PieceMatch
from edge.messages import (
    AudioDevice,
    AudioState,
    Detail,
    Envelope,
    EventKind,
    EventMessage,
    Health,
    HistoryNotes,
    Info,
    Piece,
    PieceState,
    Session,
    Severity,
)
from edge.note import Heard, NoteState, NoteUpdate
from edge.practice import BarFeedback
from edge.publish.compose import (
    DetailFilter,
    feedback_messages,
    notes_message,
    piece_message,
    position_message,
)
from edge.publish.health import (
    HEALTH_S,
    LoopReadings,
    RecentDurations,
    health_message,
    read_board,
)
from edge.publish.history import HistoryLog
from edge.publish.pace import PositionPace
from edge.publish.publisher import PublisherCounters, PublishReport
from edge.publish.session import SessionLog
from edge.vitals import Load, Meter
from edge.watchdog import Pulse, Supervisor

log = logging.getLogger(__name__)

Event = Heard | PieceMatch | Position | BarFeedback
Item = Block | MidiBlock | SourceEvent

M = TypeVar("M", bound=Envelope)

QUEUE_BLOCKS = 250
"""Blocks between the first two hands: five seconds, longer than a small board ever stalls."""

RESUME_SHARE = 0.1
"""Once a block was dropped, all are, until the queue has emptied to this share of its room: each
gap costs the ear a new beginning, and a tenth of a second between two gaps holds no note."""

HAND_OVER_S = 5.0
"""The end of a session takes no longer than this, what is queued included."""

CATCH_UP_S = 2.0
"""Share of it for sound that was taken but not yet heard."""

TICK_S = 0.25
"""The second hand looks at the clock at least this often, whatever comes."""

RECOVERED_S = 3.0
"""A device that was lost is `recovering` until it has given so much sound again."""

AUDIO_STATE_S = 1.0
"""How often it is looked whether the sound comes in otherwise than was last told."""

VITALS_S = 5.0
"""How often whoever watches beside MQTT is told how the device is."""

RETELL_S = 10.0
"""A fault of one kind is told at once, and then at most so often, with its count."""

REOPEN_S = 1.0
"""A live source that failed in a way nobody foresaw is tried again after this."""

LIVE_KINDS = frozenset({"microphone", "midi_port"})

MIDI_KINDS = frozenset({"midi_file", "midi_port"})


class Listens(Protocol):
    """The part of `edge.recogniser.Recogniser` that the loop needs."""

    def push(self, block: Block | MidiBlock) -> Sequence[Event]: ...

    def flush(self) -> Sequence[Event]: ...

    def recover(self) -> Sequence[Event]: ...

    def choose_piece(self, piece_id: str | None) -> None: ...


class Publishes(Protocol):
    """The part of `edge.publish.publisher.Publisher` that the loop needs."""

    def publish(self, name: str, message: Envelope) -> Envelope: ...

    def close(self, timeout_s: float = HAND_OVER_S) -> PublishReport: ...

    @property
    def counters(self) -> PublisherCounters: ...


class PlaysOn(Protocol):
    """The part of `edge.midi_out.MidiOut` that the loop needs."""

    def push(self, events: Sequence[object]) -> None: ...

    def silence(self) -> None: ...

    def faults(self) -> Sequence[SourceEvent]: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class ListenReport:
    """What became of one run.

    Attributes
    ----------
    published : PublishReport
    notes : int
        Confirmed notes.
    dropped_blocks, dropped_samples : int
        Sound that came and was not heard; samples also count what the source lost.
    faults : dict of str to int
        How often each kind of `event` occurred.
    restart : bool
        Whether a command ended it, so that it begins again.
    """

    published: PublishReport
    notes: int
    dropped_blocks: int
    dropped_samples: int
    faults: dict[str, int] = field(default_factory=dict)
    restart: bool = False


class BlockQueue:
    """A bounded queue from the source to the recogniser that keeps count of what it drops."""

    def __init__(self, capacity_blocks: int = QUEUE_BLOCKS) -> None:
        self._capacity = capacity_blocks
        self._resume_at = max(1, round(capacity_blocks * RESUME_SHARE))
        self._items: deque[Item] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._dropped_since: int | None = None
        self._run_blocks = 0
        self.dropped_blocks = 0

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: Item) -> None:
        """Lay ``item`` in without waiting; a block that finds no room is dropped, and the next."""
        with self._changed:
            room = self._capacity if self._dropped_since is None else self._resume_at
            if isinstance(item, SourceEvent):
                self._items.append(item)
            elif len(self._items) >= room:
                self._drop(item)
            else:
                self._end_of_drops(item)
                self._items.append(item)
            self._changed.notify_all()

    def put_when_free(self, item: Item) -> None:
        """Lay ``item`` in, waiting for room: for files that keep no pace."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or len(self._items) < self._capacity)
            self._items.append(item)
            self._changed.notify_all()

    def get(self, timeout_s: float) -> Item | None:
        """The oldest item; None when none came in time or none will come."""
        with self._changed:
            self._changed.wait_for(lambda: self._items or self._closed, timeout_s)
            if not self._items:
                return None
            item = self._items.popleft()
            self._changed.notify_all()
            return item

    def close(self) -> None:
        """Nothing will come any more; what is in it can still be taken."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    @property
    def finished(self) -> bool:
        """Closed and empty."""
        return self._closed and not self._items

    def _drop(self, block: Block | MidiBlock) -> None:
        if self._dropped_since is None:
            self._dropped_since = block.start_sample
        self._run_blocks += 1
        self.dropped_blocks += 1

    def _end_of_drops(self, block: Block | MidiBlock) -> None:
        """Tell of the gap right before the first block after it."""
        if self._dropped_since is None:
            return
        lost = block.start_sample - self._dropped_since
        self._items.append(
            SourceEvent(
                SourceEventKind.OVERRUN,
                f"{self._run_blocks} blocks ({lost / STREAM_RATE_HZ:.2f} s) dropped at "
                f"{self._dropped_since / STREAM_RATE_HZ:.2f} s: the recogniser did not keep up",
                lost,
            )
        )
        self._dropped_since = None
        self._run_blocks = 0


@dataclass(frozen=True, slots=True)
class Fault:
    """Faults of one kind to be told now: how many since the last time, and the newest's line."""

    kind: EventKind
    line: str
    count: int


class Faults:
    """Counts faults by kind. One is told at once, those that follow soon after it together."""

    def __init__(self, retell_s: float = RETELL_S) -> None:
        self._retell_s = retell_s
        self.counts: Counter[str] = Counter()
        self._untold: dict[EventKind, Fault] = {}
        self._told_s: dict[EventKind, float] = {}

    def add(self, kind: EventKind, line: str) -> None:
        """One more of ``kind``."""
        self.counts[kind.value] += 1
        before = self._untold.get(kind)
        self._untold[kind] = Fault(kind, line, 1 if before is None else before.count + 1)

    def take_due(self, now_s: float) -> list[Fault]:
        """Those to be told at ``now_s`` of the monotonic clock; they count as told."""
        due = [
            fault
            for kind, fault in self._untold.items()
            if now_s - self._told_s.get(kind, float("-inf")) >= self._retell_s
        ]
        for fault in due:
            self._told_s[fault.kind] = now_s
            del self._untold[fault.kind]
        return due


class Listener:
    """One run of the live loop; `run` is the second hand and stays in the caller's thread.

    Parameters
    ----------
    source : Source
        Opened already: what is wrong with it then is an error of the start.
    recogniser : Listens
    publisher : Publishes
        Started already.
    info : Info
        Published at the start, with the source filled in.
    on_message : callable, optional
        Sees every message as it is published: topic, message.
    midi_out : PlaysOn, optional
        Opened already; plays what is heard on another instrument.
    commander : Commander, optional
        Carries out what dashboards ask.
    listening : bool
        False: switched off from the start, until a command switches it on.
    on_vitals : callable, optional
        Told every `VITALS_S` how the device is, unpublished.
    supervisor : Supervisor, optional
        Told that the loop turns and hears.
    notices : callable, optional
        Asked every `AUDIO_STATE_S` for events that others on this device want told.
    health_every_s : float
        Seconds between two `health` messages.
    queue_blocks : int
        Room between the first two hands.
    """

    def __init__(
        self,
        source: Source,
        recogniser: Listens,
        publisher: Publishes,
        info: Info,
        *,
        on_message: Callable[[str, Envelope], None] | None = None,
        midi_out: PlaysOn | None = None,
        commander: Commander | None = None,
        listening: bool = True,
        on_vitals: Callable[[Health], None] | None = None,
        supervisor: Supervisor | None = None,
        notices: Callable[[], Iterable[EventMessage]] | None = None,
        health_every_s: float = HEALTH_S,
        queue_blocks: int = QUEUE_BLOCKS,
    ) -> None:
        self._source = source
        self._recogniser = recogniser
        self._publisher = publisher
        self._info = info
        self._on_message = on_message
        self._notices = notices
        self._midi_out = midi_out
        self._commander = commander
        self._listening = threading.Event()
        if listening:
            self._listening.set()
        self._filter = DetailFilter()
        self._restart = False
        self._on_vitals = on_vitals
        self._vitals_due_s = 0.0
        self._supervisor = supervisor
        self._pulse = Pulse(time.monotonic())
        self._health_every_s = health_every_s
        self._queue = BlockQueue(queue_blocks)
        self._stopped = threading.Event()
        self._session: SessionLog | None = None
        self._history = HistoryLog()
        self._faults = Faults()
        self._meter = Meter()
        self._inference = RecentDurations()
        self._end_to_end = RecentDurations()
        self._load = Load()
        self._began_s = time.monotonic()
        self._health_due_s = self._began_s
        self._lost_samples = 0
        self._device_lost = False
        self._recovering_samples = 0
        self._told_audio: AudioState | None = None
        self._audio_due_s = 0.0
        self._now_s = 0.0
        self._notes = 0
        self._matched: Candidate | None = None
        self._pace = PositionPace()
        self._source_thread = threading.Thread(target=self._pump, name="source", daemon=True)

    def stop(self) -> None:
        """End the session soon and properly; from any thread or a signal's handler."""
        self._stopped.set()
        self._source.stop()

    def run(self) -> ListenReport:
        """Listen until the source ends or `stop` is called; then hand over what is queued."""
        self._announce()
        self._source_thread.start()
        while not self._queue.finished and not self._stopped.is_set():
            item = self._queue.get(TICK_S)
            if item is not None:
                self._take(item)
            self._tick()
        return self._finish()

    # ---- the first hand

    def _pump(self) -> None:
        """Carry the source's items into the queue, until it ends or is stopped."""
        try:
            while not self._stopped.is_set():
                if self._gives_back and not self._listening.is_set():
                    self._source.close()
                    while not self._stopped.is_set() and not self._listening.wait(TICK_S):
                        pass
                    continue
                ended_well = self._pump_once()
                if self._gives_back and not self._listening.is_set():
                    continue
                if ended_well or self._source.kind not in LIVE_KINDS:
                    return
                self._stopped.wait(REOPEN_S)
        finally:
            self._queue.close()

    def _pump_once(self) -> bool:
        """One life of the source; whether it ended as it should."""
        try:
            for item in self._source.items():
                if self._source.origin_s is None:
                    self._queue.put_when_free(item)
                else:
                    self._queue.put(item)
                if self._stopped.is_set() or (self._gives_back and not self._listening.is_set()):
                    break
        except SostenutoError as error:
            self._queue.put(SourceEvent(SourceEventKind.INPUT_ERROR, str(error)))
            return False
        except Exception as error:
            log.exception("the source failed")
            line = f"{self._source.name}: {type(error).__name__}: {error}"
            self._queue.put(SourceEvent(SourceEventKind.INPUT_ERROR, line))
            return False
        return True

    @property
    def _gives_back(self) -> bool:
        """Whether the source is given back while nobody listens: a microphone is.

        A keyboard's port stays open and a recording runs on, and what they say is dropped.
        """
        return self._source.kind == "microphone"

    # ---- what a command may ask for, in the second hand too

    @property
    def info(self) -> Info:
        """What this device is, as published."""
        return self._info

    @property
    def detail(self) -> Detail:
        """What is published live."""
        return self._filter.detail

    @property
    def fault_counts(self) -> dict[str, int]:
        """How often each kind of `event` occurred."""
        return dict(self._faults.counts)

    @property
    def broker_trouble(self) -> str | None:
        """What is wrong with the broker, if anything is."""
        return self._publisher.counters.trouble

    def switch(self, on: bool) -> None:
        """Listen, or give the microphone back and forget what was not yet heard."""
        if on == self._listening.is_set():
            return
        if on:
            self._meter = Meter()
            self._listening.set()
        else:
            self._listening.clear()
            self._hear(self._recogniser.flush)
            self._keep(self._history.flush())
            self._play_on((), then_silence=True)
            self._tell(self._session_of_stream().close(self._now_s))
        self._health_due_s = 0.0

    def choose_piece(self, piece_id: str | None) -> None:
        """Follow this piece from now on; None: recognise what is played."""
        self._recogniser.choose_piece(piece_id)
        if piece_id is None:
            self._say("piece", Piece(state=PieceState.SEARCHING))

    def set_detail(self, detail: Detail) -> None:
        """Publish so much live from now on."""
        self._filter.detail = detail
        self._health_due_s = 0.0

    def tell_health(self) -> Health:
        """Publish `health` now; returns it as published."""
        now_s = time.monotonic()
        self._health_due_s = now_s + self._health_every_s
        health = self._say("health", self._health(now_s, self._load.read()))
        self._told_audio = health.audio
        return health

    def restart(self) -> None:
        """End soon and properly, and say that it is to begin again."""
        self._restart = True
        self.stop()

    def say(self, topic: str, message: Envelope) -> None:
        """Publish ``message``."""
        self._say(topic, message)

    def fault(self, kind: EventKind, line: str) -> None:
        """Count a fault and tell it when it is due."""
        self._faults.add(kind, line)

    # ---- the second hand

    def _announce(self) -> None:
        self._tell_info()
        self._say("piece", Piece(state=PieceState.SEARCHING))

    def _tell_info(self) -> None:
        kind = "midi" if self._source.kind in MIDI_KINDS else self._source.kind
        device = AudioDevice(
            kind=kind,
            name=self._source.name,
            sample_rate_hz=self._source.sample_rate_hz,
            channels=self._source.channels,
        )
        self._info = self._say("info", replace(self._info, audio_device=device))

    def _take(self, item: Item) -> None:
        if isinstance(item, SourceEvent):
            self._take_fault(item)
            return
        if not self._listening.is_set():
            return
        self._session_of_stream()
        if isinstance(item, Block):
            self._meter.push(item.samples)
            self._recovering_samples = max(0, self._recovering_samples - len(item.samples))
        self._now_s = item.end_sample / STREAM_RATE_HZ
        began_s = time.monotonic()
        whole = self._hear(lambda: self._recogniser.push(item))
        heard_s = time.monotonic()
        self._inference.add(began_s, (heard_s - began_s) * 1e3)
        if whole:
            self._pulse.heard(heard_s)
        else:
            self._pulse.failed()

    def _hear(self, recognise: Callable[[], Sequence[Event]]) -> bool:
        """Publish what the recogniser says; a failure of its own is a fault like any other.

        False after such a failure.
        """
        whole = True
        try:
            events = recognise()
            self._play_on(events)
        except Exception as error:
            whole = False
            log.exception("the recogniser failed")
            self._faults.add(EventKind.RECOGNISER_ERROR, f"{type(error).__name__}: {error}")
            events = self._recogniser.recover()
            self._play_on(events, then_silence=True)
        session = self._session_of_stream()
        self._tell(session.push(events, self._now_s))
        self._publish_events(events)
        self._keep(self._history.push(events, self._now_s, session.id))
        return whole

    def _play_on(self, events: Sequence[Event], *, then_silence: bool = False) -> None:
        if self._midi_out is not None:
            self._midi_out.push(events)
            if then_silence:
                self._midi_out.silence()

    def _session_of_stream(self) -> SessionLog:
        """The session, begun with the first block: only then does the source know its clock."""
        if self._session is None:
            origin_s = self._source.origin_s
            stream_start_mono_ms = None if origin_s is None else round(origin_s * 1e3)
            self._session = SessionLog(stream_start_mono_ms)
            self._history = HistoryLog(stream_start_mono_ms)
            self._tell([self._session.begin(self._now_s)])
        return self._session

    def _keep(self, batches: Sequence[HistoryNotes]) -> None:
        for batch in batches:
            self._say("history/notes", batch)

    def _tell(self, sessions: Sequence[Session]) -> None:
        for session in sessions:
            self._say("session", session)

    def _publish_events(self, events: Sequence[Event]) -> None:
        notes = notes_message(self._filter.push(events), self._now_s)
        if notes is not None:
            self._say("notes", notes)
        self._count_notes(events)
        for event in events:
            if isinstance(event, PieceMatch):
                self._say("piece", piece_message(event, self._matched))
                if event.state is MatchState.MATCHED and event.candidates:
                    self._matched = event.candidates[0]
            elif isinstance(event, BarFeedback):
                for message in feedback_messages(event):
                    self._say("feedback", message)
        positions = [event for event in events if isinstance(event, Position)]
        for position in self._pace.push(positions, self._now_s):
            if self.detail.position:
                self._say("position", position_message(position))

    def _count_notes(self, events: Sequence[Event]) -> None:
        """Count confirmed notes, each with the time from its sound in the room to its message."""
        origin_s = self._source.origin_s
        now_s = time.monotonic()
        for event in events:
            if isinstance(event, NoteUpdate) and event.state is NoteState.CONFIRMED:
                self._notes += 1
                if origin_s is not None:
                    self._end_to_end.add(now_s, (now_s - origin_s - event.note.onset_s) * 1e3)

    def _take_fault(self, event: SourceEvent) -> None:
        self._lost_samples += event.lost_samples
        if event.lost_samples > 0:
            self._play_on((), then_silence=True)
        if event.kind is SourceEventKind.DEVICE_LOST:
            self._device_lost = True
            self._health_due_s = 0.0
            # Nobody knows when sound comes again: what was heard so far is told now.
            self._hear(self._recogniser.flush)
            self._keep(self._history.flush())
            self._play_on((), then_silence=True)
        if event.kind is SourceEventKind.DEVICE_RECOVERED:
            self._device_lost = False
            if self._source.kind not in MIDI_KINDS:
                self._recovering_samples = round(RECOVERED_S * STREAM_RATE_HZ)
            self._health_due_s = 0.0
            self._tell_info()
            self._say_event(EventKind.DEVICE_RECOVERED, event.message, Severity.INFO)
        else:
            self._faults.add(EventKind(event.kind.value), event.message)
        self._tell_faults(time.monotonic())

    def _take_midi_out_faults(self) -> None:
        for event in self._midi_out.faults() if self._midi_out is not None else ():
            if event.kind is SourceEventKind.DEVICE_RECOVERED:
                self._say_event(EventKind.MIDI_OUT_RECOVERED, event.message, Severity.INFO)
            else:
                self._faults.add(EventKind.MIDI_OUT_LOST, event.message)

    def _tell_faults(self, now_s: float) -> None:
        for fault in self._faults.take_due(now_s):
            self._say_event(fault.kind, fault.line, Severity.WARNING, fault.count)

    def _say_event(self, kind: EventKind, line: str, severity: Severity, count: int = 1) -> None:
        log.info("%s: %s", kind.value, line)
        self._say(
            "event",
            EventMessage(kind=kind, severity=severity, text=line, count=count, t_s=self._now_s),
        )

    def _tick(self) -> None:
        if self._commander is not None:
            self._commander.serve(self)
        now_s = time.monotonic()
        self._take_midi_out_faults()
        self._tell_faults(now_s)
        if now_s >= self._audio_due_s:
            self._audio_due_s = now_s + AUDIO_STATE_S
            for notice in self._notices() if self._notices is not None else ():
                self._say("event", notice)
            audio = self._audio_state()
            if audio is not self._told_audio:
                self._health_due_s = 0.0
            if self._supervisor is not None:
                headway = self._pulse.turn(now_s, audio, len(self._queue))
                self._supervisor.turn(now_s, headway, self._in_words(audio))
        if now_s >= self._health_due_s:
            self.tell_health()
        if self._on_vitals is not None and now_s >= self._vitals_due_s:
            self._vitals_due_s = now_s + VITALS_S
            self._on_vitals(self._health(now_s))

    def _in_words(self, audio: AudioState) -> str:
        trouble = self._publisher.counters.trouble
        broker = "" if trouble is None else f"; {trouble}"
        return f"{self._source.name}: {audio.value}, {self._notes} notes{broker}"

    def _health(self, now_s: float, load: float | None = None) -> Health:
        loop = LoopReadings(
            audio=self._audio_state(),
            uptime_s=now_s - self._began_s,
            overruns=self._faults.counts[EventKind.OVERRUN],
            dropped_samples=self._lost_samples,
            level_dbfs=self._meter.level_dbfs,
            peak_dbfs=self._meter.peak_dbfs,
            inference=self._inference.percentiles(now_s),
            end_to_end=self._end_to_end.percentiles(now_s),
            load=load,
            queue_blocks=len(self._queue),
            listening=self._listening.is_set(),
            detail=self.detail,
            commands_refused=0 if self._commander is None else self._commander.refused,
        )
        return health_message(loop, self._publisher.counters, read_board(Path.cwd()))

    def _audio_state(self) -> AudioState:
        if not self._listening.is_set():
            return AudioState.OFF
        if self._device_lost:
            return AudioState.LOST
        if self._source.kind in MIDI_KINDS:
            return AudioState.MIDI
        if self._recovering_samples > 0:
            return AudioState.RECOVERING
        return self._meter.state

    def _finish(self) -> ListenReport:
        until_s = time.monotonic() + HAND_OVER_S
        if self._supervisor is not None:
            self._supervisor.stopping()
        self._source.stop()
        catch_up_until_s = time.monotonic() + CATCH_UP_S
        while (item := self._queue.get(0.0)) and time.monotonic() < catch_up_until_s:
            self._take(item)
        self._queue.close()
        self._hear(self._recogniser.flush)
        self._keep(self._history.flush())
        if self._midi_out is not None:
            self._midi_out.close()
        self._tell_faults(float("inf"))
        if not self._stopped.is_set():
            self._say_event(EventKind.SOURCE_ENDED, self._source.name, Severity.INFO)
        self._tell(self._session_of_stream().close(self._now_s))
        self._say(
            "health",
            replace(self._health(time.monotonic(), self._load.read()), audio=AudioState.OFF),
        )
        self._source_thread.join(max(0.0, min(1.0, until_s - time.monotonic())))
        self._source.close()
        published = self._publisher.close(timeout_s=max(0.1, until_s - time.monotonic()))
        return ListenReport(
            published,
            self._notes,
            self._queue.dropped_blocks,
            self._lost_samples,
            dict(self._faults.counts),
            self._restart,
        )

    def _say(self, topic: str, message: M) -> M:
        stamped = self._publisher.publish(topic, message)
        if self._on_message is not None:
            self._on_message(topic, stamped)
        return cast(M, stamped)
