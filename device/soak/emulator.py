"""A card image in an emulated board: UEFI, boot loader, kernel and initrd are the image's own.

The image is started as it is, on a copy: what a trial needs to see inside is handed over as
systemd's credentials in the board's SMBIOS table, the way a cloud does it, so that nothing is added
to the image for the sake of its trial.

The board's clock counts its instructions: one core that does a thousand million a second, however
long this machine takes for them. So sound comes no faster than it can be heard and no unit is late,
on a PC that is many times slower than a Raspberry Pi.
"""

from __future__ import annotations

import base64
import lzma
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

FIRMWARE = Path("/usr/share/AAVMF/AAVMF_CODE.fd")
VARIABLES = Path("/usr/share/AAVMF/AAVMF_VARS.fd")

HOST = "10.0.2.2"
"""This machine, as the emulated one sees it."""

GIB = 1 << 30

T = TypeVar("T")


def unpack_card(image: Path, card: Path, size_bytes: int = 4 * GIB) -> None:
    """The image on a card of ``size_bytes``: a sparse file."""
    with lzma.open(image) as packed, card.open("wb") as plain:
        at = 0
        while piece := packed.read(4 << 20):
            if piece.count(0) != len(piece):
                plain.seek(at)
                plain.write(piece)
            at += len(piece)
        plain.truncate(max(size_bytes, at))


@dataclass
class Board:
    """An emulated board with a card in it.

    Attributes
    ----------
    card : Path or str
        A file, changed by what runs, or what else QEMU takes for one.
    log : Path
        Everything the board says on its serial line, appended.
    units : mapping
        Name of a systemd unit: its text; started with the system.
    processor : str
        A Raspberry Pi 5's; "cortex-a72" is a Pi 4's, which has no dot products of 8 bits.
    more : sequence of str
        Further words for QEMU.
    """

    card: Path | str
    log: Path
    folder: Path
    units: Mapping[str, str] = field(default_factory=dict)
    processor: str = "cortex-a76"
    memory_mib: int = 1024
    more: Sequence[str] = ()
    _process: subprocess.Popen[bytes] | None = None
    _start_s: float = 0.0
    _read_from: int = 0

    def command(self) -> list[str]:
        """The call of QEMU."""
        words = [
            "qemu-system-aarch64",
            *("-machine", "virt", "-cpu", self.processor, "-m", str(self.memory_mib)),
            *("-smp", "1", "-accel", "tcg,thread=single,tb-size=256", "-icount", "shift=0"),
            *("-drive", f"if=pflash,format=raw,readonly=on,file={FIRMWARE}"),
            *("-drive", f"if=pflash,format=raw,file={self.folder / 'variables.fd'}"),
            *("-drive", f"if=none,id=card,format=raw,file={self.card}"),
            *("-device", "virtio-blk-pci,drive=card,bootindex=0"),
            *("-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net,romfile="),
            *("-device", "virtio-rng-pci", "-device", "i6300esb", "-action", "watchdog=reset"),
            *("-display", "none", "-monitor", "none"),
            *("-chardev", f"file,id=serial,append=on,path={self.log}", "-serial", "chardev:serial"),
            *self.more,
        ]
        for name, text in self.credentials().items():
            told = self.folder / f"{name}.smbios"
            sent = base64.b64encode(text.encode()).decode()
            told.write_text(f"io.systemd.credential.binary:{name}={sent}")
            words += ["-smbios", f"type=11,path={told}"]
        return words

    def credentials(self) -> dict[str, str]:
        """The units as systemd's debug generator takes them, and what pulls them in."""
        if not self.units:
            return {}
        wanted = f"[Unit]\nWants={' '.join(self.units)}\n"
        units = {f"systemd.extra-unit.{name}": text for name, text in self.units.items()}
        return {**units, "systemd.unit-dropin.multi-user.target": wanted}

    def start(self) -> None:
        """Switch it on."""
        variables = self.folder / "variables.fd"
        if not variables.exists():
            shutil.copy(VARIABLES, variables)
        self.log.touch()
        self._read_from = self.log.stat().st_size
        self._start_s = time.monotonic()
        self._process = subprocess.Popen(["nice", "-n", "5", *self.command()])

    @property
    def seconds(self) -> float:
        """Since it was switched on."""
        return time.monotonic() - self._start_s

    @property
    def said(self) -> str:
        """What it said since it was switched on, without the colours."""
        with self.log.open("rb") as stream:
            stream.seek(self._read_from)
            text = stream.read().decode("utf-8", "replace")
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)

    def await_line(self, pattern: str, patience_s: float) -> tuple[re.Match[str], float]:
        """The first line that fits, and when it came.

        Raises
        ------
        TimeoutError
            It did not come in time, or the board went off.
        """
        return until(lambda: re.search(pattern, self.said), patience_s, pattern, self)

    @property
    def on(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.poll() is None

    def cut(self) -> None:
        """Pull the plug: no program in it is told."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


def until(
    look: Callable[[], T | None], patience_s: float, what: str, board: Board
) -> tuple[T, float]:
    """What ``look`` finds at last, and when."""
    while board.seconds < patience_s:
        found = look()
        if found:
            return found, board.seconds
        if not board.on:
            raise TimeoutError(f"the board went off before: {what}")
        time.sleep(0.5)
    raise TimeoutError(f"not within {patience_s:.0f} s: {what}")
