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
