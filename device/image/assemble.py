"""The card as one file: the table, and each file system at its place; then packed, mapped, summed.

No loop device and no root: every part is a file that is copied to where it belongs. Slot B stays
empty; its first blocks are written as zeros, so that nothing that was there before passes for one.
"""

from __future__ import annotations

import lzma
from collections.abc import Callable, Mapping
from pathlib import Path

from device.image import blockmap
from device.image.partitions import SECTOR_BYTES, Layout, tables
from device.sums import sha256

_AT_ONCE = 4 * 1024 * 1024
_FORGOTTEN = 64 * 1024
"""So much of an empty slot is written as zeros: every file system knows itself by its beginning."""

Report = Callable[[int], None]


def put_together(layout: Layout, parts: Mapping[str, Path], target: Path, report: Report) -> None:
    """The image of a card, a sparse file; ``parts`` by the names of the layout's partitions."""
    target.unlink(missing_ok=True)
    with target.open("wb") as image:
        image.truncate(layout.size_bytes)
        for at, sector in tables(layout).items():
            image.seek(at)
            image.write(sector)
        for name, path in parts.items():
            place = layout[name]
            if path.stat().st_size > place.size_bytes:
                raise ValueError(f"{name}: {path.stat().st_size} bytes, {place.size_bytes} fit")
            at = place.start_bytes
            with path.open("rb") as part:
                while piece := part.read(_AT_ONCE):
                    if piece.count(0) != len(piece):
                        image.seek(at)
                        image.write(piece)
                    at += len(piece)
                    report(len(piece))


def needed(layout: Layout, parts: Mapping[str, Path], image: Path) -> list[tuple[int, int]]:
    """What of the image must be written though it may be empty: all that is in use."""
    found = [(at, at + SECTOR_BYTES) for at in tables(layout)]
    found += [blockmap.used_by_fat(image, layout[name].start_bytes) for name in ("card", "boot-a")]
    for name in ("root-a", "data"):
        start = layout[name].start_bytes
        found.append((start, start + parts[name].stat().st_size))
    found += [
        (layout[name].start_bytes, layout[name].start_bytes + _FORGOTTEN)
        for name in ("boot-b", "root-b")
    ]
    return found


def pack(image: Path, target: Path, report: Report) -> None:
    """The image as ``.xz``. Little is gained by trying hard: the largest part is packed already."""
    packer = lzma.LZMACompressor(check=lzma.CHECK_CRC64, preset=1)
    with image.open("rb") as source, target.open("wb") as packed:
        while piece := source.read(_AT_ONCE):
            packed.write(packer.compress(piece))
            report(len(piece))
        packed.write(packer.flush())


def sha256_sums(paths: list[Path]) -> tuple[str, dict[str, str]]:
    """A file for ``sha256sum --check``, and the sums by file name."""
    sums = {path.name: sha256(path) for path in sorted(paths)}
    return "".join(f"{chksum}  {name}\n" for name, chksum in sums.items()), sums
