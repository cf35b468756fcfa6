"""`sostenuto-device update …`: what each command does, told to a person or a program."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from device.update.apply import apply, roll_back, settle
from device.update.bundle import ANY_BOARD, PARCELS, Kind, Packing, pack
from device.update.durable import pointed_at
from device.update.failed import all_failed
from device.update.fetch import Told
from device.update.keys import AUTHORITY_KEY, KEYRING, make_keys
from device.update.outcome import Outcome, last, trial_of
from device.update.place import Place, default_board
from edge.cli import console
from edge.errors import DeviceError, UsageError

FAILED_EXIT = 1


def run_apply(source: str, *, allow_downgrade: bool, json: bool) -> int:
    """Apply a bundle; the exit code says whether it is in force or about to prove itself."""
    with _progress("applying") as told:
        outcome = apply(source, Place(), allow_downgrade=allow_downgrade, told=told)
    return _tell(outcome, json=json)


def run_rollback(kind: str | None, *, json: bool) -> int:
    """Go back."""
    with _progress("going back"):
        outcome = roll_back(None if kind is None else Kind(kind), Place())
    return _tell(outcome, json=json)


def run_settle(*, json: bool) -> int:
    """Judge what is on trial. To have gone back is no failure: the piano is listened to."""
    _log_to_journal()
    outcome = settle(Place())
    if outcome is not None:
        _tell(outcome, json=json)
    elif json:
        console.out_json({"result": None})
    else:
        console.out("nothing is on trial")
    return 0


def run_stick(device: Path, *, json: bool) -> int:
    """Apply what fits of a stick."""
    from device.update.stick import apply_from, mounted

    _log_to_journal()
    with mounted(device) as folder:
        outcomes = apply_from(folder, Place())
    for outcome in outcomes:
        _tell(outcome, json=json)
    if not outcomes and not json:
        console.out(f"{device}: no update that is not in force already")
    return 0 if all(outcome.good for outcome in outcomes) else FAILED_EXIT


def run_status(*, json: bool) -> None:
    """What is in force."""
    place = Place()
    if place.state.is_dir() and not os.access(place.state, os.R_OK | os.X_OK):
        raise DeviceError(f"{place.state}: the service's and root's alone; run this as root")
    kinds = (Kind.SYSTEM, *PARCELS) if place.has_slots else (Kind.SOFTWARE, *PARCELS)
    on_trial, before = trial_of(place), last(place)
    if json:
        console.out_json(
            {
                "board": place.boards[-1],
                "in_force": {kind.value: place.version_of(kind) for kind in kinds},
                "previous": {kind.value: _previous(kind, place) for kind in kinds},
                "slot": place.booted_slot,
                "on_trial": on_trial,
                "last": before,
                "passed_over": [failed for failed in all_failed(place) if failed.given_up],
            }
        )
        return
    console.out(f"board: {place.boards[-1]}")
    for kind in kinds:
        previous = _previous(kind, place)
        then = f"; before: {previous}" if previous else ""
        console.out(f"{kind}: {place.version_of(kind)}{then}")
    if on_trial is not None:
        console.out(f"on trial: {on_trial.kind} {on_trial.version}, {on_trial.starts} starts")
    if before is not None:
        console.out(f"last update: {before.result}: {before.text}")
    for failed in all_failed(place):
        if failed.given_up:
            console.out(f"passed over on a stick: {failed.kind} {failed.version}: {failed.why}")


def run_key(folder: Path, name: str) -> None:
    """Make keys, and say what each is for."""
    key, certificate = make_keys(folder, name)
    console.out(f"{key}: signs bundles, with {certificate.name}; for whoever makes them")
    console.out(f"{folder / KEYRING}: for every device, as /etc/rauc/{KEYRING}")
    console.out(
        f"{folder / AUTHORITY_KEY}: lets further keys sign; keep it where no network reaches"
    )


def run_pack(
    kind: str,
    version: str,
    source: Path,
    key: Path,
    output: Path | None,
    needs: str,
    *,
    board: str | None,
    keyring: Path | None,
) -> None:
    """Make a bundle, and say what it is."""
    of = Kind(kind)
    if keyring is not None and of is not Kind.SOFTWARE:
        raise UsageError(f"--keyring given with {kind}; only software and systems bring keys")
    if board is None:
        board = default_board(Path("/nowhere")) if of is Kind.SOFTWARE else ANY_BOARD
    target = output or Path(f"{kind}-{version}.sostenuto")
    certificate = key.with_suffix(".crt")
    with _progress("packing"), _folder_of(source, of, target) as folder:
        packing = Packing(of, version, folder, key, certificate, needs, board, keyring)
        made = pack(packing, target)
    size = target.stat().st_size
    console.out(
        f"{target}: {made}, for {board}, needs software {needs}; {size:,} bytes, "
        f"{made.label.unpacked_bytes:,} on the device"
    )


@contextmanager
def _folder_of(source: Path, kind: Kind, target: Path) -> Iterator[Path]:
    """What is to be packed as a folder: of a card image, its first slot."""
    if kind is not Kind.SYSTEM or source.is_dir():
        yield source
        return
    from device.update.card_image import slot_images

    with tempfile.TemporaryDirectory(prefix=".sostenuto-slot-", dir=target.parent) as name:
        slot_images(source, Path(name))
        yield Path(name)


def _previous(kind: Kind, place: Place) -> str | None:
    if kind is Kind.SYSTEM:
        return None
    folder = place.software if kind is Kind.SOFTWARE else place.parcels / kind
    return pointed_at(folder / "previous")


def _tell(outcome: Outcome, *, json: bool) -> int:
    if json:
        console.out_json(outcome)
    else:
        console.out(outcome.text)
    return 0 if outcome.good else FAILED_EXIT


def _log_to_journal() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)


@contextmanager
def _progress(what: str) -> Iterator[Told]:
    """A bar on standard error, where that is a screen: of bytes while they come, then turning."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn

    screen = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeElapsedColumn())
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as bar:
        task = bar.add_task(what, total=None)
        yield lambda came, size: bar.update(task, completed=came, total=size)
