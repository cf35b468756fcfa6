"""Block maps: which blocks of an image hold something, and the checksum of each stretch of them.

The format is 2.0 of Intel's bmaptool (https://github.com/yoctoproject/bmaptool, its
`TransferFormat`): XML, ranges of blocks first to last, SHA-256 of each range, and of the map itself
taken with zeros in place of that checksum. A card image is mostly room for later; what is not
mapped is neither read back nor written.
"""

from __future__ import annotations

import hashlib
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from edge.errors import InputError

MAJOR = 2


@dataclass(frozen=True, slots=True)
class Range:
    """Bytes ``start`` up to ``end`` of the image hold something; ``sha256`` is theirs."""

    start: int
    end: int
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class BlockMap:
    """The map of one image: its size, and its ranges in order."""

    image_bytes: int
    ranges: tuple[Range, ...]


def read_bmap(path: Path) -> BlockMap:
    """The block map at ``path``.

    Raises
    ------
    InputError
        Not one of format 2.0 with SHA-256, damaged, or ranges that make no sense.
    """
    try:
        raw = path.read_bytes()
        root = ElementTree.fromstring(raw)
    except (OSError, ElementTree.ParseError) as error:
        raise InputError(f"{path}: no block map ({error}); fetch it again") from None
    version = root.get("version", "")
    kind = (root.findtext("ChecksumType") or "").strip()
    if root.tag != "bmap" or version.partition(".")[0] != str(MAJOR) or kind != "sha256":
        raise InputError(
            f"{path}: block map of version {version!r} with {kind or 'no'} checksums; "
            "allowed is 2.0 with sha256"
        )
    stated = (root.findtext("BmapFileChecksum") or "").strip()
    if not re.fullmatch(r"[0-9a-f]{64}", stated) or _sha256_without(raw, stated) != stated:
        raise InputError(f"{path}: its checksum does not fit: it is damaged; fetch it again")
    try:
        image_bytes = int(root.findtext("ImageSize", ""))
        block_bytes = int(root.findtext("BlockSize", ""))
        ranges = tuple(
            _range(each, block_bytes, image_bytes) for each in root.iterfind("BlockMap/Range")
        )
    except ValueError as error:
        raise InputError(f"{path}: no block map ({error}); fetch it again") from None
    ordered = all(a.end <= b.start for a, b in pairwise(ranges))
    if not ranges or not ordered or ranges[-1].end > image_bytes:
        raise InputError(f"{path}: its ranges overlap or lie outside the image; fetch it again")
    return BlockMap(image_bytes, ranges)


def _sha256_without(raw: bytes, stated: str) -> str:
    return hashlib.sha256(raw.replace(stated.encode(), b"0" * 64)).hexdigest()


def _range(element: ElementTree.Element, block_bytes: int, image_bytes: int) -> Range:
    first, _, last = (element.text or "").strip().partition("-")
    end = (int(last or first) + 1) * block_bytes
    return Range(int(first) * block_bytes, min(end, image_bytes), element.get("chksum"))
