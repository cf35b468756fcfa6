"""Debian set up for arm64 as one tar archive, from a repository of exactly the locked packages.

``mmdebstrap`` unpacks here and lets the packages' own scripts run under qemu-user: twelve minutes
on two cores, so the archive is kept under the sum of everything that it was made from. It is itself
reproducible (mmdebstrap sorts, and gives every file the one time).
"""

from __future__ import annotations

import hashlib
import shlex
import tempfile
from pathlib import Path

from device.image import debian
from device.image.lock import Lock
from device.image.programs import run
from device.image.recipe import KEPT, LEFT_OUT
from edge.errors import UsageError

INITRAMFS = Path(__file__).parent / "initramfs"

BINFMT = Path("/proc/sys/fs/binfmt_misc/qemu-aarch64")

_BEFORE = r"""
set -eu
root="$1"
cp -r "$2"/. "$root"/
chmod 755 "$root"/etc/initramfs-tools/scripts/*/sostenuto
chroot "$root" dpkg-divert --local --rename --quiet \
  --divert /usr/sbin/update-initramfs.later --add /usr/sbin/update-initramfs
printf '#!/bin/sh\n' > "$root"/usr/sbin/update-initramfs
chmod 755 "$root"/usr/sbin/update-initramfs
"""
"""The initrd is made once, at the end, and not whenever a package thinks that it might be time."""

_AFTER = r"""
set -eu
root="$1"
rm "$root"/usr/sbin/update-initramfs
chroot "$root" dpkg-divert --local --rename --quiet --remove /usr/sbin/update-initramfs
for modules in "$root"/usr/lib/modules/*; do
  version="${modules##*/}"
  chroot "$root" mkinitramfs -o "/boot/initrd.img-$version" "$version"
done
"""


def key(lock: Lock) -> str:
    """A name for the archive: another list, recipe, hook or time is another archive."""
    told = hashlib.sha256()
    for package in sorted(lock.in_place("root"), key=lambda p: p.name):
        told.update(f"{package.name} {package.version} {package.sha256}\n".encode())
    told.update("\n".join((*LEFT_OUT, "", *KEPT, _BEFORE, _AFTER, str(lock.epoch_s))).encode())
    for path in sorted(INITRAMFS.rglob("*")):
        if path.is_file():
            told.update(str(path.relative_to(INITRAMFS)).encode() + path.read_bytes())
    return told.hexdigest()[:16]


def command(lock: Lock, repository: Path, hooks: Path, target: Path) -> list[str]:
    """The call of mmdebstrap."""
    names = ",".join(sorted(package.name for package in lock.in_place("root")))
    words = [
        "mmdebstrap",
        "--mode=root",
        f"--architectures={debian.ARCHITECTURE}",
        "--variant=essential",
        "--format=tar",
        f"--include={names}",
        '--aptopt=APT::Install-Recommends "false"',
        '--aptopt=APT::Sandbox::User "root"',
        '--aptopt=Acquire::Languages "none"',
    ]
    words += [f"--dpkgopt=path-exclude={path}" for path in LEFT_OUT]
    words += [f"--dpkgopt=path-include={path}" for path in KEPT]
    before, after = (shlex.quote(str(hooks / name)) for name in ("before.sh", "after.sh"))
    words += [
        f'--essential-hook=sh {before} "$1" {shlex.quote(str(INITRAMFS))}',
        f'--customize-hook=sh {after} "$1"',
        lock.suite,
        str(target),
        f"deb [trusted=yes] copy:{repository} ./",
    ]
    return words


def build(lock: Lock, cache: Path) -> Path:
    """The archive of the root, made now or at an earlier build from the same inputs."""
    target = cache / "base" / f"{key(lock)}.tar"
    if target.exists():
        return target
    if not BINFMT.exists():
        raise UsageError(
            "programs for arm64 cannot be run here; as root: apt-get install qemu-user-static "
            "binfmt-support, and mount binfmt_misc"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="sostenuto-base-") as name:
        folder = Path(name)
        repository = folder / "repository"
        packages = lock.in_place("root")
        debian.make_repository(packages, cache / "debs", repository, lock.suite)
        (folder / "before.sh").write_text(_BEFORE)
        (folder / "after.sh").write_text(_AFTER)
        partial = target.with_suffix(".part.tar")
        log = target.with_suffix(".log")
        run(command(lock, repository, folder, partial), epoch_s=lock.epoch_s, log=log)
        partial.replace(target)
    return target
