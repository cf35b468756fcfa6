"""Updates on a USB stick: plugged in, read, applied if they fit; nobody is asked.

Looked for are files ``*.sostenuto`` and ``*.raucb`` in its top folder. Of each kind the newest that
fits is applied, software first, since it may be what the parcels beside it need. What does not fit
is refused as from anywhere else, and told. A stick may stay in the device, which meets it again at
every start: what is in force already is passed over, and so is what was tried and found bad.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from device.update.apply import apply
from device.update.bundle import Bundle, Kind, last_words, read_bundle, run_program
from device.update.failed import given_up
from device.update.outcome import Outcome, Result, keep
from device.update.place import Place
from edge.errors import InputError, SostenutoError, UsageError
from edge.resources import version_numbers

log = logging.getLogger(__name__)

SUFFIXES = (".sostenuto", ".raucb")
ORDER = (Kind.SOFTWARE, Kind.MODELS, Kind.CATALOG, Kind.SYSTEM)
"""A system comes last: the device starts again with it."""


def apply_from(folder: Path, place: Place) -> list[Outcome]:
    """Apply what fits of a stick that is mounted at ``folder``; how each ended."""
    found = sorted(
        path
        for path in folder.iterdir()
        if path.suffix in SUFFIXES and path.is_file() and not path.is_symlink()
    )
    outcomes: list[Outcome] = []
    believed: list[Bundle] = []
    for path in found:
        try:
            believed.append(read_bundle(path, place.keyring))
        except InputError as error:
            outcomes.append(_refused(error, place))
    for kind in ORDER:
        ours = sorted((b for b in believed if b.kind is kind), key=_by_version, reverse=True)
        outcomes += _newest_that_fits(ours, place)
    return outcomes


def _newest_that_fits(bundles: list[Bundle], place: Place) -> Iterator[Outcome]:
    for bundle in bundles:
        if bundle.version == place.version_of(bundle.kind):
            log.info("%s on the stick is in force already", bundle)
            return
        failed = given_up(bundle, place)
        if failed is not None:
            text = (
                f"{bundle.path.name}: {bundle} was tried on this device and failed: {failed.why}; "
                "it is passed over. `sostenuto-device update apply` tries it again"
            )
            log.info("%s", text)
            yield Outcome(Result.PASSED_OVER, text, bundle.kind, bundle.version)
            continue
        try:
            outcome = apply(str(bundle.path), place)
        except SostenutoError as error:
            yield Outcome(Result.REFUSED, str(error), bundle.kind, bundle.version)
            continue
        yield outcome
        if outcome.good:
            return


def _by_version(bundle: Bundle) -> tuple[int, ...]:
    return version_numbers(bundle.version) or ()


def _refused(error: InputError, place: Place) -> Outcome:
    with place.alone():
        return keep(Outcome(Result.REFUSED, str(error)), place)


@contextmanager
def mounted(device: Path) -> Iterator[Path]:
    """A stick's file system, to be read and nothing else.

    Raises
    ------
    UsageError
        It is the system's own disk, or cannot be mounted.
    """
    if disk_of(device) in own_disks():
        raise UsageError(f"{device} is on the disk that this system runs from: no stick")
    with tempfile.TemporaryDirectory(prefix="sostenuto-stick-", dir="/run") as name:
        options = "ro,nosuid,nodev,noexec"
        ran = run_program(("mount", "-o", options, str(device), name))
        if ran.returncode != 0:
            raise UsageError(f"{device}: cannot be mounted ({last_words(ran)})")
        try:
            yield Path(name)
        finally:
            run_program(("umount", "--lazy", name))


def disk_of(device: Path, sys: Path = Path("/sys")) -> str:
    """The disk that a partition is on, by its kernel name; a disk is its own."""
    lies = (sys / "class" / "block" / device.resolve().name).resolve()
    return lies.parent.name if (lies / "partition").exists() else lies.name


def own_disks(sys: Path = Path("/sys")) -> frozenset[str]:
    """The disks of the file systems that this system runs from."""
    disks = set()
    for folder in ("/", "/boot", "/boot/card", "/data", "/var/lib/sostenuto"):
        try:
            number = Path(folder).stat().st_dev
        except OSError:
            continue
        lies = (sys / "dev" / "block" / f"{os.major(number)}:{os.minor(number)}").resolve()
        disks.add(lies.parent.name if (lies / "partition").exists() else lies.name)
    return frozenset(disks)
