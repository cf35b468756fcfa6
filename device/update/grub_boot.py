#!/usr/bin/env python3
"""RAUC's hand on GRUB: which slot starts stands in the first sector of ``grubenv``.

RAUC's own way is Debian's `grub-editenv`, which makes the file empty before it fills it again: a
cut of power in between leaves GRUB without a word, and RAUC without a way to write the next one.
Here the block's 1024 bytes are written where they lie, and all that changes is in the first sector,
which a card writes whole or not at all. A block that is none is taken for that of a new card in
which the slot that runs is the settled one.

RAUC calls it by its custom boot loader interface (see `device.update.raspberrypi_boot`), for which
it needs Python alone; ``settled NAME`` is ours. What GRUB makes of it is ``grub.cfg.in``.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

GRUBENV = Path("/boot/card/grub/grubenv")
GRUBENV_VARIABLE = "SOSTENUTO_GRUBENV"

BLOCK = 1024
"""Bytes of the file, as GRUB wants them."""

SECTOR = 512
HEAD = "# GRUB Environment Block\n"
OTHER = {"A": "B", "B": "A"}
NEW = {"ORDER": "A B", "A_OK": "1", "A_TRY": "0", "B_OK": "0", "B_TRY": "0", "SETTLED": "A"}
"""A new card: A is good, settled, and starts."""

Words = dict[str, str]


class BootError(Exception):
    """A question that is none, or words that do not fit into a sector."""


def to_bytes(words: Words) -> bytes:
    """The block; it is filled up with ``#``, as GRUB does."""
    text = (HEAD + "".join(f"{name}={value}\n" for name, value in words.items())).encode()
    if len(text) > SECTOR:
        raise BootError(f"{len(text)} bytes; {SECTOR} are the most that are written at once")
    return text.ljust(BLOCK, b"#")


def from_bytes(block: bytes, running: str = "A") -> Words:
    """What a block says; of one that is none, what a new card's does with ``running`` settled."""
    text = block.decode("ascii", "replace")
    said = dict(re.findall(r"^([A-Z_]+)=(.*)$", text, re.MULTILINE))
    if not text.startswith(HEAD) or not NEW.keys() <= said.keys():
        return (
            NEW
            | {"ORDER": f"{running} {OTHER[running]}", f"{running}_OK": "1"}
            | {
                f"{OTHER[running]}_OK": "0",
                "SETTLED": running,
            }
        )
    return said


def answer(question: Sequence[str], words: Words) -> tuple[str | None, Words]:
    """What RAUC asks: the line that it reads, if any, and what shall be written."""
    match list(question):
        case ["get-primary"]:
            starts = [s for s in words["ORDER"].split() if words.get(f"{s}_OK") == "1"]
            return (starts or [words["SETTLED"]])[0], words
        case ["set-primary", slot] if slot in OTHER:
            fresh = {"ORDER": f"{slot} {OTHER[slot]}", f"{slot}_OK": "1", f"{slot}_TRY": "0"}
            return None, words | fresh
        case ["get-state", slot] if slot in OTHER:
            return "good" if words[f"{slot}_OK"] == "1" else "bad", words
        case ["set-state", slot, "good"] if slot in OTHER:
            return None, words | {f"{slot}_OK": "1", f"{slot}_TRY": "0"}
        case ["set-state", slot, "bad"] if slot in OTHER:
            return None, words | {f"{slot}_OK": "0", f"{slot}_TRY": "0"}
        case ["settled", slot] if slot in OTHER:
            return None, words | {"SETTLED": slot}
    raise BootError(f"{' '.join(question)!r} is no question of RAUC's")


def running() -> str:
    """The slot that runs, as GRUB told the kernel."""
    said = re.findall(r"\brauc\.slot=([AB])\b", Path("/proc/cmdline").read_text("ascii", "replace"))
    return said[-1] if said else "A"


def asked(question: Sequence[str], path: Path) -> str | None:
    """A question answered from the file, which is changed in place where it has to be.

    Raises
    ------
    BootError, OSError
    """
    file = os.open(path, os.O_RDWR)
    try:
        block = os.pread(file, BLOCK + 1, 0)
        line, words = answer(question, from_bytes(block, running()))
        wanted = to_bytes(words)
        if line is None and wanted != block:
            os.pwrite(file, wanted, 0)
            os.ftruncate(file, BLOCK)
            os.fsync(file)
        return line
    finally:
        os.close(file)


def main() -> int:
    """The command line."""
    path = Path(os.environ.get(GRUBENV_VARIABLE) or GRUBENV)
    try:
        line = asked(sys.argv[1:], path)
    except (BootError, OSError) as error:
        sys.stderr.write(f"grub-boot: {path}: {error}\n")
        return 1
    if line is not None:
        sys.stdout.write(line + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
