"""A card that forgets what it was not asked to keep, as a real one does when its power goes.

The emulated board reaches it over the protocol of network block devices (NBD, its `proto.md`). What
is written is seen at once by whoever reads, and lies in the card's file only after the next flush,
or at once where the write itself asks for that (FUA). When the power is cut, of what lies in
between nothing is kept, or everything, or each sector by the toss of a coin, in any order: a card
promises no more. Killing QEMU alone would keep all that it had been given.
"""

from __future__ import annotations

import mmap
import os
import random
import socket
import struct
import threading
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

SECTOR = 512
_HELLO = struct.pack(">8s8sH", b"NBDMAGIC", b"IHAVEOPT", 3)
_OPTION_REPLY = 0x3E889045565A9
_UNSUPPORTED = (1 << 31) + 1
_HAS_FLAGS_FLUSH_FUA = 1 | 4 | 8
_READ, _WRITE, _DISCONNECT, _FLUSH = range(4)
_FUA = 1


class Kept(StrEnum):
    """What becomes of writes that no flush followed."""

    NOTHING = "nothing"
    SOME = "some"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class Lost:
    """What was on its way when the power went, and how many of its sectors were kept."""

    writes: int
    sectors: int
    kept: int


class ForgetfulCard:
    """The file ``path`` as a block device at ``address``, for one board after the other."""

    def __init__(self, path: Path, address: Path) -> None:
        self._file = os.open(path, os.O_RDWR)
        self.size_bytes = os.fstat(self._file).st_size
        self.address = address
        self._lock = threading.Lock()
        self._way: list[tuple[int, bytes]] = []
        self._on = True
        self._watched = range(0)
        self._stops_at_write = 0
        self.writes_seen = 0
        """Into the part that is watched."""
        self.reached = threading.Event()
        self._view = self._seen_by_reader()
        address.unlink(missing_ok=True)
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(address))
        self._server.listen(1)
        threading.Thread(target=self._accept, daemon=True).start()

    def _seen_by_reader(self) -> mmap.mmap:
        """The card with all that was written, on a copy in memory of what differs."""
        return mmap.mmap(self._file, self.size_bytes, access=mmap.ACCESS_COPY)

    @property
    def qemu_name(self) -> str:
        """What QEMU calls it."""
        return f"nbd:unix:{self.address}"

    def stop_at(self, part: range, writes: int) -> None:
        """Take nothing any more from the so-and-so-many-th write into ``part`` (bytes) on."""
        with self._lock:
            self._watched, self._stops_at_write, self.writes_seen = part, writes, 0
            self.reached.clear()

    def read(self, at: int, size: int) -> bytes:
        """What the board would read now."""
        with self._lock:
            return self._view[at : at + size]

    def write(self, at: int, content: bytes, *, keep: bool = False) -> None:
        """Take something in."""
        with self._lock:
            if not self._on:
                return
            if self._watched.start < at + len(content) and at < self._watched.stop:
                self.writes_seen += 1
                if self.writes_seen == self._stops_at_write:
                    self._on = False
                    self._way.append((at, content))
                    self.reached.set()
                    return
            self._view[at : at + len(content)] = content
            if keep:
                os.pwrite(self._file, content, at)
            else:
                self._way.append((at, content))

    def flush(self) -> None:
        """Keep all that was written until now."""
        with self._lock:
            if self._on:
                for at, content in self._way:
                    os.pwrite(self._file, content, at)
                self._way.clear()

    def cut(self, kept: Kept, chance: random.Random) -> Lost:
        """The power goes: what is on its way is kept or not; then it can be started again."""
        with self._lock:
            sectors = [
                (at + skip, content[skip : skip + SECTOR])
                for at, content in self._way
                for skip in range(0, len(content), SECTOR)
            ]
            staying = [s for s in sectors if kept is Kept.ALL or chance.random() < 0.5]
            if kept is Kept.NOTHING:
                staying = []
            elif kept is Kept.SOME:
                chance.shuffle(staying)
            for at, content in staying:
                os.pwrite(self._file, content, at)
            lost = Lost(len(self._way), len(sectors), len(staying))
            self._way.clear()
            self._view.close()
            self._view = self._seen_by_reader()
            self._on, self._watched = True, range(0)
            return lost

    def close(self) -> None:
        """Take it out; what was not flushed is gone."""
        self._server.close()
        self.address.unlink(missing_ok=True)
        with self._lock:
            self._view.close()
            os.close(self._file)

    # -- the protocol

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                line, _ = self._server.accept()
                with line, suppress(OSError, EOFError):
                    if _agree(line, self.size_bytes):
                        self._serve(line)

    def _serve(self, line: socket.socket) -> None:
        while True:
            _, flags, what, handle, at, size = struct.unpack(">IHHQQI", _exactly(line, 28))
            answer = b""
            if what == _READ:
                answer = self.read(at, size)
            elif what == _WRITE:
                self.write(at, _exactly(line, size), keep=bool(flags & _FUA))
            elif what == _FLUSH:
                self.flush()
            elif what == _DISCONNECT:
                return
            line.sendall(struct.pack(">IIQ", 0x67446698, 0, handle) + answer)


def _agree(line: socket.socket, size_bytes: int) -> bool:
    """The handshake: of all options only the one that begins is known."""
    line.sendall(_HELLO)
    _exactly(line, 4)
    while True:
        _, option, length = struct.unpack(">QII", _exactly(line, 16))
        _exactly(line, length)

        def reply(kind: int, content: bytes = b"", option: int = option) -> None:
            head = struct.pack(">QIII", _OPTION_REPLY, option, kind, len(content))
            line.sendall(head + content)

        if option == 7:  # NBD_OPT_GO
            reply(3, struct.pack(">HQH", 0, size_bytes, _HAS_FLAGS_FLUSH_FUA))
            reply(1)
            return True
        reply(1 if option == 2 else _UNSUPPORTED)
        if option == 2:  # NBD_OPT_ABORT
            return False


def _exactly(line: socket.socket, size: int) -> bytes:
    parts = []
    while size:
        part = line.recv(min(size, 1 << 20))
        if not part:
            raise EOFError
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
