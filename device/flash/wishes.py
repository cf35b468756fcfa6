"""What an installer wishes of one piano, from options, from a row of a table, or asked one by one.

A table for a batch is CSV as spreadsheets write it: a first row with the columns' names, commas or
semicolons, UTF-8. Everything that is wrong with it is told at once, with row numbers as the
spreadsheet counts them, before the first card is written.
"""

from __future__ import annotations

import csv
import io
import re
import ssl
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from urllib.parse import quote

from device.firstboot.card import (
    Card,
    Wifi,
    check_dashboard_password,
    check_settings,
    host_name,
    make_wifi,
)
from edge.dashboard.login import keep_text
from edge.errors import InputError, UsageError
from edge.publish.address import BrokerAddress

BROKER_CA_FILE = "broker-ca.crt"
"""How the certificate is called on the card."""

MOST_TOLD = 40
"""So many faults of a table are told, then only how many more there are."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """One piano, as typed; None or empty: nothing said.

    Attributes
    ----------
    name : str or None
        In the topics, and ``NAME.local`` in the house.
    ssid, wifi_password, country, security : str or None
        As for `device.firstboot.card.make_wifi`.
    broker, broker_user, broker_password : str or None
        A URL; user and password may stand in it too.
    broker_ca : str or None
        A file: certificate of the authority that signed the broker's, PEM.
    mic : str or None
        A part of the microphone's name.
    dashboard_password : str or None
        Left out, the first visitor chooses it.
    """

    name: str | None = None
    ssid: str | None = None
    wifi_password: str | None = field(default=None, repr=False)
    country: str | None = None
    security: str | None = None
    broker: str | None = None
    broker_user: str | None = None
    broker_password: str | None = field(default=None, repr=False)
    broker_ca: str | None = None
    mic: str | None = None
    dashboard_password: str | None = field(default=None, repr=False)

    def faults(self) -> Iterator[str]:
        """Everything that is wrong with it, in words."""
        for look in (self._settings, self._wifi, self._check_dashboard, self.files):
            try:
                look()
            except UsageError as error:
                yield str(error)

    def card(self) -> Card:
        """The card that fulfils them.

        Raises
        ------
        UsageError
            Something of it is not allowed.
        """
        self._check_dashboard()
        password = self.dashboard_password
        kept = keep_text(password) if password else None
        return Card(settings=self._settings(), wifi=self._wifi(), dashboard_kept=kept)

    def files(self) -> dict[str, bytes]:
        """What lies on the card beside its own file, by name.

        Raises
        ------
        UsageError
            The certificate cannot be used, or has no broker that shows one.
        """
        if not self.broker_ca:
            return {}
        if not self.broker or not BrokerAddress.parse(self.broker).tls:
            raise UsageError(
                f"broker_ca {self.broker_ca}: only a broker at mqtts:// or wss:// shows a "
                "certificate; change the URL, or leave it out"
            )
        return {BROKER_CA_FILE: _certificate(Path(self.broker_ca))}

    def _settings(self) -> dict[str, str]:
        given = {
            "device": self.name,
            "mic": self.mic,
            "broker": self._broker(),
            "broker_ca": BROKER_CA_FILE if self.broker_ca else None,
        }
        settings = {key: value for key, value in given.items() if value}
        check_settings(settings)
        if self.mic and not self.mic.isprintable():
            raise UsageError(f"microphone {self.mic!r}: allowed are legible characters")
        return settings

    def _broker(self) -> str | None:
        if not self.broker:
            if self.broker_user or self.broker_password:
                raise UsageError("a broker's user or password without a broker; give its URL too")
            return None
        address = BrokerAddress.parse(self.broker)
        if not self.broker_user:
            if self.broker_password and not address.username:
                raise UsageError(f"broker {address}: a password needs a user; give one")
            if not self.broker_password:
                return self.broker
        if address.password or (address.username and self.broker_user):
            raise UsageError(f"broker {address}: user or password are given twice; give them once")
        user = self.broker_user or address.username or ""
        secret = f":{quote(self.broker_password, safe='')}" if self.broker_password else ""
        scheme, _, rest = self.broker.partition("://")
        return f"{scheme}://{quote(user, safe='')}{secret}@{rest.rpartition('@')[2]}"

    def _wifi(self) -> Wifi | None:
        if not self.ssid:
            if self.wifi_password or self.security:
                raise UsageError("a Wi-Fi password without a network's name (ssid); give both")
            return None
        security = self.security or "wpa2"
        if security != "open" and not self.wifi_password:
            raise UsageError(f"Wi-Fi {self.ssid!r}: no password; give one, or the security 'open'")
        return make_wifi(
            self.ssid, self.wifi_password or None, country=self.country or None, security=security
        )

    def _check_dashboard(self) -> None:
        if self.dashboard_password:
            check_dashboard_password(self.dashboard_password)


def _certificate(path: Path) -> bytes:
    """A file of certificates, looked through.

    Raises
    ------
    UsageError
        It cannot be read, holds none, or a key that is nobody else's.
    """
    try:
        content = path.read_bytes()
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(
            cadata=content.decode("ascii")
        )
    except OSError as error:  # OpenSSL's errors are of these too
        why = "no certificate in PEM" if isinstance(error, ssl.SSLError) else error.strerror
        raise UsageError(f"broker_ca {path}: {why}; give the file that begins -----BEGIN") from None
    except ValueError:
        raise UsageError(
            f"broker_ca {path}: no certificate in PEM; convert it by openssl"
        ) from None
    if b"PRIVATE KEY" in content:
        raise UsageError(f"broker_ca {path}: holds a private key; give the certificate alone")
    return content


COLUMNS = tuple(each.name for each in fields(Wishes))


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a table: its number as a spreadsheet counts, and what it wishes."""

    number: int
    wishes: Wishes


def read_table(path: Path) -> tuple[Row, ...]:
    """The rows of a batch.

    Raises
    ------
    InputError
        The table cannot be used; the message tells all that is wrong, each with its row.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{path}: no UTF-8; save it as CSV in UTF-8") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    first = text.partition("\n")[0]
    separator = ";" if first.count(";") > first.count(",") else ","
    lines = csv.reader(io.StringIO(text), delimiter=separator, strict=True)
    try:
        table = [(i, [cell.strip() for cell in cells]) for i, cells in enumerate(lines, 1)]
    except csv.Error as error:
        raise InputError(f"{path}: line {lines.line_num}: no CSV ({error})") from None
    if not table:
        raise InputError(f"{path}: is empty; its first row names the columns: {', '.join(COLUMNS)}")
    header = [name.lower() for name in table[0][1]]
    faults = list(_header_faults(header))
    rows = []
    for number, cells in table[1:] if not faults else ():
        if not any(cells):
            continue
        if len(cells) > len(header):
            faults.append(f"row {number}: {len(cells)} cells, and {len(header)} columns")
            continue
        given = {key: cell for key, cell in zip(header, cells, strict=False) if cell}
        if "broker_ca" in given:
            given["broker_ca"] = str(path.parent / given["broker_ca"])
        wishes = Wishes(**given)
        faults += [f"row {number}: {fault}" for fault in wishes.faults()]
        if not wishes.name:
            faults.append(f"row {number}: no name; each piano of a batch needs its own")
        rows.append(Row(number, wishes))
    faults += _same_names(rows)
    if not rows and not faults:
        faults = ["no row below the columns' names"]
    if faults:
        raise InputError(f"{path}: nothing was written; {_counted(faults)}")
    return tuple(rows)


def _header_faults(header: list[str]) -> Iterator[str]:
    for name in header:
        if name not in COLUMNS:
            yield f"row 1: unknown column {name!r}; allowed are {', '.join(COLUMNS)}"
    for name in sorted({name for name in header if header.count(name) > 1}):
        yield f"row 1: column {name!r} is there twice"
    if "name" not in header:
        yield "row 1: no column 'name'"


def _same_names(rows: list[Row]) -> list[str]:
    """Names that are the same, or that are one and the same in a house's network."""
    found: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row.wishes.name and re.search(r"[A-Za-z0-9]", row.wishes.name):
            found[host_name(row.wishes.name)].append(row)
    return [
        f"rows {', '.join(str(row.number) for row in same)}: "
        f"{', '.join(sorted({row.wishes.name or '' for row in same}))}: "
        f"one name in the network ({host}.local); give each piano its own"
        for host, same in found.items()
        if len(same) > 1
    ]


def _counted(faults: list[str]) -> str:
    told = faults[:MOST_TOLD]
    if len(faults) > MOST_TOLD:
        told.append(f"and {len(faults) - MOST_TOLD} more")
    return f"{len(faults)} to mend:\n" + "\n".join(f"  {fault}" for fault in told)
