"""Note models and catalogue packs: laid beside the old ones, heard with, then put in force.

    parcels/models/0.1.0.1/     a whole parcel, every file as signed
    parcels/models/0.1.0.2/     another
    parcels/models/current   -> 0.1.0.2
    parcels/models/previous  -> 0.1.0.1

A parcel gets its name only when all of it is on the card and the self-test has passed with it, and
is in force from the one rename on that turns ``current``. Whatever else lies there nobody points
to; the next update takes it away.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from device.sums import sha256
from device.update.bundle import (
    CONTENT_FILE,
    BadBundleError,
    Bundle,
    Kind,
    fault_in,
    unpack,
)
from device.update.durable import (
    move,
    pointed_at,
    remove,
    sync,
    sync_tree,
    turn,
    turn_back,
    turn_each,
)
from device.update.failed import remember
from device.update.outcome import Outcome, Result
from device.update.place import Place
from edge.errors import InputError, UsageError

PART = ".part"


def apply_parcel(bundle: Bundle, place: Place) -> Outcome:
    """Put a verified parcel in force, unless the ear does not hear rightly with it.

    Raises
    ------
    BadBundleError
        It is damaged, or fails the self-test.
    InputError
        It is another one of a version that is there.
    OSError
        The disk cannot be written; what was in force is.
    """
    folder = place.parcels / bundle.kind
    folder.mkdir(exist_ok=True)
    before = place.version_of(bundle.kind)
    if _is_in_force(bundle, folder):
        return Outcome(
            Result.ALREADY, f"{bundle} is in force already", bundle.kind, bundle.version, before
        )
    clear(folder)
    was = pointed_at(folder / "current")
    try:
        _lay(bundle, folder, before, place)
        previous = [] if was is None else [(folder / "previous", was)]
        turn_each(*previous, (folder / "current", bundle.version))
    except (InputError, OSError):
        clear(folder)
        raise
    if not place.service.restart():
        return _back(bundle, folder, was, before, place)
    return Outcome(
        Result.COMMITTED,
        f"{bundle} is in force, after {before}",
        bundle.kind,
        bundle.version,
        before,
    )


def _lay(bundle: Bundle, folder: Path, before: str, place: Place) -> None:
    """Under its name, whole and heard with, and not yet in force."""
    part = folder / PART
    unpack(bundle, place.keyring, part)
    sync_tree(part)
    failure = place.hears(**{bundle.kind: part})
    if failure is not None:
        raise BadBundleError(f"{bundle}: with it, {failure}; {before} stays in force")
    if pointed_at(folder / "previous") == bundle.version:
        remove(folder / "previous")
    shutil.rmtree(folder / bundle.version, ignore_errors=True)
    move(part, folder / bundle.version)


def roll_back_parcel(kind: Kind, place: Place) -> Outcome:
    """Back to the parcel before, or from the only one to what came with the software.

    Raises
    ------
    UsageError
        No parcel is in force.
    """
    folder = place.parcels / kind
    now, previous = pointed_at(folder / "current"), pointed_at(folder / "previous")
    if now is None:
        raise UsageError(f"no {kind} were ever updated here; those of the software are in force")
    if previous is not None and previous != now:
        turn(folder / "current", previous)
    else:
        remove(folder / "current")
    remove(folder / "previous")
    ready = place.service.restart()
    version = place.version_of(kind)
    text = f"back from {kind} {now} to {version}, as asked"
    if not ready:
        text += "; the service is not ready yet"
    return Outcome(Result.COMMITTED, text, kind, version, now)


def clear(folder: Path) -> None:
    """Take away what nobody points to: what a cut left, and what is older than the one before."""
    kept = {pointed_at(folder / "current"), pointed_at(folder / "previous")}
    for path in sorted(folder.iterdir()):
        if path.is_dir() and not path.is_symlink() and path.name not in kept:
            shutil.rmtree(path)
    sync(folder)


def _is_in_force(bundle: Bundle, folder: Path) -> bool:
    """Whether this very parcel is; one that the card has damaged is taken out of force."""
    if pointed_at(folder / "current") != bundle.version:
        return False
    lies = folder / bundle.version
    if fault_in(lies) is not None:
        remove(folder / "current")
        return False
    if sha256(lies / CONTENT_FILE) != bundle.label.content_sha256:
        raise InputError(
            f"{bundle.path.name}: another {bundle} is in force already; what has another "
            "content needs another version"
        )
    return True


def _back(bundle: Bundle, folder: Path, was: str | None, before: str, place: Place) -> Outcome:
    if was is None:
        remove(folder / "current")
    else:
        turn_back(folder / "current", folder / "previous")
    why = "the service was not ready with it"
    remember(sha256(bundle.path), bundle.kind, bundle.version, why, place, judged=True)
    ready = place.service.restart()
    text = f"{bundle}: {why}; back to {before}"
    if not ready:
        text += ", with which it is not ready either"
    return Outcome(Result.ROLLED_BACK, text, bundle.kind, bundle.version, before)
