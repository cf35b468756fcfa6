"""Software on any Debian: a new virtual environment beside the old one, on trial until it hears.

    software/0.1.0/        an environment; it cannot be moved, so it is made in its place
    software/0.2.0/
    software/current   -> 0.2.0    what the service starts
    software/settled   -> 0.1.0    what has proven itself; another is on trial in ``current``
    software/previous  -> 0.0.9    what was settled before

What judges a trial is the settled software and not the one that is judged: `sostenuto-settle`
starts from ``settled``.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from device.service.software import MARK, mark_of
from device.sums import sha256
from device.update.bundle import (
    KEYRING_FILE,
    BadBundleError,
    Bundle,
    Kind,
    check_room,
    last_words,
    run_program,
    unpack,
)
from device.update.durable import (
    disk_says,
    pointed_at,
    remove,
    sync,
    turn,
    turn_back,
    turn_each,
    write_whole,
)
from device.update.outcome import (
    MOST_STARTS,
    Outcome,
    Result,
    Trial,
    mark,
    remember_failed,
    trial_file,
)
from device.update.place import Place
from edge.errors import DeviceError, UsageError

BUNDLE = ".bundle"
NEXT_KEYRING = ".keyring.pem"


def apply_software(bundle: Bundle, place: Place) -> Outcome:
    """Lay the software out, let it hear the known recording, and start it on trial.

    Raises
    ------
    BadBundleError
        It is damaged, has no wheels for this Python, or fails the self-test.
    OSError
        The disk cannot be written; what was in force is.
    """
    base = place.software
    before = place.running_software
    clear(place)
    unpacked = base / BUNDLE
    try:
        unpack(bundle, place.keyring, unpacked)
        (wheel,) = unpacked.glob("sostenuto-*.whl")
        name = environment_name(bundle.version, sha256(wheel), base)
        if name == pointed_at(base / "current"):
            return Outcome(
                Result.ALREADY, f"{bundle} is in force already", Kind.SOFTWARE, name, before
            )
        if mark_of(base / name) is None:
            _make_environment(base / name, wheel, place)
        failure = place.hears(base / name / "bin" / "sostenuto-device")
        if failure is not None:
            if name != pointed_at(base / "previous"):
                shutil.rmtree(base / name)
            raise BadBundleError(f"{bundle}: {failure}; {before} stays in force")
        ring = unpacked / KEYRING_FILE
        if ring.is_file():
            write_whole(base / NEXT_KEYRING, ring.read_bytes())
    except OSError:
        clear(place)
        raise
    finally:
        shutil.rmtree(unpacked, ignore_errors=True)
    return start_trial(name, place, sha256(bundle.path))


def start_trial(name: str, place: Place, bundle_sha256: str = "") -> Outcome:
    """Turn ``current`` to an environment and see whether it settles."""
    base = place.software
    now = pointed_at(base / "current")
    if now is not None and pointed_at(base / "settled") is None:
        turn(base / "settled", now)
    before = pointed_at(base / "settled") or ""
    trial = Trial(Kind.SOFTWARE, name, name, before, sha256=bundle_sha256)
    try:
        mark(trial, place)
        turn(base / "current", name)
    except OSError:
        remove(trial_file(place))
        clear(place)
        raise
    return settle_software(trial, place, ready=place.service.restart())


def roll_back_software(place: Place) -> Outcome:
    """Back to the software before: a trial like any other, of what has settled once already.

    Raises
    ------
    UsageError
        There is none.
    """
    previous = pointed_at(place.software / "previous")
    if previous is None or previous == pointed_at(place.software / "current"):
        raise UsageError("there is no software before this one here; apply a bundle of it")
    return start_trial(previous, place)


def settle_software(trial: Trial, place: Place, *, ready: bool | None = None) -> Outcome:
    """Judge a trial, or finish a judgement that a cut of power left halfway.

    ``ready`` says whether the service is, where that is known.
    """
    base = place.software
    current, settled = pointed_at(base / "current"), pointed_at(base / "settled")
    if current == settled == trial.target:
        return _committed(trial, place)
    if current != trial.target:
        remove(trial_file(place))
        if trial.starts == 0:
            text = f"software {trial.version} was never started: the power was cut before it was"
        else:
            text = f"software {trial.version} did not prove itself; back to {current}"
            remember_failed(trial, "it did not prove itself", place, judged=True)
        return Outcome(Result.ROLLED_BACK, text, Kind.SOFTWARE, trial.version, trial.before)
    trial = trial.started()
    try:
        mark(trial, place)
        fault = _fault(trial, place, ready=ready)
        if fault is None:
            previous = [] if settled is None else [(base / "previous", settled)]
            turn_each(*previous, (base / "settled", trial.target))
    except OSError as error:
        return _back(trial, disk_says(error, base), place)
    if fault is None:
        return _committed(trial, place)
    remember_failed(trial, fault, place, judged=True)
    return _back(trial, fault, place)


def _fault(trial: Trial, place: Place, *, ready: bool | None) -> str | None:
    """Why software that runs on trial cannot settle; None where it can."""
    if trial.starts > MOST_STARTS:
        return f"was started {MOST_STARTS} times without settling"
    if not (place.service.ready() if ready is None else ready):
        return "was not ready in time"
    failure = place.hears(place.software / trial.target / "bin" / "sostenuto-device")
    if failure is not None:
        return failure
    return None if place.service.ready() else "did not stay ready"


def clear(place: Place) -> None:
    """Take away the environments that nobody points to, and what was left of a bundle."""
    base = place.software
    remove(base / NEXT_KEYRING)
    links = ("current", "settled", "previous")
    kept = {pointed_at(base / link) for link in links}
    for path in sorted(base.iterdir()):
        if path.is_dir() and not path.is_symlink() and path.name not in kept:
            shutil.rmtree(path)
    sync(base)


def environment_name(version: str, wheel_sha256: str, base: Path) -> str:
    """Its folder: the version, and where another wheel of that version is there, its sum too."""
    there = mark_of(base / version)
    return version if there in (None, wheel_sha256) else f"{version}-{wheel_sha256[:8]}"


def _make_environment(folder: Path, wheel: Path, place: Place) -> None:
    """An environment from the bundle's wheels alone; its mark comes when all is on the card."""
    shutil.rmtree(folder, ignore_errors=True)
    made = run_program((place.python, "-m", "venv", "--system-site-packages", str(folder)))
    if made.returncode == 0:
        made = run_program(
            (
                *(str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet"),
                *("--no-index", "--find-links", str(wheel.parent), "--no-cache-dir"),
                *("--disable-pip-version-check", str(wheel)),
            )
        )
    if made.returncode != 0:
        shutil.rmtree(folder, ignore_errors=True)
        check_room(made, folder)
        raise BadBundleError(
            f"{wheel.name}: cannot be laid out here: {last_words(made)}; the bundle has to bring "
            "every wheel for this processor and Python"
        )
    os.sync()
    write_whole(folder / MARK, f"{sha256(wheel)}\n".encode())


def _committed(trial: Trial, place: Place) -> Outcome:
    ring = place.software / NEXT_KEYRING
    if ring.is_file():
        try:
            write_whole(place.keyring, ring.read_bytes())
        except OSError as error:
            raise DeviceError(
                f"software {trial.version} is in force, and the keys that it brings are not yet: "
                f"{disk_says(error, place.keyring)}; the next start tries it again"
            ) from None
        remove(ring)
    remove(trial_file(place))
    text = f"software {trial.version} is in force, after {trial.before}"
    return Outcome(Result.COMMITTED, text, Kind.SOFTWARE, trial.version, trial.before)


def _back(trial: Trial, why: str, place: Place) -> Outcome:
    base = place.software
    settled = pointed_at(base / "settled")
    if settled is None:
        text = f"software {trial.version}: {why}; there is no other to go back to"
    else:
        turn_back(base / "current", base / "settled")
        remove(base / NEXT_KEYRING)
        place.service.restart()
        text = f"software {trial.version}: {why}; back to {settled}"
    remove(trial_file(place))
    return Outcome(Result.ROLLED_BACK, text, Kind.SOFTWARE, trial.version, trial.before)
