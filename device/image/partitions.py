"""The card's table: seven parts, of which 2 and 3, 5 and 6 are the two slots.

A master boot record with one extended partition, since the boot ROM of a Pi Zero 2 W reads nothing
newer. Every part starts on a border of 4 MiB, the block in which most cards erase. The disk's
signature is the same on every card: kernels find their root by it (``PARTUUID=536f7374-05``).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

SECTOR_BYTES = 512
MIB = 1024 * 1024

DISK_ID = 0x536F7374
"""``Sost``."""

FAT32, EXTENDED, LINUX = 0x0C, 0x0F, 0x83
"""Types of partitions. UEFI starts from a FAT of any type on a card that can be taken out."""

_BORDER = 4 * MIB
_NO_CYLINDERS = b"\xfe\xff\xff"
"""Cylinder, head and sector of a place that has none; every reader since 1996 counts sectors."""


@dataclass(frozen=True, slots=True)
class Partition:
    """One part of the card; ``size_bytes`` is a multiple of 4 MiB."""

    number: int
    name: str
    kind: int
    start_bytes: int
    size_bytes: int

    @property
    def end_bytes(self) -> int:
        return self.start_bytes + self.size_bytes

    @property
    def uuid(self) -> str:
        """What Linux calls its PARTUUID."""
        return f"{DISK_ID:08x}-{self.number:02x}"


@dataclass(frozen=True, slots=True)
class Sizes:
    """How large the parts are, in MiB; the defaults are what the cards are made with."""

    card_mib: int = 64
    boot_mib: int = 192
    root_mib: int = 1024
    data_mib: int = 64


@dataclass(frozen=True, slots=True)
class Layout:
    """Where every part lies. Part 4 is the extended one that holds 5, 6 and 7."""

    partitions: tuple[Partition, ...]

    def __getitem__(self, name: str) -> Partition:
        return next(p for p in self.partitions if p.name == name)

    @property
    def size_bytes(self) -> int:
        return max(p.end_bytes for p in self.partitions)


def lay_out(sizes: Sizes = Sizes()) -> Layout:
    """The parts one after the other; before each logical one, 4 MiB for its own small table."""
    parts: list[Partition] = []
    at = _BORDER
    for number, name, mib in (
        (1, "card", sizes.card_mib),
        (2, "boot-a", sizes.boot_mib),
        (3, "boot-b", sizes.boot_mib),
    ):
        parts.append(Partition(number, name, FAT32, at, mib * MIB))
        at += mib * MIB
    extended = at
    for number, name, mib in (
        (5, "root-a", sizes.root_mib),
        (6, "root-b", sizes.root_mib),
        (7, "data", sizes.data_mib),
    ):
        parts.append(Partition(number, name, LINUX, at + _BORDER, mib * MIB))
        at += _BORDER + mib * MIB
    parts.insert(3, Partition(4, "extended", EXTENDED, extended, at - extended))
    return Layout(tuple(parts))


def _entry(kind: int, start_sectors: int, sectors: int) -> bytes:
    return struct.pack("<B3sB3sII", 0, _NO_CYLINDERS, kind, _NO_CYLINDERS, start_sectors, sectors)


def _table(entries: Sequence[bytes], disk_id: int = 0) -> bytes:
    return (
        bytes(440)
        + struct.pack("<IH", disk_id, 0)
        + b"".join(entries).ljust(64, b"\0")
        + b"\x55\xaa"
    )


def tables(layout: Layout) -> dict[int, bytes]:
    """Byte on the card: the 512 bytes that stand there, for the record and each logical part."""

    def sectors(size_bytes: int) -> int:
        return size_bytes // SECTOR_BYTES

    primary = [p for p in layout.partitions if p.number <= 4]
    logical = [p for p in layout.partitions if p.number > 4]
    extended = layout["extended"]
    entries = [_entry(p.kind, sectors(p.start_bytes), sectors(p.size_bytes)) for p in primary]
    found = {0: _table(entries, DISK_ID)}
    for index, part in enumerate(logical):
        links = [_entry(part.kind, sectors(_BORDER), sectors(part.size_bytes))]
        if index + 1 < len(logical):
            after = logical[index + 1]
            start = after.start_bytes - _BORDER - extended.start_bytes
            links.append(_entry(0x05, sectors(start), sectors(_BORDER + after.size_bytes)))
        found[part.start_bytes - _BORDER] = _table(links)
    return found
