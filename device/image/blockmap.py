"""Which blocks of an image say anything: a card writer then leaves the empty ones out.

The form is bmaptool's, version 2.0: ranges of blocks of 4096 bytes with a sha256 each, and over all
of it a sha256 that is taken while its own place is filled with zeros.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

BLOCK_BYTES = 4096
_AT_ONCE = 1024


def ranges(image: Path, report: Callable[[int], None] = lambda done: None) -> Iterator[
    tuple[int, int, str]
]:
    """First and last block, and sha256, of every run of blocks that are not all zeros.

    The bytes decide, not the holes of the file: a copy of the image has the same map.
    """
    empty = bytes(BLOCK_BYTES)
    first = None
    summed = hashlib.sha256()
    number = 0
    with image.open("rb") as stream:
        while chunk := stream.read(BLOCK_BYTES * _AT_ONCE):
            for at in range(0, len(chunk), BLOCK_BYTES):
                block = chunk[at : at + BLOCK_BYTES]
                if block == empty[: len(block)]:
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


def make(image: Path, report: Callable[[int], None] = lambda done: None) -> str:
    """The map of an image, as XML."""
    found = list(ranges(image, report))
    size = image.stat().st_size
    blocks = -(-size // BLOCK_BYTES)
    mapped = sum(last - first + 1 for first, last, _ in found)
    lines = "".join(
        f'        <Range chksum="{chksum}">{first if first == last else f"{first}-{last}"}</Range>\n'
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
