"""A folder takes another's place in one step: whoever looks finds the old one or the new one.

Two renames would leave a moment with neither. Linux exchanges two names in one (renameat2(2),
``RENAME_EXCHANGE``, since 3.15; ext4, xfs, btrfs, overlayfs and tmpfs do it).
"""

from __future__ import annotations

import ctypes
import os
import shutil
from collections.abc import Callable
from pathlib import Path

_HERE = -100
_EXCHANGE = 2


def write_whole(folder: Path, write: Callable[[Path], None]) -> None:
    """Write a folder beside the one that is there, then put it in its place.

    Parameters
    ----------
    folder : Path
        Need not be there.
    write : callable
        Fills the folder whose path it is given.
    """
    new = folder.with_name(folder.name + ".new")
    shutil.rmtree(new, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    write(new)
    _to_disk(new)
    if folder.exists():
        _exchange(new, folder)
        shutil.rmtree(new)
    else:
        new.rename(folder)
    _to_disk(folder.parent)


def _exchange(one: Path, other: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    names = (_HERE, os.fsencode(one), _HERE, os.fsencode(other))
    if libc.renameat2(*names, _EXCHANGE) != 0:
        errno = ctypes.get_errno()
        raise OSError(errno, f"{os.strerror(errno)}: this file system cannot swap folders", one)


def _to_disk(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
