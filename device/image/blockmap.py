"""Which blocks of an image say anything: a card writer then leaves the empty ones out.

An empty block may say something too: a FAT full of zeros is a card with nothing on it, zeros inside
a file are that file's, while what an earlier life of the card left there is neither. So all that a
file system uses is mapped, whatever is in it; empty blocks are left out only where nothing is kept.

The form is bmaptool's, version 2.0: ranges of blocks of 4096 bytes with a sha256 each, and over all
of it a sha256 that is taken while its own place is filled with zeros.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

BLOCK_BYTES = 4096
_AT_ONCE = 1024


Needed = Sequence[tuple[int, int]]
"""Parts of an image, as first byte and the one after the last, that are mapped though empty."""


def used_by_fat(image: Path, start_bytes: int) -> tuple[int, int]:
    """What a FAT32 that begins at ``start_bytes`` uses, to the end of its last cluster in use."""
    with image.open("rb") as stream:
        stream.seek(start_bytes)
        head = stream.read(64)
        sector, per_cluster, reserved, fats = struct.unpack_from("<HBHB", head, 11)
        (length,) = struct.unpack_from("<I", head, 36)
        stream.seek(start_bytes + reserved * sector)
        table = stream.read(length * sector)
    entries = struct.unpack(f"<{len(table) // 4}I", table)
    last = max(number for number, entry in enumerate(entries) if entry)
    contents = start_bytes + (reserved + fats * length) * sector
    return start_bytes, contents + (last - 1) * per_cluster * sector


def ranges(
    image: Path, needed: Needed = (), report: Callable[[int], None] = lambda done: None
) -> Iterator[tuple[int, int, str]]:
    """First and last block, and sha256, of every run of blocks that must be written.

    The bytes decide, not the holes of the file: a copy of the image has the same map.
    """
    empty = bytes(BLOCK_BYTES)
    kept = set[int]()
    for start, end in needed:
        kept |= set(range(start // BLOCK_BYTES, -(-end // BLOCK_BYTES)))
    first = None
    summed = hashlib.sha256()
    number = 0
    with image.open("rb") as stream:
        while chunk := stream.read(BLOCK_BYTES * _AT_ONCE):
            for at in range(0, len(chunk), BLOCK_BYTES):
                block = chunk[at : at + BLOCK_BYTES]
                if number not in kept and block == empty[: len(block)]:
                    if first is not None:
                        yield first, number - 1, summed.hexdigest()
                        first, summed = None, hashlib.sha256()
                else:
                    first = number if first is None else first
                    summed.update(block)
                number += 1
            report(len(chunk))
    if first is not None:
        yield first, number - 1, summed.hexdigest()


def _span(first: int, last: int) -> str:
    return str(first) if first == last else f"{first}-{last}"


def make(
    image: Path, needed: Needed = (), report: Callable[[int], None] = lambda done: None
) -> str:
    """The map of an image, as XML."""
    found = list(ranges(image, needed, report))
    size = image.stat().st_size
    blocks = -(-size // BLOCK_BYTES)
    mapped = sum(last - first + 1 for first, last, _ in found)
    lines = "".join(
        f'        <Range chksum="{chksum}">{_span(first, last)}</Range>\n'
        for first, last, chksum in found
    )
    blank = "0" * 64
    text = (
        '<?xml version="1.0" ?>\n'
        '<bmap version="2.0">\n'
        f"    <ImageSize>{size}</ImageSize>\n"
        f"    <BlockSize>{BLOCK_BYTES}</BlockSize>\n"
        f"    <BlocksCount>{blocks}</BlocksCount>\n"
        f"    <MappedBlocksCount>{mapped}</MappedBlocksCount>\n"
        "    <ChecksumType>sha256</ChecksumType>\n"
        f"    <BmapFileChecksum>{blank}</BmapFileChecksum>\n"
        "    <BlockMap>\n"
        f"{lines}"
        "    </BlockMap>\n"
        "</bmap>\n"
    )
    return text.replace(blank, hashlib.sha256(text.encode()).hexdigest(), 1)
