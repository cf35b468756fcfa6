"""What a dashboard asks of a piano, from the network to the hand that carries it out.

Whoever may write to the broker can write anything, so a command is a stranger's word: the
publisher's thread only lays it into a short queue (`CommandDesk`), and `read_command` finds in
it a command of the contract or says why not. Nothing of either touches the listening; that is
done by the worker, between two blocks (`edge.commander`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import msgspec

from edge.messages import (
    COMMANDS,
    MOST_COMMAND_BYTES,
    Command,
    CommandKind,
    Refusal,
    full_topic,
)

WAITING = 16
"""Commands that wait to be carried out; a dashboard asks one at a time, so more is a flood."""

NAME_CHARACTERS = 32
TEXT_CHARACTERS = 200
"""What is shown of a stranger's word in a log or an answer."""

FAMILY = "cmd"


@dataclass(frozen=True, slots=True)
class Arrival:
    """A command as it came: ``payload`` is empty when ``size_bytes`` is more than is read."""

    name: str
    payload: bytes
    retained: bool
    size_bytes: int


class CommandDesk:
    """Takes commands from the connection (a `Guest`) and keeps a few until the worker asks.

    Parameters
    ----------
    device : str
        The device's name in the topics.
    """

    def __init__(self, device: str) -> None:
        self._prefix = full_topic(device, f"{FAMILY}/")
        self._waiting: deque[Arrival] = deque()
        self.turned_away = 0
        """Commands that found no room."""

    @property
    def topics(self) -> tuple[str, ...]:
        """Every command of this device."""
        return (self._prefix + "+",)

    def greeting(self) -> list[tuple[str, bytes]]:
        """Nothing to say."""
        return []

    def received(self, topic: str, payload: bytes, retain: bool) -> list[tuple[str, bytes]]:
        """Lay a command into the queue; called by the publisher's thread."""
        if topic.startswith(self._prefix):
            if len(self._waiting) >= WAITING:
                self.turned_away += 1
            else:
                size = len(payload)
                read = payload if size <= MOST_COMMAND_BYTES else b""
                name = topic.removeprefix(self._prefix)
                self._waiting.append(Arrival(name, read, retain, size))
        return []

    def take(self) -> Arrival | None:
        """The oldest command that waits; called by the worker."""
        return self._waiting.popleft() if self._waiting else None


@dataclass(frozen=True, slots=True)
class Asked:
    """A command of the contract: ``value`` is of the type that ``kind`` says."""

    kind: CommandKind
    value: Any
    transaction: str
    max_bytes: int


class RefusedError(Exception):
    """A command that is not carried out.

    Attributes
    ----------
    reason : Refusal
    text : str
        One line for people, without control characters, of bounded length.
    name : str
        Where the answer goes, as in ``rsp/<name>``: a name of the contract, or ``unknown``.
    transaction : str or None
        Whom to answer; None when nobody can be.
    """

    def __init__(
        self, reason: Refusal, text: str, name: str = "unknown", transaction: str | None = None
    ) -> None:
        self.reason = reason
        self.text = legible(text)
        self.name = name
        self.transaction = transaction
        super().__init__(self.text)


class _Addressed(msgspec.Struct):
    """As much of a command as is needed to refuse it politely."""

    transaction: Any = None


_READ = msgspec.json.Decoder(Command)
_READ_ADDRESS = msgspec.json.Decoder(_Addressed)
_UNREADABLE = (msgspec.MsgspecError, ValueError, RecursionError)


def legible(text: str, characters: int = TEXT_CHARACTERS) -> str:
    """``text`` on one line, short, and without what could play tricks on a terminal."""
    shown = "".join(c if c.isprintable() else "?" for c in text[: characters + 1])
    return shown if len(shown) <= characters else shown[: characters - 1] + "…"


def read_command(arrival: Arrival, allowed: Collection[str] = tuple(COMMANDS)) -> Asked:
    """The command in ``arrival``.

    Raises
    ------
    RefusedError
        Retained, too large, no JSON, not of the contract, unknown, or not in ``allowed``.
    """
    shown = legible(arrival.name, NAME_CHARACTERS)
    if arrival.retained:
        raise RefusedError(
            Refusal.RETAINED, f"{shown} is retained at the broker, and would come again; delete it"
        )
    if arrival.size_bytes > MOST_COMMAND_BYTES:
        raise RefusedError(
            Refusal.OVERSIZED,
            f"{shown} has {arrival.size_bytes} bytes; {MOST_COMMAND_BYTES} are allowed",
        )
    kind = COMMANDS.get(arrival.name)
    name = "unknown" if kind is None else kind.name
    transaction = _transaction(arrival.payload)
    if kind is None:
        known = ", ".join(COMMANDS)
        raise RefusedError(
            Refusal.UNKNOWN, f"no command {shown!r}; there are {known}", name, transaction
        )
    if kind.name not in allowed:
        text = f"{kind.name} is not among the commands that this device's settings allow"
        raise RefusedError(Refusal.NOT_ALLOWED, text, name, transaction)
    try:
        command = _READ.decode(arrival.payload)
    except _UNREADABLE as error:
        raise RefusedError(Refusal.MALFORMED, _why(error), name, transaction) from None
    try:
        value = msgspec.convert(command.value, kind.value)
    except _UNREADABLE as error:
        text = f"value: {_why(error)}"
        raise RefusedError(Refusal.MALFORMED, text, name, transaction) from None
    return Asked(kind, value, command.transaction, command.max_bytes)


def _transaction(payload: bytes) -> str | None:
    """The transaction of a command that may be wrong in everything else."""
    try:
        found = _READ_ADDRESS.decode(payload).transaction
    except _UNREADABLE:
        return None
    return found if isinstance(found, str) and 0 < len(found) <= 64 else None


def _why(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "nested too deeply"
    if isinstance(error, UnicodeDecodeError):
        return "no UTF-8"
    text = str(error)
    return text[:1].lower() + text[1:]
