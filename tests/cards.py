"""A small card image of the real kind: MBR, FAT32 called SOSTENUTO, two more partitions, a bmap."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import subprocess
from pathlib import Path

import pytest

MEBIBYTE = 1 << 20
BLOCK_BYTES = 4096
FAT_MEBIBYTES = 36
"""The least that mkfs.vfat takes for a FAT32."""

CARD_MEBIBYTES = 64
PROGRAMS = ("sfdisk", "mkfs.vfat", "mcopy", "xz", "zstd")


_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
"""Users who are not root do not always have the last two."""


def needs_card_tools() -> None:
    """Skip where the programs are missing that make an image."""
    missing = [name for name in PROGRAMS if shutil.which(name, path=_PATH) is None]
    if missing:
        pytest.skip(
            f"no {', '.join(missing)}: apt-get install fdisk dosfstools mtools xz-utils zstd"
        )


def make_image(path: Path) -> Path:
    """A card image at ``path``; sparse, with something random in its second partition."""
    path.write_bytes(b"")
    with path.open("r+b") as file:
        file.truncate(CARD_MEBIBYTES * MEBIBYTE)
    table = (
        f"label: dos\nstart=1MiB, size={FAT_MEBIBYTES}MiB, type=c\nsize=16MiB, type=83\ntype=83\n"
    )
    own = {"PATH": _PATH}
    subprocess.run(["sfdisk", "--quiet", path], input=table.encode(), check=True, env=own)
    fat = path.with_suffix(".fat")
    with fat.open("wb") as file:
        file.truncate(FAT_MEBIBYTES * MEBIBYTE)
    made = ["mkfs.vfat", "-F", "32", "-n", "SOSTENUTO", "-i", "50494131", "--invariant", fat]
    subprocess.run(made, check=True, capture_output=True, env=own)
    note = path.with_suffix(".txt")
    note.write_text("what was built in\n")
    subprocess.run(["mcopy", "-i", fat, note, "::/built.txt"], check=True)
    with path.open("r+b") as file:
        file.seek(MEBIBYTE)
        file.write(fat.read_bytes())
        file.seek((1 + FAT_MEBIBYTES) * MEBIBYTE + 8 * BLOCK_BYTES)
        file.write(random.Random(7).randbytes(3 * MEBIBYTE + 100))
    fat.unlink()
    note.unlink()
    return path


def make_bmap(image: Path) -> Path:
    """The block map of a plain image, in the words of bmaptool 2.0: what is not zero is mapped."""
    held = image.read_bytes()
    count = -(-len(held) // BLOCK_BYTES)
    mapped = [
        i for i in range(count) if held[i * BLOCK_BYTES : (i + 1) * BLOCK_BYTES].strip(b"\0") != b""
    ]
    ranges: list[list[int]] = []
    for block in mapped:
        if ranges and ranges[-1][1] == block - 1:
            ranges[-1][1] = block
        else:
            ranges.append([block, block])
    lines = [
        f'<Range chksum="{_sha256(held[first * BLOCK_BYTES : (last + 1) * BLOCK_BYTES])}"> '
        + (f"{first}-{last}" if last > first else f"{first}")
        + " </Range>"
        for first, last in ranges
    ]
    text = (
        '<?xml version="1.0" ?>\n<bmap version="2.0">\n'
        f"<ImageSize> {len(held)} </ImageSize>\n<BlockSize> {BLOCK_BYTES} </BlockSize>\n"
        f"<BlocksCount> {count} </BlocksCount>\n"
        f"<MappedBlocksCount> {len(mapped)} </MappedBlocksCount>\n"
        "<ChecksumType> sha256 </ChecksumType>\n"
        f"<BmapFileChecksum> {'0' * 64} </BmapFileChecksum>\n<BlockMap>\n"
        + "\n".join(lines)
        + "\n</BlockMap>\n</bmap>\n"
    )
    path = image.with_suffix(".bmap")
    path.write_text(text.replace("0" * 64, _sha256(text.encode()), 1))
    return path


def _sha256(held: bytes) -> str:
    return hashlib.sha256(held).hexdigest()
