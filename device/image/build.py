"""``image build`` from one end to the other; each step is a module of its own.

lock list → packages and wheels in the cache → base (mmdebstrap) → software → root (squashfs)
          → boot partition, card partition, data partition → image → map, sums, bill
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from device.image import assemble, base, blockmap, boards, bom, debian, filesystems, overlay, tree
from device.image import lock as locks
from device.image import wheels as software
from device.image.partitions import MIB, Layout, lay_out
from device.image.programs import PACKAGES, need, versions
from device.image.recipe import Board
from device.service.software import build_wheel, clone
from device.update.keys import KEYRING, make_keys
from edge.errors import InputError, UsageError

DEVELOPMENT = "development-only"

ENDINGS = ("img.xz", "bmap", "spdx.json", "lock", "root.squashfs", "boot.vfat")
"""Of the files that come out. The last two are what an update of the system is made of."""

CARD_LABEL = "SOSTENUTO"
_STATUS = "var/lib/dpkg/status"
_DOC = "usr/share/doc"

Tell = Callable[[str], None]
Measure = Callable[[str, int], assemble.Report]
"""Opens a bar for so many bytes; what it gives back is told how many more are done."""


@dataclass(frozen=True)
class Wishes:
    """What was asked for on the command line."""

    board: Board
    output: Path
    cache: Path
    suite: str
    mirror: str
    security: str
    lock: Path | None = None
    wheel: Path | None = None
    keyring: Path | None = None
    more: tuple[str, ...] = ()
    fresh: bool = False


@dataclass(frozen=True)
class Built:
    """What came out: the files, and the figures that are worth telling."""

    name: str
    files: dict[str, str]
    image_bytes: int
    packed_bytes: int
    root_bytes: int
    packages: int
    wheels: int
    seconds: float

    def as_json(self) -> str:
        """One object, for programs."""
        return json.dumps({**self.__dict__, "sha256": self.files, "files": sorted(self.files)})


def _epoch() -> int:
    """The time that every file gets: the environment's, or now, which the lock list then keeps."""
    given = os.environ.get("SOURCE_DATE_EPOCH", "")
    if given and not given.isdigit():
        raise UsageError(f"SOURCE_DATE_EPOCH={given!r}: seconds since 1970 were expected")
    return int(given) if given else int(time.time())


def _own_wheel(wishes: Wishes, folder: Path) -> Path:
    if wishes.wheel is not None:
        if not wishes.wheel.is_file():
            raise InputError(f"{wishes.wheel}: no such wheel; leave --wheel out in a clone")
        return wishes.wheel
    source = clone()
    if source is None:
        raise UsageError("this is no clone of the project: give its wheel with --wheel FILE")
    return build_wheel(source, folder)


def _lock(wishes: Wishes, own: Path, tell: Tell) -> locks.Lock:
    if wishes.lock is not None:
        found = locks.read(wishes.lock, wishes.board)
        here = versions()
        others = [name for name in found.tools if found.tools[name] != here.get(name)]
        if others:
            tell(f"not of the lock list's versions: {', '.join(others)}; the bytes may differ")
        return found
    tell("asking the mirror which packages there are")
    epoch_s = _epoch()
    packages = debian.resolve(
        wishes.suite, wishes.board, wishes.more, wishes.mirror, wishes.security, epoch_s
    )
    tell("asking the index which wheels there are")
    found_wheels = software.resolve(own, wishes.cache / "wheels")
    return locks.Lock(
        format=1,
        board=wishes.board,
        suite=wishes.suite,
        epoch_s=epoch_s,
        tools=versions(),
        packages=packages,
        wheels=found_wheels,
    )


def keyring(wishes: Wishes) -> bytes:
    """Whose updates the card accepts; a key for trying out is made where none is given."""
    if wishes.keyring is not None:
        try:
            content = wishes.keyring.read_bytes()
        except OSError as error:
            raise InputError(f"{wishes.keyring}: {error.strerror}") from None
        if b"BEGIN CERTIFICATE" not in content:
            raise InputError(f"{wishes.keyring}: no certificate in it (PEM was expected)")
        return content
    folder = wishes.cache / "keys" / DEVELOPMENT
    if not (folder / KEYRING).is_file():
        make_keys(folder, DEVELOPMENT)
    return (folder / KEYRING).read_bytes()


@contextmanager
def _scratch(cache: Path) -> Iterator[Path]:
    """A folder beside the cache: an image may not fit where temporary files are kept."""
    cache.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="work-", dir=cache))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True)
class _Ground:
    """What the card's file systems are made of, once all is fetched and Debian is set up."""

    lock: locks.Lock
    own: Path
    archive: Path
    software: tuple[Path, Path]
    beside: Path
    root_files: dict[str, bytes]


def _prepare(wishes: Wishes, work: Path, tell: Tell, measure: Measure) -> _Ground:
    own = _own_wheel(wishes, work)
    lock = _lock(wishes, own, tell)
    report = measure("packages", sum(package.size_bytes for package in lock.packages))
    debian.fetch(
        lock.packages,
        wishes.cache / "debs",
        (wishes.mirror, wishes.security),
        lambda package: report(package.size_bytes),
    )
    software.fetch(lock.wheels, wishes.cache / "wheels")
    tell("Debian for the board, under emulation: a quarter of an hour, kept for the next time")
    archive = base.build(lock, wishes.cache)
    for name in boards.without_radio(lock.board, tree.paths(archive)):
        tell(f"no firmware for the Wi-Fi of a {name}: it is in none of the packages")
    tell("Sostenuto and its wheels")
    environment = software.build(own, lock, archive, wishes.cache)
    beside = work / "beside"
    boards.unpack([wishes.cache / "debs" / p.file for p in lock.in_place("beside")], beside)
    wanted = (*boards.FROM_THE_ROOT, *overlay.DEBIANS_OWN, _STATUS, f"{_DOC}/*/copyright")
    return _Ground(lock, own, archive, environment, beside, tree.read_files(archive, wanted))


def _make_root(ground: _Ground, ring: bytes, work: Path, target: Path) -> None:
    """The squashfs of a slot."""
    epoch_s = ground.lock.epoch_s
    over, merged = work / "over", work / "root.tar"
    over.mkdir()
    version = software.describe(ground.own).version
    overlay.make(over, ground.lock.board, version, ground.root_files, epoch_s)
    (over / "etc/rauc/keyring.pem").write_bytes(ring)
    tree.merge(
        ground.archive,
        merged,
        left_out=overlay.LEFT_OUT,
        over=(*ground.software, over),
        epoch_s=epoch_s,
    )
    filesystems.make_squashfs(target, merged, epoch_s)
    merged.unlink()


def _make_parts(
    ground: _Ground, layout: Layout, work: Path, root: Path, boot: Path
) -> dict[str, Path]:
    """The file system of every partition that is not empty on a new card."""
    epoch_s, board = ground.lock.epoch_s, ground.lock.board
    card, data = work / "card.vfat", work / "data.ext4"
    slot = boards.slot_files(board, ground.root_files, ground.beside)
    both = boards.card_files(board, ground.beside)
    filesystems.make_fat(boot, layout["boot-a"].size_bytes, "SLOT", slot, epoch_s)
    filesystems.make_fat(card, layout["card"].size_bytes, CARD_LABEL, both, epoch_s)
    filesystems.make_data(data, layout["data"].size_bytes, epoch_s)
    parts = {"card": card, "boot-a": boot, "root-a": root, "data": data}
    for name, path in parts.items():
        if path.stat().st_size > layout[name].size_bytes:
            raise UsageError(
                f"{name}: {path.stat().st_size / MIB:.0f} MiB; {layout[name].size_bytes / MIB:.0f} "
                "MiB are laid out on every card; leave packages out"
            )
    return parts


def _bill(ground: _Ground, cache: Path, name: str) -> bytes:
    """What is on the card, as SPDX."""
    root = {
        path.split("/")[3]: text.decode("utf-8", "replace")
        for path, text in ground.root_files.items()
        if path.startswith(f"{_DOC}/")
    }
    beside = {
        path.parent.name: path.read_text("utf-8", "replace")
        for path in ground.beside.glob(f"{_DOC}/*/copyright")
    }
    packages = bom.debian_packages(
        ground.lock, ground.root_files[_STATUS].decode(), root, beside
    ) + bom.python_packages(
        [ground.own, *(cache / "wheels" / wheel.file for wheel in ground.lock.wheels)]
    )
    return bom.document(name, packages, ground.lock.epoch_s)


def build(wishes: Wishes, tell: Tell, measure: Measure) -> Built:
    """Make the image and all that goes with it in the output folder."""
    began = time.monotonic()
    need(*PACKAGES)
    if os.geteuid() != 0:
        raise UsageError("the board's packages are set up in a chroot: run this as root")
    if wishes.fresh:
        for part in ("base", "software"):
            shutil.rmtree(wishes.cache / part, ignore_errors=True)
    ring = keyring(wishes)
    layout = lay_out()
    wishes.output.mkdir(parents=True, exist_ok=True)
    with _scratch(wishes.cache) as work:
        ground = _prepare(wishes, work, tell, measure)
        version = software.describe(ground.own).version
        name = f"sostenuto-{version}-{wishes.board}-arm64"
        made = {ending: wishes.output / f"{name}.{ending}" for ending in ENDINGS}
        tell("the root")
        _make_root(ground, ring, work, made["root.squashfs"])
        tell("the partitions it starts from")
        parts = _make_parts(ground, layout, work, made["root.squashfs"], made["boot.vfat"])
        image = work / "image"
        total = sum(path.stat().st_size for path in parts.values())
        assemble.put_together(layout, parts, image, measure("image", total))
        report = measure("block map", layout.size_bytes)
        needed = assemble.needed(layout, parts, image)
        made["bmap"].write_text(blockmap.make(image, needed, report))
        assemble.pack(image, made["img.xz"], measure("packing", layout.size_bytes))
        made["lock"].write_bytes(locks.encode(ground.lock))
        made["spdx.json"].write_bytes(_bill(ground, wishes.cache, name))
    text, sums = assemble.sha256_sums(list(made.values()))
    (wishes.output / f"{name}.sha256").write_text(text)
    return Built(
        name=name,
        files=sums,
        image_bytes=layout.size_bytes,
        packed_bytes=made["img.xz"].stat().st_size,
        root_bytes=made["root.squashfs"].stat().st_size,
        packages=len(ground.lock.packages),
        wheels=len(ground.lock.wheels) + 1,
        seconds=round(time.monotonic() - began, 1),
    )
