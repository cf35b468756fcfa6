"""The root of the card as one tar: Debian's, what goes away from it, and what is laid over it.

Owners come from the archive; a file that is laid over belongs to root unless it is said otherwise.
Every entry has the one time, entries are sorted, and none says where it was made: the same inputs
are the same bytes.
"""

from __future__ import annotations

import fnmatch
import io
import struct
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from edge.errors import InputError


def _plain(name: str) -> str:
    return name.removeprefix("./").rstrip("/")


def read_files(archive: Path, patterns: Sequence[str]) -> dict[str, bytes]:
    """The regular files of a tar whose path (without a leading ``./``) fits a pattern."""
    found: dict[str, bytes] = {}
    with tarfile.open(archive) as tar:
        for member in tar:
            name = _plain(member.name)
            if member.isfile() and any(fnmatch.fnmatchcase(name, p) for p in patterns):
                stream = tar.extractfile(member)
                found[name] = stream.read() if stream else b""
    return found


def paths(archive: Path) -> set[str]:
    """All that a tar names, links too, without a leading ``./``."""
    with tarfile.open(archive) as tar:
        return {_plain(name) for name in tar.getnames()}


def one_file(files: Mapping[str, bytes], pattern: str) -> bytes:
    """The file that fits, of which there must be one."""
    names = sorted(name for name in files if fnmatch.fnmatchcase(name, pattern))
    if len(names) != 1:
        raise InputError(
            f"{pattern}: {len(names)} files fit in the root, one was expected"
            + (f" ({', '.join(names[:3])})" if names else "; was a package left out?")
        )
    return files[names[0]]


_UNCHECKED = 0b01
"""Of a ``.pyc``'s flags (PEP 552): named by its source's hash, which is not looked at."""


def unchecked(pyc: bytes) -> bytes:
    """Byte code that is taken as it is, in place of byte code of a source with a certain time.

    On a root that nobody can write no source is ever newer; and the time in it would be that of
    Debian's package, while all files of the root have another.
    """
    return pyc[:4] + struct.pack("<I", _UNCHECKED) + bytes(8) + pyc[16:]


def _neutral(member: tarfile.TarInfo, epoch_s: int) -> tarfile.TarInfo:
    member.mtime = epoch_s
    member.uname = member.gname = ""
    member.pax_headers = {
        name: value
        for name, value in member.pax_headers.items()
        if name.startswith("SCHILY.xattr.")
    }
    return member


def _overlay(folder: Path) -> dict[str, Path]:
    """Path below the root: the file, link or folder here that goes there."""
    return {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*"))}


def merge(
    base: Path,
    target: Path,
    *,
    left_out: Sequence[str] = (),
    over: Iterable[Path] = (),
    files: Mapping[str, bytes] | None = None,
    epoch_s: int,
) -> None:
    """Write the tar of a root.

    Parameters
    ----------
    base : Path
        A tar with the system.
    left_out : sequence of str
        Patterns of paths, without a leading slash, that go away from ``base``.
    over : iterable of Path
        Folders laid over it; a later one wins. What is in ``base`` too keeps its owner and mode.
    files : mapping, optional
        Single files laid over all that; their folders must be there.
    """
    laid: dict[str, Path] = {}
    for folder in over:
        laid |= _overlay(folder)
    single = dict(files or {})
    replaced: dict[str, tarfile.TarInfo] = {}
    entries: dict[str, tuple[tarfile.TarInfo, Path | bytes | None]] = {}
    with tarfile.open(base) as old, tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as new:
        for member in old:
            name = _plain(member.name)
            gone = any(fnmatch.fnmatchcase(name, pattern) for pattern in left_out)
            if not name or gone or name in single:
                continue
            if name in laid and not (member.isdir() and laid[name].is_dir()):
                replaced[name] = member
                continue
            laid.pop(name, None)
            entries[name] = (_neutral(member, epoch_s), None)
        for name, path in laid.items():
            if name in single:
                continue
            info = new.gettarinfo(str(path), arcname=name)
            status = path.lstat()
            mode = 0o755 if path.is_dir() or status.st_mode & 0o100 else 0o644
            info.mode = 0o777 if path.is_symlink() else mode
            info.type = tarfile.REGTYPE if info.islnk() else info.type
            info.size = status.st_size if info.isreg() else 0
            info.uid = info.gid = 0
            before = replaced.get(name)
            if before is not None and before.isreg() and info.isreg():
                info.mode, info.uid, info.gid = before.mode, before.uid, before.gid
            entries[name] = (_neutral(info, epoch_s), path)
        for name, content in single.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), 0o644
            entries[name] = (_neutral(info, epoch_s), content)
        _write(entries, old, new)


def _write(
    entries: Mapping[str, tuple[tarfile.TarInfo, Path | bytes | None]],
    old: tarfile.TarFile,
    new: tarfile.TarFile,
) -> None:
    """In the order of their paths, but a hard link after what it is a link to."""

    def order(name: str) -> tuple[bool, str]:
        return entries[name][0].islnk(), name

    for name in sorted(entries, key=order):
        info, content = entries[name]
        if not info.isreg():
            info.name = name
            info.linkname = _plain(info.linkname) if info.islnk() else info.linkname
            new.addfile(info)
        elif content is None:
            stream = old.extractfile(info)
            if stream is not None and name.endswith(".pyc"):
                stream = io.BytesIO(unchecked(stream.read()))
            info.name = name
            new.addfile(info, stream)
        elif isinstance(content, bytes):
            new.addfile(info, io.BytesIO(content))
        else:
            with content.open("rb") as stream_of_file:
                new.addfile(info, stream_of_file)
