"""What is laid over Debian: mounts, the service, RAUC's settings, what is switched off.

Nothing here is secret or belongs to one piano: that is made at the first start, on the device.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from device.firstboot.steps import firstboot_steps
from device.image.boards import COMPATIBLE, DISK
from device.image.recipe import Board
from device.service.install import system_steps
from device.service.place import Place, apply
from device.update import boot_files
from device.update.units import update_steps

ROOT = Path(__file__).parent / "root"
"""Files as they stand on the card."""

_UNITS = "etc/systemd/system"

SWITCHED_OFF = (
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    *boot_files.MASKED,
)
"""Units that keep a system's packages, which on a root that nobody writes there is none to keep of;
and those that are ours to decide."""

LINKS: Mapping[str, str] = {
    "etc/resolv.conf": "/run/NetworkManager/resolv.conf",
    "var/lib/dbus/machine-id": "/etc/machine-id",
    f"{_UNITS}/local-fs.target.wants/sostenuto-data.service": "../sostenuto-data.service",
    **{f"{_UNITS}/{unit}": "/dev/null" for unit in SWITCHED_OFF},
}

MOUNT_POINTS = (
    "boot/card",
    "data",
    "etc/mosquitto/sostenuto",
    "etc/NetworkManager/system-connections",
    "var/lib/NetworkManager",
    "var/lib/mosquitto",
    "var/lib/rauc",
    "var/lib/sostenuto",
    "var/lib/systemd",
)

ACCOUNT_FILES = ("etc/passwd", "etc/group", "etc/shadow", "etc/gshadow")
OS_RELEASE = "usr/lib/os-release"
DEBIANS_OWN = (*ACCOUNT_FILES, OS_RELEASE)
"""Files of Debian's that something is added to."""

LEFT_OUT = (
    "boot/*",
    "initrd.img*",
    "vmlinuz*",
    "usr/lib/linux-image-*",
    "etc/.pwd.lock",
    "etc/apt",
    "etc/apt/*",
    "etc/group-",
    "etc/gshadow-",
    "etc/hostname",
    "etc/machine-id",
    "etc/passwd-",
    "etc/resolv.conf",
    "etc/shadow-",
    "etc/ssh/ssh_host_*",
    "run/*",
    "tmp/*",
    "var/backups/*",
    "var/cache/*",
    "var/lib/apt",
    "var/lib/apt/*",
    "var/lib/dbus/machine-id",
    "var/lib/dpkg/*-old",
    "var/lib/dpkg/lock*",
    "var/lib/dpkg/triggers/Lock",
    "var/lib/initramfs-tools",
    "var/lib/initramfs-tools/*",
    "var/lib/systemd/*",
    "var/log/*",
    "etc/kernel/*",
    "etc/initramfs-tools/*",
    "etc/cron.*",
    "usr/share/initramfs-tools/*",
    "usr/lib/python3.*/test/*",
    "usr/lib/python3.*/idlelib/*",
    "usr/lib/python3.*/turtledemo/*",
    "usr/lib/python3.*/ensurepip/*",
)
"""What the root's archive brings and the card does not need: it starts from the boot partitions."""


def make(
    folder: Path, board: Board, version: str, before: Mapping[str, bytes], epoch_s: int
) -> None:
    """Everything that is laid over, in ``folder``.

    Parameters
    ----------
    version : str
        Of Sostenuto, and so of the image: an update of the system is compared with it.
    before : mapping
        `DEBIANS_OWN` as Debian has them.
    """
    for name in DEBIANS_OWN:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(before[name])
    with (folder / OS_RELEASE).open("a") as release:
        release.write(f"IMAGE_ID={COMPATIBLE[board]}\nIMAGE_VERSION={version}\n")
    steps = (*system_steps(), *firstboot_steps(), *update_steps(slots=True))
    apply(steps, Place(folder))
    for left in folder.glob("etc/*-"):
        left.unlink()
    (folder / "etc/.pwd.lock").unlink(missing_ok=True)
    shutil.copytree(ROOT, folder, dirs_exist_ok=True)
    (folder / "usr/lib/sostenuto/data").chmod(0o755)
    for name in MOUNT_POINTS:
        (folder / name).mkdir(parents=True, exist_ok=True)
    for name, target_of_link in LINKS.items():
        link = folder / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(target_of_link)
    rauc = folder / "etc/rauc"
    rauc.mkdir(exist_ok=True)
    (rauc / "system.conf").write_text(boot_files.system_conf(COMPATIBLE[board], DISK))
    name, text = boot_files.backend(COMPATIBLE[board])
    program = folder / name.lstrip("/")
    program.write_text(text)
    program.chmod(0o755)
    (folder / "etc/machine-id").touch()
    # systemd's clock never stands before this file's time: a piano without a clock is not in 1970.
    (folder / "usr/lib/clock-epoch").write_text(f"{epoch_s}\n")
