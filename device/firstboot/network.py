"""The piano's networks, as NetworkManager keeps them: the Wi-Fi of the card, and every cable.

A cable always works, without a router too: beside DHCP the port gives itself a link-local address
(RFC 3927), so that a computer plugged into the piano finds it as ``NAME.local``. That is the way in
where the Wi-Fi is wrong; no access point is set up, which would need a radio of its own.
"""

from __future__ import annotations

import configparser
import re
import subprocess
import uuid
from dataclasses import dataclass

from device.firstboot.card import Wifi
from device.firstboot.keeping import Kept

PROFILES = "/etc/NetworkManager/system-connections"
WIFI_PROFILE = f"{PROFILES}/sostenuto-wifi.nmconnection"
CABLE_PROFILE = f"{PROFILES}/sostenuto-cable.nmconnection"
WIFI_NAME = "sostenuto-wifi"

_OURS = uuid.UUID("6d0f4c52-6f73-7465-6e75-746f00000019")
_SIMPLE_SSID = re.compile(r"[A-Za-z0-9_.+-]+( [A-Za-z0-9_.+-]+)*")
_KEY_MANAGEMENT = {"wpa2": "wpa-psk", "wpa3": "sae"}
_QUIET_S = 20.0

CABLE = Kept(
    CABLE_PROFILE,
    f"""\
[connection]
id=sostenuto-cable
uuid={uuid.uuid5(_OURS, "cable")}
type=ethernet
autoconnect-retries=0

[ipv4]
method=auto
dhcp-timeout=2147483647
link-local=3

[ipv6]
method=auto
""".encode(),
)
"""DHCP for ever, and an address of its own beside (``link-local=3``: enabled). With the usual limit
NetworkManager takes the port down after 45 s without a router, and begins again, for ever
(`python -m device.soak.cable_alone`)."""


def ssid_value(ssid: str) -> str:
    """A network's name as a keyfile has it: itself if it is simple, else its bytes."""
    if _SIMPLE_SSID.fullmatch(ssid):
        return ssid
    return "".join(f"{byte};" for byte in ssid.encode())


def wifi_profile(wifi: Wifi, before: str | None) -> Kept | None:
    """The profile of a network.

    Parameters
    ----------
    before : str or None
        The profile that is there: where the card no longer holds the password of the same network,
        it is the one known from there.

    Returns
    -------
    Kept or None
        None where no password is known.
    """
    secret = wifi.psk or wifi.password or _known_secret(wifi, before)
    if secret is None and wifi.security != "open":
        return None
    lines = [
        "[connection]",
        f"id={WIFI_NAME}",
        f"uuid={uuid.uuid5(_OURS, 'wifi')}",
        "type=wifi",
        "autoconnect-retries=0",
        "",
        "[wifi]",
        "mode=infrastructure",
        f"ssid={ssid_value(wifi.ssid)}",
        *(["hidden=true"] if wifi.hidden else []),
        "",
    ]
    if secret is not None:
        management = _KEY_MANAGEMENT[wifi.security]
        lines += ["[wifi-security]", f"key-mgmt={management}", f"psk={_escaped(secret)}", ""]
    lines += ["[ipv4]", "method=auto", "", "[ipv6]", "method=auto", ""]
    return Kept(WIFI_PROFILE, "\n".join(lines).encode())


def _known_secret(wifi: Wifi, before: str | None) -> str | None:
    profile = configparser.RawConfigParser()
    profile.read_string(before or "")
    if profile.get("wifi", "ssid", fallback=None) != ssid_value(wifi.ssid):
        return None
    if profile.get("wifi-security", "key-mgmt", fallback="") != _KEY_MANAGEMENT.get(wifi.security):
        return None
    kept = profile.get("wifi-security", "psk", fallback=None)
    return None if kept is None else kept.replace(r"\s", " ").replace("\\\\", "\\")


def _escaped(secret: str) -> str:
    """A value as GLib's keyfiles have it: a space at its start would be lost."""
    escaped = secret.replace("\\", "\\\\")
    return re.sub("^ +", lambda spaces: r"\s" * len(spaces[0]), escaped)


# -- how the networks are --------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Link:
    """One network card as NetworkManager tells of it.

    Attributes
    ----------
    device, kind : str
        As in ``wlan0``, ``wifi``.
    state, reason : int
        NMDeviceState (100 is connected) and NMDeviceStateReason.
    addresses : tuple of str
        Without the length of their prefix.
    """

    device: str
    kind: str
    state: int
    reason: int
    addresses: tuple[str, ...] = ()

    @property
    def connected(self) -> bool:
        """Whether it carries anything."""
        return self.state == 100


FIELDS = "GENERAL.DEVICE,GENERAL.TYPE,GENERAL.STATE,GENERAL.REASON,IP4.ADDRESS,IP6.ADDRESS"

_REASONS = {
    7: "its password is wrong or missing",  # NO_SECRETS
    8: "it sends the piano away; most often its password is wrong",  # SUPPLICANT_DISCONNECT
    9: "it sends the piano away; most often its password is wrong",
    10: "it sends the piano away; most often its password is wrong",
    11: "it does not answer in time",  # SUPPLICANT_TIMEOUT
    5: "it gives no address (DHCP)",
    15: "it gives no address (DHCP)",
    17: "it gives no address (DHCP)",
    53: "it is not found here; is its name right, and is it near enough?",  # SSID_NOT_FOUND
}


def read_links(printed: str) -> tuple[Link, ...]:
    """The network cards in what ``nmcli --terse --fields FIELDS device show`` printed."""
    links = []
    for block in re.split(r"\n\s*\n", printed.strip()):
        told: dict[str, list[str]] = {}
        for line in block.splitlines():
            key, _, value = line.partition(":")
            told.setdefault(key.partition("[")[0], []).append(value.replace("\\:", ":"))
        if not told.get("GENERAL.DEVICE"):
            continue
        number = {
            key: int((re.match(r"\d+", told.get(f"GENERAL.{key}", ["0"])[0]) or ["0"])[0])
            for key in ("STATE", "REASON")
        }
        addresses = told.get("IP4.ADDRESS", []) + told.get("IP6.ADDRESS", [])
        links.append(
            Link(
                device=told["GENERAL.DEVICE"][0],
                kind=told.get("GENERAL.TYPE", [""])[0],
                state=number["STATE"],
                reason=number["REASON"],
                addresses=tuple(each.partition("/")[0] for each in addresses if each),
            )
        )
    return tuple(link for link in links if link.kind in ("wifi", "ethernet"))


def links_now() -> tuple[Link, ...] | None:
    """The network cards of this machine; None where NetworkManager does not tell."""
    printed = _nmcli("--terse", "--fields", FIELDS, "device", "show")
    return None if printed is None else read_links(printed)


def wifi_trouble(ssid: str, links: tuple[Link, ...]) -> str | None:
    """What is wrong with the Wi-Fi of the card, and what to do; None where it carries."""
    radios = [link for link in links if link.kind == "wifi"]
    if not radios:
        return f"Wi-Fi {ssid!r}: this board has no Wi-Fi; plug in a cable"
    if any(radio.connected for radio in radios):
        return None
    why = next((_REASONS[radio.reason] for radio in radios if radio.reason in _REASONS), None)
    return (
        f"Wi-Fi {ssid!r}: {why or 'is not reached yet'}. It goes on trying. To change it, write "
        "name and password into [wifi] of sostenuto.toml on the card"
    )


def try_wifi_again() -> None:
    """NetworkManager gives up a network whose password was refused; a router may be in trouble."""
    _nmcli("--wait", "0", "connection", "up", WIFI_NAME)


def _nmcli(*arguments: str) -> str | None:
    try:
        ran = subprocess.run(
            ["nmcli", *arguments],
            capture_output=True,
            text=True,
            errors="replace",
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"},
            timeout=_QUIET_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return ran.stdout if ran.returncode == 0 else None
