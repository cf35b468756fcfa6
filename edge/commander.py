"""The commands of a dashboard, carried out by the hand that listens.

`Commander.serve` is called between two blocks of sound and takes a few commands at a time, so a
flood of them delays the ear by no more than a block. It knows what is asked and what may be
answered; what a piano can do is the piano's own (`Piano`), and what a piano keeps through a
restart is `Standing`.
"""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import msgspec
from msgspec.structs import replace

from edge.errors import SostenutoError, UsageError
from edge.full_test import FullTest
from edge.logs import OnceThenCounted, counted
from edge.messages import (
    COMMANDS,
    AudioState,
    Check,
    ChosenPiece,
    Detail,
    DetailChange,
    Diagnostics,
    Envelope,
    EventKind,
    Extent,
    Health,
    HistoryAnswer,
    HistoryRequest,
    Info,
    Listening,
    Refusal,
    Response,
    ResponseStatus,
    SelfTest,
    SelfTestResult,
    encode,
)
from edge.publish.commands import Asked, CommandDesk, RefusedError, legible, read_command
from edge.publish.health import LEAST_FREE_BYTES
from edge.publish.history import answer_history

log = logging.getLogger(__name__)

AT_ONCE = 4
"""Commands carried out between two blocks."""

ENVELOPE_BYTES = 256
"""What the envelope adds to an answer; a little more than the longest."""

ROOM_BYTES = 1024
"""What an answer needs beside its data: the envelope, and a transaction written at its longest."""

LOG_LINES = 100
LOG_CHARACTERS = 300
"""What is kept of the log for `diagnostics`: under 32 kB whatever happens."""

HOTTEST_C = 80.0
"""A Raspberry Pi begins to slow itself down here (its documentation, "frequency management")."""

SOUND_IS_WELL = frozenset({AudioState.RUNNING, AudioState.SILENT, AudioState.MIDI, AudioState.OFF})

AskHistory = Callable[[HistoryRequest, int], HistoryAnswer]
"""A part of the past that takes no more bytes than the second argument says; raises
`SostenutoError` where the past cannot be read."""

Look = Callable[[Health], Check]
"""One more thing for the self-test to look at."""


class Piano(Protocol):
    """What `edge.listen.Listener` can do that a command may ask for."""

    @property
    def info(self) -> Info: ...

    @property
    def detail(self) -> Detail: ...

    @property
    def fault_counts(self) -> dict[str, int]: ...

    @property
    def broker_trouble(self) -> str | None: ...

    def switch(self, on: bool) -> None: ...

    def choose_piece(self, piece_id: str | None) -> None: ...

    def set_detail(self, detail: Detail) -> None: ...

    def tell_health(self) -> Health: ...

    def restart(self) -> None: ...

    def say(self, topic: str, message: Envelope) -> None: ...

    def fault(self, kind: EventKind, line: str) -> None: ...


class Standing:
    """Whether the piano listens, kept through restarts in one small file.

    A file that is there and cannot be read counts as switched off: somebody who did not want to
    be heard is not to be heard because a card went bad.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def listening(self) -> bool:
        """What was said last; True where nothing ever was."""
        try:
            found = msgspec.json.decode(self._path.read_bytes(), type=dict[str, bool])
        except FileNotFoundError:
            return True
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            log.warning("%s cannot be read (%s): listening stays switched off", self._path, error)
            return False
        return found.get("listening", False)

    def keep(self, listening: bool) -> bool:
        """Write it down, on the disk before this returns; False when that cannot be done."""
        fresh = self._path.with_suffix(".new")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with fresh.open("wb") as file:
                file.write(msgspec.json.encode({"listening": listening}))
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(self._path)
            folder = os.open(self._path.parent, os.O_RDONLY)
            with suppress(OSError):
                os.fsync(folder)
            os.close(folder)
        except OSError as error:
            log.warning("%s cannot be written (%s)", self._path, error.strerror)
            return False
        return True


class LogTail(logging.Handler):
    """The last lines of the log, with every word in ``secrets`` struck out."""

    def __init__(self, secrets: Sequence[str] = ()) -> None:
        super().__init__(logging.INFO)
        self.addFilter(OnceThenCounted())
        self._secrets = tuple(word for word in secrets if word)
        self.lines: deque[str] = deque(maxlen=LOG_LINES)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one line."""
        with suppress(Exception):
            said = counted(record.getMessage(), record)
            text = f"{record.levelname} {record.name}: {said}"
            for word in self._secrets:
                text = text.replace(word, "…")
            self.lines.append(legible(text, LOG_CHARACTERS))


class Commander:
    """Takes commands from the desk and carries them out.

    Parameters
    ----------
    desk : CommandDesk
    standing : Standing or None
        Where it is kept whether the piano listens; None: nowhere.
    settings : dict
        For `diagnostics`; without secrets.
    log_tail : LogTail or None
        For `diagnostics` too.
    history : AskHistory or None
        None where no past is kept.
    looks : sequence of Look
        What the self-test looks at beside the usual.
    full_test : FullTest or None
        What the full one does beside that; None where there is nothing for it.
    allowed : collection of str
        The commands that are carried out at all.
    """

    def __init__(
        self,
        desk: CommandDesk,
        *,
        standing: Standing | None = None,
        settings: dict[str, Any] | None = None,
        log_tail: LogTail | None = None,
        history: AskHistory | None = None,
        looks: Sequence[Look] = (),
        full_test: FullTest | None = None,
        allowed: Collection[str] = tuple(COMMANDS),
    ) -> None:
        self._desk = desk
        self._standing = standing
        self._settings = settings or {}
        self._log_tail = log_tail
        self._history = history
        self._looks = looks
        self._full_test = full_test
        self._full_asked: Asked | None = None
        self._allowed = frozenset(allowed)
        self._turned_away = 0
        self._refused = 0

    @property
    def refused(self) -> int:
        """Commands that were not carried out."""
        return self._refused

    def serve(self, piano: Piano) -> None:
        """Carry out what waits, a few at most."""
        away = self._desk.turned_away - self._turned_away
        if away:
            self._turned_away += away
            self._refused += away
            piano.fault(
                EventKind.COMMAND_REFUSED, f"{away} commands came faster than they are read"
            )
        for _ in range(AT_ONCE):
            arrival = self._desk.take()
            if arrival is None:
                break
            try:
                asked = read_command(arrival, self._allowed)
            except RefusedError as refused:
                self._refuse(piano, refused)
                continue
            try:
                self._answer(piano, asked)
            except RefusedError as refused:
                self._refuse(piano, refused)
        self._end_full_test(piano)

    def _refuse(self, piano: Piano, refused: RefusedError) -> None:
        self._refused += 1
        log.info("command refused: %s", refused.text)
        if refused.transaction is None:
            piano.fault(EventKind.COMMAND_REFUSED, refused.text)
            return
        piano.say(
            f"rsp/{refused.name}",
            Response(
                status=ResponseStatus.ERROR,
                transaction=refused.transaction,
                error=refused.text,
                reason=refused.reason,
            ),
        )

    def _answer(self, piano: Piano, asked: Asked) -> None:
        def refused(reason: Refusal, text: str) -> RefusedError:
            return RefusedError(reason, text, asked.kind.name, asked.transaction)

        try:
            if asked.kind.name == "self_test" and asked.value is Extent.FULL:
                self._begin_full_test(asked)
                return
            answer = self._carry_out(piano, asked)
        except SostenutoError as error:
            raise refused(Refusal.NOT_POSSIBLE, str(error)) from None
        except Exception as error:
            log.exception("the command %s failed", asked.kind.name)
            raise refused(Refusal.FAILED, f"{type(error).__name__}: {error}") from None
        self._say_answer(piano, asked, answer)

    def _begin_full_test(self, asked: Asked) -> None:
        """Its answer comes when it has ended."""
        if self._full_test is None:
            raise UsageError("there is no full self-test here; ask without a value")
        self._full_test.begin(time.monotonic())
        self._full_asked = asked

    def _end_full_test(self, piano: Piano) -> None:
        """Answer whoever asked, and tell everybody, if it has ended."""
        asked = self._full_asked
        if asked is None or self._full_test is None:
            return
        heard = self._full_test.ended(time.monotonic())
        if heard is None:
            return
        self._full_asked = None
        now = self_test(piano.tell_health(), piano.broker_trouble, self._looks)
        checks = (*heard, *now.checks)
        found = SelfTest(passed=all(check.passed for check in checks), checks=checks)
        piano.say("self_test", SelfTestResult(passed=found.passed, checks=checks))
        try:
            self._say_answer(piano, asked, found)
        except RefusedError as refused:
            self._refuse(piano, refused)

    def _say_answer(self, piano: Piano, asked: Asked, answer: Any) -> None:
        response = Response(status=ResponseStatus.OK, transaction=asked.transaction, data=answer)
        size = len(encode(response)) + ENVELOPE_BYTES
        if size > asked.max_bytes:
            text = f"the answer has {size} bytes; max_bytes allows {asked.max_bytes}"
            raise RefusedError(Refusal.ANSWER_TOO_LARGE, text, asked.kind.name, asked.transaction)
        piano.say(f"rsp/{asked.kind.name}", response)

    def _carry_out(self, piano: Piano, asked: Asked) -> Any:
        value = asked.value
        match asked.kind.name:
            case "listen":
                kept = self._standing.keep(value) if self._standing is not None else False
                piano.switch(value)
                return Listening(listening=value, kept=kept)
            case "piece":
                piano.choose_piece(value)
                return ChosenPiece(piece_id=value)
            case "detail":
                piano.set_detail(changed(piano.detail, value))
                return piano.detail
            case "self_test":
                return self_test(piano.tell_health(), piano.broker_trouble, self._looks)
            case "health":
                return piano.tell_health()
            case "diagnostics":
                return self._diagnostics(piano, asked.max_bytes)
            case "history":
                if self._history is None:
                    raise UsageError("this device keeps no history")
                return self._history(value, asked.max_bytes - ROOM_BYTES)
            case "restart":
                piano.restart()
                return None
        raise UsageError(f"{asked.kind.name} cannot be carried out here")

    def _diagnostics(self, piano: Piano, max_bytes: int) -> Diagnostics:
        """All of it, with as many of the log's lines as there is room for."""
        lines = list(self._log_tail.lines) if self._log_tail is not None else []
        found = Diagnostics(
            info=piano.info,
            health=piano.tell_health(),
            settings=self._settings,
            faults=piano.fault_counts,
            broker=piano.broker_trouble,
            log=tuple(lines),
        )
        while lines and len(encode(found)) + ROOM_BYTES > max_bytes:
            del lines[: max(1, len(lines) // 4)]
            found = replace(found, log=tuple(lines))
        return found


def recorded_in(folder: Path) -> AskHistory:
    """The past as the outbox in ``folder`` has recorded it."""

    def ask(request: HistoryRequest, max_bytes: int) -> HistoryAnswer:
        question: dict[str, Any] = {
            "what": str(request.what),
            "from": request.since,
            "to": request.until,
            "session_id": request.session_id,
            "limit": request.limit,
        }
        while True:
            found = answer_history(folder, question)
            answer = msgspec.convert(found, HistoryAnswer)
            got = max(len(answer.sessions), len(answer.notes))
            size = len(encode(answer))
            if size <= max_bytes or got <= 1:
                return answer
            question["limit"] = max(1, min(got - 1, got * max_bytes // size))

    return ask


def changed(detail: Detail, change: DetailChange) -> Detail:
    """``detail`` after ``change``."""
    wanted = msgspec.structs.asdict(change)
    return replace(detail, **{name: on for name, on in wanted.items() if on is not None})


def self_test(health: Health, broker_trouble: str | None, looks: Sequence[Look] = ()) -> SelfTest:
    """What the device can tell of itself without a sound."""
    checks = [
        Check(
            name="sound",
            passed=health.audio in SOUND_IS_WELL,
            text=f"the sound is {health.audio}",
        ),
        Check(
            name="pace",
            passed=health.queue_blocks == 0 or health.overruns == 0,
            text=f"{health.overruns} times sound was lost, {health.queue_blocks} blocks wait",
        ),
        Check(
            name="broker",
            passed=broker_trouble is None,
            text=broker_trouble or f"connected, {health.queue_messages} messages wait",
        ),
        _check_disk(health.disk_free_bytes),
        _check_heat(health),
    ]
    checks += [look(health) for look in looks]
    return SelfTest(passed=all(check.passed for check in checks), checks=tuple(checks))


def _check_disk(free: int | None) -> Check:
    if free is None:
        return Check(name="disk", passed=False, text="the disk cannot be read")
    text = f"{free // 2**20} MB free"
    return Check(name="disk", passed=free >= LEAST_FREE_BYTES, text=text)


def _check_heat(health: Health) -> Check:
    held_back = ", ".join(health.throttling or ())
    hot = health.temperature_c is not None and health.temperature_c >= HOTTEST_C
    degrees = "unknown" if health.temperature_c is None else f"{health.temperature_c:.0f} °C"
    text = f"temperature {degrees}" + (f", held back by {held_back}" if held_back else "")
    return Check(name="heat", passed=not hot and not held_back, text=text)
