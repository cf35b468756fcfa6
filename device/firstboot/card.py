"""`sostenuto.toml` on the card: all that an installer says of one piano; any PC can write it.

At its top stand the keys of docs/settings.md. Two tables are the card's own, since they never
become settings of the ear: ``[wifi]``, and ``[dashboard]`` with the password of the settings' page.
What can be kept secret on a card that anybody can read is: a Wi-Fi password as the key that WPA
derives from it (IEEE 802.11i, PBKDF2), the dashboard's as scrypt makes it. A broker's password and
that of a WPA3 network are needed as they are, and lie open until the first start, which takes
every secret off the card.
"""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from dataclasses import replace as with_fields
from pathlib import Path
from typing import Any, Literal, get_args

from edge.dashboard.login import LEAST_CHARACTERS, MOST_CHARACTERS
from edge.errors import UsageError
from edge.messages import check_device_name
from edge.publish.address import BrokerAddress
from edge.settings import settings_in

CARD_FILE = "sostenuto.toml"
STATUS_FILE = "status.txt"

Security = Literal["wpa2", "wpa3", "open"]

CERTIFICATE_KEYS = ("broker_ca", "broker_certificate", "broker_key")
"""Settings that name a file; without a folder before it, one that lies on the card too."""

_PSK = re.compile(r"[0-9a-f]{64}")
_COUNTRY = re.compile(r"[A-Z]{2}")
_PSK_ROUNDS = 4096
_PSK_BYTES = 32
_LONGEST_SSID_BYTES = 32
_WIFI_PASSWORD_CHARACTERS = (8, 63)
_LONGEST_HOST_NAME = 63

HEADER = """\
# What this piano is to be. Change it on any computer, put the card back, switch on: it holds from
# that start. Passwords are taken off this card then, and kept on the part that no PC opens.
# How the piano is, and what is wrong if anything is, it writes to status.txt beside this file.
#
# device = "parlour"                      name: letters, digits, _ . -
# mic = "USB"                             microphone: a part of its name, if there are several
# broker = "mqtts://user:password@host"   left out, the piano brings its own broker
# All other keys: docs/settings.md
#
# [wifi]
# ssid = "House"
# password = "…"                          security = "open" needs none; also "wpa3"
# hidden = true                           where the network does not tell its name
# country = "DE"                          two letters; the law of radio differs
#
# [dashboard]
# password = "…"                          left out, the first visitor chooses it

"""


@dataclass(frozen=True, slots=True)
class Wifi:
    """One wireless network.

    Attributes
    ----------
    ssid : str
    psk : str or None
        Key of WPA2, 64 hexadecimal digits; None: the one that is known already.
    password : str or None
        In clear, for WPA3 alone.
    country : str or None
        Two letters (ISO 3166), for the channels that may be used.
    security : str
        ``wpa2`` (also where WPA3 is offered beside it), ``wpa3``, ``open``.
    hidden : bool
        The network does not tell its name.
    """

    ssid: str
    psk: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    country: str | None = None
    security: Security = "wpa2"
    hidden: bool = False


@dataclass(frozen=True, slots=True)
class Card:
    """What one card says.

    Attributes
    ----------
    settings : mapping
        Keys of docs/settings.md as they are given, all of them known.
    wifi : Wifi or None
    dashboard_password : str or None
        In clear, as somebody typed it.
    dashboard_kept : str or None
        The same as `edge.dashboard.login` keeps it.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    wifi: Wifi | None = None
    dashboard_password: str | None = field(default=None, repr=False)
    dashboard_kept: str | None = field(default=None, repr=False)


def wpa_psk(ssid: str, password: str) -> str:
    """The 256 bit key that WPA2 makes of a password, as 64 hexadecimal digits.

    PBKDF2 with HMAC-SHA1, the network's name as salt, 4096 rounds (IEEE 802.11i-2004, H.4).
    """
    derived = hashlib.pbkdf2_hmac(
        "sha1", password.encode(), ssid.encode(), _PSK_ROUNDS, dklen=_PSK_BYTES
    )
    return derived.hex()


def make_wifi(
    ssid: str,
    password: str | None = None,
    *,
    country: str | None = None,
    security: str = "wpa2",
    hidden: bool = False,
) -> Wifi:
    """A network as a person names it, its password as little in clear as can be.

    Raises
    ------
    UsageError
        A name, a password or a country that no network has.
    """
    if not 1 <= len(ssid.encode()) <= _LONGEST_SSID_BYTES or not ssid.isprintable():
        raise UsageError(
            f"Wi-Fi name {ssid!r}: allowed are 1 to {_LONGEST_SSID_BYTES} legible bytes; "
            "write it as the router shows it"
        )
    if country is not None and not _COUNTRY.fullmatch(country.upper()):
        raise UsageError(f"country {country!r}: allowed are two letters, as in DE or US")
    if security not in get_args(Security):
        raise UsageError(f"security {security!r}: allowed are {', '.join(get_args(Security))}")
    wifi = Wifi(
        ssid,
        country=None if country is None else country.upper(),
        security=security,  # type: ignore[arg-type]  # one of its words, see above
        hidden=hidden,
    )
    if security == "open":
        if password:
            raise UsageError(f"Wi-Fi {ssid!r}: an open network has no password; leave one out")
        return wifi
    if password is None:
        return wifi
    if security == "wpa2" and _PSK.fullmatch(password.lower()):
        return with_fields(wifi, psk=password.lower())
    fewest, most = _WIFI_PASSWORD_CHARACTERS
    if not fewest <= len(password) <= most or not (password.isascii() and password.isprintable()):
        raise UsageError(
            f"password of the Wi-Fi {ssid!r}: {len(password)} characters; allowed are {fewest} to "
            f"{most} of ASCII, or 64 hexadecimal digits"
        )
    if security == "wpa3":
        return with_fields(wifi, password=password)
    return with_fields(wifi, psk=wpa_psk(ssid, password))


def parse_card(text: str, path: Path) -> Card:
    """The card's file.

    Parameters
    ----------
    path : Path
        Where it lies, for what is said of errors.

    Raises
    ------
    UsageError
        No TOML, or something that is not known or not allowed.
    """
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path}: no TOML: {error}; write lines like key = value") from None
    wifi = _table(table, "wifi", path)
    dashboard = _table(table, "dashboard", path)
    settings_in(table, path)
    check_settings(table)
    password = _word(dashboard, "password", path)
    if password is not None:
        check_dashboard_password(password)
    card = Card(
        settings=table,
        wifi=_wifi(wifi, path) if wifi else None,
        dashboard_password=password,
        dashboard_kept=_word(dashboard, "kept", path),
    )
    for name, rest in (("wifi", wifi), ("dashboard", dashboard)):
        if rest:
            raise UsageError(f"{path}: unknown key {next(iter(rest))!r} in [{name}]; leave it out")
    return card


def read_card(path: Path) -> Card:
    """The card's file at ``path``.

    Raises
    ------
    UsageError
        It cannot be read, or as for `parse_card`.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: no UTF-8 ({error.reason}); save it as UTF-8") from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from None
    return parse_card(text, path)


def check_settings(settings: Mapping[str, Any]) -> None:
    """Refuse a name or a broker that the piano could not use.

    Raises
    ------
    UsageError
        Which, and what is allowed.
    """
    if (device := settings.get("device")) is not None:
        host_name(check_device_name(device))
    for key in ("broker", "dashboard_broker"):
        if (broker := settings.get(key)) is not None:
            BrokerAddress.parse(broker)


def check_dashboard_password(password: str) -> None:
    """Refuse one that the dashboard would refuse."""
    if not LEAST_CHARACTERS <= len(password) <= MOST_CHARACTERS:
        raise UsageError(
            f"the dashboard's password has {len(password)} characters: allowed are "
            f"{LEAST_CHARACTERS} to {MOST_CHARACTERS}; choose another"
        )


def host_name(device: str) -> str:
    """Under which name the house finds the piano: ``parlour.local`` without its ending.

    Raises
    ------
    UsageError
        Nothing of the name may stand in a host name.
    """
    name = re.sub(r"[^a-z0-9]+", "-", device.lower()).strip("-")[:_LONGEST_HOST_NAME].rstrip("-")
    if not name:
        raise UsageError(f"device name {device!r}: has no letter or digit; choose another")
    return name


def without_password(url: str) -> str:
    """A broker's URL, its password taken out, all else as it was."""
    scheme, separator, rest = url.partition("://")
    account, at, host = rest.rpartition("@")
    return f"{scheme}{separator}{account.partition(':')[0]}{at}{host}"


def without_secrets(card: Card) -> Card:
    """What may stay on a card that anybody can read: the broker's password taken out too."""
    settings = dict(card.settings)
    if (broker := settings.get("broker")) is not None:
        settings["broker"] = without_password(broker)
    if "/" not in str(settings.get("broker_key", "/")):
        del settings["broker_key"]  # taken over with the file itself
    wifi = None if card.wifi is None else with_fields(card.wifi, psk=None, password=None)
    return Card(settings=settings, wifi=wifi)


def card_text(card: Card) -> str:
    """The file as it is written to a card: what it is for, then what it says."""
    lines = [HEADER]
    lines += [_line(key, value) for key, value in card.settings.items()]
    if card.wifi is not None:
        wifi = card.wifi
        lines += ["\n[wifi]\n", _line("ssid", wifi.ssid)]
        told = {"psk": wifi.psk, "password": wifi.password, "country": wifi.country}
        lines += [_line(key, value) for key, value in told.items() if value is not None]
        if wifi.security != "wpa2":
            lines.append(_line("security", wifi.security))
        if wifi.hidden:
            lines.append(_line("hidden", True))
    if card.dashboard_password is not None or card.dashboard_kept is not None:
        lines.append("\n[dashboard]\n")
        if card.dashboard_password is not None:
            lines.append(_line("password", card.dashboard_password))
        if card.dashboard_kept is not None:
            lines.append(_line("kept", card.dashboard_kept))
    return "".join(lines)


def _line(key: str, value: object) -> str:
    """A line of TOML; JSON's strings, numbers, booleans and lists of them are TOML's too."""
    return f"{key} = {json.dumps(value, ensure_ascii=False)}\n"


def _table(table: dict[str, Any], name: str, path: Path) -> dict[str, Any]:
    found = table.pop(name, {})
    if not isinstance(found, dict):
        raise UsageError(f"{path}: {name} is a table: write [{name}] on a line of its own")
    return dict(found)


def _word(table: dict[str, Any], key: str, path: Path) -> str | None:
    value = table.pop(key, None)
    if value is not None and not isinstance(value, str):
        raise UsageError(f'{path}: value of {key!r}: write it in quotes, as in {key} = "…"')
    return value


def _wifi(table: dict[str, Any], path: Path) -> Wifi:
    ssid, password = _word(table, "ssid", path), _word(table, "password", path)
    psk, country = _word(table, "psk", path), _word(table, "country", path)
    security = _word(table, "security", path) or "wpa2"
    hidden = table.pop("hidden", False)
    if ssid is None:
        raise UsageError(f"{path}: [wifi] without ssid; give the network's name")
    if not isinstance(hidden, bool):
        raise UsageError(f"{path}: value of 'hidden': true or false, without quotes")
    if psk is not None and not _PSK.fullmatch(psk.lower()):
        raise UsageError(f"{path}: psk is 64 hexadecimal digits; or write password = …")
    return make_wifi(ssid, psk or password, country=country, security=security, hidden=hidden)
