"""Pianos that are played by nobody: what recorded performances would have published.

A performance, read from a MIDI file, goes through the device's own steps (keys, session, history)
and becomes a score of messages: what is published at which second. Each simulated piano is the
device's own `Publisher` with a connection of its own, and replays that score from a place of its
own, as a sitting of its own. There is no ear in it, and no catalogue: `piece`, `position` and
`feedback` are left out; they are few.
"""

from __future__ import annotations

import heapq
import random
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from edge.errors import BrokerError, InputError
from edge.messages import TOPICS, Envelope, HistoryNotes, Session
from edge.midi import Keyboard, timed_messages
from edge.note import Heard
from edge.publish.address import BrokerAddress
from edge.publish.compose import notes_message
from edge.publish.history import HistoryLog
from edge.publish.outbox import MemoryOutbox, Outgoing
from edge.publish.publisher import Publisher, PublishReport
from edge.publish.session import SessionLog

STEP_S = 0.1
"""Live notes are gathered for so long (the contract's largest batch)."""

CONNECT_S = 60.0


@dataclass(frozen=True, slots=True)
class Said:
    """One message of a performance, ``at_s`` seconds after its beginning."""

    at_s: float
    name: str
    message: Envelope


def performance(path: Path) -> tuple[Said, ...]:
    """What a piano publishes while the MIDI file at ``path`` is played on it, in order.

    Raises
    ------
    InputError
        Missing, broken, or without piano notes.
    """
    keyboard, sitting, record = Keyboard(), SessionLog(), HistoryLog()
    said = [Said(0.0, "session", sitting.begin(0.0))]
    gathered: list[Heard] = []
    now_s = STEP_S

    def tell(events: Sequence[Heard], at_s: float) -> None:
        live = notes_message(events, at_s)
        if live is not None:
            said.append(Said(at_s, "notes", live))
        said.extend(Said(at_s, "session", told) for told in sitting.push(events, at_s))
        batches = record.push(events, at_s, sitting.id)
        said.extend(Said(at_s, "history/notes", batch) for batch in batches)

    for t_s, message in timed_messages(path):
        while t_s >= now_s:
            tell(gathered, now_s)
            gathered, now_s = [], now_s + STEP_S
        gathered += keyboard.push(message, t_s)
    tell([*gathered, *keyboard.flush(now_s)], now_s)
    said += [Said(now_s, "history/notes", batch) for batch in record.flush()]
    said += [Said(now_s, "session", last) for last in sitting.close(now_s)]
    if not any(each.name == "notes" for each in said):
        raise InputError(f"{path}: no piano notes in this MIDI file; give one that has notes")
    return tuple(said)


class _WatchedOutbox(MemoryOutbox):
    """Knows what was acknowledged, and how long after it was made."""

    def __init__(self) -> None:
        super().__init__()
        self.session_seqs: set[int] = set()
        self.delays_s: list[float] = []

    def acknowledge(self, entry: Outgoing) -> None:
        super().acknowledge(entry)
        self.delays_s.append(time.monotonic() - entry.made_s)
        if entry.name == "session":
            self.session_seqs.add(entry.seq)


@dataclass(slots=True)
class _Piano:
    publisher: Publisher
    outbox: _WatchedOutbox
    score: tuple[Said, ...]
    next: int = 0
    sitting: str = field(default_factory=lambda: uuid.uuid4().hex)

    def play(self) -> float:
        """Publish the next message; seconds of music until the one after it."""
        said = self.score[self.next]
        message = said.message
        if isinstance(message, Session):
            message = msgspec.structs.replace(message, id=self.sitting)
        elif isinstance(message, HistoryNotes):
            message = msgspec.structs.replace(message, session_id=self.sitting)
        self.publisher.publish(said.name, message)
        self.next += 1
        if self.next == len(self.score):
            self.next, self.sitting = 0, uuid.uuid4().hex
            return STEP_S
        return self.score[self.next].at_s - said.at_s


@dataclass(frozen=True, slots=True)
class Played:
    """What became of one piano's messages.

    Attributes
    ----------
    acknowledged_sessions : frozenset of int
        Numbers of those on `session` that the cluster acknowledged.
    """

    device: str
    report: PublishReport
    acknowledged_sessions: frozenset[int]


@dataclass(frozen=True, slots=True)
class Flow:
    """What went through while pianos played.

    Attributes
    ----------
    kept_per_s, live_per_s : float
        Messages a second at QoS 1 (acknowledged) and at QoS 0 (published).
    delay_p50_ms, delay_p95_ms, delay_longest_ms : float
        From publishing to the acknowledgement, QoS 1.
    late_s : float
        How far this generator fell behind the music: above a second, it is what was measured.
    """

    pianos: int
    seconds: float
    kept_per_s: float
    live_per_s: float
    delay_p50_ms: float
    delay_p95_ms: float
    delay_longest_ms: float
    late_s: float


class Pianos:
    """So many pianos, each at one of ``addresses`` in turn, connected on entry.

    Parameters
    ----------
    scores : sequence of performances
        Handed round.
    pace : float
        1 is the pace of real time; 5 plays everything in a fifth of its time.

    Raises
    ------
    BrokerError
        On entry: some piano was not let in within `CONNECT_S`.
    """

    def __init__(
        self,
        addresses: Sequence[BrokerAddress],
        scores: Sequence[tuple[Said, ...]],
        count: int,
        pace: float = 1.0,
    ) -> None:
        choose = random.Random(count)
        self._pace = pace
        self._pianos = []
        for number in range(count):
            outbox, score = _WatchedOutbox(), scores[number % len(scores)]
            device = f"simulated-{number:05}"
            address = addresses[number % len(addresses)]
            publisher = Publisher(address, device, outbox=outbox, identity=device)
            self._pianos.append(_Piano(publisher, outbox, score, choose.randrange(len(score))))

    def __enter__(self) -> Pianos:
        for piano in self._pianos:
            piano.publisher.start()
        end_s = time.monotonic() + CONNECT_S
        for piano in self._pianos:
            if not piano.publisher.wait_connected(max(0.0, end_s - time.monotonic())):
                trouble = piano.publisher.counters.trouble or "no answer"
                self.close(0.0)
                raise BrokerError(f"{piano.publisher.device} was not let in: {trouble}")
        return self

    def __exit__(self, *_: object) -> None:
        self.close(0.0)

    def play(self, seconds: float, meanwhile: Callable[[float], None] = lambda _: None) -> Flow:
        """Play on for ``seconds``; ``meanwhile`` is called with the seconds gone, often."""
        for piano in self._pianos:
            piano.outbox.delays_s.clear()
        began_s = time.monotonic()
        due = [
            (began_s + STEP_S * number / len(self._pianos), number)
            for number in range(len(self._pianos))
        ]
        heapq.heapify(due)
        live, late_s = 0, 0.0
        while (now_s := time.monotonic()) - began_s < seconds:
            meanwhile(now_s - began_s)
            at_s, number = due[0]
            if at_s > now_s:
                time.sleep(min(at_s - now_s, STEP_S))
                continue
            late_s = max(late_s, now_s - at_s)
            piano = self._pianos[number]
            live += TOPICS[piano.score[piano.next].name].qos == 0
            heapq.heapreplace(due, (at_s + piano.play() / self._pace, number))
        took_s = time.monotonic() - began_s
        delays_s = sorted(delay for piano in self._pianos for delay in piano.outbox.delays_s)
        p50, p95, longest = (1e3 * _quantile(delays_s, share) for share in (0.50, 0.95, 1.0))
        kept, count = len(delays_s) / took_s, len(self._pianos)
        return Flow(count, took_s, kept, live / took_s, p50, p95, longest, late_s)

    def close(self, timeout_s: float) -> list[Played]:
        """Hand over what waits within ``timeout_s``, and hang up."""
        end_s = time.monotonic() + timeout_s
        while any(p.outbox.pressing for p in self._pianos) and time.monotonic() < end_s:
            time.sleep(STEP_S)
        for_one_s = 1.0 if timeout_s else 0.0
        played = [
            Played(
                piano.publisher.device,
                piano.publisher.close(for_one_s),
                frozenset(piano.outbox.session_seqs),
            )
            for piano in self._pianos
        ]
        self._pianos = []
        return played


def _quantile(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0
