"""Which disks there are, and which of them may be overwritten.

`lsblk` knows what hangs on what; every rule is a function of what it says. Never to be overwritten:
the disk that this system runs from, one that is mounted, one that another program builds on. What
is no card and no stick needs its serial number typed: nobody types that by mistake.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from edge.errors import DeviceError, UsageError

COLUMNS = (
    "NAME,PATH,SIZE,MODEL,VENDOR,SERIAL,TRAN,RM,HOTPLUG,RO,TYPE,MOUNTPOINTS,FSTYPE,LABEL,MAJ:MIN"
)

SYSTEM_PLACES = ("/", "/boot", "/boot/efi", "/boot/firmware", "/usr", "/var", "/home", "[SWAP]")
"""What is mounted at one of these belongs to the system that runs."""

BLKGETSIZE64 = 0x80081272
GIGA = 1e9


@dataclass(frozen=True, slots=True)
class Disk:
    """A disk as `lsblk` sees it, with all that lies on it.

    Attributes
    ----------
    path : Path
    kind : str
        ``disk``, ``part``, ``loop``, ``crypt``, …
    size_bytes : int
        0 for a reader without a card.
    name : str
        Vendor and model, for people.
    serial : str
    removable : bool
    read_only : bool
    label : str
        File system and its label, for people.
    mounted_at : tuple of str
        Of itself alone.
    number : str
        ``major:minor``.
    parts : tuple of Disk
        Partitions, and what is built on them.
    """

    path: Path
    kind: str
    size_bytes: int
    name: str = ""
    serial: str = ""
    removable: bool = False
    read_only: bool = False
    label: str = ""
    mounted_at: tuple[str, ...] = ()
    number: str = ""
    parts: tuple[Disk, ...] = ()

    def everything(self) -> Iterator[Disk]:
        """Itself, and all that is built on it."""
        yield self
        for part in self.parts:
            yield from part.everything()

    @property
    def in_words(self) -> str:
        """Model and size, as in ``SanDisk Ultra, 31.9 GB``."""
        return f"{self.name or 'a disk without a name'}, {gigabytes(self.size_bytes)}"


def gigabytes(size_bytes: int) -> str:
    """A size as it is printed on cards: GB of 10^9 bytes."""
    if size_bytes < GIGA:
        return f"{size_bytes / 1e6:.1f} MB"
    return f"{size_bytes / GIGA:.1f} GB"


def read_lsblk(printed: bytes) -> tuple[Disk, ...]:
    """The disks in what `lsblk --json --bytes` printed."""
    tree = msgspec.json.decode(printed)["blockdevices"]
    return tuple(_disk(each) for each in tree)


def _disk(row: dict[str, Any]) -> Disk:
    path = Path(row["path"])
    words = (row.get("vendor"), row.get("model"))
    return Disk(
        path=path,
        kind=row["type"],
        size_bytes=int(row.get("size") or 0),
        name=" ".join(str(word).strip() for word in words if word and not word.startswith("0x")),
        serial=str(row.get("serial") or "").strip(),
        removable=bool(row.get("rm") or row.get("hotplug")) or _is_sd_card(path),
        read_only=bool(row.get("ro")),
        label=" ".join(str(word) for word in (row.get("fstype"), row.get("label")) if word),
        mounted_at=tuple(place for place in row.get("mountpoints", ()) if place),
        number=str(row.get("maj:min") or ""),
        parts=tuple(_disk(child) for child in row.get("children", ())),
    )


def _is_sd_card(path: Path) -> bool:
    """A reader that is built in calls its card a fixed disk; the kernel knows better."""
    try:
        return Path(f"/sys/block/{path.name}/device/type").read_text().strip() == "SD"
    except OSError:
        return False


def list_disks() -> tuple[Disk, ...]:
    """All disks of this machine.

    Raises
    ------
    DeviceError
        `lsblk` is not here or cannot read them.
    """
    program = shutil.which("lsblk")
    if program is None:
        raise DeviceError("disks are listed by lsblk, which is not here: apt-get install mount")
    command = [program, "--json", "--bytes", "--output", COLUMNS]
    ran = subprocess.run(command, capture_output=True, check=False)
    if ran.returncode != 0:
        raise DeviceError(f"lsblk fails: {ran.stderr.decode(errors='replace').strip()}")
    return read_lsblk(ran.stdout)


def system_numbers() -> frozenset[str]:
    """``major:minor`` of what the running system's own folders lie on."""
    numbers = set()
    for place in SYSTEM_PLACES:
        try:
            number = Path(place).stat().st_dev
        except OSError:
            continue
        numbers.add(f"{os.major(number)}:{os.minor(number)}")
    return frozenset(numbers)


def cards(disks: tuple[Disk, ...], system: frozenset[str]) -> tuple[Disk, ...]:
    """Those that a card can be: removable whole disks which the system does not run from."""
    return tuple(
        disk
        for disk in disks
        if disk.kind == "disk" and disk.removable and not _is_system(disk, system)
    )


def find_disk(path: Path, disks: tuple[Disk, ...]) -> Disk:
    """The disk at ``path``, which may be a link such as those of /dev/disk/by-id.

    Raises
    ------
    UsageError
        There is none, or it is a part of one.
    """
    real = path.resolve()
    for disk in disks:
        if disk.path == real:
            return disk
        for part in disk.everything():
            if part.path == real:
                raise UsageError(
                    f"{path}: is only a part ({part.kind}) of {disk.path}; give the whole card"
                )
    raise UsageError(f"{path}: no disk; `sostenuto-device flash --list` shows the cards")


def check_disk(disk: Disk, system: frozenset[str], meant: str | None = None) -> None:
    """Refuse a disk that must not be overwritten.

    Parameters
    ----------
    system : frozenset of str
        As `system_numbers` gives them.
    meant : str or None
        The serial number (or, where there is none, the path) of a disk that is not removable and
        shall be overwritten all the same.

    Raises
    ------
    UsageError
        Which disk, why, and what to do.
    """
    if disk.kind not in ("disk", "loop"):
        raise UsageError(f"{disk.path}: is of kind {disk.kind!r}; give a whole card")
    if _is_system(disk, system):
        raise UsageError(
            f"{disk.path} ({disk.in_words}): this computer runs from it; it is never overwritten. "
            "`sostenuto-device flash --list` shows the cards"
        )
    mounted = [(part.path, place) for part in disk.everything() for place in part.mounted_at]
    if mounted:
        places = ", ".join(f"{path} at {place}" for path, place in mounted)
        unmount = " ".join(str(path) for path, _ in mounted)
        raise UsageError(f"{disk.path}: mounted: {places}; first: umount {unmount}")
    built = [part for part in disk.everything() if part is not disk and part.kind != "part"]
    if built:
        raise UsageError(
            f"{disk.path}: in use by {built[0].path} ({built[0].kind}); take that down first"
        )
    if disk.size_bytes == 0:
        raise UsageError(f"{disk.path}: no card in it; put one in")
    if disk.read_only:
        raise UsageError(f"{disk.path}: can only be read; move the slide on the card's edge")
    sign = disk.serial or str(disk.path)
    if not disk.removable and meant != sign:
        raise UsageError(
            f"{disk.path} ({disk.in_words}): is built in, no card or stick. If it is to be "
            f"overwritten all the same, add: --yes-i-mean {sign}"
        )


def _is_system(disk: Disk, system: frozenset[str]) -> bool:
    return any(
        part.number in system or any(place in SYSTEM_PLACES for place in part.mounted_at)
        for part in disk.everything()
    )


def size_of(path: Path) -> int:
    """Bytes of a disk, or of a regular file that stands for one."""
    if stat.S_ISBLK(path.stat().st_mode):
        with path.open("rb") as device:
            answer = fcntl.ioctl(device, BLKGETSIZE64, b"\0" * 8)
        return int(struct.unpack("Q", answer)[0])
    return path.stat().st_size
