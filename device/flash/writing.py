"""Bytes onto a card, and back from it to see that they are there.

The head of the card, through partition 1, goes last, and its first MiB with the partition table
after all else has reached the card: one that was pulled out half-written has no partition table,
and nobody takes it for a good one. Reading back comes from the card and not from this computer's
memory: O_DIRECT where the file system can, else after the kernel was told to forget. Cards that
pretend to be larger than they are fall here.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import mmap
import os
import stat
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from device.flash.image import PIECE_BYTES, CardImage
from edge.errors import DeviceError, UsageError

SYNC_BYTES = 16 << 20
"""After so much the card is waited for: otherwise the progress shows memory, not the card."""

ALIGNED_BYTES = 4096

BLKDISCARD = 0x1277
BLKFLSBUF = 0x1261
BLKRRPART = 0x125F

Progress = Callable[[int], None]
"""Told how many more bytes are done."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """What was written: where, how much, and what it must read as."""

    start: int
    length: int
    digest: bytes


def digest_of(piece: bytes | memoryview) -> bytes:
    """What tells a piece from every other."""
    return hashlib.blake2b(piece, digest_size=16).digest()


@contextmanager
def opened(path: Path) -> Iterator[int]:
    """The card, for us alone while the block lasts.

    Raises
    ------
    DeviceError
        Somebody else has it, or it may not be written.
    """
    is_disk = stat.S_ISBLK(path.stat().st_mode)
    try:
        card = os.open(path, os.O_RDWR | os.O_CLOEXEC | (os.O_EXCL if is_disk else 0))
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise DeviceError(
                f"{path}: another program holds it (a file manager?); close it there"
            ) from None
        reason = error.strerror or str(error)
        advice = "; become root (sudo)" if error.errno in (errno.EACCES, errno.EPERM) else ""
        raise DeviceError(f"{path}: cannot be written ({reason}){advice}") from None
    try:
        # udev leaves a disk that is locked alone, and so desktops do not mount it meanwhile.
        fcntl.flock(card, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield card
        if is_disk:
            with contextlib.suppress(OSError):
                fcntl.ioctl(card, BLKRRPART)
    except BlockingIOError:
        raise DeviceError(f"{path}: another program is writing it; wait for it") from None
    finally:
        os.close(card)


def discard(card: int, card_bytes: int) -> None:
    """Let the card forget all it holds, where it can: what is not mapped is then empty."""
    with contextlib.suppress(OSError):
        fcntl.ioctl(card, BLKDISCARD, struct.pack("QQ", 0, card_bytes))


def write_card(
    card: int,
    image: CardImage,
    personal: Callable[[bytes], bytes],
    on_progress: Progress = lambda _: None,
) -> list[Stretch]:
    """Write ``image`` to the opened ``card``, its head as ``personal`` makes it.

    Returns
    -------
    list of Stretch
        All that was written, for `verify`.

    Raises
    ------
    InputError
        The image is damaged; the card has no partition table then.
    DeviceError
        The card does not take it.
    """
    head = bytearray(image.layout.first_end)
    written: list[Stretch] = []
    unsynced = 0

    def put(start: int, piece: bytes) -> None:
        nonlocal unsynced
        _write(card, start, piece)
        written.append(Stretch(start, len(piece), digest_of(piece)))
        on_progress(len(piece))
        unsynced += len(piece)
        if unsynced >= SYNC_BYTES:
            _sync(card)
            unsynced = 0

    _write(card, 0, bytes(PIECE_BYTES))
    ready: bytes | None = None
    for start, piece in image.pieces():
        in_head = max(0, min(len(piece), len(head) - start))
        head[start : start + in_head] = piece[:in_head]
        if in_head < len(piece):
            ready = ready or personal(bytes(head))
            put(start + in_head, piece[in_head:])
    ready = ready or personal(bytes(head))
    for start in range(PIECE_BYTES, len(ready), PIECE_BYTES):
        put(start, ready[start : start + PIECE_BYTES])
    _sync(card)
    put(0, ready[:PIECE_BYTES])
    _sync(card)
    return written


def verify(path: Path, written: list[Stretch], on_progress: Progress = lambda _: None) -> None:
    """Read everything back from the card at ``path``.

    Raises
    ------
    DeviceError
        It holds something else; the message names where.
    """
    with _read_past_memory(path) as read:
        for stretch in written:
            try:
                found = read(stretch.start, stretch.length)
            except OSError as error:
                raise DeviceError(
                    f"{path}: cannot be read at byte {stretch.start} ({error.strerror}): the card "
                    "is bad; take another"
                ) from None
            if digest_of(found) != stretch.digest:
                raise DeviceError(
                    f"{path}: reads otherwise than written from byte {stretch.start} on (within "
                    f"{stretch.length} bytes): the card is bad, or smaller than it says; "
                    "take another"
                )
            on_progress(stretch.length)


@contextmanager
def _read_past_memory(path: Path) -> Iterator[Callable[[int, int], memoryview]]:
    """Something that reads ``(start, length)`` from the medium itself."""
    try:
        card = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECT)
        os.preadv(card, [mmap.mmap(-1, ALIGNED_BYTES)], 0)
    except OSError:  # tmpfs and some others know no such way
        card = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        with contextlib.suppress(OSError):
            fcntl.ioctl(card, BLKFLSBUF)
        os.posix_fadvise(card, 0, 0, os.POSIX_FADV_DONTNEED)
    room = mmap.mmap(-1, PIECE_BYTES + ALIGNED_BYTES)  # lies at a page's start, as O_DIRECT wants

    def read(start: int, length: int) -> memoryview:
        before = start % ALIGNED_BYTES
        whole = -(-(before + length) // ALIGNED_BYTES) * ALIGNED_BYTES
        with memoryview(room) as all_of_it:
            os.preadv(card, [all_of_it[:whole]], start - before)
        return memoryview(bytes(room[before : before + length]))

    try:
        yield read
    finally:
        os.close(card)


def _write(card: int, start: int, piece: bytes) -> None:
    try:
        done = 0
        while done < len(piece):
            done += os.pwrite(card, piece[done:], start + done)
    except OSError as error:
        raise _not_taken(start, error) from None


def _sync(card: int) -> None:
    try:
        os.fdatasync(card)
    except OSError as error:
        raise _not_taken(None, error) from None


def _not_taken(start: int | None, error: OSError) -> DeviceError:
    where = "" if start is None else f" at byte {start}"
    return DeviceError(
        f"the card does not take what is written{where} ({error.strerror}): it is bad, full or "
        "was pulled out; take another"
    )


def check_size(path: Path, card_bytes: int, image: CardImage) -> None:
    """Refuse a card that the image does not fit on.

    Raises
    ------
    UsageError
        How large it is, and how large it must be.
    """
    if card_bytes < image.image_bytes:
        raise UsageError(
            f"{path}: {card_bytes} bytes, and the image needs {image.image_bytes} "
            f"({image.image_bytes / 1e9:.2f} GB); take a larger card"
        )
