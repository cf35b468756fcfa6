"""What trials of updates share: real keys and bundles, and devices that are folders."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import sys
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from device.service.software import MARK
from device.update.bundle import ANY_BOARD, Bundle, Kind, Packing, pack
from device.update.durable import turn
from device.update.keys import KEYRING, make_keys
from device.update.place import Place

BOARD = "sostenuto-test-board"

MISSING = [
    name for name in ("rauc", "unsquashfs", "mksquashfs", "openssl") if not shutil.which(name)
]


_PROGRAM = '''"""Stands in for the software: says which it is, if it is whole."""

import hashlib
from pathlib import Path


def main() -> int:
    lies = Path(__file__).parent
    weight = hashlib.sha256((lies / "weight.bin").read_bytes()).hexdigest()
    if weight != (lies / "weight.sha256").read_text():
        return 9
    print("{version}")
    return {code}
'''


class Maker:
    """Whoever makes bundles: an authority and its signing key, in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.key, self.certificate = make_keys(folder, "maker")
        self.keyring = folder / KEYRING

    def pack(
        self,
        kind: Kind,
        version: str,
        source: Path,
        *,
        needs: str = "0",
        board: str = ANY_BOARD,
        name: str | None = None,
        keyring: Path | None = None,
    ) -> Bundle:
        """A signed bundle in the maker's folder."""
        target = self.folder / (name or f"{kind}-{version}.sostenuto")
        packing = Packing(kind, version, source, self.key, self.certificate, needs, board, keyring)
        return pack(packing, target)


@dataclass
class Service:
    """A service that starts as told: the next answers first, and then it is ready for ever."""

    answers: list[bool] = field(default_factory=list)
    restarts: int = 0
    reboots: list[bool] = field(default_factory=list)

    def restart(self) -> bool:
        self.restarts += 1
        return self.ready()

    def ready(self) -> bool:
        return self.answers.pop(0) if self.answers else True

    def reboot(self, *, tryboot: bool) -> None:
        self.reboots.append(tryboot)


def device_at(
    folder: Path,
    keyring: Path,
    *,
    self_test: Sequence[str] = ("true",),
    service: Service | None = None,
    slots: str | None = None,
) -> Place:
    """A device in a folder; with ``slots``, RAUC's configuration of one that has two."""
    for name in ("parcels", "software", "state"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    conf = folder / "system.conf"
    if slots is not None:
        conf.write_text(slots)
    return Place(
        parcels=folder / "parcels",
        software=folder / "software",
        state=folder / "state",
        keyring=keyring,
        system_conf=conf,
        slots_status=folder / "slots.raucs",
        os_release=folder / "os-release",
        kernel_arguments=folder / "cmdline",
        python=sys.executable,
        self_test=tuple(self_test),
        service=service or Service(),
    )


def lay_software(place: Place, version: str, *, hears: bool = True) -> None:
    """An environment as it lies after an update, whose self-test passes or does not."""
    program = place.software / version / "bin" / "sostenuto-device"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\nexit {0 if hears else 1}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    (place.software / version / MARK).write_text("0" * 64 + "\n")


def install_software(place: Place, version: str) -> None:
    """The software in use."""
    lay_software(place, version)
    turn(place.software / "current", version)


def wheels_of(folder: Path, version: str, *, hears: bool = True, size_bytes: int = 0) -> Path:
    """A folder with a wheel of Sostenuto that holds next to nothing, and answers a self-test."""
    folder.mkdir(parents=True, exist_ok=True)
    info = f"sostenuto-{version}.dist-info"
    files = {
        "ear_of_a_trial.py": _PROGRAM.format(version=version, code=0 if hears else 1),
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: sostenuto\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": ("[console_scripts]\nsostenuto-device = ear_of_a_trial:main\n"),
    }
    weight = os.urandom(size_bytes)
    files["weight.sha256"] = hashlib.sha256(weight).hexdigest()
    with zipfile.ZipFile(folder / f"sostenuto-{version}-py3-none-any.whl", "w") as wheel:
        for name, text in files.items():
            wheel.writestr(name, text)
        wheel.writestr("weight.bin", weight)
        record = "".join(f"{name},,\n" for name in (*files, "weight.bin", f"{info}/RECORD"))
        wheel.writestr(f"{info}/RECORD", record)
    return folder
