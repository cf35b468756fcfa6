"""Settings of a piano that stays: one TOML file, every key known.

What is given on the command line wins over the file. A key that is not known is an error and
not ignored: a misspelt ``micropone`` would leave a piano that listens to the wrong thing.
"""

from __future__ import annotations

import difflib
import tomllib
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from edge.errors import UsageError
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
    """``mqtt://[user[:password]@]host[:port]``."""
    wait_for_broker: bool = False
    """Go on trying when the broker is not there at the start, as a service should."""
    model: str | None = None
    """Note model."""
    catalog: str | None = None
    """Folder of catalogue packs."""
    calibration: str | None = None
    """What `sostenuto calibrate` found out about this piano; a file."""
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
        return msgspec.convert(table, Settings)
    except msgspec.ValidationError as error:
        raise UsageError(f"{path}: {_in_words(str(error))}") from error


def _in_words(validation: str) -> str:
    """msgspec's "Expected `str`, got `int` - at `$.mic`" the other way round."""
    what, _, where = validation.partition(" - at ")
    key = where.strip("`").removeprefix("$.")
    return f"value of {key!r}: {what[:1].lower()}{what[1:]}; change it"
