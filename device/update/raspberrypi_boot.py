#!/usr/bin/env python3
"""RAUC's hand on a Raspberry Pi's boot loader: which slot starts is one sector of ``autoboot.txt``.

The firmware starts ``boot_partition`` of the section ``[all]``. Asked for by ``reboot '0 tryboot'``
it starts that of ``[tryboot]`` instead, once: a hang, a cut of power or a second start lead back by
themselves. So a new slot is only written down as the one to try, and put in force when it has
proven itself, by writing one sector of the first partition in place: the file stays 512 bytes long
and where it is, nothing of the file system around it changes, and a cut leaves the sector as it was
before or after.

RAUC calls it by its custom boot loader interface: ``get-primary``, ``set-primary NAME``,
``get-state NAME``, ``set-state NAME good|bad``. It needs Python alone, and looks for the card at
``/dev/disk/by-label/SOSTENUTO`` or in the file that SOSTENUTO_CARD names.
"""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

CARD = "/dev/disk/by-label/SOSTENUTO"
CARD_VARIABLE = "SOSTENUTO_CARD"

SECTOR = 512
"""Bytes of a sector, and the most that the firmware reads of ``autoboot.txt``."""

PARTITION = {"A": 2, "B": 3}
OTHER = {"A": "B", "B": "A"}
_NAME = b"AUTOBOOTTXT"


class BootError(Exception):
    """The card's first partition is not as it was made."""


@dataclass(frozen=True)
class Boot:
    """What ``autoboot.txt`` says.

    Attributes
    ----------
    settled : str
        The slot that starts.
    tried : str
        The slot that is to be in force if it proves itself; else the settled one.
    good : frozenset of str
        Slots that are known to be whole.
    """

    settled: str
    tried: str
    good: frozenset[str]

    def to_bytes(self) -> bytes:
        """The whole sector; the last line is ours, the firmware passes over it."""
        good = "".join(sorted(self.good)) or "-"
        text = (
            f"[all]\ntryboot_a_b=1\nboot_partition={PARTITION[self.settled]}\n"
            f"[tryboot]\nboot_partition={PARTITION[OTHER[self.settled]]}\n"
            f"#sostenuto tried={self.tried} good={good}\n"
        )
        return text.encode().ljust(SECTOR, b"\n")

    @classmethod
    def from_bytes(cls, sector: bytes) -> Boot:
        """Read a sector; without our line nothing is being tried."""
        section, settled, tried, good = "", None, None, frozenset[str]()
        for line in sector.decode("ascii", "replace").splitlines():
            if line.startswith("["):
                section = line
            elif section == "[all]" and line.startswith("boot_partition="):
                number = line.partition("=")[2]
                settled = next((s for s, n in PARTITION.items() if str(n) == number), None)
            if line.startswith("#sostenuto "):
                words = dict(word.split("=", 1) for word in line.split()[1:] if "=" in word)
                tried = words.get("tried")
                good = frozenset(words.get("good", "")) & PARTITION.keys()
        if settled is None:
            raise BootError("autoboot.txt names neither partition 2 nor 3 under [all]")
        return cls(settled, tried if tried in PARTITION else settled, good)

    def with_primary(self, slot: str) -> Boot:
        """``slot`` is to be tried; what starts stays as it is."""
        return replace(self, tried=slot)

    def with_state(self, slot: str, *, good: bool) -> Boot:
        """A slot that is tried and good is in force from now on; a bad one is tried no more."""
        if good:
            settled = slot if slot == self.tried else self.settled
            return Boot(settled, self.tried, self.good | {slot})
        return Boot(self.settled, self.settled, self.good - {slot})


def sector_of_autoboot(card: int) -> int:
    """Where on the partition ``autoboot.txt`` lies, in bytes; ``card`` is an open descriptor."""
    start = os.pread(card, SECTOR, 0)
    if len(start) < SECTOR or start[510:] != b"\x55\xaa":
        raise BootError("no FAT file system")
    sector, per_cluster, reserved, fats, root_entries = struct.unpack_from("<HBHBH", start, 11)
    fat16, fat32 = struct.unpack_from("<H12xL", start, 22)
    if sector != SECTOR or per_cluster == 0:
        raise BootError(f"sectors of {sector} bytes; {SECTOR} are needed")
    first_fat = reserved * sector
    root = first_fat + fats * (fat16 or fat32) * sector
    clusters: int = root + -(-root_entries * 32 // sector) * sector
    cluster_bytes: int = per_cluster * sector

    def folder() -> bytes:
        if root_entries:
            return os.pread(card, root_entries * 32, root)
        found, cluster = b"", struct.unpack_from("<L", start, 44)[0]
        while 2 <= cluster < 0x0FFFFFF8 and len(found) < 1 << 20:
            found += os.pread(card, cluster_bytes, clusters + (cluster - 2) * cluster_bytes)
            entry = os.pread(card, 4, first_fat + cluster * 4)
            cluster = struct.unpack("<L", entry)[0] & 0x0FFFFFFF
        return found

    entries = folder()
    for at in range(0, len(entries), 32):
        entry = entries[at : at + 32]
        if entry[:11] == _NAME and entry[11] & 0x18 == 0:
            high, low, size = (
                *struct.unpack_from("<H", entry, 20),
                *struct.unpack_from("<HL", entry, 26),
            )
            if size != SECTOR:
                raise BootError(f"autoboot.txt has {size} bytes; {SECTOR} are needed")
            first: int = high << 16 | low
            return clusters + (first - 2) * cluster_bytes
    raise BootError("no autoboot.txt in the top folder")


def read(card: int) -> Boot:
    """What is written."""
    return Boot.from_bytes(os.pread(card, SECTOR, sector_of_autoboot(card)))


def write(card: int, boot: Boot) -> None:
    """Write the one sector, and see that it is written; nothing where it says so already."""
    at, wanted = sector_of_autoboot(card), boot.to_bytes()
    if os.pread(card, SECTOR, at) == wanted:
        return
    os.pwrite(card, wanted, at)
    os.fsync(card)
    if os.pread(card, SECTOR, at) != wanted:
        raise BootError("autoboot.txt reads back otherwise than it was written")


def answer(words: Sequence[str], card: int) -> str | None:
    """What RAUC asks, done; the line that it reads, if it asked for one.

    Raises
    ------
    BootError
        A question that is none, or a card that cannot be read.
    """
    match list(words):
        case ["get-primary"]:
            return read(card).tried
        case ["set-primary", slot] if slot in PARTITION:
            write(card, read(card).with_primary(slot))
        case ["get-state", slot] if slot in PARTITION:
            return "good" if slot in read(card).good else "bad"
        case ["set-state", slot, ("good" | "bad") as state] if slot in PARTITION:
            write(card, read(card).with_state(slot, good=state == "good"))
        case _:
            raise BootError(f"{' '.join(words)!r} is no question of RAUC's")
    return None


def main() -> int:
    """The command line."""
    path = Path(os.environ.get(CARD_VARIABLE) or CARD)
    try:
        card = os.open(path, os.O_RDWR | os.O_SYNC)
        try:
            line = answer(sys.argv[1:], card)
        finally:
            os.close(card)
    except (BootError, OSError) as error:
        sys.stderr.write(f"raspberrypi-boot: {path}: {error}\n")
        return 1
    if line is not None:
        sys.stdout.write(line + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
