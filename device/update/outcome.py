"""What an update came to: kept for `update status`, told over MQTT, printed."""

from __future__ import annotations

import logging
from enum import StrEnum
from pathlib import Path

import msgspec

from device.update.bundle import Kind
from device.update.durable import disk_says, write_whole
from device.update.failed import forget, remember
from device.update.place import Place
from edge.messages import EventKind, Severity
from edge.publish.notices import Notice, leave

log = logging.getLogger(__name__)

LAST_FILE = "last.json"


class Result(StrEnum):
    """How it ended."""

    COMMITTED = "committed"
    ALREADY = "already"
    ON_TRIAL = "on_trial"
    ROLLED_BACK = "rolled_back"
    REFUSED = "refused"
    PASSED_OVER = "passed_over"


class Outcome(msgspec.Struct, frozen=True):
    """One update's end.

    Attributes
    ----------
    result : Result
    text : str
        One line for people.
    kind : Kind or None
        None where it was not even a bundle.
    version : str or None
    before : str or None
        What was in force when it began.
    """

    result: Result
    text: str
    kind: Kind | None = None
    version: str | None = None
    before: str | None = None

    @property
    def good(self) -> bool:
        """Whether nothing went wrong: it is in force, about to prove itself, or was not touched."""
        return self.result not in (Result.ROLLED_BACK, Result.REFUSED)


_EVENTS = {
    Result.COMMITTED: (EventKind.UPDATE_COMMITTED, Severity.INFO),
    Result.ROLLED_BACK: (EventKind.UPDATE_ROLLED_BACK, Severity.ERROR),
    Result.REFUSED: (EventKind.UPDATE_REFUSED, Severity.WARNING),
}


def keep(outcome: Outcome, place: Place) -> Outcome:
    """Write down how it ended and leave word for the ear, which tells it over MQTT."""
    log.info("%s", outcome.text)
    if outcome.result is Result.COMMITTED:
        forget(outcome.kind, outcome.version, place)
    try:
        write_whole(place.parcels / LAST_FILE, msgspec.json.encode(outcome) + b"\n")
    except OSError as error:  # it has ended so all the same
        log.warning("%s", disk_says(error, place.parcels / LAST_FILE))
    if outcome.result in _EVENTS and place.state.is_dir():
        kind, severity = _EVENTS[outcome.result]
        try:
            leave(Notice(kind, severity, outcome.text), place.state)
        except OSError as error:  # a full disk keeps nobody from going back
            log.warning("%s: no notice can be left: %s", place.state, error)
    return outcome


def last(place: Place) -> Outcome | None:
    """How the last update ended, if there was one."""
    try:
        return msgspec.json.decode((place.parcels / LAST_FILE).read_bytes(), type=Outcome)
    except (OSError, msgspec.DecodeError):
        return None


class Trial(msgspec.Struct, frozen=True):
    """A version that runs before it has proven itself.

    Attributes
    ----------
    kind : Kind
        Software, or a whole system.
    version : str
    target : str
        The environment's folder, or the slot.
    before : str
        The version that it goes back to.
    starts : int
        How often it was started without having settled.
    sha256 : str
        Of the bundle that it came from; empty where it was there before.
    """

    kind: Kind
    version: str
    target: str
    before: str
    starts: int = 0
    sha256: str = ""

    def started(self) -> Trial:
        """The trial, with one start more."""
        return msgspec.structs.replace(self, starts=self.starts + 1)


TRIAL_FILE = "trial.json"

MOST_STARTS = 2
"""Starts on trial; one more without having settled leads back."""


def trial_of(place: Place) -> Trial | None:
    """What is on trial; None for nothing, and for a mark that cannot be read."""
    try:
        return msgspec.json.decode((place.parcels / TRIAL_FILE).read_bytes(), type=Trial)
    except (OSError, msgspec.DecodeError):
        return None


def mark(trial: Trial, place: Place) -> None:
    """Write down that it is on trial; the units at start look for this file."""
    write_whole(trial_file(place), msgspec.json.encode(trial) + b"\n")


def trial_file(place: Place) -> Path:
    """The mark of a trial."""
    return place.parcels / TRIAL_FILE


def remember_failed(trial: Trial, why: str, place: Place, *, judged: bool) -> None:
    """So that a stick does not bring it for ever (`device.update.failed`)."""
    remember(trial.sha256, trial.kind, trial.version, why, place, judged=judged)
