"""The settings' file read and changed from the dashboard: microphone and broker, nothing else.

The file stays its owner's: only the lines of the keys that changed are written anew, comments and
all other keys stay as they are, and what would not be legible settings is not written at all. The
broker's password goes into a file of its own and is never told again.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec

from edge.dashboard.reaching import try_broker
from edge.errors import UsageError
from edge.publish.address import BrokerAddress
from edge.settings import Settings, broker_address, read_settings

PASSWORD_FILE = "broker-password"
LISTING_S = 15.0
MOST_CHARACTERS = 512


class Changed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the settings' page sends; null stands for the setting left out."""

    mic: str | None = None
    broker: str | None = None
    broker_password: str | None = None
    """None or empty: the one that is kept."""
    broker_ca: str | None = None

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if value is not None and (len(value) > MOST_CHARACTERS or not value.isprintable()):
                raise ValueError(f"{name}: up to {MOST_CHARACTERS} characters, all of them legible")


@dataclass(frozen=True, slots=True)
class Keeper:
    """What answers the questions of the settings' page.

    Attributes
    ----------
    device : str
        Name of the piano in the topics.
    path : Path or None
        The settings' file; None where the program was started without one.
    """

    device: str
    path: Path | None

    def desk(self) -> dict[str, Any]:
        """The questions and who answers them, for `edge.dashboard.server`."""
        return {
            "GET settings": lambda _: self.show(),
            "PUT settings": lambda document: self.keep(_changed(document)),
            "POST connection-test": lambda document: self.test(_changed(document)),
        }

    def show(self) -> Mapping[str, Any]:
        """Microphone and broker as they are kept, and which microphones there are."""
        settings = self._settings()
        address = _parsed(settings.broker)
        shown = {
            "mic": settings.mic,
            "broker": None if address is None else str(address),
            "broker_ca": settings.broker_ca,
        }
        kept = settings.broker_password_file is not None
        kept = kept or (address is not None and address.password is not None)
        return {
            "settings": shown,
            "password_kept": kept,
            "can_be_kept": self.path is not None,
            "microphones": microphones(),
        }

    def keep(self, changed: Changed) -> Mapping[str, Any]:
        """Write what changed into the file.

        Raises
        ------
        UsageError
            There is no file, it cannot be written, or it would be no settings any more.
        """
        if self.path is None:
            raise UsageError("nothing can be kept: start with --settings FILE, which then holds it")
        before = self._settings()
        values, password = self._wanted(changed, before)
        try:
            text = self.path.read_text(encoding="utf-8") if self.path.exists() else ""
            for key, value in values.items():
                if value != getattr(before, key):
                    text = with_line(text, key, value)
            if password is not None:
                _replace(self._password_path, password)
            _replace(self.path, text, legible=read_settings)
        except OSError as error:
            raise UsageError(f"{self.path}: cannot be written ({error.strerror})") from None
        return {}

    def test(self, changed: Changed) -> Mapping[str, Any]:
        """Try the broker as it would be with these settings; nothing is kept."""
        before = self._settings()
        values, password = self._wanted(changed, before)
        if password is not None:
            values["broker_password_file"] = None
        wanted = msgspec.structs.replace(before, **values)
        if wanted.broker is None:
            raise UsageError("no broker is named: write its address, as in mqtt://house.local")
        address = broker_address(wanted.broker, wanted)
        if password is not None:
            address = replace(address, password=password)
        return {"stages": [asdict(stage) for stage in try_broker(address, self.device)]}

    def _wanted(self, changed: Changed, before: Settings) -> tuple[dict[str, Any], str | None]:
        """The settings as they shall be, and the new password if one was given.

        A password that is kept goes only where it went before: another address needs its own.
        """
        values: dict[str, Any] = {"mic": changed.mic, "broker_ca": changed.broker_ca}
        address, kept = _parsed(changed.broker), _parsed(before.broker)
        password = changed.broker_password or (None if address is None else address.password)
        if password is not None:
            if address is None or address.username is None:
                raise UsageError("a password needs a user: write the broker as mqtt://user@host")
            values["broker"] = _written(address)
            values["broker_password_file"] = str(self._password_path)
        elif address != kept and str(address) != str(kept):
            values["broker"] = None if address is None else _written(address)
            values["broker_password_file"] = None
        return values, password

    @property
    def _password_path(self) -> Path:
        folder = Path() if self.path is None else self.path.parent
        return folder.resolve() / PASSWORD_FILE

    def _settings(self) -> Settings:
        return read_settings(self.path) if self.path and self.path.exists() else Settings()


def _changed(document: Any) -> Changed:
    return msgspec.convert(document, Changed)


def _parsed(broker: str | None) -> BrokerAddress | None:
    return None if broker is None else BrokerAddress.parse(broker)


def _written(address: BrokerAddress) -> str:
    """The address as it can be read again, without the password."""
    user = None if address.username is None else quote(address.username, safe="")
    return str(replace(address, username=user, password=None))


def with_line(text: str, key: str, value: object) -> str:
    """The TOML ``text`` with ``key`` set to ``value``, or without it; all else as it was."""
    line = "" if value is None else f"{key} = {json.dumps(value, ensure_ascii=False)}\n"
    found = re.search(rf"(?m)^[ \t]*{re.escape(key)}[ \t]*=.*(\n|\Z)", text)
    if found is not None:
        return text[: found.start()] + line + text[found.end() :]
    gap = "" if not text or text.endswith("\n") else "\n"
    return text + gap + line


def _replace(path: Path, text: str, legible: Callable[[Path], Any] | None = None) -> None:
    """Put ``text`` in the place of ``path`` whole, or, where it is not legible, not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    mode = path.stat().st_mode & 0o777 if path.exists() else 0o600
    with tempfile.NamedTemporaryFile("w", dir=path.parent, encoding="utf-8", delete=False) as file:
        fresh = Path(file.name)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    try:
        fresh.chmod(mode)
        if legible is not None:
            legible(fresh)
        fresh.replace(path)
    except BaseException:
        fresh.unlink()
        raise


def microphones() -> list[str]:
    """The names of this machine's microphones; none where they cannot be listed.

    Asked of another process: PortAudio must not be started twice beside one that records.
    """
    command = [sys.executable, "-m", "edge.cli", "devices", "--json"]
    try:
        run = subprocess.run(command, capture_output=True, timeout=LISTING_S, check=True)
        return [str(each["name"]) for each in msgspec.json.decode(run.stdout)["audio"]]
    except (OSError, subprocess.SubprocessError, msgspec.DecodeError, KeyError, TypeError):
        return []
