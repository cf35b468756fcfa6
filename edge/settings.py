"""Settings of a piano that stays: one TOML file, every key known.

What is given on the command line wins over the file. A key that is not known is an error and
not ignored: a misspelt ``micropone`` would leave a piano that listens to the wrong thing.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from edge.errors import UsageError
from edge.messages import COMMANDS
from edge.publish.address import BrokerAddress, Tls, shown
from edge.publish.health import HEALTH_S


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a settings file may say; all of it is optional."""

    device: str | None = None
    """Name in the MQTT topics; from the hardware unless given."""
    mic: str | None = None
    """Microphone, by its stable name or a part of it."""
    midi_in: str | None = None
    """MIDI port, by its stable name or a part of it."""
    midi_out: str | None = None
    """MIDI port that plays what is heard: its stable name, a part of it, or ``virtual``."""
    midi_out_provisional: bool = False
    """Send provisional notes to it too."""
    broker: str | None = None
    """``mqtt://[user[:password]@]host[:port]``; mqtts, ws and wss likewise."""
    broker_password_file: str | None = None
    """File with the password and nothing else, so that it stands in no process list."""
    broker_ca: str | None = None
    """Authority that signed the broker's certificate, PEM; the system's unless given."""
    broker_certificate: str | None = None
    """This device's own certificate, PEM, where the broker asks for one."""
    broker_key: str | None = None
    """Its key, PEM, without a passphrase; in the certificate's file unless given."""
    broker_mqtt: Literal["5", "3.1.1"] | None = None
    """Version of MQTT; 5 is tried first and 3.1.1 then unless given."""
    commands: tuple[str, ...] | None = None
    """Commands that are carried out when a dashboard asks; all of them unless given."""
    home_assistant: bool | None = None
    """True: let Home Assistant find the piano; False: take it away again."""
    metrics_port: Annotated[int, Meta(ge=1, le=65535)] | None = None
    """Port of this machine at which Prometheus finds how the device is."""
    dashboard_port: Annotated[int, Meta(ge=1, le=65535)] | None = None
    """Port at which browsers of the house find the dashboard."""
    dashboard_broker: str | None = None
    """The broker as dashboards reach it, with the account that they are given."""
    dashboard_private: bool = False
    """Looking needs the device's password too."""
    dashboard_names: tuple[str, ...] = ()
    """Host names to answer to, beside addresses and names of the house's own network."""
    dashboard_certificate: str | None = None
    """The dashboard's own certificate, PEM: with it browsers come by https."""
    dashboard_key: str | None = None
    """Its key, PEM, without a passphrase; in the certificate's file unless given."""
    dashboard_password_file: str | None = None
    """What `sostenuto dashboard --set-password` writes, never the password itself."""
    wait_for_broker: bool = False
    """Go on trying when the broker is not there at the start, as a service should."""
    wait_for_source: bool = False
    """Go on looking when the microphone or MIDI port is not there at the start, likewise."""
    model: str | None = None
    """Note model."""
    catalog: str | None = None
    """Folder of catalogue packs."""
    calibration: str | None = None
    """What `sostenuto calibrate` found out about this piano; a file."""
    outbox: str | None = None
    """Folder that keeps what the broker does not have yet, and the record of what was played."""
    outbox_mb: Annotated[int, Meta(ge=1)] = 64
    """What waits for the broker takes no more, in MiB."""
    outbox_days: Annotated[float, Meta(gt=0.0)] = 30.0
    """What waits for the broker is given up after so many days of running."""
    history_mb: Annotated[int, Meta(ge=1)] = 256
    """The record takes no more, in MiB."""
    history_days: Annotated[float, Meta(gt=0.0)] = 3650.0
    """The record forgets what was played so many days of running ago."""
    provisional: bool = True
    """Tell strikes and guessed keys before they are sure."""
    health_every_s: Annotated[float, Meta(ge=0.5)] = HEALTH_S
    """Seconds between two `health` messages."""


def read_settings(path: str | Path) -> Settings:
    """The settings in a TOML file.

    Raises
    ------
    UsageError
        No such file, no TOML, a key that is not known, or a value of the wrong kind.
    """
    path = Path(path)
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        reason = error.strerror or str(error)
        raise UsageError(f"{path}: settings cannot be read ({reason}); give a TOML file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: no TOML: {error}; write lines like key = value") from error
    return settings_in(table, path)


def settings_in(table: Mapping[str, Any], path: Path) -> Settings:
    """The settings in a ``table`` of TOML that was read from ``path``.

    Raises
    ------
    UsageError
        A key that is not known, or a value of the wrong kind.
    """
    known = Settings.__struct_fields__
    for key in table:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            meant = f"did you mean {near[0]!r}? " if near else ""
            raise UsageError(
                f"{path}: unknown key {key!r} in the settings; {meant}"
                f"allowed are {', '.join(known)}"
            )
    try:
        settings = msgspec.convert(table, Settings)
    except msgspec.ValidationError as error:
        raise UsageError(f"{path}: {_in_words(str(error))}") from error
    for name in settings.commands or ():
        if name not in COMMANDS:
            raise UsageError(f"{path}: no command {name!r}; there are {', '.join(COMMANDS)}")
    return settings


def broker_address(url: str, settings: Settings) -> BrokerAddress:
    """The broker at ``url``, with what ``settings`` say of password, certificates and version.

    Raises
    ------
    UsageError
        Not a broker, a file that cannot be used, or settings for TLS on a broker without it.
    """
    address = BrokerAddress.parse(url)
    if settings.broker_password_file is not None:
        if address.username is None:
            raise UsageError(f"broker_password_file needs a user in the broker {shown(url)!r}")
        address = replace(address, password=_password_in(Path(settings.broker_password_file)))
    if settings.broker_mqtt == "3.1.1":
        address = replace(address, speaks_mqtt5=False)
    ca, certificate, key = (
        None if name is None else Path(name)
        for name in (settings.broker_ca, settings.broker_certificate, settings.broker_key)
    )
    if (ca, certificate, key) == (None, None, None):
        return address
    if address.tls is None:
        raise UsageError(
            f"broker {shown(url)!r} is without TLS, and certificates are given; "
            "write mqtts:// or wss://"
        )
    if key is not None and certificate is None:
        raise UsageError("broker_key is given without broker_certificate; give both")
    tls = Tls(ca, certificate, key)
    tls.context()
    return replace(address, tls=tls)


def _password_in(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "no UTF-8"
        raise UsageError(f"broker_password_file {str(path)!r}: {reason}") from None


def _in_words(validation: str) -> str:
    """msgspec's "Expected `str`, got `int` - at `$.mic`" the other way round."""
    what, _, where = validation.partition(" - at ")
    key = where.strip("`").removeprefix("$.")
    return f"value of {key!r}: {what[:1].lower()}{what[1:]}; change it"
