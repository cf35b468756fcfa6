"""What others on this device want told: a folder from which the running ear publishes events.

An update is applied by another program, at times while nobody listens, and one device has one
client. So that program leaves a note in ``STATE/notices/``, and the ear publishes it as an `event`
once it runs, in the order in which the notes were left. A note is taken away after it was handed to
the outbox; one that cannot be read is taken away untold and logged.
"""

from __future__ import annotations

import logging
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from edge.messages import EventKind, EventMessage, Severity

log = logging.getLogger(__name__)

FOLDER = "notices"

MOST_NOTICES = 32
"""Of more than so many, left while nobody listened, only the newest are kept."""

MOST_BYTES = 4096


class Notice(msgspec.Struct, frozen=True):
    """One event that is to be told."""

    kind: EventKind
    severity: Severity
    text: str


def leave(notice: Notice, state: Path) -> None:
    """Leave a notice for the ear whose state folder this is.

    It is written as whom the folder belongs to: root must not follow a link that a service, or
    whoever got into it, laid there.
    """
    with _as_owner(state):
        folder = state / FOLDER
        folder.mkdir(exist_ok=True)
        name = f"{time.time_ns():020d}-{secrets.token_hex(4)}"
        fresh = folder / f".{name}"
        fresh.write_bytes(msgspec.json.encode(notice))
        fresh.rename(folder / f"{name}.json")
        for old in sorted(folder.glob("[!.]*.json"))[:-MOST_NOTICES]:
            old.unlink(missing_ok=True)


def take(state: Path) -> Iterator[EventMessage]:
    """The notices as messages, the oldest first; each is gone when the next is asked for."""
    try:
        waiting = sorted((state / FOLDER).glob("[!.]*.json"))
    except OSError:
        return
    for path in waiting:
        notice = _read(path)
        if notice is not None:
            yield EventMessage(kind=notice.kind, severity=notice.severity, text=notice.text)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            log.warning("%s: cannot be taken away, and would be told again: %s", path, error)
            return


def _read(path: Path) -> Notice | None:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ValueError(f"more than {MOST_BYTES} bytes")
        return msgspec.json.decode(path.read_bytes(), type=Notice)
    except (OSError, ValueError, msgspec.DecodeError) as error:
        log.warning("%s: no notice: %s", path, error)
        return None


@contextmanager
def _as_owner(folder: Path) -> Iterator[None]:
    owner = folder.stat()
    if os.geteuid() != 0 or owner.st_uid == 0:
        yield
        return
    group = os.getegid()
    os.setegid(owner.st_gid)
    os.seteuid(owner.st_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(group)
