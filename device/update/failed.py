"""What was tried on this device and failed, so that a stick left in it does not bring it for ever.

A bundle on a stick is met again at every start. One that was judged and found bad is passed over
from then on; one of which it is not known whether the bundle or a cut of power ended its trial gets
one try more. Whoever asks for it by `update apply` gets it tried in any case, and what is in force
at last is forgotten here.
"""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec

from device.sums import sha256
from device.update.bundle import Bundle, Kind
from device.update.durable import write_whole
from device.update.place import Place

log = logging.getLogger(__name__)

FAILED_FILE = "failed.json"

MOST_TRIES = 2
"""Trials that ended without a judgement; a judgement counts as much as all of them."""

MOST_REMEMBERED = 32
"""Of more bundles than so many, those that failed last."""


class Failed(msgspec.Struct, frozen=True):
    """A bundle that was tried.

    Attributes
    ----------
    sha256 : str
        Of the whole file.
    kind : Kind
    version : str
    why : str
    tries : int
        `MOST_TRIES`: it is passed over on a stick.
    """

    sha256: str
    kind: Kind
    version: str
    why: str
    tries: int

    @property
    def given_up(self) -> bool:
        return self.tries >= MOST_TRIES


def all_failed(place: Place) -> tuple[Failed, ...]:
    """What is remembered, the oldest first; nothing where that cannot be read."""
    try:
        text = _file(place).read_bytes()
        return msgspec.json.decode(text, type=tuple[Failed, ...])
    except (OSError, msgspec.DecodeError):
        return ()


def given_up(bundle: Bundle, place: Place) -> Failed | None:
    """What is remembered of this very file, if it shall not be tried unasked.

    It is read through only where something of its kind failed: a system has half a gigabyte.
    """
    known = {
        failed.sha256: failed
        for failed in all_failed(place)
        if failed.kind is bundle.kind and failed.given_up
    }
    try:
        return known.get(sha256(bundle.path)) if known else None
    except OSError:  # a stick that was pulled out: the update says so
        return None


def remember(
    bundle_sha256: str, kind: Kind, version: str, why: str, place: Place, *, judged: bool
) -> None:
    """Note down that a bundle was tried and is not in force.

    Parameters
    ----------
    bundle_sha256 : str
        Empty where no file was tried; then there is nothing to remember.
    judged : bool
        Whether the bundle itself was found bad, and not just its trial ended.
    """
    if not bundle_sha256:
        return
    known = {failed.sha256: failed for failed in all_failed(place)}
    before = known.pop(bundle_sha256, None)
    if before is not None and before.given_up and not judged:
        return
    tries = MOST_TRIES if judged else 1 + (before.tries if before else 0)
    now = Failed(bundle_sha256, kind, version, why, tries)
    _write([*known.values(), now][-MOST_REMEMBERED:], place)


def forget(kind: Kind | None, version: str | None, place: Place) -> None:
    """It is in force after all."""
    left = [f for f in all_failed(place) if (f.kind, f.version) != (kind, version)]
    if len(left) < len(all_failed(place)):
        _write(left, place)


def _write(failed: list[Failed], place: Place) -> None:
    try:
        write_whole(_file(place), msgspec.json.encode(failed) + b"\n")
    except OSError as error:  # a full disk keeps nobody from going back
        log.warning("%s: cannot be written: %s", _file(place), error)


def _file(place: Place) -> Path:
    return place.parcels / FAILED_FILE
