"""Where the broker is, and under which name this very board appears at it.

A broker is written ``mqtt://[user[:password]@]host[:port]``. The client id comes from the
hardware and not from the card: cards are cloned by the hundred, and two clients of one id
throw each other off the broker for ever.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from edge.errors import UsageError

DEFAULT_PORT = 1883
FORM = "mqtt://[user[:password]@]host[:port]"
LATER_SCHEMES = ("mqtts", "ws", "wss")


@dataclass(frozen=True, slots=True)
class BrokerAddress:
    """One broker; `str` gives it without the password, fit for a log.

    ``speaks_mqtt5`` False greets it with MQTT 3.1.1 at once, where that is known to be all.
    """

    host: str
    port: int = DEFAULT_PORT
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    speaks_mqtt5: bool = field(default=True, compare=False)

    @classmethod
    def parse(cls, text: str) -> BrokerAddress:
        """Read ``mqtt://[user[:password]@]host[:port]``.

        Raises
        ------
        UsageError
            One line without the password in it: what was given, what is allowed, what to do.
        """
        scheme = text.partition("://")[0].lower() if "://" in text else ""
        if scheme in LATER_SCHEMES:
            raise UsageError(f"broker {shown(text)!r}: {scheme}:// is not served yet; use {FORM}")
        if scheme != "mqtt":
            raise UsageError(f"broker {shown(text)!r}: write it as {FORM}")
        try:
            parts = urlsplit(text)
            port = parts.port
        except ValueError:
            raise UsageError(
                f"broker {shown(text)!r}: the port is a number from 1 to 65535; write {FORM}"
            ) from None
        if not parts.hostname or re.search(r"\s", parts.hostname) or port == 0:
            raise UsageError(f"broker {shown(text)!r}: host or port is missing; write {FORM}")
        if parts.path not in ("", "/") or parts.query or parts.fragment:
            raise UsageError(f"broker {shown(text)!r}: nothing may follow the port; write {FORM}")
        if parts.password is not None and not parts.username:
            raise UsageError(f"broker {shown(text)!r}: a password needs a user; write {FORM}")
        return cls(
            host=parts.hostname,
            port=DEFAULT_PORT if port is None else port,
            username=unquote(parts.username) if parts.username else None,
            password=unquote(parts.password) if parts.password is not None else None,
        )

    def __str__(self) -> str:
        user = f"{self.username}@" if self.username else ""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"mqtt://{user}{host}:{self.port}"


def shown(text: str) -> str:
    """A broker's address as it was typed, its password struck out."""
    return re.sub(r":[^:@/]*@", ":…@", text)


def hardware_id(
    device_tree: Path = Path("/proc/device-tree/serial-number"),
    network: Path = Path("/sys/class/net"),
    machine_id: Path = Path("/etc/machine-id"),
) -> str:
    """What tells this board from every other: 12 hexadecimal digits, the same at every start.

    The board's serial number if it has one, else the address of its first network card, else
    the id of the installation (which a cloned card repeats).
    """
    for source in (_serial_number(device_tree), _network_address(network), _text(machine_id)):
        if source:
            return hashlib.sha256(source.encode()).hexdigest()[:12]
    return f"{uuid.getnode():012x}"


def client_id(device: str) -> str:
    """The MQTT client id of this board for ``device``; at most 23 characters, as 3.1.1 asks."""
    both = f"{hardware_id()}/{device}"
    return "sostenuto" + hashlib.sha256(both.encode()).hexdigest()[:14]


def default_device_name() -> str:
    """A device name for a board that was given none, different on every board."""
    return f"piano-{hardware_id()[:6]}"


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip("\x00 \n")
    except OSError:
        return ""


def _serial_number(path: Path) -> str:
    serial = _text(path)
    return serial if serial.strip("0") else ""


def _network_address(network: Path) -> str:
    """The address of the first card that is a piece of hardware, wired before wireless."""
    if not network.is_dir():
        return ""
    cards = sorted(card for card in network.iterdir() if (card / "device").exists())
    addresses = [_text(card / "address") for card in cards]
    return next((a for a in addresses if a.replace(":", "").strip("0")), "")
