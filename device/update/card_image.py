"""Slot A of a card image, as the two files that a bundle of a whole system holds.

What `image build` makes and `flash` writes is the whole card. An update needs two of its parts:
partition 2, the slot's boot files, and partition 5, its root, of which only as much is taken as the
squashfs in it says that it has.
"""

from __future__ import annotations

import struct
from pathlib import Path

from device.flash.image import open_image
from device.update.bundle import SYSTEM_IMAGES
from edge.errors import InputError

SECTOR = 512
BLOCK = 4096


def slot_images(image: Path, folder: Path) -> None:
    """Write ``boot.img`` and ``rootfs.img`` of a card image, packed or not, into ``folder``.

    Raises
    ------
    InputError
        It is no image of a card, or has no system in slot A.
    """
    boot, root = folder / SYSTEM_IMAGES["boot"], folder / SYSTEM_IMAGES["rootfs"]
    places: dict[Path, tuple[int, int]] = {}
    extended = -1
    with boot.open("wb") as boot_file, root.open("wb") as root_file:
        files = {boot: boot_file, root: root_file}
        for at, piece in open_image(image).pieces():
            if at == 0:
                places[boot] = _entry(piece, 1)
                extended = _entry(piece, 3)[0]
            if at <= extended < at + len(piece):
                start, size = _entry(piece[extended - at :], 0)
                places[root] = extended + start, size
            for path, (start, size) in places.items():
                first, last = max(at, start), min(at + len(piece), start + size)
                if first < last:
                    files[path].seek(first - start)
                    files[path].write(piece[first - at : last - at])
    if boot not in places or root not in places:
        raise InputError(f"{image}: no card image of two slots; `image build` makes one")
    with boot.open("r+b") as boot_file:
        boot_file.truncate(places[boot][1])
    with root.open("r+b") as root_file:
        start_of_root = root_file.read(96)
        if start_of_root[:4] != b"hsqs":
            raise InputError(f"{image}: slot A holds no system; take one that `image build` made")
        (used,) = struct.unpack_from("<Q", start_of_root, 40)
        root_file.truncate(-(-used // BLOCK) * BLOCK)


def _entry(sector: bytes, number: int) -> tuple[int, int]:
    """Start and size in bytes of a partition in a table of four; relative to the table's own."""
    start, size = struct.unpack_from("<LL", sector, 446 + 16 * number + 8)
    return start * SECTOR, size * SECTOR
