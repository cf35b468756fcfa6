"""What waits for the broker, and the account of what did not wait long enough.

A numbered message either reaches the broker or leaves a gap on its topic, and whoever listens
has a right to know which. An `Outbox` keeps messages of QoS 1 until they are acknowledged,
oldest first, within bounds; the `DropLedger` remembers the gaps until they are announced. Where
there is too much, notes that have ended go before anything else: there are many of them, and a
session or a fault is not told twice.

`MemoryOutbox` lasts as long as the program; `edge.publish.disk_outbox` outlasts it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from edge.messages import DroppedRange, EventMessage, Topic
from edge.publish.clock import Stamp

HISTORY = "history/notes"

MAX_MESSAGES = 20_000
MAX_BYTES = 8 * 1024 * 1024
"""Bounds of an outbox in memory: a long evening."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One message on its way: topic and ``name`` below the device's root, number, JSON.

    ``made_s`` is `time.monotonic` when it was made, minus infinity for another start's;
    ``boot`` names the start of the program that numbered it, ``mono_ms`` is its stamp's.
    """

    topic: Topic
    name: str
    seq: int
    payload: bytes
    made_s: float
    boot: str = ""
    mono_ms: int = 0

    @property
    def key(self) -> tuple[str, str, int]:
        """What no other message shares."""
        return self.boot, self.name, self.seq


class Outbox(Protocol):
    """Keeps messages until the broker has them. Only the publisher's own thread calls it."""

    def append(self, entry: Outgoing) -> list[Outgoing]:
        """Take ``entry`` in; returns those that had to go for it, oldest first."""

    def keep(self, stamp: Stamp, *, closing: bool = False) -> list[Outgoing]:
        """Do what is due: write down, tidy up. Returns those that had to go; ``closing`` at last.

        ``stamp`` is the present.
        """

    def next(self) -> Outgoing | None:
        """The message to send now; it is on its way from then on."""

    def acknowledge(self, entry: Outgoing) -> None:
        """The broker has ``entry``: forget it."""

    def refuse(self, entry: Outgoing) -> None:
        """The broker will never have ``entry``: forget it for good."""

    def rewind(self) -> None:
        """The connection broke: what was on its way is to be sent again, oldest first."""

    def holds(self, entry: Outgoing) -> bool:
        """Whether ``entry`` is on its way or about to be."""

    def notices(self) -> list[EventMessage]:
        """What happened to it that somebody should know, since it was last asked."""

    @property
    def rest_s(self) -> float:
        """For how long it has nothing to do, if nothing comes in."""

    @property
    def draining(self) -> bool:
        """Whether there is more to be sent than `next` will give at this moment."""

    @property
    def pressing(self) -> int:
        """Messages that are on their way or about to be."""

    @property
    def kept(self) -> int:
        """Messages that the next start of the program will send, if this one ends now."""

    def __len__(self) -> int: ...


def first_to_go(waiting: Iterable[Outgoing]) -> Outgoing:
    """Of messages, oldest first, the one to be given up: the oldest notes, else the oldest."""
    oldest = None
    for entry in waiting:
        if entry.name == HISTORY:
            return entry
        oldest = oldest or entry
    assert oldest is not None
    return oldest


class MemoryOutbox:
    """An `Outbox` that lives as long as the program.

    Parameters
    ----------
    max_messages, max_bytes : int
        When either is passed, the oldest waiting messages are dropped, ended notes first.
    """

    def __init__(self, max_messages: int = MAX_MESSAGES, max_bytes: int = MAX_BYTES) -> None:
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._waiting: deque[Outgoing] = deque()
        self._on_its_way: dict[tuple[str, str, int], Outgoing] = {}
        self._bytes = 0

    def append(self, entry: Outgoing) -> list[Outgoing]:
        self._waiting.append(entry)
        self._bytes += len(entry.payload)
        dropped = []
        while self._waiting and (len(self) > self._max_messages or self._bytes > self._max_bytes):
            lost = first_to_go(self._waiting)
            self._waiting.remove(lost)
            self._bytes -= len(lost.payload)
            dropped.append(lost)
        return dropped

    def keep(self, stamp: Stamp, *, closing: bool = False) -> list[Outgoing]:
        return []

    def next(self) -> Outgoing | None:
        if not self._waiting:
            return None
        entry = self._waiting.popleft()
        self._on_its_way[entry.key] = entry
        return entry

    def acknowledge(self, entry: Outgoing) -> None:
        if self._on_its_way.pop(entry.key, None) is not None:
            self._bytes -= len(entry.payload)

    def refuse(self, entry: Outgoing) -> None:
        self.acknowledge(entry)

    def rewind(self) -> None:
        self._waiting.extendleft(reversed(self._on_its_way.values()))
        self._on_its_way.clear()

    def holds(self, entry: Outgoing) -> bool:
        return entry.key in self._on_its_way or entry in self._waiting

    def notices(self) -> list[EventMessage]:
        return []

    @property
    def rest_s(self) -> float:
        return float("inf")

    @property
    def draining(self) -> bool:
        return False

    @property
    def pressing(self) -> int:
        return len(self)

    @property
    def kept(self) -> int:
        return 0

    def __len__(self) -> int:
        return len(self._waiting) + len(self._on_its_way)


class DropLedger:
    """Counts messages that were numbered and not sent, as ranges per start and topic.

    ``boot`` is this start's name: gaps of its own bear none.
    """

    MAX_RANGES = 64
    """Beyond so many, a topic's gaps are told as one range whose ``count`` is still exact."""

    def __init__(self, boot: str = "") -> None:
        self._lock = threading.Lock()
        self._boot = boot
        self._ranges: list[DroppedRange] = []
        self._total = 0

    @property
    def total(self) -> int:
        """Messages dropped since the start."""
        return self._total

    def add(self, name: str, seq: int, announce: bool = True, boot: str = "") -> None:
        """Message ``seq`` of topic ``name`` will not be sent."""
        whose = boot if boot not in ("", self._boot) else None
        with self._lock:
            self._total += 1
            if not announce:
                return
            for i, known in enumerate(self._ranges):
                if (known.topic, known.boot) != (name, whose):
                    continue
                close = seq in (known.last_seq + 1, known.first_seq - 1)
                if close or len(self._ranges) >= self.MAX_RANGES:
                    self._ranges[i] = _widened(known, seq)
                    return
            fresh = DroppedRange(topic=name, first_seq=seq, last_seq=seq, count=1, boot=whose)
            self._ranges.append(fresh)

    def take(self, names: Iterable[str] | None = None) -> list[DroppedRange]:
        """The ranges not announced yet, of these topics; they count as announced from now on."""
        with self._lock:
            wanted = None if names is None else set(names)
            taken = [r for r in self._ranges if wanted is None or r.topic in wanted]
            self._ranges = [r for r in self._ranges if r not in taken]
            return taken

    def __bool__(self) -> bool:
        return bool(self._ranges)


def _widened(known: DroppedRange, seq: int) -> DroppedRange:
    return DroppedRange(
        topic=known.topic,
        first_seq=min(known.first_seq, seq),
        last_seq=max(known.last_seq, seq),
        count=known.count + 1,
        boot=known.boot,
    )
