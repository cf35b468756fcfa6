"""What waits for the broker, and the account of what did not wait long enough.

A numbered message either reaches the broker or leaves a gap on its topic, and whoever listens
has a right to know which. The `Outbox` keeps messages of QoS 1 until they are acknowledged,
oldest first, within bounds; the `DropLedger` remembers the gaps until they are announced.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from typing import Protocol

from edge.messages import DroppedRange, Topic

MAX_MESSAGES = 20_000
MAX_BYTES = 8 * 1024 * 1024
"""Bounds of the outbox in memory: a long evening of `session`, `piece` and `event`."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One message on its way: topic and ``name`` below the device's root, number, JSON.

    ``made_s`` is `time.monotonic` when it was made.
    """

    topic: Topic
    name: str
    seq: int
    payload: bytes
    made_s: float


class Outbox(Protocol):
    """Keeps messages until the broker has them. Only the publisher's own thread calls it."""

    def append(self, entry: Outgoing) -> list[Outgoing]:
        """Take ``entry`` in; returns those that had to go for it, oldest first."""

    def next(self) -> Outgoing | None:
        """The oldest message that is not on its way; it is on its way from now on."""

    def acknowledge(self, entry: Outgoing) -> None:
        """The broker has ``entry``: forget it."""

    def rewind(self) -> None:
        """The connection broke: what was on its way is to be sent again, oldest first."""

    def holds(self, entry: Outgoing) -> bool:
        """Whether ``entry`` still waits or is on its way."""

    def __len__(self) -> int: ...


class MemoryOutbox:
    """An `Outbox` that lives as long as the program.

    Parameters
    ----------
    max_messages, max_bytes : int
        When either is passed, the oldest waiting messages are dropped.
    """

    def __init__(self, max_messages: int = MAX_MESSAGES, max_bytes: int = MAX_BYTES) -> None:
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._waiting: deque[Outgoing] = deque()
        self._on_its_way: dict[tuple[str, int], Outgoing] = {}
        self._bytes = 0

    def append(self, entry: Outgoing) -> list[Outgoing]:
        self._waiting.append(entry)
        self._bytes += len(entry.payload)
        dropped = []
        while self._waiting and (len(self) > self._max_messages or self._bytes > self._max_bytes):
            oldest = self._waiting.popleft()
            self._bytes -= len(oldest.payload)
            dropped.append(oldest)
        return dropped

    def next(self) -> Outgoing | None:
        if not self._waiting:
            return None
        entry = self._waiting.popleft()
        self._on_its_way[entry.name, entry.seq] = entry
        return entry

    def acknowledge(self, entry: Outgoing) -> None:
        if self._on_its_way.pop((entry.name, entry.seq), None) is not None:
            self._bytes -= len(entry.payload)

    def rewind(self) -> None:
        self._waiting.extendleft(reversed(self._on_its_way.values()))
        self._on_its_way.clear()

    def holds(self, entry: Outgoing) -> bool:
        return (entry.name, entry.seq) in self._on_its_way or entry in self._waiting

    def __len__(self) -> int:
        return len(self._waiting) + len(self._on_its_way)


class DropLedger:
    """Counts messages that were numbered and not sent, as ranges per topic."""

    MAX_RANGES = 64
    """Beyond so many, a topic's gaps are told as one range whose ``count`` is still exact."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ranges: list[DroppedRange] = []
        self._total = 0

    @property
    def total(self) -> int:
        """Messages dropped since the start."""
        return self._total

    def add(self, name: str, seq: int, announce: bool = True) -> None:
        """Message ``seq`` of topic ``name`` will not be sent."""
        with self._lock:
            self._total += 1
            if not announce:
                return
            for i, known in enumerate(self._ranges):
                close = seq in (known.last_seq + 1, known.first_seq - 1)
                if known.topic == name and (close or len(self._ranges) >= self.MAX_RANGES):
                    self._ranges[i] = _widened(known, seq)
                    return
            self._ranges.append(DroppedRange(topic=name, first_seq=seq, last_seq=seq, count=1))

    def take(self) -> list[DroppedRange]:
        """The ranges not announced yet; they count as announced from now on."""
        with self._lock:
            ranges, self._ranges = self._ranges, []
            return ranges

    def __bool__(self) -> bool:
        return bool(self._ranges)


def _widened(known: DroppedRange, seq: int) -> DroppedRange:
    return DroppedRange(
        topic=known.topic,
        first_seq=min(known.first_seq, seq),
        last_seq=max(known.last_seq, seq),
        count=known.count + 1,
    )
