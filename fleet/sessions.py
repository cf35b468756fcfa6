"""Every sitting at every piano, counted once.

What pianos say on `session` lies in the cluster's stream until it is counted. `serve` reads it
through a consumer that the cluster remembers, so that it may be stopped, killed, and run in
several copies on one file; it acknowledges a message after its totals are committed. What comes
again, from the cluster after a kill or from a piano's own outbox, is known by device, boot and
number and changes nothing.

`session` messages of one id tell the whole sitting so far: the newest, by ``seq``, is the total.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

import msgspec

from edge.errors import InputError, UsageError
from edge.messages import Session, SessionState, decode
from fleet.cluster import MQTT_STREAM, MQTT_SUBJECTS, SUBJECT_ROOT

if TYPE_CHECKING:
    from nats.js import JetStreamContext

CONSUMER = "sessions"
SUBJECT = f"{MQTT_SUBJECTS}{SUBJECT_ROOT}.*.session"
DEVICE_LEVEL = SUBJECT.split(".").index("*")

BATCH = 500
BATCH_S = 1.0
"""One commit a batch: a second of 500 messages, or what came in a second."""

ACKNOWLEDGE_S = 30.0
"""What is not acknowledged for so long is handed out again: many times what a commit takes."""

IN_FLIGHT = 4 * BATCH
RETRY_S = 1

_TABLES = """
CREATE TABLE IF NOT EXISTS session (
  device TEXT NOT NULL, id TEXT NOT NULL, boot TEXT NOT NULL, seq INTEGER NOT NULL,
  t TEXT NOT NULL, state TEXT NOT NULL, minutes REAL NOT NULL, notes INTEGER NOT NULL,
  accuracy REAL, PRIMARY KEY (device, id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS received (
  device TEXT NOT NULL, boot TEXT NOT NULL, first_seq INTEGER NOT NULL, last_seq INTEGER NOT NULL,
  PRIMARY KEY (device, boot, first_seq)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS tally (name TEXT PRIMARY KEY, count INTEGER NOT NULL) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class FleetTotals:
    """What was played on all pianos.

    Attributes
    ----------
    messages : int
        Counted, each once.
    repeats, refused : int
        Messages that came again, and that were not what the contract says.
    missing : int
        Numbers between others of their start that have not come.
    """

    devices: int
    sessions: int
    ended: int
    minutes: float
    notes: int
    messages: int
    repeats: int
    refused: int
    missing: int


class Totals:
    """The file of totals. One thread uses it; others may read the file meanwhile.

    Raises
    ------
    InputError
        The file is no such file, or cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._file = sqlite3.connect(path, isolation_level=None, timeout=30.0)
            self._file.execute("PRAGMA journal_mode=WAL")
            self._file.execute("PRAGMA synchronous=FULL")
            self._file.executescript(_TABLES)
        except sqlite3.DatabaseError as error:
            raise InputError(f"totals {str(path)!r}: {error}; give another file") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, messages: Iterable[tuple[str, bytes]]) -> None:
        """Count device and payload of each message that is new; committed on return."""
        self._file.execute("BEGIN IMMEDIATE")
        try:
            for device, payload in messages:
                self._add(device, payload)
        except BaseException:
            self._file.execute("ROLLBACK")
            raise
        self._file.execute("COMMIT")

    def _add(self, device: str, payload: bytes) -> None:
        try:
            session = decode("session", payload)
        except msgspec.MsgspecError:
            self._tally("refused")
            return
        assert isinstance(session, Session)
        if not self._is_new(device, session.boot, session.seq):
            self._tally("repeats")
            return
        self._file.execute(
            "INSERT INTO session VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (device, id) DO UPDATE SET seq = excluded.seq, t = excluded.t,"
            " state = excluded.state, minutes = excluded.minutes, notes = excluded.notes,"
            " accuracy = excluded.accuracy WHERE boot = excluded.boot AND seq < excluded.seq",
            (
                device,
                session.id,
                session.boot,
                session.seq,
                session.t,
                session.state.value,
                session.minutes,
                session.notes,
                session.accuracy,
            ),
        )

    def _is_new(self, device: str, boot: str, seq: int) -> bool:
        """Join ``seq`` to the ranges of numbers that came; False if it lies in one of them."""
        whose = (device, boot)
        before = self._file.execute(
            "SELECT first_seq, last_seq FROM received WHERE device = ? AND boot = ?"
            " AND first_seq <= ? ORDER BY first_seq DESC LIMIT 1",
            (*whose, seq),
        ).fetchone()
        if before is not None and seq <= before[1]:
            return False
        after = self._file.execute(
            "SELECT last_seq FROM received WHERE device = ? AND boot = ? AND first_seq = ?",
            (*whose, seq + 1),
        ).fetchone()
        first = before[0] if before is not None and before[1] == seq - 1 else seq
        last = seq if after is None else after[0]
        if after is not None:
            self._file.execute(
                "DELETE FROM received WHERE device = ? AND boot = ? AND first_seq = ?",
                (*whose, seq + 1),
            )
        self._file.execute(
            "INSERT OR REPLACE INTO received VALUES (?, ?, ?, ?)", (*whose, first, last)
        )
        return True

    def _tally(self, name: str) -> None:
        self._file.execute(
            "INSERT INTO tally VALUES (?, 1) ON CONFLICT (name) DO UPDATE SET count = count + 1",
            (name,),
        )

    def read(self) -> FleetTotals:
        """The sums."""
        devices, sessions, ended, minutes, notes = self._file.execute(
            "SELECT count(DISTINCT device), count(*), count(*) FILTER (WHERE state = ?),"
            " coalesce(sum(minutes), 0.0), coalesce(sum(notes), 0) FROM session",
            (SessionState.END.value,),
        ).fetchone()
        (messages,) = self._file.execute(
            "SELECT coalesce(sum(last_seq - first_seq + 1), 0) FROM received"
        ).fetchone()
        (missing,) = self._file.execute(
            "SELECT coalesce(sum(span), 0) - ? FROM (SELECT max(last_seq) - min(first_seq) + 1"
            " AS span FROM received GROUP BY device, boot)",
            (messages,),
        ).fetchone()
        tally = dict(self._file.execute("SELECT name, count FROM tally").fetchall())
        return FleetTotals(
            devices,
            sessions,
            ended,
            round(minutes, 3),
            notes,
            messages,
            tally.get("repeats", 0),
            tally.get("refused", 0),
            missing,
        )

    def received(self, device: str, boot: str) -> list[tuple[int, int]]:
        """First and last number of each unbroken run that came from one start of a device."""
        return self._file.execute(
            "SELECT first_seq, last_seq FROM received WHERE device = ? AND boot = ?"
            " ORDER BY first_seq",
            (device, boot),
        ).fetchall()


async def serve(
    servers: Sequence[str],
    totals: Totals,
    replicas: int,
    stop: asyncio.Event,
    on_trouble: Callable[[str], None],
) -> None:
    """Count sessions until ``stop`` is set; what goes wrong on the way is told and tried again.

    Raises
    ------
    UsageError
        Without the extra `fleet`.
    """
    try:
        import nats
    except ImportError as error:
        raise UsageError(
            f"counting sessions needs {error.name}: install the extra `fleet` "
            "(pip install 'sostenuto[fleet]')"
        ) from None

    last_told = ""

    async def told(error: Exception) -> None:
        nonlocal last_told
        line = str(error) or type(error).__name__
        if line != last_told:
            last_told = line
            on_trouble(f"{line} (trying again until it works)")

    connecting = asyncio.create_task(
        nats.connect(
            list(servers), error_cb=told, max_reconnect_attempts=-1, reconnect_time_wait=RETRY_S
        )
    )
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait((connecting, stopping), return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not connecting.done():
        connecting.cancel()
        return
    connection = await connecting
    try:
        stream = connection.jetstream()
        await _until_done(lambda: _make_consumer(stream, replicas), stop, told)
        await _until_done(lambda: _count(stream, totals, stop), stop, told)
    finally:
        await connection.close()


async def _until_done(
    task: Callable[[], Awaitable[None]],
    stop: asyncio.Event,
    on_trouble: Callable[[Exception], Awaitable[None]],
) -> None:
    """Again and again: a cluster that chooses a new leader answers nobody for some seconds."""
    from nats.errors import Error

    while not stop.is_set():
        try:
            await task()
            return
        except (Error, OSError, TimeoutError, sqlite3.Error) as error:
            await on_trouble(error)
            await asyncio.sleep(RETRY_S)


async def _make_consumer(stream: JetStreamContext, replicas: int) -> None:
    """The gateway's stream and our consumer in it, whichever is not there yet.

    The stream forgets at once what nobody is waiting for, so the consumer has to be there before
    the first piano; hence the stream too, made as the gateway would make it.
    """
    from nats.js.api import (
        AckPolicy,
        ConsumerConfig,
        RetentionPolicy,
        StorageType,
        StreamConfig,
    )
    from nats.js.errors import NotFoundError

    try:
        await stream.stream_info(MQTT_STREAM)
    except NotFoundError:
        await stream.add_stream(
            StreamConfig(
                name=MQTT_STREAM,
                subjects=[f"{MQTT_SUBJECTS}>"],
                retention=RetentionPolicy.INTEREST,
                storage=StorageType.FILE,
                num_replicas=replicas,
            )
        )
    await stream.add_consumer(
        MQTT_STREAM,
        ConsumerConfig(
            durable_name=CONSUMER,
            filter_subject=SUBJECT,
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=ACKNOWLEDGE_S,
            max_ack_pending=IN_FLIGHT,
            num_replicas=replicas,
        ),
    )


async def _count(stream: JetStreamContext, totals: Totals, stop: asyncio.Event) -> None:
    from nats.errors import TimeoutError as NothingCameError

    waiting = await stream.pull_subscribe_bind(CONSUMER, stream=MQTT_STREAM)
    while not stop.is_set():
        try:
            batch = await waiting.fetch(BATCH, timeout=BATCH_S)
        except NothingCameError:
            continue
        totals.add((m.subject.split(".")[DEVICE_LEVEL], m.data) for m in batch)
        for message in batch:
            await message.ack()
