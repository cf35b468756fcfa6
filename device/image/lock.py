"""The list that makes an image repeatable: every package and wheel by version and sha256.

The first build writes it; a build that is given it takes exactly these, from the cache or, where
one is not there yet, from the mirror, and refuses a file whose sum is another.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from device.image.recipe import Board
from edge.errors import InputError

FORMAT = 1

Sha256 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
FileName = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+~%:-]*$")]
"""The name of a file in the cache: it can never lead out of it."""


class Package(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One Debian package. ``path`` is where it lies on a mirror, below its root."""

    name: str
    version: str
    sha256: Sha256
    size_bytes: int
    file: FileName
    path: str
    place: Literal["root", "beside"]


class Wheel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One Python package as a wheel for the board."""

    name: str
    version: str
    sha256: Sha256
    file: FileName


class Lock(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All that is fetched for one image. ``epoch_s`` is the one time that every file carries."""

    format: Literal[1]
    board: Board
    suite: str
    epoch_s: int
    tools: dict[str, str]
    packages: tuple[Package, ...]
    wheels: tuple[Wheel, ...]

    def in_place(self, place: Literal["root", "beside"]) -> tuple[Package, ...]:
        """The packages that are set up in the root, or those of which files are taken."""
        return tuple(package for package in self.packages if package.place == place)


def read(path: Path, board: Board) -> Lock:
    """The list in a file, checked to be one for ``board``."""
    try:
        lock = msgspec.json.decode(path.read_bytes(), type=Lock)
    except OSError as error:
        raise InputError(f"{path}: lock list cannot be read: {error.strerror}") from None
    except msgspec.DecodeError as error:
        raise InputError(
            f"{path}: not a lock list of format {FORMAT}: {error}; build once without --lock and "
            "take the .lock file beside the image"
        ) from None
    if lock.board != board:
        raise InputError(f"{path}: a lock list for {lock.board}; --board {board} was asked for")
    return lock


def encode(lock: Lock) -> bytes:
    """The list as a file: sorted, one entry a line, so that two of them can be compared by eye."""
    ordered = msgspec.structs.replace(
        lock,
        packages=tuple(sorted(lock.packages, key=lambda p: (p.place, p.name))),
        wheels=tuple(sorted(lock.wheels, key=lambda w: w.name)),
        tools=dict(sorted(lock.tools.items())),
    )
    text = msgspec.json.encode(ordered).decode()
    text = re.sub(r'(\{"name":|"(?:packages|wheels|tools)":)', r"\n\1", text)
    return text.encode() + b"\n"
