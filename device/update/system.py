"""A whole system on a card with two slots: RAUC writes the other one, which has to prove itself.

On trial is the slot that was written until it was seen ready and heard the known recording. What
leads back is the boot loader's: a Raspberry Pi's firmware tries a slot for one start, GRUB starts a
slot that has not settled once (``grub.cfg.in``). So what cannot start at all needs no judge.
"""

from __future__ import annotations

import re
from contextlib import suppress

import msgspec

from device.sums import sha256
from device.update import grub_boot
from device.update.bundle import Bundle, Kind, last_words, rauc
from device.update.durable import remove
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

OTHER = {"A": "B", "B": "A"}


def apply_system(bundle: Bundle, place: Place) -> Outcome:
    """Write the other slot, and start it on trial.

    Raises
    ------
    DeviceError
        RAUC refuses it, or it is not known which slot runs.
    """
    slot = OTHER[_booted(place)]
    before = place.version_of(Kind.SYSTEM)
    if bundle.version == before:
        text = f"{bundle} is in force already"
        return Outcome(Result.ALREADY, text, Kind.SYSTEM, before, before)
    trial = Trial(Kind.SYSTEM, bundle.version, slot, before, sha256=sha256(bundle.path))
    try:
        _rauc("install", str(bundle.path))
        return _start_trial(trial, place)
    except DeviceError as error:
        remember_failed(trial, str(error), place, judged=False)
        raise


def roll_back_system(place: Place) -> Outcome:
    """Start the other slot on trial, if it is whole.

    Raises
    ------
    UsageError
        Nothing was ever written to it, or it was found bad.
    """
    slot = OTHER[_booted(place)]
    if slot not in good_slots(_rauc("status", "--output-format=json")):
        raise UsageError(f"slot {slot} holds no system that is known to be good; apply a bundle")
    before = place.version_of(Kind.SYSTEM)
    return _start_trial(Trial(Kind.SYSTEM, f"of slot {slot}", slot, before), place)


def _start_trial(trial: Trial, place: Place) -> Outcome:
    """Note it down, and only then let it start: whatever starts unproven is judged."""
    try:
        mark(trial, place)
        _rauc("status", "mark-active", "other")
    except (DeviceError, OSError):
        remove(trial_file(place))
        raise
    place.service.reboot(tryboot=place.tries_by_firmware)
    return Outcome(
        Result.ON_TRIAL,
        f"system {trial.version} is written; the device starts it now, and comes back to "
        f"{trial.before} unless it hears",
        Kind.SYSTEM,
        trial.version,
        trial.before,
    )


def settle_system(trial: Trial, place: Place) -> Outcome:
    """Judge the slot that runs; a bad one is marked as such and left by a restart.

    Raises
    ------
    DeviceError
        RAUC or GRUB's program fails: then the trial goes on, and the next start leads back.
    """
    slot = _booted(place)
    if slot != trial.target:
        with suppress(DeviceError):  # it does not start by itself, marked or not
            _rauc("status", "mark-bad", "other")
        remember_failed(trial, "it did not prove itself", place, judged=False)
        remove(trial_file(place))
        text = f"system {trial.version} did not prove itself; back to {trial.before}"
        return Outcome(Result.ROLLED_BACK, text, Kind.SYSTEM, trial.version, trial.before)
    trial = trial.started()
    mark(trial, place)
    if trial.starts > MOST_STARTS:
        return _leave(trial, f"was started {MOST_STARTS} times without settling", place)
    if not place.service.ready():
        return _leave(trial, "the service was not ready in time", place)
    failure = place.hears()
    if failure is not None:
        return _leave(trial, failure, place)
    if not place.service.ready():
        return _leave(trial, "the service did not stay ready", place)
    if not place.tries_by_firmware:
        set_settled(slot)
    _rauc("status", "mark-good", "booted")
    remove(trial_file(place))
    text = f"system {trial.version} is in force, after {trial.before}"
    return Outcome(Result.COMMITTED, text, Kind.SYSTEM, trial.version, trial.before)


def _leave(trial: Trial, why: str, place: Place) -> Outcome:
    """Start again, which leads to the other slot. A trial that even so began too often is over:
    whatever happens, the device does not start again for ever."""
    with suppress(DeviceError):
        _rauc("status", "mark-bad", "booted")
    remember_failed(trial, why, place, judged=True)
    over = trial.starts > MOST_STARTS
    if over:
        remove(trial_file(place))
    place.service.reboot(tryboot=False)
    return Outcome(
        Result.ROLLED_BACK if over else Result.ON_TRIAL,
        f"system {trial.version}: {why}; back to {trial.before}",
        Kind.SYSTEM,
        trial.version,
        trial.before,
    )


def set_settled(slot: str) -> None:
    """Tell GRUB which slot has proven itself."""
    try:
        grub_boot.asked(("settled", slot), grub_boot.GRUBENV)
    except (grub_boot.BootError, OSError) as error:
        raise DeviceError(f"{grub_boot.GRUBENV}: cannot be written ({error})") from None


def good_slots(status_json: str) -> frozenset[str]:
    """The boot names of the slots that RAUC's status calls good."""
    status = msgspec.json.decode(status_json, type=_Status)
    slots = [slot for each in status.slots for slot in each.values()]
    return frozenset(s.bootname for s in slots if s.bootname and s.boot_status == "good")


class _Slot(msgspec.Struct, frozen=True):
    bootname: str | None = None
    boot_status: str | None = None


class _Status(msgspec.Struct, frozen=True):
    slots: tuple[dict[str, _Slot], ...] = ()


def _booted(place: Place) -> str:
    slot = place.booted_slot
    if slot is None:
        raise DeviceError(
            f"{place.kernel_arguments} names no rauc.slot=A or B: it is not known which slot "
            "runs, and none is written"
        )
    return slot


def _rauc(*words: str) -> str:
    ran = rauc(*words)
    if ran.returncode != 0:
        why = re.sub(r"^rauc-\w+: ", "", last_words(ran))
        raise DeviceError(f"rauc {' '.join(words[:2])} fails: {why}; the old system stays in force")
    return ran.stdout
