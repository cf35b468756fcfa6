"""Changes of which a cut of power leaves the state before or the state after.

A file that was renamed may be there while its bytes are not, and a rename may not have happened at
all, until both the file and its folder were asked to be on the card (fsync). Here everything is
written beside, asked for, and only then put in its place.
"""

from __future__ import annotations

import os
from pathlib import Path


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
    beside = link.with_name(f".{link.name}.new")
    beside.unlink(missing_ok=True)
    beside.symlink_to(target)
    beside.replace(link)
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
