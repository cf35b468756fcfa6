"""What was played: notes that have ended, gathered for the record, and found again by time.

`HistoryLog` makes the messages of `history/notes` while the piano is heard. The outbox lays each
into the record too, where it stays after the broker has it (`edge.publish.store` says how it is
numbered). `Record` reads that and erases from it: any program may, while the listener goes on.

A moment of the record is a monotonic time of one start of the program; the wall clock is what
that start found out about it in the end, so a clock that was set late, or twice, leaves the notes
in their order and at their distance.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from edge.errors import InputError, UsageError
from edge.messages import Clock, HistoryNote, HistoryNotes, PedalMessage, Session
from edge.midi import write_midi
from edge.note import NoteEvent, NoteState, NoteUpdate, PedalEvent
from edge.publish.clock import rfc3339
from edge.publish.compose import CONFIDENCE_DIGITS, SECONDS_DIGITS
from edge.publish.outbox import HISTORY
from edge.publish.store import (
    FILE,
    START_BITS,
    NotOursError,
    check_ours,
    connect,
    record_id,
    split_record_id,
    transaction,
)

BATCH_S = 2.0
"""Ended notes are gathered for so long. It is what a power cut may take of them; each batch costs
the card some pages (`device/soak/card_wear.py` measures that)."""

LONGEST_NOTE_S = 120.0
"""A note is recorded when it has ended: one that is looked for by its onset lies no further on."""

LONGEST_SITTING_MS = 24 * 3600 * 1000
"""A session is recorded where it began: one that is looked for lies no further back."""

FOREVER_MS = 1 << 50


class HistoryLog:
    """Gathers ended notes and moves of the pedal into messages of `history/notes`.

    Parameters
    ----------
    stream_start_mono_ms : int or None
        The device's monotonic clock at second 0 of the stream, where there is such.
    batch_s : float
    """

    def __init__(self, stream_start_mono_ms: int | None = None, batch_s: float = BATCH_S) -> None:
        self._stream_start_mono_ms = stream_start_mono_ms
        self._batch_s = batch_s
        self._notes: list[HistoryNote] = []
        self._pedal: list[PedalMessage] = []
        self._session_id: str | None = None
        self._since_s = 0.0

    def push(
        self, events: Iterable[object], now_s: float, session_id: str | None
    ) -> list[HistoryNotes]:
        """Take what was heard up to ``now_s`` seconds of the stream; returns what is full."""
        full: list[HistoryNotes] = []
        if session_id != self._session_id:
            full += self.flush()
            self._session_id = session_id
        for event in events:
            if isinstance(event, NoteUpdate) and event.state is NoteState.ENDED:
                self._begin(now_s)
                self._notes.append(_ended(event))
            elif isinstance(event, PedalEvent):
                self._begin(now_s)
                t_s = round(event.t_s, SECONDS_DIGITS)
                self._pedal.append(PedalMessage(t_s=t_s, down=event.down))
        if now_s - self._since_s >= self._batch_s:
            full += self.flush()
        return full

    def _begin(self, now_s: float) -> None:
        if not self._notes and not self._pedal:
            self._since_s = now_s

    def flush(self) -> list[HistoryNotes]:
        """What was gathered, full or not."""
        if not self._notes and not self._pedal:
            return []
        batch = HistoryNotes(
            session_id=self._session_id,
            notes=tuple(self._notes),
            pedal=tuple(self._pedal),
            stream_start_mono_ms=self._stream_start_mono_ms,
        )
        self._notes, self._pedal = [], []
        return [batch]


def _ended(update: NoteUpdate) -> HistoryNote:
    note = update.note
    offset_s = note.onset_s if note.offset_s is None else note.offset_s
    return HistoryNote(
        id=update.id,
        pitch_midi=note.pitch_midi,
        onset_s=round(note.onset_s, SECONDS_DIGITS),
        offset_s=round(max(offset_s, note.onset_s), SECONDS_DIGITS),
        velocity=note.velocity,
        confidence=round(note.confidence, CONFIDENCE_DIGITS),
    )


@dataclass(frozen=True, slots=True)
class Played:
    """One note of the record; ``onset_ms`` is wall time, ms since 1970."""

    onset_ms: float
    note: HistoryNote
    session_id: str | None


@dataclass(frozen=True, slots=True)
class PedalMoved:
    """One move of the pedal of the record; ``at_ms`` is wall time, ms since 1970."""

    at_ms: float
    down: bool


@dataclass(frozen=True, slots=True)
class Sitting:
    """One session of the record; ``start_ms`` is wall time, worth what ``clock`` says."""

    start_ms: float
    clock: Clock
    session: Session


@dataclass(frozen=True, slots=True)
class Erased:
    """How much is no more: batches of notes, sessions, and messages that still waited."""

    batches: int
    sessions: int
    waiting: int


@dataclass(frozen=True, slots=True)
class _Start:
    """One start of the program, and by how much its wall clock was ahead, in ms."""

    no: int
    boot: str
    ahead_ms: int
    clock: Clock

    def records(self, since_ms: float, until_ms: float) -> tuple[int, int]:
        """First and last number that a record of this stretch of wall time can have."""
        longest = (1 << START_BITS) - 1
        first = min(max(0, int(since_ms - self.ahead_ms)), longest)
        last = min(max(-1, int(until_ms - self.ahead_ms)), longest)
        return record_id(self.no, first), record_id(self.no, last)


class Record:
    """What a device has heard, as its outbox keeps it.

    Parameters
    ----------
    folder : Path
        Where the outbox lies.

    Raises
    ------
    InputError
        By every method: nothing is there, or it cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE

    @contextlib.contextmanager
    def _open(self, *, read_only: bool = True) -> Iterator[sqlite3.Connection]:
        if not self._path.exists():
            raise InputError(f"{self._path}: nothing was recorded there; name the outbox's folder")
        connection = None
        try:
            connection = connect(self._path, read_only=read_only)
            check_ours(connection, self._path)
            yield connection
        except (sqlite3.Error, NotOursError) as error:
            raise InputError(f"{self._path}: cannot be used ({error}); is it an outbox?") from error
        finally:
            if connection is not None:
                connection.close()

    def sittings(self, since_ms: float = 0.0, until_ms: float = FOREVER_MS) -> list[Sitting]:
        """Sessions in which something was played between two wall times, in order."""
        with self._open() as store:
            return [s for _, s in _sittings(store, since_ms, until_ms) if s.session.notes]

    def played(
        self, since_ms: float = 0.0, until_ms: float = FOREVER_MS, session_id: str | None = None
    ) -> Iterator[Played | PedalMoved]:
        """Notes struck, and the pedal moved, between two wall times, as they were recorded."""
        with self._open() as store:
            for _, ahead_ms, made_ms, batch in _batches(store, since_ms, until_ms):
                if session_id is not None and batch.session_id != session_id:
                    continue
                start_ms = ahead_ms + _stream_start_ms(batch, made_ms)
                for note in batch.notes:
                    at_ms = start_ms + note.onset_s * 1e3
                    if since_ms <= at_ms < until_ms:
                        yield Played(at_ms, note, batch.session_id)
                for move in batch.pedal:
                    at_ms = start_ms + move.t_s * 1e3
                    if since_ms <= at_ms < until_ms:
                        yield PedalMoved(at_ms, move.down)

    def erase(self, since_ms: float = 0.0, until_ms: float = FOREVER_MS) -> Erased:
        """Forget what was played between two wall times, sent or not; it is overwritten.

        Batches of notes and sessions that reach into that time go as a whole.
        """
        with self._open(read_only=False) as store:
            store.execute("PRAGMA secure_delete = ON")
            with transaction(store):
                batches = [
                    number
                    for number, ahead_ms, made_ms, batch in _batches(store, since_ms, until_ms)
                    if _reaches(batch, ahead_ms, made_ms, since_ms, until_ms)
                ]
                sessions = [number for number, _ in _sittings(store, since_ms, until_ms)]
                waiting = list(_waiting(store, since_ms, until_ms))
                for table, numbers in (
                    ("history", batches),
                    ("sessions", sessions),
                    ("outbox", waiting),
                ):
                    gone = ((number,) for number in numbers)
                    store.executemany(f"DELETE FROM {table} WHERE id = ?", gone)
            store.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        if since_ms <= 0 and until_ms >= FOREVER_MS:
            for aside in self._path.parent.glob(f"{FILE}.aside*"):
                aside.unlink(missing_ok=True)
        return Erased(len(batches), len(sessions), len(waiting))


def _starts(store: sqlite3.Connection) -> list[_Start]:
    rows = store.execute("SELECT no, boot, wall_minus_mono_ms, clock FROM boots ORDER BY no")
    return [_Start(no, boot, ahead_ms, Clock(clock)) for no, boot, ahead_ms, clock in rows]


def _batches(
    store: sqlite3.Connection, since_ms: float, until_ms: float
) -> Iterator[tuple[int, int, int, HistoryNotes]]:
    """Batches that may have notes of this time: number, how far ahead its wall clock was, when
    it was made by the monotonic one (both ms), and the batch."""
    margin_ms = (LONGEST_NOTE_S + BATCH_S) * 1e3
    for start in _starts(store):
        first, last = start.records(since_ms, until_ms + margin_ms)
        rows = store.execute(
            "SELECT id, payload FROM history WHERE id BETWEEN ? AND ? ORDER BY id", (first, last)
        )
        for number, payload in rows:
            batch = msgspec.json.decode(zlib.decompress(payload), type=HistoryNotes)
            yield number, start.ahead_ms, split_record_id(number)[1], batch


def _stream_start_ms(batch: HistoryNotes, made_ms: int) -> float:
    """Monotonic time of second 0 of the stream; a recording's batch was made at its last sound."""
    if batch.stream_start_mono_ms is not None:
        return batch.stream_start_mono_ms
    last_s = max([n.offset_s for n in batch.notes] + [p.t_s for p in batch.pedal])
    return made_ms - last_s * 1e3


def _reaches(
    batch: HistoryNotes, ahead_ms: int, made_ms: int, since_ms: float, until_ms: float
) -> bool:
    start_ms = ahead_ms + _stream_start_ms(batch, made_ms)
    first_s = min([n.onset_s for n in batch.notes] + [p.t_s for p in batch.pedal])
    last_s = max([n.offset_s for n in batch.notes] + [p.t_s for p in batch.pedal])
    return start_ms + first_s * 1e3 < until_ms and start_ms + last_s * 1e3 >= since_ms


def _sittings(
    store: sqlite3.Connection, since_ms: float, until_ms: float
) -> Iterator[tuple[int, Sitting]]:
    """Sessions that reach into this time, with their numbers."""
    for start in _starts(store):
        first, last = start.records(since_ms - LONGEST_SITTING_MS, until_ms)
        rows = store.execute(
            "SELECT id, last_ms, payload FROM sessions WHERE id BETWEEN ? AND ? ORDER BY id",
            (first, last),
        )
        for number, last_ms, payload in rows:
            if start.ahead_ms + last_ms < since_ms:
                continue
            session = msgspec.json.decode(payload, type=Session)
            begun_ms = float(split_record_id(number)[1])
            if session.stream_start_mono_ms is not None:
                begun_ms = session.stream_start_mono_ms + session.start_s * 1e3
            yield number, Sitting(start.ahead_ms + begun_ms, start.clock, session)


class _Head(Struct, frozen=True):
    """Of a message, what tells when it was made."""

    mono_ms: int


def _waiting(store: sqlite3.Connection, since_ms: float, until_ms: float) -> Iterator[int]:
    """Rows of the outbox that tell what was played in this time."""
    ahead_ms = {start.no: start.ahead_ms for start in _starts(store)}
    rows = store.execute(
        "SELECT id, boot_no, payload, name = ? FROM outbox"
        " WHERE name IN (?, 'session', 'piece', 'feedback')",
        (HISTORY, HISTORY),
    )
    for number, boot_no, payload, packed in rows:
        with contextlib.suppress(msgspec.MsgspecError, zlib.error):
            head = msgspec.json.decode(zlib.decompress(payload) if packed else payload, type=_Head)
            if since_ms <= ahead_ms.get(boot_no, 0) + head.mono_ms < until_ms + BATCH_S * 1e3:
                yield number


# ---- as MIDI, as JSON, as an answer


def export_midi(events: Iterable[Played | PedalMoved], path: Path) -> int:
    """Write what was played as a Standard MIDI File that begins with the first note.

    Returns
    -------
    int
        Notes written.

    Raises
    ------
    UsageError
        The place cannot be written to.
    InputError
        There is nothing to write.
    """
    taken = list(events)
    notes = [event for event in taken if isinstance(event, Played)]
    if not notes:
        raise InputError("nothing was played in that time; `sostenuto history list` says when")
    origin_ms = min(each.onset_ms for each in notes)
    written = [
        NoteEvent(
            each.note.pitch_midi,
            (each.onset_ms - origin_ms) / 1e3,
            (each.onset_ms - origin_ms) / 1e3 + each.note.offset_s - each.note.onset_s,
            each.note.velocity,
            each.note.confidence,
        )
        for each in notes
    ]
    pedal = [
        PedalEvent((each.at_ms - origin_ms) / 1e3, each.down)
        for each in taken
        if isinstance(each, PedalMoved) and each.at_ms >= origin_ms
    ]
    write_midi(path, sorted(written, key=lambda note: note.onset_s), pedal)
    return len(notes)


def note_document(played: Played) -> dict[str, Any]:
    """One note as JSON shows it."""
    return {
        "t": rfc3339(played.onset_ms / 1e3),
        "pitch_midi": played.note.pitch_midi,
        "duration_s": round(played.note.offset_s - played.note.onset_s, SECONDS_DIGITS),
        "velocity": played.note.velocity,
        "confidence": played.note.confidence,
        "session_id": played.session_id,
    }


def sitting_document(sitting: Sitting) -> dict[str, Any]:
    """One session as JSON shows it."""
    session = sitting.session
    return {
        "id": session.id,
        "t": rfc3339(sitting.start_ms / 1e3),
        "clock": str(sitting.clock),
        "minutes": session.minutes,
        "notes": session.notes,
        "accuracy": session.accuracy,
        "pieces": [
            {"title": p.title, "composer": p.composer, "minutes": p.minutes} for p in session.pieces
        ],
    }


def export_json(
    sittings: Sequence[Sitting], events: Iterable[Played | PedalMoved], path: Path
) -> int:
    """Write what was played as one JSON document; returns the notes written.

    Raises
    ------
    UsageError
        The place cannot be written to.
    """
    taken = list(events)
    notes = [note_document(event) for event in taken if isinstance(event, Played)]
    document = {
        "sessions": [sitting_document(sitting) for sitting in sittings],
        "notes": notes,
        "pedal": [
            {"t": rfc3339(event.at_ms / 1e3), "down": event.down}
            for event in taken
            if isinstance(event, PedalMoved)
        ],
    }
    try:
        path.write_text(json.dumps(document, ensure_ascii=False, indent=1) + "\n", "utf-8")
    except OSError as error:
        reason = error.strerror or error
        raise UsageError(f"{path}: cannot be written ({reason}); choose another place") from error
    return len(notes)


def wall_ms(text: str) -> float:
    """A time as people and programs write it, in ms since 1970; without a zone, the system's.

    Raises
    ------
    UsageError
        It is no time.
    """
    try:
        return datetime.fromisoformat(text).astimezone().timestamp() * 1e3
    except (ValueError, OverflowError):
        raise UsageError(
            f"time {text!r}: write 2026-11-20, 2026-11-20T18:02 or 2026-11-20T18:02:11Z"
        ) from None


MOST_SITTINGS = 100
MOST_NOTES = 500
"""So much, and no more, stands in one answer."""


class HistoryQuestion(Struct, frozen=True, forbid_unknown_fields=True, rename={"since": "from"}):
    """The ``value`` of the command `history`.

    Attributes
    ----------
    what : str
        ``sessions`` or ``notes``.
    since, until : str or None
        RFC 3339; ``from`` and ``to`` in JSON.
    session_id : str or None
        Notes of this session only.
    limit : int or None
        At most so many.
    """

    what: str = "sessions"
    since: str | None = None
    until: str | None = msgspec.field(default=None, name="to")
    session_id: str | None = None
    limit: int | None = None


def answer_history(folder: Path, value: Any) -> dict[str, Any]:
    """What was played, as a command asks for it, and no more than fits into an answer.

    Returns
    -------
    dict
        ``sessions`` (the latest of them) or ``notes`` (the first, as they ended), and ``more``:
        true when there is more than that; ask for a shorter time then.

    Raises
    ------
    UsageError
        A question that cannot be understood.
    InputError
        There is no record.
    """
    try:
        question = msgspec.convert({} if value is None else value, HistoryQuestion)
    except msgspec.ValidationError as error:
        raise UsageError(
            f"history: {error}; allowed are what, from, to, session_id and limit"
        ) from None
    most = {"sessions": MOST_SITTINGS, "notes": MOST_NOTES}.get(question.what)
    if most is None:
        raise UsageError(f"what {question.what!r}: allowed are sessions and notes")
    limit = most if question.limit is None else question.limit
    if not 1 <= limit <= most:
        raise UsageError(f"limit {limit}: allowed are 1 to {most}")
    since_ms = 0.0 if question.since is None else wall_ms(question.since)
    until_ms = float(FOREVER_MS) if question.until is None else wall_ms(question.until)
    record = Record(folder)
    found: list[dict[str, Any]] = []
    if question.what == "sessions":
        found = [sitting_document(each) for each in record.sittings(since_ms, until_ms)]
        return {"sessions": found[-limit:], "more": len(found) > limit}
    for event in record.played(since_ms, until_ms, question.session_id):
        if isinstance(event, Played):
            found.append(note_document(event))
            if len(found) > limit:
                break
    return {"notes": found[:limit], "more": len(found) > limit}
