"""File systems as files, without a loop device: FAT by mtools, ext4 by mke2fs, squashfs from a tar.

Each is made with fixed identities and one time, so that the same contents are the same bytes.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from device.image.partitions import MIB
from device.image.programs import run
from edge.errors import UsageError

DATA_UUID = "736f7374-656e-5574-8f00-646174610000"
"""The data part's, on every card: two cards in one machine are told apart by their device."""


def _blank(target: Path, size_bytes: int) -> None:
    target.unlink(missing_ok=True)
    with target.open("wb") as stream:
        stream.truncate(size_bytes)


def make_fat(
    target: Path, size_bytes: int, label: str, files: Mapping[str, bytes | Path], epoch_s: int
) -> None:
    """A FAT32 with these files, by their path in it; folders are made as they are needed."""
    needed = sum(
        content.stat().st_size if isinstance(content, Path) else len(content)
        for content in files.values()
    )
    if needed > size_bytes - 2 * MIB:
        raise UsageError(
            f"{label}: {needed / MIB:.0f} MiB of files do not fit into {size_bytes / MIB:.0f} MiB; "
            "leave packages out, or make the part larger (it is laid out for all cards alike)"
        )
    _blank(target, size_bytes)
    cluster = 1 if size_bytes < 128 * MIB else 4
    run(
        ["mkfs.vfat", "-F", "32", "-s", str(cluster), "-n", label, "--invariant",
         target],
        epoch_s=epoch_s,
    )  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="sostenuto-fat-") as name:
        folder = Path(name)
        made: set[str] = set()
        for number, (path, content) in enumerate(sorted(files.items())):
            parts = path.split("/")
            for depth in range(1, len(parts)):
                parent = "/".join(parts[:depth])
                if parent not in made:
                    run(["mmd", "-i", target, f"::{parent}"], epoch_s=epoch_s)
                    made.add(parent)
            source = folder / str(number)
            if isinstance(content, Path):
                source.write_bytes(content.read_bytes())
            else:
                source.write_bytes(content)
            os.utime(source, (epoch_s, epoch_s))
            run(["mcopy", "-m", "-i", target, source, f"::{path}"], epoch_s=epoch_s)


def make_data(target: Path, size_bytes: int, epoch_s: int) -> None:
    """An empty ext4 for what the piano keeps, ready to grow a lot.

    Its folders are made on the device, at every start where one is missing.
    """
    _blank(target, size_bytes)
    run(
        ["mke2fs", "-q", "-t", "ext4", "-T", "default", "-b", "4096", "-I", "256", "-L", "data",
         "-U", DATA_UUID, "-m", "1", "-J", "size=8", "-O", "^metadata_csum_seed,^orphan_file",
         "-E", f"hash_seed={DATA_UUID},lazy_itable_init=0,lazy_journal_init=0,root_owner=0:0",
         target],
        epoch_s=epoch_s,
        extra={"E2FSPROGS_FAKE_TIME": str(epoch_s)},
    )  # fmt: skip


def make_squashfs(target: Path, archive: Path, epoch_s: int) -> None:
    """A squashfs of a tar archive: owners, modes and devices are the archive's, no root needed."""
    target.unlink(missing_ok=True)
    with archive.open("rb") as stream:
        run(
            ["mksquashfs", "-", target, "-tar", "-comp", "zstd", "-Xcompression-level", "19",
             "-b", "256K", "-root-mode", "755", "-root-uid", "0",
             "-root-gid", "0", "-no-progress", "-quiet", "-exports", "-processors", "2"],
            epoch_s=epoch_s,
            stdin=stream,
        )  # fmt: skip
