"""What the card says becomes what the piano holds: settings, passwords, networks.

Key by key: what the card says wins, once, when it has changed; what it does not say stays, and so
does what is set on the dashboard afterwards. Every file is written whole before the next, and which
card was taken over is noted last: a cut of power in between, and the next start does the same again
to the same end.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from device.firstboot.card import CERTIFICATE_KEYS, Card, without_password
from device.firstboot.keeping import Kept
from device.firstboot.network import WIFI_PROFILE, wifi_profile
from device.service.install import DASHBOARD_PORT, PASSWORD, SETTINGS, STATE, USER
from device.service.place import Place
from edge.dashboard.keeping import with_line
from edge.dashboard.login import PASSWORD_FILE, is_kept_text, keep_text
from edge.errors import UsageError
from edge.publish.address import BrokerAddress
from edge.settings import settings_in

DASHBOARD_PASSWORD = f"{STATE}/{PASSWORD_FILE}"
DEFAULTS: Mapping[str, Any] = {"dashboard_port": DASHBOARD_PORT}

SETTINGS_HEAD = "# docs/settings.md says what else there is; what the card says comes in here.\n"


@dataclass(frozen=True, slots=True)
class Taken:
    """What is to be kept, in this order, and what nobody could do about the rest."""

    settings: Mapping[str, Any]
    files: tuple[Kept, ...] = ()
    troubles: tuple[str, ...] = field(default=())


def take_over(card: Card, place: Place, card_folder: Path) -> Taken:
    """What ``card`` changes; nothing is written here.

    Parameters
    ----------
    card_folder : Path
        Where the card's other files lie: certificates that the settings name.
    """
    before = settings_before(place)
    settings = {**DEFAULTS, **before, **card.settings}
    files: list[Kept] = []
    troubles: list[str] = []
    for key in CERTIFICATE_KEYS:
        name = card.settings.get(key)
        if name is not None and "/" not in name:
            settings[key] = f"{STATE}/{name}"
            try:
                files.append(Kept(settings[key], (card_folder / name).read_bytes(), USER))
            except OSError:
                if not place.at(settings[key]).is_file():
                    troubles.append(f"{key}: the card has no file {name!r}; put it beside the rest")
                    settings.pop(key)
    if "broker" in card.settings:
        files += _broker(settings, before, troubles)
    if (kept := _dashboard(card, troubles)) is not None:
        files.append(Kept(DASHBOARD_PASSWORD, kept.encode(), USER))
    if card.wifi is not None:
        at = place.at(WIFI_PROFILE)
        profile = wifi_profile(card.wifi, at.read_text() if at.is_file() else None)
        if profile is None:
            troubles.append(
                f"Wi-Fi {card.wifi.ssid!r}: no password is known; write password = … into [wifi] "
                "of sostenuto.toml on the card"
            )
        else:
            files.append(profile)
    files.append(settings_file(settings, place))
    return Taken(settings, tuple(files), tuple(troubles))


def settings_before(place: Place) -> dict[str, Any]:
    """The settings as they are; none where the file is missing or cannot be read any more."""
    try:
        table = tomllib.loads(place.at(SETTINGS).read_text(encoding="utf-8"))
        settings_in(table, Path(SETTINGS))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, UsageError):
        return {}
    return table


def settings_file(settings: Mapping[str, Any], place: Place) -> Kept:
    """The settings' file with ``settings`` in it, all other lines as they were."""
    before = settings_before(place)
    text = place.at(SETTINGS).read_text(encoding="utf-8") if before else SETTINGS_HEAD
    for key in {**before, **settings}:
        if settings.get(key) != before.get(key):
            text = with_line(text, key, settings.get(key))
    try:
        as_meant = tomllib.loads(text) == settings
    except tomllib.TOMLDecodeError:
        as_meant = False
    if not as_meant:  # a value over several lines: the file is written anew
        text = SETTINGS_HEAD
        for key, value in settings.items():
            text = with_line(text, key, value)
    return Kept(SETTINGS, text.encode(), USER)


def _broker(settings: dict[str, Any], before: Mapping[str, Any], troubles: list[str]) -> list[Kept]:
    """The broker's password in a file of its own; the one that is kept stays with its broker."""
    address = BrokerAddress.parse(settings["broker"])
    settings["broker"] = without_password(settings["broker"])
    for key in ("dashboard_broker", "broker_password_file"):
        settings.pop(key, None)
    known = before.get("broker")
    same = known is not None and str(BrokerAddress.parse(known)) == str(address)
    if same and "dashboard_broker" in before:
        settings["dashboard_broker"] = before["dashboard_broker"]
    if address.password is not None:
        settings["broker_password_file"] = PASSWORD
        return [Kept(PASSWORD, address.password.encode() + b"\n", USER)]
    if same and "broker_password_file" in before:
        settings["broker_password_file"] = before["broker_password_file"]
    elif address.username is not None:
        troubles.append(
            f"broker {address}: no password is known for {address.username!r}; write "
            'broker = "mqtt://user:password@host" into sostenuto.toml on the card'
        )
    return []


def _dashboard(card: Card, troubles: list[str]) -> str | None:
    if card.dashboard_password is not None:
        return keep_text(card.dashboard_password)
    if card.dashboard_kept is not None and not is_kept_text(card.dashboard_kept):
        troubles.append("the dashboard's password on the card is damaged: write password = …")
        return None
    return card.dashboard_kept
