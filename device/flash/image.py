"""A card image as it comes: plain, or packed by xz or zstd, with a block map beside it or without.

What is read is a stream from its first byte to its last; nothing is unpacked to disk. The head,
through the end of partition 1, is what `device.flash.writing` keeps until all else is on the card.
"""

from __future__ import annotations

import hashlib
import io
import lzma
import shutil
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from device.flash.bmap import BlockMap, Range, read_bmap
from edge.errors import InputError, UsageError

ENDINGS = (".img.xz", ".img.zst", ".img")
CARD_LABEL = "SOSTENUTO"
PIECE_BYTES = 1 << 20

_SECTOR_BYTES = 512
_FIRST_ENTRY = 446
_ENTRY_BYTES = 16
_MBR_SIGN = b"\x55\xaa"
_GPT_TYPE = 0xEE
_LARGEST_HEAD_BYTES = 512 << 20


@dataclass(frozen=True, slots=True)
class Layout:
    """What the partition table says: where partition 1 lies, and where the last one ends."""

    first_start: int
    first_end: int
    end: int


def read_layout(sector: bytes, path: Path) -> Layout:
    """The layout in the first sector (512 bytes) of the image at ``path``.

    Raises
    ------
    InputError
        No partition table of the kind that our cards have (MBR).
    """
    entries = []
    if len(sector) == _SECTOR_BYTES and sector[-2:] == _MBR_SIGN:
        for number in range(4):
            at = _FIRST_ENTRY + number * _ENTRY_BYTES
            kind = sector[at + 4]
            start, count = struct.unpack_from("<II", sector, at + 8)
            if kind == _GPT_TYPE:
                break
            if count:
                entries.append((start * _SECTOR_BYTES, (start + count) * _SECTOR_BYTES))
    if not entries or entries[0][1] > _LARGEST_HEAD_BYTES:
        raise InputError(f"{path}: no card image of Sostenuto: it has another partition table")
    return Layout(*entries[0], max(end for _, end in entries))


def check_label(boot_sector: bytes, path: Path) -> None:
    """Refuse an image whose partition 1 is not the FAT of our cards.

    Raises
    ------
    InputError
        Its label is another, or it has none.
    """
    at = 71 if boot_sector[82:87] == b"FAT32" else 43
    label = boot_sector[at : at + 11].decode("ascii", "replace").strip()
    if label != CARD_LABEL:
        raise InputError(f"{path}: no card image of Sostenuto: partition 1 is called {label!r}")


@dataclass(frozen=True, slots=True)
class CardImage:
    """An image that can be written to cards.

    Attributes
    ----------
    path : Path
    layout : Layout
    bmap : BlockMap or None
    """

    path: Path
    layout: Layout
    bmap: BlockMap | None

    @property
    def image_bytes(self) -> int:
        """So large must a card be."""
        return self.layout.end if self.bmap is None else self.bmap.image_bytes

    @property
    def written_bytes(self) -> int:
        """So much goes to a card: the whole head, and of the rest what is mapped."""
        head = self.layout.first_end
        rest = sum(max(0, each.end - max(each.start, head)) for each in self.ranges)
        return head + rest

    @property
    def ranges(self) -> tuple[Range, ...]:
        """All that is mapped; without a block map, everything."""
        return (Range(0, self.image_bytes),) if self.bmap is None else self.bmap.ranges

    def pieces(self) -> Iterator[tuple[int, bytes]]:
        """All that is mapped, in order: where it lies in the image, and at most `PIECE_BYTES`.

        Raises
        ------
        InputError
            The image is damaged, cut short, or not the one of its block map.
        """
        with _unpacked(self.path) as stream:
            at = 0
            for each in self.ranges:
                at = _skip(stream, at, each.start, self.path)
                digest = hashlib.sha256()
                while at < each.end:
                    piece = _read(stream, min(PIECE_BYTES, each.end - at), self.path)
                    digest.update(piece)
                    yield at, piece
                    at += len(piece)
                if each.sha256 is not None and digest.hexdigest() != each.sha256:
                    raise InputError(
                        f"{self.path}: bytes {each.start} to {each.end} are not those of its block "
                        "map: image or map is damaged, or they are of two builds; fetch both again"
                    )


def bmap_beside(path: Path) -> Path:
    """Where the block map of an image lies: ``NAME.bmap`` beside ``NAME.img.xz``."""
    for ending in ENDINGS:
        if path.name.endswith(ending):
            return path.with_name(path.name.removesuffix(ending) + ".bmap")
    raise UsageError(f"{path}: no card image; allowed are files that end in {', '.join(ENDINGS)}")


def open_image(path: Path) -> CardImage:
    """The image at ``path``, with the block map that lies beside it.

    Raises
    ------
    UsageError
        Another kind of file.
    InputError
        No image of ours, or it cannot be read.
    """
    beside = bmap_beside(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file; give the image that `image build` wrote")
    with _unpacked(path) as stream:
        layout = read_layout(stream.read(_SECTOR_BYTES), path)
        _skip(stream, _SECTOR_BYTES, layout.first_start, path)
        check_label(_read(stream, _SECTOR_BYTES, path), path)
    # bmaptool itself writes NAME.img.bmap; both names are in use.
    candidates = (beside, beside.with_suffix(".img.bmap"))
    found = next((each for each in candidates if each.exists()), None)
    bmap = None if found is None else read_bmap(found)
    if bmap is not None and bmap.image_bytes < layout.end:
        raise InputError(f"{found}: is of another image: it ends before the last partition does")
    return CardImage(path, layout, bmap)


@contextmanager
def _unpacked(path: Path) -> Iterator[IO[bytes]]:
    """The bytes of the image, whatever packed it; what cannot be read is an `InputError`."""
    try:
        if path.suffix == ".xz":
            with lzma.open(path) as stream:
                yield stream
        elif path.suffix == ".zst":
            with _zstd(path) as stream:
                yield stream
        else:
            with path.open("rb") as stream:
                yield stream
    except (lzma.LZMAError, EOFError) as error:
        raise InputError(f"{path}: damaged or cut short ({error}); fetch it again") from None


@contextmanager
def _zstd(path: Path) -> Iterator[IO[bytes]]:
    program = shutil.which("zstd")
    if program is None:
        raise UsageError(f"{path}: needs the program zstd: apt-get install zstd")
    command = [program, "--decompress", "--stdout", "--quiet", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as running:
        assert running.stdout is not None
        try:
            yield running.stdout
        finally:
            running.kill()


def _read(stream: IO[bytes], count: int, path: Path) -> bytes:
    """Exactly ``count`` bytes."""
    gathered = io.BytesIO()
    while gathered.tell() < count:
        some = stream.read(count - gathered.tell())
        if not some:
            raise InputError(f"{path}: damaged or cut short; fetch it again")
        gathered.write(some)
    return gathered.getvalue()


def _skip(stream: IO[bytes], at: int, to: int, path: Path) -> int:
    if stream.seekable() and not isinstance(stream, lzma.LZMAFile):
        stream.seek(to)
        return to
    while at < to:
        at += len(_read(stream, min(PIECE_BYTES, to - at), path))
    return to
