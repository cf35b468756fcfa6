"""An update from its file to its end, and what is left to be settled at a start."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from device.sums import sha256
from device.update.bundle import PARCELS, BadBundleError, Bundle, Kind, read_bundle
from device.update.durable import disk_says, remove
from device.update.failed import remember
from device.update.fetch import Told, copied, fetched, is_url
from device.update.outcome import Outcome, Result, keep, trial_file, trial_of
from device.update.parcels import apply_parcel, roll_back_parcel
from device.update.place import Place, fits
from device.update.software import apply_software, roll_back_software, settle_software
from device.update.system import apply_system, roll_back_system, settle_system
from edge.errors import DeviceError, InputError, SostenutoError, UsageError


def apply(
    source: str, place: Place, *, allow_downgrade: bool = False, told: Told = lambda *_: None
) -> Outcome:
    """Apply the bundle of a file or URL; how it ended is kept, and told as an event.

    Raises
    ------
    SostenutoError
        It is refused, or cannot be applied; what was in force still is.
    """
    with place.alone():
        with _disk_told(place):
            finish_trial(place)
        try:
            return _apply_from(source, place, allow_downgrade=allow_downgrade, told=told)
        except SostenutoError as error:
            keep(Outcome(Result.REFUSED, str(error)), place)
            raise


def _apply_from(source: str, place: Place, *, allow_downgrade: bool, told: Told) -> Outcome:
    with _disk_told(place):
        if is_url(source):
            with fetched(source, place.parcels, told) as path:
                bundle = _fitting(path, place, allow_downgrade=allow_downgrade)
                return keep(_apply(bundle, place), place)
        bundle = _fitting(Path(source), place, allow_downgrade=allow_downgrade)
        if bundle.kind is Kind.SYSTEM:  # as large as half a card; RAUC checks what it writes
            return keep(_apply(bundle, place), place)
        with copied(bundle.path, place.parcels) as copy:
            # Believed again: between the two looks a stick may have been changed.
            bundle = _fitting(copy, place, allow_downgrade=allow_downgrade)
            return keep(_apply(bundle, place), place)


def _apply(bundle: Bundle, place: Place) -> Outcome:
    try:
        if bundle.kind is Kind.SYSTEM:
            return apply_system(bundle, place)
        if bundle.kind in PARCELS:
            return apply_parcel(bundle, place)
        return apply_software(bundle, place)
    except BadBundleError as error:
        whose = sha256(bundle.path)
        remember(whose, bundle.kind, bundle.version, str(error), place, judged=True)
        raise


@contextmanager
def _disk_told(place: Place) -> Iterator[None]:
    """An error of the disk is a line for people; whatever is put in force waits for none."""
    try:
        yield
    except OSError as error:
        raise DeviceError(
            f"{disk_says(error, place.parcels)}; what was in force stays in force"
        ) from error


def _fitting(path: Path, place: Place, *, allow_downgrade: bool) -> Bundle:
    bundle = read_bundle(path, place.keyring)
    fits(bundle, place, allow_downgrade=allow_downgrade)
    return bundle


def settle(place: Place) -> Outcome | None:
    """At a start: judge what is on trial; None where nothing is."""
    with place.alone(), _disk_told(place):
        return _settle(place)


def finish_trial(place: Place) -> None:
    """Before another update: an update that was cut off is started again, and judged.

    Raises
    ------
    InputError
        It needs a restart of the device to be judged.
    """
    trial = trial_of(place)
    if trial is not None and trial.kind is Kind.SYSTEM and trial.target != place.booted_slot:
        raise InputError(
            f"system {trial.version} is written and not yet tried: restart the device, and apply "
            "this one then"
        )
    if trial is not None and trial.kind is Kind.SOFTWARE:
        keep(settle_software(trial, place, ready=place.service.restart()), place)
    else:
        _settle(place)


def _settle(place: Place) -> Outcome | None:
    trial = trial_of(place)
    if trial is None:
        remove(trial_file(place))  # a mark that cannot be read marks nothing
        return None
    judge = settle_system if trial.kind is Kind.SYSTEM else settle_software
    return keep(judge(trial, place), place)


def roll_back(kind: Kind | None, place: Place) -> Outcome:
    """Back to what was in force before, of one kind, or of what was updated last.

    Raises
    ------
    UsageError
        Nothing was updated, or there is nothing to go back to.
    """
    from device.update.outcome import last

    if kind is None:
        before = last(place)
        if before is None or before.kind is None:
            raise UsageError("it is not known what was updated last; say it by --kind")
        kind = before.kind
    with place.alone(), _disk_told(place):
        finish_trial(place)
        if kind is Kind.SYSTEM:
            return keep(roll_back_system(place), place)
        if kind is Kind.SOFTWARE:
            return keep(roll_back_software(place), place)
        return keep(roll_back_parcel(kind, place), place)
