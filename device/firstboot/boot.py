"""What happens at every start before the ear listens; mostly nothing, for all is as it should be.

Whatever goes wrong here is noted for people (`device.firstboot.report`) and ends nothing: the ear
is started after it in any case, by the settings that there are. No network is waited for.

Who the piano is, comes from its hardware (`edge.publish.address.hardware_id`), so a card that was
copied gives another name, unless the card says one, and another MQTT client; the broker's accounts
and keys are made anew where the card wakes in another board, so that no two pianos share them.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from device.firstboot.card import (
    CARD_FILE,
    Card,
    card_text,
    host_name,
    read_card,
    without_secrets,
)
from device.firstboot.keeping import Kept, replace_on_card, sync_folder, writable
from device.firstboot.network import CABLE
from device.firstboot.takeover import DEFAULTS, settings_before, settings_file, take_over
from device.service.install import BROKER, PASSWORD, STATE, USER
from device.service.place import Place
from edge.errors import SostenutoError, UsageError
from edge.messages import check_device_name
from edge.publish.address import BrokerAddress, default_device_name, hardware_id

CARD_FOLDER = "/boot/card"
RECORD = f"{STATE}/firstboot.json"
TROUBLES = "/run/sostenuto-firstboot.json"
"""What was wrong at this start; in memory, so that it is known on a full disk too."""

OWN_BROKER = "127.0.0.1"
BROKER_SETUP_S = 60.0

RENEWED_S = 365 * 24 * 3600
"""The broker's certificate is made anew at the first start in its last year."""


class Done(msgspec.Struct, frozen=True):
    """What was finished at earlier starts.

    Attributes
    ----------
    card : str or None
        SHA-256 of the card's file as it was left.
    hardware : str or None
        Whom this installation belongs to.
    broker_for : str or None
        Name of the piano that the broker on this machine has accounts for.
    """

    card: str | None = None
    hardware: str | None = None
    broker_for: str | None = None


class Start(msgspec.Struct, frozen=True):
    """This start, for the report.

    Attributes
    ----------
    device : str
    ssid : str or None
        The Wi-Fi that the card names.
    troubles : tuple of str
        One line each, for people.
    """

    device: str
    ssid: str | None = None
    country: str | None = None
    troubles: tuple[str, ...] = ()


@dataclass(slots=True)
class _Boot:
    """One start: where, and what is wrong so far."""

    place: Place
    hardware: str
    troubles: list[str]

    @property
    def card_path(self) -> Path:
        return self.place.at(CARD_FOLDER) / CARD_FILE


def first_boot(place: Place, hardware: str | None = None) -> Start:
    """Make everything of this one piano as its card and its board say; does no harm twice.

    Parameters
    ----------
    hardware : str, optional
        As `hardware_id` gives it.
    """
    boot = _Boot(place, hardware or hardware_id(), [])
    raise_clock(place, boot.troubles)
    done = _done(place)
    card = _card(boot)
    settings = _taken(boot, card, done)
    device = _device(boot, settings)
    if done.hardware not in (None, boot.hardware):
        boot.troubles.append(
            "this card ran in another board before, and has new keys; if that board still runs, "
            f"give this one another name than {device!r}"
        )
    if place.live:
        _call_it(host_name(device), boot.troubles)
    broker_for = _own_broker(boot, settings, device, done)
    _attempt(boot, "cable", lambda: CABLE.keep(place))
    left = None if card is None else _leave(boot, card, done)
    now = Done(card=left, hardware=boot.hardware, broker_for=broker_for)
    if now != done:
        _attempt(boot, "record", lambda: Kept(RECORD, msgspec.json.encode(now)).keep(place))
    wifi = None if card is None else card.wifi
    start = Start(
        device,
        ssid=None if wifi is None else wifi.ssid,
        country=None if wifi is None else wifi.country,
        troubles=tuple(boot.troubles),
    )
    Kept(TROUBLES, msgspec.json.encode(start), mode=0o644).keep(place)
    return start


# -- the card --------------------------------------------------------------------------------


def _card(boot: _Boot) -> Card | None:
    """What the card says; None where there is none or it cannot be understood."""
    if not boot.card_path.is_file():
        return None
    try:
        return read_card(boot.card_path)
    except UsageError as error:
        where = str(boot.card_path)
        boot.troubles.append(f"{str(error).replace(where, CARD_FILE)}. Until then: as before")
        return None


def _taken(boot: _Boot, card: Card | None, done: Done) -> Mapping[str, Any]:
    """The settings after the card was taken over, if it is one that was not yet."""
    known = {**DEFAULTS, **settings_before(boot.place)}
    if card is None or _digest(boot.card_path) == done.card:
        _attempt(boot, "settings", lambda: settings_file(known, boot.place).keep(boot.place))
        return known
    try:
        taken = take_over(card, boot.place, boot.card_path.parent)
        boot.troubles += taken.troubles
        for file in taken.files:
            file.keep(boot.place)
    except (OSError, SostenutoError) as error:
        _note(boot, "settings of the card", error)
        return known
    return taken.settings


def _leave(boot: _Boot, card: Card, done: Done) -> str | None:
    """Take the secrets off the card; how its file reads then, None if it is to be taken again."""
    if any(trouble.startswith("settings of the card") for trouble in boot.troubles):
        return done.card
    bare = without_secrets(card)
    if bare != card:
        text = card_text(bare).replace("\n", "\r\n").encode()
        try:
            with writable(boot.card_path.parent, boot.place):
                replace_on_card(boot.card_path, text)
        except (OSError, SostenutoError) as error:
            _note(boot, "passwords stay on the card", error)
    return _digest(boot.card_path)


def _digest(path: Path) -> str | None:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None


# -- who it is -------------------------------------------------------------------------------


def _device(boot: _Boot, settings: Mapping[str, Any]) -> str:
    named = settings.get("device")
    try:
        return check_device_name(named) if named else default_device_name(boot.hardware)
    except UsageError as error:
        boot.troubles.append(str(error))
        return default_device_name(boot.hardware)


def _call_it(name: str, troubles: list[str]) -> None:
    """The name under which the house finds it, until the next start; the root stays as it is."""
    try:
        if socket.gethostname() != name:
            socket.sethostname(name)
    except OSError as error:
        troubles.append(f"host name {name!r}: {error.strerror}")


# -- its own broker --------------------------------------------------------------------------


def _own_broker(boot: _Boot, settings: Mapping[str, Any], device: str, done: Done) -> str | None:
    """Accounts and keys of the broker on this machine, made here and for this board alone.

    None where the piano talks to somebody else's broker.
    """
    known = settings.get("broker")
    if known is not None and BrokerAddress.parse(known).host != OWN_BROKER:
        return None
    moved = done.hardware not in (None, boot.hardware)
    if done.broker_for == device and not moved and not _ends_soon(boot.place):
        return device
    try:
        _with_own_broker(boot.place, settings, device, afresh=moved or not done.broker_for)
    except (OSError, SostenutoError, subprocess.SubprocessError, KeyError) as error:
        _note(boot, "its own broker", error)
        return done.broker_for
    return device


def _with_own_broker(
    place: Place, settings: Mapping[str, Any], device: str, *, afresh: bool
) -> None:
    """Set the broker up, and the settings after it; cut in between, it is set up once more."""
    folder = place.at(BROKER)
    if afresh and folder.is_dir():
        for each in folder.iterdir():  # the folder itself is another disk's, on a card
            shutil.rmtree(each) if each.is_dir() else each.unlink()
    name = host_name(device)
    names = (f"{name}.local", name, "localhost", OWN_BROKER)
    hosts = [word for host in names for word in ("--host", host)]
    command = [sys.executable, "-m", "edge.cli", "broker", "setup", str(folder)]
    ran = subprocess.run(
        [*command, "--device", device, *hosts],
        capture_output=True,
        text=True,
        timeout=BROKER_SETUP_S,
        check=False,
    )
    if ran.returncode != 0:
        raise UsageError((ran.stderr.strip().splitlines() or ["no reason given"])[-1])
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        else:
            sync_folder(path)
    own = tomllib.loads((folder / "accounts" / device / "sostenuto.toml").read_text())
    password = (folder / "accounts" / device / "password").read_bytes()
    Kept(PASSWORD, password, USER).keep(place)
    wanted = {
        **settings,
        "broker": own["broker"],
        "broker_password_file": PASSWORD,
        "dashboard_broker": own["dashboard_broker"],
    }
    settings_file(wanted, place).keep(place)


def _ends_soon(place: Place) -> bool:
    """Whether the broker's certificate has to be made anew; its authority and accounts stay."""
    program = shutil.which("openssl")
    certificate = place.at(BROKER) / "tls" / "server.crt"
    if program is None or not certificate.is_file():
        return program is not None
    command = [program, "x509", "-noout", "-checkend", str(RENEWED_S), "-in", str(certificate)]
    return subprocess.run(command, capture_output=True, check=False).returncode != 0


# -- the clock, and what is wrong ------------------------------------------------------------


def raise_clock(place: Place, troubles: list[str]) -> None:
    """A clock that is older than the software itself is set to the software's day.

    A board without a battery wakes in 1970, and a certificate made then is over before it is used.
    The kernel still counts such a clock as not set, and so does every message.
    """
    floor_s = max(Path(file).stat().st_mtime for file in (__file__, sys.executable))
    if place.live and time.time() < floor_s:
        try:
            time.clock_settime(time.CLOCK_REALTIME, floor_s)
        except OSError as error:
            troubles.append(f"the clock stands before this software was made: {error.strerror}")


def _done(place: Place) -> Done:
    try:
        return msgspec.json.decode(place.at(RECORD).read_bytes(), type=Done)
    except (OSError, msgspec.MsgspecError):
        return Done()


def _attempt(boot: _Boot, what: str, step: Any) -> None:
    try:
        step()
    except (OSError, SostenutoError) as error:
        _note(boot, what, error)


def _note(boot: _Boot, what: str, error: Exception) -> None:
    why = error.strerror or str(error) if isinstance(error, OSError) else str(error)
    advice = (
        "; the disk is full: take a larger card, or write this one anew, without what was played"
        if (isinstance(error, OSError) and error.errno == 28)
        else ""
    )
    boot.troubles.append(f"{what}: {why}{advice}")
