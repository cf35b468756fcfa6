"""The outbox that outlasts the program, the power and the broker: messages of QoS 1 on the card.

A message is committed to the card before it is sent, so nothing that anybody was told can be
lost by pulling the plug; what is lost then was told to nobody. What lies in the table is what the
next start sends: what the broker does not have, and what it has had for so short a time that it
may have forgotten it (mosquitto forgets, when killed, what came since it last saved). So an
acknowledgement writes nothing; rows leave the table in a sweep once a minute, when others have
been acknowledged `REPLAY_S` later. After every loss of the connection, and at every start, what
is in the table goes out again, marked as historical and with the numbers it always had: whoever
counts by boot, topic and number drops the repeats.

What is new goes out at once, from memory. What was left behind is read from the card page by
page and let through at `DRAIN_PER_S`, so that a day without a broker does not flood the dashboard
and does not hold up what is being played.

Age counts the time that the program ran, and not the wall clock: a clock that jumps drops nothing.
Where the card is full, read-only or broken, messages wait in memory, an event says so, and the
card is tried again every `RETRY_S`.
"""

from __future__ import annotations

import os
import sqlite3
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import msgspec

from edge.messages import (
    Clock,
    Envelope,
    EventKind,
    EventMessage,
    Severity,
    decode,
    encode,
    topic_of,
)
from edge.publish.clock import Stamp, rfc3339
from edge.publish.outbox import HISTORY, MAX_BYTES, MAX_MESSAGES, Outgoing, first_to_go
from edge.publish.store import (
    FILE,
    NotOursError,
    forget_starts,
    kernel_start,
    lock,
    oldest_record_to_keep,
    oldest_record_young_enough,
    open_store,
    put_aside,
    put_times_right,
    record,
    start_no,
    transaction,
    trim_record,
)

MEBIBYTE = 1024 * 1024
DAY_MS = 24 * 3600 * 1000

COMMIT_S = 0.1
"""Commits are at least so far apart: under load, what came meanwhile shares one."""

SWEEP_S = 60.0
"""How often rows are deleted and bounds of age looked after."""

REPLAY_S = 120.0
REPLAY_MESSAGES = 2_000
"""What was acknowledged within this time before the newest acknowledgement, and at most so much,
is sent again after a loss. A broker has to save its state more often than that: `sostenuto broker`
says every minute, and mosquitto on its own every half hour."""

FRESH_MESSAGES = 5_000
"""What is committed and not yet sent stays in memory too, up to this; then only the card has it."""

DRAIN_PER_S = 200.0
"""What was left behind is sent no faster: a full outbox takes some minutes."""

DRAIN_BURST = 20
PAGE = 50
"""Messages let through at once, and read from the card at once."""

RETRY_S = 10.0
"""A card that failed is tried again after this."""

CLOCK_STEP_MS = 500
"""A wall clock that moves by more than this against the monotonic one was set."""

FOR_GOOD_S = float("-inf")
"""Answered so long ago: not to be sent again, and out of the table with the next sweep."""

SLACK = 0.02
"""A full outbox makes room for so much of its bound at once."""

_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much is kept, by size and age: of what waits for the broker, and of the record."""

    max_bytes: int = 64 * MEBIBYTE
    max_age_days: float = 30.0
    record_bytes: int = 256 * MEBIBYTE
    record_days: float = 3650.0


class _Row(NamedTuple):
    """A row that is to go: its number, the bytes of its payload, and whose it is."""

    number: int
    size: int
    entry: Outgoing


class DiskOutbox:
    """An `edge.publish.outbox.Outbox` on the card.

    Parameters
    ----------
    folder : Path
        Made if it is not there; opened when the first message comes.
    bounds : Bounds
    now_s : callable
        The monotonic clock.
    computer_start : str, optional
        Names the start of the computer since which that clock runs; the kernel's own name.
    """

    def __init__(
        self,
        folder: Path,
        bounds: Bounds = Bounds(),
        *,
        now_s: Callable[[], float] = time.monotonic,
        computer_start: str | None = None,
    ) -> None:
        self._folder = folder
        self._bounds = bounds
        self._now_s = now_s
        self._computer_start = computer_start or kernel_start()
        self._notices: list[EventMessage] = []

        # The card.
        self._store: sqlite3.Connection | None = None
        self._lock: int | None = None
        self._tried_s = float("-inf")
        self._failing: str | None = None
        self._committed_s = float("-inf")
        self._swept_s = float("-inf")
        self._aside_s = float("-inf")
        self._rows = 0
        self._bytes = 0
        self._version = 0  # of the data, as other programs change them
        self._ran_before_ms = 0
        self._opened_s = now_s()
        self._boot_nos: dict[str, int] = {}
        self._clock: Stamp | None = None
        self._clock_dirty = False

        # Messages, by their row's number; what is not in `_pending` is on the card.
        self._next_id = 1
        self._pending: dict[int, Outgoing] = {}
        self._pending_bytes = 0
        self._fresh: deque[tuple[int, Outgoing]] = deque()
        self._on_its_way: dict[tuple[str, str, int], tuple[int, Outgoing]] = {}
        self._settled: dict[int, float] = {}  # acknowledged when, still in the table; in order
        self._acknowledged_s = float("-inf")

        # What was left behind: rows from `_cursor` up to `_behind_end`.
        self._cursor = 0
        self._behind_end = 0
        self._page: deque[tuple[int, Outgoing]] = deque()
        self._unreadable: list[_Row] = []
        self._again: set[int] = set()  # of the settled, those that are to go out again
        self._tokens = float(DRAIN_BURST)
        self._tokens_s = now_s()

    # ---- what comes in

    def append(self, entry: Outgoing) -> list[Outgoing]:
        if self._tried_s == float("-inf"):
            self._attempt(self._open)
        number = self._next_id
        self._next_id += 1
        self._pending[number] = entry
        self._pending_bytes += len(entry.payload)
        self._fresh.append((number, entry))
        return self._bounded_in_memory()

    def _bounded_in_memory(self) -> list[Outgoing]:
        """Without a card memory has to do: what passes its bounds is given up."""
        dropped: list[Outgoing] = []
        while len(self._pending) > MAX_MESSAGES or self._pending_bytes > MAX_BYTES:
            lost = first_to_go(self._pending.values())
            number = next(n for n, entry in self._pending.items() if entry is lost)
            self._forget_pending(number)
            self._withdraw({number})
            dropped.append(lost)
        return dropped

    def _forget_pending(self, number: int) -> None:
        self._pending_bytes -= len(self._pending.pop(number).payload)

    def _withdraw(self, numbers: set[int]) -> None:
        """These are given up: they are not to be sent."""
        self._fresh = deque(item for item in self._fresh if item[0] not in numbers)
        self._page = deque(item for item in self._page if item[0] not in numbers)

    # ---- the card

    def keep(self, stamp: Stamp, *, closing: bool = False) -> list[Outgoing]:
        now_s = self._now_s()
        self._look_at_clock(stamp)
        gone: list[Outgoing] = []
        due = bool(self._pending) if closing else now_s - self._tried_s >= RETRY_S
        if self._store is None and due:
            self._attempt(self._open)
        if self._store is not None and (closing or now_s - self._committed_s >= COMMIT_S):
            self._attempt(lambda: self._commit(gone))
        if self._store is not None and now_s - self._swept_s >= SWEEP_S:
            self._attempt(lambda: self._sweep(gone))
        if closing:
            self._close()
        return gone

    def _look_at_clock(self, stamp: Stamp) -> None:
        before, self._clock = self._clock, stamp
        if stamp.clock is Clock.NTP and (
            before is None
            or before.clock is not Clock.NTP
            or abs(stamp.wall_minus_mono_ms - before.wall_minus_mono_ms) > CLOCK_STEP_MS
        ):
            self._clock_dirty = True

    def _attempt(self, step: Callable[[], None]) -> None:
        """Do something with the card; what goes wrong with it is told once and lived with."""
        try:
            step()
        except (NotOursError, sqlite3.Error, OSError) as error:
            self._boot_nos.clear()  # what was rolled back may be among them
            self._version = -1
            self._live_with(error)

    def _live_with(self, error: NotOursError | sqlite3.Error | OSError) -> None:
        if isinstance(error, OSError):
            self._fail(error.strerror or str(error))
            return
        code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
        if isinstance(error, NotOursError):
            self._put_aside(str(error))
        elif code in _DAMAGED:
            self._put_aside(f"{self._folder / FILE} is damaged ({error})")
        elif code not in _BUSY:  # else somebody else is writing: later
            self._fail(str(error))

    def _fail(self, reason: str) -> None:
        self._close()
        self._tried_s = self._now_s()
        if self._failing is None:
            self._tell(
                EventKind.OUTBOX_FAILED,
                Severity.WARNING,
                f"outbox {self._folder}: {reason}; messages wait in memory until it can be "
                "written again; check space and rights",
            )
        self._failing = reason

    def _put_aside(self, reason: str) -> None:
        """Begin a new database; what memory still has goes into it."""
        self._close()
        before_s, self._aside_s = self._aside_s, self._now_s()
        if self._aside_s - before_s < RETRY_S:
            self._fail(reason)
            return
        try:
            aside = put_aside(self._folder)
        except OSError as error:
            self._fail(error.strerror or str(error))
            return
        self._tell(
            EventKind.OUTBOX_PUT_ASIDE,
            Severity.ERROR,
            f"outbox: {reason}; put aside as {aside.name}, what waited in it was not sent",
        )
        for number, entry in sorted([*self._fresh, *self._on_its_way.values()]):
            if number not in self._pending:
                self._pending[number] = entry
                self._pending_bytes += len(entry.payload)
        self._pending = dict(sorted(self._pending.items()))
        self._settled.clear()
        self._again.clear()
        self._page.clear()
        self._unreadable.clear()
        self._rows = self._bytes = 0
        self._attempt(self._open)

    def _tell(self, kind: EventKind, severity: Severity, text: str) -> None:
        self._notices.append(EventMessage(kind=kind, severity=severity, text=text))

    def _open(self) -> None:
        self._tried_s = self._now_s()
        try:
            self._lock = lock(self._folder)
        except BlockingIOError:
            raise OSError(0, "another listener of this device uses it") from None
        try:
            store = open_store(self._folder)
            highest, self._rows, self._bytes, ran_ms = store.execute(
                "SELECT coalesce(max(id), 0), count(*), coalesce(sum(length(payload)), 0),"
                " coalesce(max(ran_ms), 0) FROM outbox"
            ).fetchone()
            known_ms = store.execute("SELECT coalesce(max(ran_ms), 0) FROM boots").fetchone()[0]
            self._version = store.execute("PRAGMA data_version").fetchone()[0]
        except BaseException:
            self._close()
            raise
        self._store = store
        self._ran_before_ms, self._opened_s = max(ran_ms, known_ms), self._now_s()
        self._boot_nos.clear()
        self._clock_dirty = self._clock is not None and self._clock.clock is Clock.NTP
        self._settled = {n: at for n, at in self._settled.items() if n <= highest}
        self._number_after(highest)
        self._look_behind()

    def _number_after(self, highest: int) -> None:
        """Messages that came before the card could be read get numbers after those on it."""
        if not self._pending or min(self._pending) > highest:
            self._next_id = max(self._next_id, highest + 1)
            return
        shift = highest
        self._pending = {n + shift: entry for n, entry in self._pending.items()}
        self._fresh = deque((n + shift, entry) for n, entry in self._fresh)
        self._on_its_way = {k: (n + shift, e) for k, (n, e) in self._on_its_way.items()}
        self._next_id += shift

    def _commit(self, gone: list[Outgoing]) -> None:
        """Everything pending onto the card, in one transaction."""
        store = self._store
        if store is None or not (self._pending or self._clock_dirty):
            return
        packed = {n: _packed(entry) for n, entry in self._pending.items()}
        size = sum(len(payload) for payload in packed.values())
        evicted: list[_Row] = []
        with transaction(store):
            ran_ms = self._ran_ms()
            for number, entry in self._pending.items():
                boot_no = self._boot_no(store, entry.boot, ran_ms)
                row = (number, boot_no, entry.name, entry.seq, ran_ms, packed[number])
                store.execute("INSERT INTO outbox VALUES (?, ?, ?, ?, ?, ?)", row)
                record(store, boot_no, entry, packed[number])
            if self._bytes + size > self._bounds.max_bytes:
                least = self._bytes + size - int((1 - SLACK) * self._bounds.max_bytes)
                evicted = self._choose_to_evict(store, least)
                self._delete(store, (row.number for row in evicted))
            if self._clock_dirty and self._clock is not None:
                put_times_right(store, self._computer_start, self._clock)
        self._committed_s = self._now_s()
        self._clock_dirty = False
        self._rows += len(self._pending)
        self._bytes += size
        self._pending.clear()
        self._pending_bytes = 0
        self._let_go(evicted, gone)
        while len(self._fresh) > FRESH_MESSAGES:
            self._behind_end = self._fresh.popleft()[0] + 1
        if self._failing is not None:
            self._tell(
                EventKind.OUTBOX_RECOVERED,
                Severity.INFO,
                f"outbox {self._folder}: can be written again (it was: {self._failing})",
            )
            self._failing = None

    def _boot_no(self, store: sqlite3.Connection, boot: str, ran_ms: int) -> int:
        """The number of the start ``boot``."""
        if boot not in self._boot_nos:
            no = start_no(store, boot, self._computer_start, self._clock, ran_ms)
            self._boot_nos[boot] = no
        return self._boot_nos[boot]

    def _choose_to_evict(self, store: sqlite3.Connection, least_bytes: int) -> list[_Row]:
        """The oldest rows of so many bytes in all: ended notes first."""
        chosen: list[_Row] = []
        on_their_way = {number for number, _ in self._on_its_way.values()}
        for which in ("=", "!="):
            for row in self._rows_of(store, f"WHERE o.name {which} '{HISTORY}'"):
                if least_bytes <= 0:
                    return chosen
                if row.number not in on_their_way:
                    chosen.append(row)
                    least_bytes -= row.size
        return chosen

    def _rows_of(self, store: sqlite3.Connection, where: str) -> Iterator[_Row]:
        """Rows, oldest first, without their payload."""
        query = (
            "SELECT o.id, length(o.payload), b.boot, o.name, o.seq"
            f" FROM outbox o JOIN boots b ON b.no = o.boot_no {where} ORDER BY o.id"
        )
        for number, size, boot, name, seq in store.execute(query):
            yield _Row(number, size, _past(name, seq, b"", boot))

    def _delete(self, store: sqlite3.Connection, numbers: Iterable[int]) -> None:
        """Delete rows that are there."""
        for number in numbers:
            for (size,) in store.execute(
                "DELETE FROM outbox WHERE id = ? RETURNING length(payload)", (number,)
            ):
                self._rows -= 1
                self._bytes -= size

    def _let_go(self, rows: Iterable[_Row], gone: list[Outgoing]) -> None:
        """These rows are deleted; those that the broker never had are ``gone``."""
        numbers = {row.number for row in rows}
        if not numbers:
            return
        self._withdraw(numbers)
        self._again -= numbers
        for row in rows:
            if self._settled.pop(row.number, None) is None:
                gone.append(row.entry)

    def _sweep(self, gone: list[Outgoing]) -> None:
        """Delete what the broker has had for long enough and what has waited for too long."""
        store = self._store
        assert store is not None
        self._swept_s = self._now_s()
        before_s = self._acknowledged_s - REPLAY_S
        excess = len(self._settled) - REPLAY_MESSAGES
        going_again = self._again | {number for number, _ in self._on_its_way.values()}
        done = {
            number
            for i, (number, at_s) in enumerate(self._settled.items())
            if (at_s < before_s or i < excess) and number not in going_again
        }
        lost = [row for row in self._unreadable + self._too_old(store) if row.number not in done]
        oldest_kept = max(
            oldest_record_to_keep(store, self._bytes, self._bounds.record_bytes),
            self._oldest_young_enough(store),
        )
        if done or lost or oldest_kept:
            with transaction(store):
                self._delete(store, done)
                self._delete(store, (row.number for row in lost))
                trim_record(store, oldest_kept)
                store.execute(
                    "UPDATE boots SET ran_ms = ? WHERE no = (SELECT max(no) FROM boots)",
                    (self._ran_ms(),),
                )
                forget_starts(store)
        for number in done:
            del self._settled[number]
        self._unreadable.clear()
        self._let_go(lost, gone)
        version = store.execute("PRAGMA data_version").fetchone()[0]
        if version != self._version:
            self._version = version
            self._read_anew(store)

    def _read_anew(self, store: sqlite3.Connection) -> None:
        """Somebody else may have deleted there: what is on the card is asked of the card."""
        again = self._again
        self._fresh = deque(item for item in self._fresh if item[0] in self._pending)
        self._look_behind()
        self._again = again
        self._rows, self._bytes = store.execute(
            "SELECT count(*), coalesce(sum(length(payload)), 0) FROM outbox"
        ).fetchone()

    def _too_old(self, store: sqlite3.Connection) -> list[_Row]:
        oldest_ms = self._ran_ms() - int(self._bounds.max_age_days * DAY_MS)
        young = store.execute(
            "SELECT id FROM outbox WHERE ran_ms >= ? ORDER BY id LIMIT 1", (oldest_ms,)
        ).fetchone()
        end = self._next_id if young is None else young[0]
        on_their_way = {number for number, _ in self._on_its_way.values()}
        rows = self._rows_of(store, f"WHERE o.id < {end}")
        return [row for row in rows if row.number not in on_their_way]

    def _oldest_young_enough(self, store: sqlite3.Connection) -> int:
        """Where the record is to begin by its bound of age."""
        longest_ms = int(self._bounds.record_days * DAY_MS)
        present = None
        if self._boot_nos and self._clock is not None:
            present = (max(self._boot_nos.values()), self._clock.mono_ms - longest_ms)
        return oldest_record_young_enough(store, self._ran_ms() - longest_ms, present)

    def _ran_ms(self) -> int:
        """For how long this outbox has been open in all its life."""
        return self._ran_before_ms + round((self._now_s() - self._opened_s) * 1e3)

    def _close(self) -> None:
        if self._store is not None:
            with suppress(sqlite3.Error):
                self._store.close()
        if self._lock is not None:
            os.close(self._lock)
        self._store = self._lock = None

    # ---- what goes out

    def next(self) -> Outgoing | None:
        number_and_entry = self._next_behind() or self._next_fresh()
        if number_and_entry is None:
            return None
        entry = number_and_entry[1]
        self._on_its_way[entry.key] = number_and_entry
        return entry

    def _next_fresh(self) -> tuple[int, Outgoing] | None:
        if not self._fresh or (self._store is not None and self._fresh[0][0] in self._pending):
            return None
        return self._fresh.popleft()

    def _next_behind(self) -> tuple[int, Outgoing] | None:
        if not self.draining:
            return None
        now_s = self._now_s()
        refilled = self._tokens + (now_s - self._tokens_s) * DRAIN_PER_S
        self._tokens, self._tokens_s = min(float(DRAIN_BURST), refilled), now_s
        if self._tokens < 1:
            return None
        while not self._page:
            before = self._cursor
            if self.draining:
                self._attempt(self._turn_page)
            if self._cursor == before:
                return None
        self._tokens -= 1
        number, entry = self._page.popleft()
        self._again.discard(number)
        return number, entry

    def _turn_page(self) -> None:
        """Read the next rows that were left behind."""
        assert self._store is not None
        rows = self._store.execute(
            "SELECT o.id, o.name, o.seq, o.payload, b.boot, b.wall_minus_mono_ms, b.clock"
            " FROM outbox o JOIN boots b ON b.no = o.boot_no"
            " WHERE o.id >= ? AND o.id < ? ORDER BY o.id LIMIT ?",
            (self._cursor, self._behind_end, PAGE),
        ).fetchall()
        on_their_way = {number for number, _ in self._on_its_way.values()}
        for number, name, seq, payload, boot, ahead_ms, clock in rows:
            known = number in on_their_way or (
                number in self._settled and number not in self._again
            )
            if known:
                continue
            entry = _read(name, seq, payload, boot, ahead_ms if clock == Clock.NTP else None)
            if entry is None:
                row = _Row(number, len(payload), _past(name, seq, b"", boot))
                self._unreadable.append(row)
                self._swept_s = float("-inf")
            else:
                self._page.append((number, entry))
        self._cursor = rows[-1][0] + 1 if len(rows) == PAGE else self._behind_end

    def acknowledge(self, entry: Outgoing) -> None:
        self._settle(entry, self._now_s())

    def refuse(self, entry: Outgoing) -> None:
        self._settle(entry, FOR_GOOD_S)

    def _settle(self, entry: Outgoing, at_s: float) -> None:
        """``entry`` was answered; how long it stays in the table depends on when."""
        number, _ = self._on_its_way.pop(entry.key, (None, None))
        if number is None:
            return
        if number in self._pending:
            self._forget_pending(number)
            return
        self._acknowledged_s = max(self._acknowledged_s, at_s)
        self._settled.pop(number, None)
        self._settled[number] = at_s
        if len(self._settled) > 2 * REPLAY_MESSAGES:
            self._swept_s = float("-inf")

    def rewind(self) -> None:
        again = sorted(self._on_its_way.values(), reverse=True, key=lambda item: item[0])
        for number, entry in again:
            behind = number < self._behind_end  # the card has it, when it is back
            if number in self._pending or (self._store is None and not behind):
                self._fresh.appendleft((number, entry))
        self._on_its_way.clear()
        self._look_behind()

    def _look_behind(self) -> None:
        """Everything on the card that memory does not have is to be sent, from the oldest on."""
        self._page.clear()
        self._again = {number for number, at_s in self._settled.items() if at_s > FOR_GOOD_S}
        self._cursor = 0
        self._behind_end = self._fresh[0][0] if self._fresh else self._next_id

    def holds(self, entry: Outgoing) -> bool:
        key = entry.key
        return key in self._on_its_way or any(each.key == key for _, each in self._fresh)

    def notices(self) -> list[EventMessage]:
        notices, self._notices = self._notices, []
        return notices

    @property
    def rest_s(self) -> float:
        if self._store is None or not self._pending:
            return float("inf")
        return max(0.0, COMMIT_S - (self._now_s() - self._committed_s))

    @property
    def draining(self) -> bool:
        return bool(self._page) or (self._store is not None and self._cursor < self._behind_end)

    @property
    def pressing(self) -> int:
        return len(self._fresh) + len(self._on_its_way)

    @property
    def kept(self) -> int:
        return max(0, self._rows - len(self._settled))

    def __len__(self) -> int:
        return self.kept + len(self._pending)


def _packed(entry: Outgoing) -> bytes:
    """The payload as the card keeps it: notes are many and much alike."""
    return zlib.compress(entry.payload) if entry.name == HISTORY else entry.payload


def _past(name: str, seq: int, payload: bytes, boot: str, mono_ms: int = 0) -> Outgoing:
    """A message from the card: whenever it was made, it is of the past."""
    topic = topic_of(name)
    return Outgoing(topic, name, seq, payload, float("-inf"), boot, mono_ms)


def _read(name: str, seq: int, payload: bytes, boot: str, ahead_ms: int | None) -> Outgoing | None:
    """A row as a message, its time put right where ``ahead_ms`` is known; None if unreadable."""
    try:
        payload = zlib.decompress(payload) if name == HISTORY else payload
        message = decode(name, payload)
    except (msgspec.MsgspecError, ValueError, zlib.error):
        return None
    if not isinstance(message, Envelope) or (message.boot, message.seq) != (boot, seq):
        return None
    if ahead_ms is not None and message.clock is not Clock.NTP:
        t = rfc3339((ahead_ms + message.mono_ms) / 1e3)
        payload = encode(msgspec.structs.replace(message, t=t, clock=Clock.NTP))
    return _past(name, seq, payload, boot, message.mono_ms)
