"""Systems and models to update a trial's card with: others, byte for byte, and bad ones.

All are made of one card image: the same system with one file more, or with an ending to a module
of its software that keeps it from proving itself. They are packed and signed as any bundle is.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

from device.image.boards import COMPATIBLE
from device.sums import sha256
from device.update.bundle import SYSTEM_IMAGES, Kind, Packing, pack
from edge.resources import shipped_dir, software_version

SAYS_NOTHING = ("-quiet", "-no-progress")


def _quietly(*words: str | Path) -> None:
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)


def with_file(root: Path, name: str, target: Path) -> None:
    """The same system with one file more at its top: another one, byte for byte."""
    shutil.copyfile(root, target)
    folder = target.with_suffix(".more")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / "version-of-a-trial").write_text(f"{name}\n")
    _quietly("mksquashfs", folder, target, *SAYS_NOTHING, "-all-root", "-no-recovery")
    shutil.rmtree(folder)


def with_ending(root: Path, ending: dict[str, str], target: Path) -> None:
    """The same system with something added to modules of its software."""
    folder = target.with_suffix(".tree")
    shutil.rmtree(folder, ignore_errors=True)
    _quietly("unsquashfs", "-q", "-n", "-d", folder, root)
    for name, text in ending.items():
        (module,) = folder.glob(f"opt/sostenuto/software/[0-9]*/lib/python3*/site-packages/{name}")
        with module.open("a") as stream:
            stream.write(text)
        for code in module.parent.glob(f"__pycache__/{module.stem}.*.pyc"):
            code.unlink()
    target.unlink(missing_ok=True)
    packing = ("-comp", "zstd", "-Xcompression-level", "3")
    _quietly("mksquashfs", folder, target, *packing, *SAYS_NOTHING)
    shutil.rmtree(folder)


BAD = {
    "deaf": {"device/selftest/command.py": "\n\ndef run(*_, **__):\n    return 1\n"},
    "silent": {"edge/cli/listen.py": "\n\ndef run(*_):\n    raise SystemExit(1)\n"},
}
"""Systems that must not stay: the known recording fails; the service does not start."""


class Maker:
    """Bundles of systems and models, made once and kept."""

    def __init__(self, image: Path, folder: Path, keys: Path) -> None:
        stem = image.name.removesuffix(".img.xz").removesuffix(".img")
        self._root = image.with_name(f"{stem}.root.squashfs")
        self._boot = image.with_name(f"{stem}.boot.vfat")
        (self._key,) = [path for path in keys.glob("*.key") if path.name != "authority.key"]
        self.folder, self._board = folder, COMPATIBLE["generic"]
        self.tray = folder / "tray"
        self.tray.mkdir(parents=True, exist_ok=True)
        self.systems = {"as flashed": self._sums(self._root)}

    def _sums(self, root: Path) -> str:
        parts = {"boot": self._boot, "root": root}
        return json.dumps({n: (p.stat().st_size, sha256(p)) for n, p in parts.items()})

    def system(self, version: str, bad: str | None = None) -> str:
        """A bundle on the tray."""
        root = self.folder / f"{version}.squashfs"
        name = f"system-{version}.sostenuto"
        if not (self.tray / name).exists():
            if bad is None:
                with_file(self._root, version, root)
            else:
                with_ending(self._root, BAD[bad], root)
            source = self.folder / "images"
            shutil.rmtree(source, ignore_errors=True)
            source.mkdir()
            shutil.copyfile(self._boot, source / SYSTEM_IMAGES["boot"])
            shutil.copyfile(root, source / SYSTEM_IMAGES["rootfs"])
            self._pack(Kind.SYSTEM, version, source, name)
            shutil.rmtree(source)
        self.systems[version] = self._sums(root)
        return name

    def models(self, version: str) -> str:
        """Note models as they are, with a number of their own."""
        name = f"models-{version}.sostenuto"
        if not (self.tray / name).exists():
            self._pack(Kind.MODELS, version, shipped_dir(), name)
        return name

    def _pack(self, kind: Kind, version: str, source: Path, name: str) -> None:
        certificate = self._key.with_suffix(".crt")
        board = self._board if kind is Kind.SYSTEM else "sostenuto"
        packing = Packing(kind, version, source, self._key, certificate, "0", board)
        pack(packing, self.tray / name)

    def lay_tray(self) -> Path:
        """All bundles on a disk."""
        disk = self.folder / "tray.squashfs"
        newest = max((path.stat().st_mtime for path in self.tray.iterdir()), default=0.0)
        if not disk.exists() or disk.stat().st_mtime < newest:
            disk.unlink(missing_ok=True)
            bare = ("-noI", "-noD", "-noF", "-noX", "-all-root")
            _quietly("mksquashfs", self.tray, disk, *bare, *SAYS_NOTHING)
        return disk


def versions() -> tuple[str, str]:
    """Of both kinds, two that continue the software's."""
    return f"{software_version()}.1", f"{software_version()}.2"


def bad_version(name: str) -> str:
    return f"{software_version()}.{90 + list(BAD).index(name)}"
