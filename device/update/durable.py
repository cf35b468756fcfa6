"""Changes of which a cut of power leaves the state before or the state after.

A file that was renamed may be there while its bytes are not, and a rename may not have happened at
all, until both the file and its folder were asked to be on the card (fsync). Here everything is
written beside, asked for, and only then put in its place.
"""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

FULL = (errno.ENOSPC, errno.EDQUOT)
"""What a write is answered where there is no room."""


def sync(path: Path) -> None:
    """Return once a file's bytes, or a folder's names, are on the card."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_tree(folder: Path) -> None:
    """A folder with everything in it, the names last."""
    for path in sorted(folder.rglob("*"), reverse=True):
        if not path.is_symlink():
            sync(path)
    sync(folder)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file: at every moment it has the old content or the new."""
    beside = path.with_name(f".{path.name}.new")
    beside.write_bytes(content)
    sync(beside)
    beside.replace(path)
    sync(path.parent)


def turn(link: Path, target: str) -> None:
    """Point a link at ``target``: at every moment it points at the old one or the new."""
    turn_each((link, target))


def turn_each(*turns: tuple[Path, str]) -> None:
    """Turn links, one after the other; where there is no room for one, none is turned."""
    laid: list[tuple[Path, Path]] = []
    try:
        for link, target in turns:
            beside = link.with_name(f".{link.name}.new")
            beside.unlink(missing_ok=True)
            beside.symlink_to(target)
            laid.append((beside, link))
    except OSError:
        for beside, _ in laid:
            beside.unlink()
        raise
    for beside, link in laid:
        beside.replace(link)
        sync(link.parent)


def turn_back(link: Path, other: Path) -> None:
    """Point ``link`` to where ``other`` points, which is given up where a full disk wants it."""
    try:
        turn(link, str(other.readlink()))
    except OSError:
        other.replace(link)  # a new name for what is there needs no room
        sync(link.parent)


def move(source: Path, target: Path) -> None:
    """Rename a folder that is on the card; its new name is when this returns."""
    source.rename(target)
    sync(target.parent)


def remove(path: Path) -> None:
    """Take a file or link away, if it is there."""
    if path.is_symlink() or path.exists():
        path.unlink()
        sync(path.parent)


def pointed_at(link: Path) -> str | None:
    """The name that a link in a folder of versions points to; None where it leads nowhere."""
    try:
        target = str(link.readlink())
    except OSError:
        return None
    return target if "/" not in target and (link.parent / target).is_dir() else None


def disk_says(error: OSError, path: Path) -> str:
    """An error of the disk that ``path`` is on, as a line for people."""
    where = error.filename or path
    if error.errno not in FULL:
        return f"{where}: cannot be read or written ({error.strerror or error})"
    free = shutil.disk_usage(path if path.is_dir() else path.parent).free
    return f"{where}: the disk is full ({free >> 20:,} MiB free); make room, or use a larger card"
