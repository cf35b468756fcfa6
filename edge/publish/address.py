"""Where the broker is, and under which name this very board appears at it.

A broker is written ``mqtt://[user[:password]@]host[:port]``; ``mqtts`` is the same under TLS,
``ws`` and ``wss`` the same through a web server's door. The client id comes from the hardware
and not from the card: cards are cloned by the hundred, and two clients of one id throw each
other off the broker for ever.
"""

from __future__ import annotations

import hashlib
import re
import ssl
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from urllib.parse import unquote, urlsplit

from edge.errors import UsageError

DEFAULT_PORTS = MappingProxyType({"mqtt": 1883, "mqtts": 8883, "ws": 80, "wss": 443})
"""As registered at IANA; a broker's own choice for websockets is often another (9001, 8083)."""

DEFAULT_PORT = DEFAULT_PORTS["mqtt"]
DEFAULT_PATH = "/mqtt"
"""Where brokers that look at the path of a websocket expect MQTT."""

FORM = "mqtt://[user[:password]@]host[:port], with mqtts, ws or wss in place of mqtt"


@dataclass(frozen=True, slots=True)
class Tls:
    """Whom a connection under TLS trusts, and what it shows of itself.

    Attributes
    ----------
    ca : Path or None
        Authorities, PEM; None for those of the system.
    certificate, key : Path or None
        This device's own, PEM; without ``key`` it is in the certificate's file.
    """

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    def context(self) -> ssl.SSLContext:
        """TLS 1.2 or newer that checks the broker's name and authority.

        Raises
        ------
        UsageError
            A file that is missing, not PEM, or a key that does not belong to its certificate.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            if self.ca is None:
                context.load_default_certs()
            else:
                context.load_verify_locations(self.ca)
        except OSError as error:
            raise UsageError(
                f"broker_ca {str(self.ca)!r}: {_why(error)}; give the authority's certificate, PEM"
            ) from None
        if self.certificate is not None:
            try:
                context.load_cert_chain(self.certificate, self.key, password=_no_passphrase)
            except OSError as error:
                raise UsageError(
                    f"broker_certificate {str(self.certificate)!r}: {_why(error)}; give this "
                    "device's certificate and its key, PEM, without a passphrase"
                ) from None
        return context


def _no_passphrase() -> str:
    """Asked for the passphrase of a key, a service has nobody to ask in turn."""
    return ""


def _why(error: OSError) -> str:
    if isinstance(error, FileNotFoundError | PermissionError | IsADirectoryError):
        return error.strerror or str(error)
    if getattr(error, "reason", None) == "KEY_VALUES_MISMATCH":
        return "the key belongs to another certificate"
    return "not what OpenSSL can read"


@dataclass(frozen=True, slots=True)
class BrokerAddress:
    """One broker; `str` gives it without the password, fit for a log.

    ``speaks_mqtt5`` False greets it with MQTT 3.1.1 at once, where that is known to be all;
    True tries MQTT 5 first. ``tls`` None: in the clear. ``path`` None: not a websocket.
    """

    host: str
    port: int = DEFAULT_PORT
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    speaks_mqtt5: bool = field(default=True, compare=False)
    tls: Tls | None = None
    path: str | None = None

    @classmethod
    def parse(cls, text: str) -> BrokerAddress:
        """Read ``mqtt://[user[:password]@]host[:port]``, or mqtts, ws, wss; a websocket may
        have a path.

        Raises
        ------
        UsageError
            One line without the password in it: what was given, what is allowed, what to do.
        """
        scheme = text.partition("://")[0].lower() if "://" in text else ""
        if scheme not in DEFAULT_PORTS:
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
        websocket = scheme in ("ws", "wss")
        if (parts.path not in ("", "/") and not websocket) or parts.query or parts.fragment:
            raise UsageError(f"broker {shown(text)!r}: nothing may follow the port; write {FORM}")
        if re.search(r"[^!-~]", parts.path):
            raise UsageError(f"broker {shown(text)!r}: the path has a space in it; write {FORM}")
        if parts.password is not None and not parts.username:
            raise UsageError(f"broker {shown(text)!r}: a password needs a user; write {FORM}")
        return cls(
            host=parts.hostname,
            port=DEFAULT_PORTS[scheme] if port is None else port,
            username=unquote(parts.username) if parts.username else None,
            password=unquote(parts.password) if parts.password is not None else None,
            tls=Tls() if scheme in ("mqtts", "wss") else None,
            path=(parts.path or DEFAULT_PATH) if websocket else None,
        )

    @property
    def scheme(self) -> str:
        """``mqtt``, ``mqtts``, ``ws`` or ``wss``."""
        if self.path is None:
            return "mqtt" if self.tls is None else "mqtts"
        return "ws" if self.tls is None else "wss"

    def __str__(self) -> str:
        user = f"{self.username}@" if self.username else ""
        host = f"[{self.host}]" if ":" in self.host else self.host
        path = "" if self.path in (None, DEFAULT_PATH) else self.path
        return f"{self.scheme}://{user}{host}:{self.port}{path}"


def shown(text: str) -> str:
    """A broker's address as it was typed, its password struck out."""
    return re.sub(r"(://[^:@/]*):.*@", r"\1:…@", text, flags=re.DOTALL)


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


def default_device_name(hardware: str | None = None) -> str:
    """A device name for a board that was given none, different on every board."""
    return f"piano-{(hardware or hardware_id())[:6]}"


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
