"""What makes one card out of many: its `sostenuto.toml`, laid into partition 1 of the image's head.

It is laid in before the head is written, in this computer's memory. So the card is written in one
go and verified as a whole, and no desktop can mount it in between. mtools does it: in Debian, used
to build the image already, and with thirty years of other people's FATs behind it. pyfatfs, the
Python library, rests on the file system library `fs`, which nobody keeps any more.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from device.firstboot.card import CARD_FILE
from device.flash.image import Layout
from edge.errors import DeviceError, UsageError


def lay_in(head: bytes, layout: Layout, files: dict[str, bytes]) -> bytes:
    """The ``head`` of an image with ``files`` in the root folder of its partition 1.

    Raises
    ------
    UsageError
        mtools are not here.
    DeviceError
        The file system does not take them.
    """
    if not files:
        return head
    with tempfile.TemporaryDirectory(prefix="sostenuto-flash-") as folder:
        image = Path(folder) / "head"
        image.touch(mode=0o600)
        image.write_bytes(head)
        where = f"{image}@@{layout.first_start}"
        for name, text in files.items():
            fresh = Path(folder) / "fresh"
            fresh.touch(mode=0o600)
            fresh.write_bytes(text)
            _mtools("mcopy", "-o", "-i", where, str(fresh), f"::/{name}")
            if _mtools("mtype", "-i", where, f"::/{name}") != text:
                raise DeviceError(f"{name}: reads otherwise than it was laid into the image")
        return image.read_bytes()


def card_file(text: str) -> dict[str, bytes]:
    """The files of a card whose `sostenuto.toml` is ``text``, as PCs of any kind open them."""
    return {CARD_FILE: text.replace("\n", "\r\n").encode()}


def read_from(path: Path, layout: Layout, name: str) -> bytes:
    """A file of partition 1 on the card, or image, at ``path``.

    Raises
    ------
    DeviceError
        There is none.
    """
    return _mtools("mtype", "-i", f"{path}@@{layout.first_start}", f"::/{name}")


def _mtools(name: str, *arguments: str) -> bytes:
    program = shutil.which(name)
    if program is None:
        raise UsageError("settings are laid into the card by mtools: apt-get install mtools")
    own = {**os.environ, "MTOOLSRC": os.devnull, "MTOOLS_SKIP_CHECK": "1", "LC_ALL": "C.UTF-8"}
    ran = subprocess.run([program, *arguments], capture_output=True, check=False, env=own)
    if ran.returncode != 0:
        why = ran.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"]
        raise DeviceError(f"{name} fails: {why[-1]}")
    return ran.stdout
