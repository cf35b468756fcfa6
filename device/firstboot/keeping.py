"""Files that a cut of power leaves as they were or as they shall be, and whose they are."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from device.service.place import ROOT, Place


@dataclass(frozen=True, slots=True)
class Kept:
    """A file as it shall be: where, with what, and for whom alone to read.

    Attributes
    ----------
    path : str
        Absolute, of the device.
    owner : str
        A user of the system; root where there is none of that name.
    """

    path: str
    content: bytes
    owner: str = ROOT
    mode: int = 0o600

    def keep(self, place: Place) -> bool:
        """Write it, whole and on the disk when this returns; whether it had to be.

        Raises
        ------
        OSError
            The disk is full, or cannot be written; the file is as it was.
        """
        at = place.at(self.path)
        if at.is_file() and at.read_bytes() == self.content:
            return False
        at.parent.mkdir(parents=True, exist_ok=True)
        fresh = at.with_name(f".{at.name}.new")
        fresh.unlink(missing_ok=True)
        try:
            handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, self.mode)
            with os.fdopen(handle, "wb") as file:
                if os.geteuid() == 0:
                    os.chown(handle, *(place.user_id(self.owner) or (0, 0)))
                file.write(self.content)
                file.flush()
                os.fsync(handle)
            fresh.replace(at)
        except OSError:
            with contextlib.suppress(OSError):
                fresh.unlink(missing_ok=True)
            raise
        sync_folder(at.parent)
        return True


def sync_folder(folder: Path) -> None:
    """Return once the names in it are on the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def replace_on_card(path: Path, text: bytes) -> None:
    """Put ``text`` in the place of a file of the card so that the old one is not left on it.

    What a FAT gives free it does not erase: so the old file is written over before its name goes to
    the new one. Cut in between, it is a comment, which says nothing and changes nothing.
    """
    fresh = path.with_name(f"{path.name}.new")
    with fresh.open("wb") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    if path.exists():
        with path.open("r+b") as file:
            file.write(b"#" * max(0, path.stat().st_size - 1) + b"\n")
            file.flush()
            os.fsync(file.fileno())
    fresh.replace(path)
    sync_folder(path.parent)


@contextmanager
def writable(folder: Path, place: Place) -> Iterator[None]:
    """The card's partition, writable while the block lasts; as it was afterwards."""
    read_only = bool(os.statvfs(folder).f_flag & os.ST_RDONLY)
    if read_only:
        place.run("mount", "-o", "remount,rw", str(folder))
    try:
        yield
    finally:
        if read_only:
            place.run("mount", "-o", "remount,ro", str(folder))
