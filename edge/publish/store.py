"""The file on the card that keeps what was played: one SQLite database per device.

Four tables. `outbox` holds what the broker does not have, and for a while what it has just been
given, for a broker that is killed forgets (`edge.publish.disk_outbox`). `history` and `sessions`
are the record, whether it was sent or not (`edge.publish.history`). `boots` knows each start of
the program: its name, and by how much the wall clock was ahead of the monotonic one, so that
times noted before the clock was set can be put right in one row.

Rows of the record are numbered by their time: a start's number, then milliseconds of the
monotonic clock. A stretch of time is therefore a stretch of numbers, and is found without
looking at anything else.

The file is one of ours if it says so in its head (`APPLICATION_ID`); anything else that bears its
name, and one that SQLite finds damaged, is put aside and never written to.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import msgspec

from edge.messages import Clock, Session
from edge.publish.clock import Stamp
from edge.publish.outbox import HISTORY, Outgoing

FILE = "outbox.sqlite"
APPLICATION_ID = 0x50_49_41_4E  # "PIAN"
SCHEMA_VERSION = 1

BUSY_S = 0.5
"""How long another program's writing (`sostenuto history erase`) is waited for."""

CACHE_KIB = 512
"""Memory that SQLite may use for pages."""

PAGE_BYTES = 1024
CHECKPOINT_PAGES = 4000
"""A batch of notes is some hundred bytes, and every page that it touches is written: with pages of
4 KiB an hour of playing cost the card half as much again (`device/soak/card_wear.py`). So much of
the log, 4 MiB, is gathered before it goes into the file."""

START_BITS = 42
"""A record's number: the start's number times two to this power, plus milliseconds."""

TRIM_ROWS = 1_000
"""Batches of notes that a record too large gives up at a time, the oldest."""

MAX_STARTS = 1_000
"""So many starts of the program are remembered before those without a trace are forgotten."""

_NEXT = "max(?, coalesce((SELECT max(id) + 1 FROM {} WHERE id < ?), 0))"
"""The number of a record: its time, or the next if another has that."""

_SCHEMA = """
CREATE TABLE boots (
    no INTEGER PRIMARY KEY,
    boot TEXT NOT NULL UNIQUE,
    computer_start TEXT NOT NULL,
    wall_minus_mono_ms INTEGER NOT NULL,
    clock TEXT NOT NULL,
    ran_ms INTEGER NOT NULL
);
CREATE TABLE outbox (
    id INTEGER PRIMARY KEY,
    boot_no INTEGER NOT NULL,
    name TEXT NOT NULL,
    seq INTEGER NOT NULL,
    ran_ms INTEGER NOT NULL,
    payload BLOB NOT NULL
);
CREATE TABLE history (id INTEGER PRIMARY KEY, payload BLOB NOT NULL);
CREATE TABLE sessions (
    id INTEGER PRIMARY KEY,
    session TEXT NOT NULL UNIQUE,
    last_ms INTEGER NOT NULL,
    payload BLOB NOT NULL
);
"""


class NotOursError(Exception):
    """A file that bears the outbox's name and is something else."""


def state_folder() -> Path:
    """Where a service or a user keeps state: systemd's STATE_DIRECTORY, else the XDG folder."""
    given = os.environ.get("STATE_DIRECTORY", "").split(":")[0]
    if given:
        return Path(given)
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "sostenuto"


def kernel_start() -> str:
    """Names this start of the computer: as long as it is the same, so is the monotonic clock."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def record_id(boot_no: int, mono_ms: int) -> int:
    """The number of what was recorded ``mono_ms`` into start ``boot_no``."""
    return (boot_no << START_BITS) + mono_ms


def split_record_id(record: int) -> tuple[int, int]:
    """Start and milliseconds of a record's number."""
    return record >> START_BITS, record & ((1 << START_BITS) - 1)


def open_store(folder: Path) -> sqlite3.Connection:
    """Open the database in ``folder``, made if it is not there.

    Every commit is on the card when it returns (WAL, synchronous FULL); what is deleted is
    overwritten.

    Raises
    ------
    OSError, sqlite3.Error
        The place cannot be used; the file is damaged (SQLITE_CORRUPT, SQLITE_NOTADB).
    NotOursError
        Another program's file, or that of a later version.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / FILE
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    connection = connect(path)
    try:
        if _is_new(connection):
            _make(connection)
        else:
            check_ours(connection, path)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA secure_delete = ON")
        connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
        connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
    except BaseException:
        connection.close()
        raise
    return connection


def connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """A connection in which transactions begin where the code says so."""
    mode = "ro" if read_only else "rw"
    location = f"{path.absolute().as_uri()}?mode={mode}"
    return sqlite3.connect(location, uri=True, timeout=BUSY_S, isolation_level=None)


def _is_new(connection: sqlite3.Connection) -> bool:
    return bool(connection.execute("PRAGMA page_count").fetchone()[0] == 0)


def _make(connection: sqlite3.Connection) -> None:
    connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
    connection.executescript(
        f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA application_id = {APPLICATION_ID}; "
        f"PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
    )


def check_ours(connection: sqlite3.Connection, path: Path) -> None:
    """Raise `NotOursError` unless the file says that it is an outbox of this version."""
    mark = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if mark != APPLICATION_ID:
        raise NotOursError(f"{path} belongs to another program")
    if version != SCHEMA_VERSION:
        raise NotOursError(f"{path} is of version {version}, known is {SCHEMA_VERSION}")


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All of it or nothing, on the card when it ends."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise


def put_aside(folder: Path) -> Path:
    """Rename an unusable database, in place of one put aside before; returns its new name."""
    aside = folder / f"{FILE}.aside"
    for suffix in ("", "-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            (folder / f"{FILE}{suffix}").replace(f"{aside}{suffix}")
    return aside


def lock(folder: Path) -> int:
    """Claim the outbox for this process; returns a descriptor, to be closed to give it up.

    Raises
    ------
    BlockingIOError
        Another process has it.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(folder / "outbox.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


# ---- what the outbox writes, within its transactions


def start_no(
    store: sqlite3.Connection, boot: str, computer_start: str, clock: Stamp | None, ran_ms: int
) -> int:
    """The number of the start ``boot``, noted if it is not known."""
    ahead_ms, quality = 0, str(Clock.UNSYNCED)
    if clock is not None:
        ahead_ms, quality = clock.wall_minus_mono_ms, str(clock.clock)
    store.execute(
        "INSERT OR IGNORE INTO boots (boot, computer_start, wall_minus_mono_ms, clock, ran_ms)"
        " VALUES (?, ?, ?, ?, ?)",
        (boot, computer_start, ahead_ms, quality, ran_ms),
    )
    return int(store.execute("SELECT no FROM boots WHERE boot = ?", (boot,)).fetchone()[0])


def put_times_right(store: sqlite3.Connection, computer_start: str, clock: Stamp) -> None:
    """The clock is known now, and with it that of every start since the computer's own."""
    store.execute(
        "UPDATE boots SET wall_minus_mono_ms = ?, clock = ? WHERE computer_start = ?",
        (clock.wall_minus_mono_ms, str(clock.clock), computer_start),
    )


def record(store: sqlite3.Connection, boot_no: int, entry: Outgoing, packed: bytes) -> None:
    """Notes and sessions go into the record too, whatever becomes of the message.

    ``packed`` is the payload as the outbox keeps it. A session in which nothing was played is
    none.
    """
    number, end = record_id(boot_no, entry.mono_ms), record_id(boot_no + 1, 0)
    if entry.name == HISTORY:
        row = (number, end, packed)
        store.execute(f"INSERT INTO history VALUES ({_NEXT.format('history')}, ?)", row)
    elif entry.topic.message is Session:
        session = msgspec.json.decode(entry.payload, type=Session)
        if not session.notes:
            return
        store.execute(
            f"INSERT INTO sessions VALUES ({_NEXT.format('sessions')}, ?, ?, ?)"
            " ON CONFLICT (session) DO UPDATE"
            " SET last_ms = excluded.last_ms, payload = excluded.payload",
            (number, end, session.id, entry.mono_ms, entry.payload),
        )


def oldest_record_to_keep(store: sqlite3.Connection, outbox_bytes: int, max_bytes: int) -> int:
    """Where the record is to begin, so that it shrinks to ``max_bytes`` in time; 0: as it is."""
    pages, free, page_bytes = (
        store.execute(f"PRAGMA {what}").fetchone()[0]
        for what in ("page_count", "freelist_count", "page_size")
    )
    if (pages - free) * page_bytes - outbox_bytes <= max_bytes:
        return 0
    row = store.execute(
        "SELECT id FROM history ORDER BY id LIMIT 1 OFFSET ?", (TRIM_ROWS,)
    ).fetchone()
    return 0 if row is None else int(row[0])


def oldest_record_young_enough(
    store: sqlite3.Connection, oldest_ran_ms: int, present: tuple[int, int] | None
) -> int:
    """Where the record is to begin, so that nothing is older than that; 0: as it is.

    ``present`` is the start that runs now and the oldest moment of its monotonic clock that may
    stay. Of an earlier one is known when it was last heard of, so it goes as a whole.
    """
    no, oldest_mono_ms = present or (-1, 0)
    row = store.execute(
        "SELECT max(no) FROM boots WHERE ran_ms < ? AND no != ?", (oldest_ran_ms, no)
    ).fetchone()
    begin = 0 if row[0] is None else record_id(row[0] + 1, 0)
    if oldest_mono_ms > 0:
        begin = max(begin, record_id(no, oldest_mono_ms))
    older = store.execute("SELECT 1 FROM history WHERE id < ? LIMIT 1", (begin,)).fetchone()
    return 0 if older is None else begin


def trim_record(store: sqlite3.Connection, oldest_kept: int) -> None:
    """Forget what was played before the record number ``oldest_kept``, and sessions that ended."""
    if not oldest_kept:
        return
    store.execute("DELETE FROM history WHERE id < ?", (oldest_kept,))
    store.execute(
        f"DELETE FROM sessions WHERE (id >> {START_BITS} << {START_BITS}) + last_ms < ?",
        (oldest_kept,),
    )


def forget_starts(store: sqlite3.Connection) -> None:
    """Starts of which nothing is left are forgotten, now and then: a row is small."""
    if store.execute("SELECT count(*) FROM boots").fetchone()[0] <= MAX_STARTS:
        return
    store.execute(
        "DELETE FROM boots WHERE no < (SELECT max(no) FROM boots)"
        " AND no NOT IN (SELECT boot_no FROM outbox)"
        f" AND no NOT IN (SELECT id >> {START_BITS} FROM history)"
        f" AND no NOT IN (SELECT id >> {START_BITS} FROM sessions)"
    )
