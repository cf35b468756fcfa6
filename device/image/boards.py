"""What each board starts from: the files of the card's partition 1 and of a slot's boot partition.

``generic``
    64-bit ARM with UEFI. The firmware starts Debian's own GRUB from partition 1, which reads its
    environment there, chooses a slot and starts kernel and initrd from that slot's partition.
``raspberrypi``
    The firmware of a Pi 4 or Zero 2 W reads ``autoboot.txt`` on partition 1 and goes on in the
    slot's partition, which holds firmware, device trees, kernel and initrd. A Zero 2 W's ROM wants
    ``bootcode.bin`` on partition 1; a Pi 4 has the same in its own flash memory.
"""

from __future__ import annotations

import subprocess
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from device.firstboot.card import CARD_FILE, Card, card_text
from device.image.partitions import DISK_ID
from device.image.recipe import Board
from device.image.tree import one_file
from device.update.boot_files import autoboot_txt, grub_cfg, grubenv
from edge.errors import InputError

DISK = f"{DISK_ID:08x}"

COMPATIBLE: Mapping[Board, str] = {
    "generic": "sostenuto-generic-arm64",
    "raspberrypi": "sostenuto-raspberrypi-arm64",
}

ARGUMENTS = (
    "ro rootfstype=squashfs rootwait fsck.repair=yes quiet loglevel=4 systemd.show_status=auto "
    "panic=10 net.ifnames=0"
)
"""Of the kernel, on every board: a root that is there late is waited for, a panic starts again."""

CONSOLES: Mapping[Board, str] = {
    "generic": "console=tty0 console=ttyS0,115200 console=ttyAMA0,115200",
    "raspberrypi": "console=tty0 console=ttyS1,115200",
}

FROM_THE_ROOT = (
    "boot/vmlinuz-*",
    "boot/initrd.img-*",
    "usr/lib/linux-image-*/broadcom/bcm2711-rpi-*.dtb",
    "usr/lib/linux-image-*/broadcom/bcm2837-rpi-*.dtb",
)
"""Files that the root's packages bring and the boot partitions take."""

_BRCM = "usr/lib/firmware/brcm/brcmfmac"

RADIOS: Mapping[Board, Mapping[str, str]] = {
    "generic": {},
    "raspberrypi": {
        f"{_BRCM}43455-sdio.bin": "Raspberry Pi 4",
        f"{_BRCM}43430-sdio.bin": "Raspberry Pi Zero 2 W with chip BCM43430/1",
        f"{_BRCM}43430b0-sdio.bin": "Raspberry Pi Zero 2 W with chip BCM43430/2",
    },
}
"""The firmware that the driver of Debian's kernel asks for (``modinfo brcmfmac``, 6.12), by the
chip and the revision of it that a board may carry."""

_EFI = "usr/lib/grub/arm64-efi/monolithic/grubaa64.efi"

_GRUB_START = """\
# Read by the GRUB that the firmware started; the rest is one folder further on the same partition.
search --no-floppy --label SOSTENUTO --set=card
configfile ($card)/grub/grub.cfg
"""

_FIRMWARE = "usr/lib/raspi-firmware"

FIRMWARE_FILES = (
    "bootcode.bin", "fixup.dat", "fixup_cd.dat", "fixup4.dat", "fixup4cd.dat",
    "start.elf", "start_cd.elf", "start4.elf", "start4cd.elf",
)  # fmt: skip

CONFIG_TXT = """\
# Read by the firmware of the Raspberry Pi; the kernel and its device trees are Debian's.
arm_64bit=1
upstream_kernel=1
kernel=vmlinuz
initramfs initrd.img followkernel
cmdline=cmdline.txt
enable_uart=1
disable_splash=1
disable_overscan=1
# No picture is drawn: the memory is the ear's.
gpu_mem=16
"""


def unpack(packages: Sequence[Path], folder: Path) -> None:
    """The files of packages that are not set up, side by side in ``folder``."""
    for package in packages:
        done = subprocess.run(
            ["dpkg-deb", "-x", str(package), str(folder)], capture_output=True, check=False
        )
        if done.returncode != 0:
            raise InputError(f"{package}: cannot be unpacked")


def kernel_arguments(board: Board) -> str:
    """What the kernel is told, but for root and slot, which the boot loader knows."""
    return f"{CONSOLES[board]} {ARGUMENTS}"


def card_files(board: Board, beside: Path) -> dict[str, bytes | Path]:
    """Partition 1, which both slots share: what chooses between them, and the installer's word."""
    said = {CARD_FILE: card_text(Card()).replace("\n", "\r\n").encode()}
    if board == "generic":
        return {
            **said,
            "EFI/BOOT/BOOTAA64.EFI": beside / _EFI,
            "EFI/debian/grub.cfg": _GRUB_START.encode(),
            "grub/grub.cfg": grub_cfg(DISK, kernel_arguments(board)).encode(),
            "grub/grubenv": grubenv(),
        }
    return {
        **said,
        "autoboot.txt": autoboot_txt(),
        "bootcode.bin": beside / _FIRMWARE / "bootcode.bin",
    }


def without_radio(board: Board, paths: Collection[str]) -> list[str]:
    """Boards that this image would start on with no Wi-Fi, by the ``paths`` in its root."""
    return [name for path, name in RADIOS[board].items() if path not in paths]


def slot_files(board: Board, root: Mapping[str, bytes], beside: Path) -> dict[str, bytes | Path]:
    """A slot's boot partition, the same bytes for A and B; ``root`` by `FROM_THE_ROOT`."""
    files: dict[str, bytes | Path] = {
        "vmlinuz": one_file(root, "boot/vmlinuz-*"),
        "initrd.img": one_file(root, "boot/initrd.img-*"),
    }
    if board == "generic":
        return files
    trees = {name.rsplit("/", 1)[1]: root[name] for name in root if name.endswith(".dtb")}
    for needed in ("bcm2711-rpi-4-b.dtb", "bcm2837-rpi-zero-2-w.dtb"):
        if needed not in trees:
            raise InputError(f"{needed}: not in the kernel's package; take another suite or board")
    overlays = sorted((beside / _FIRMWARE / "overlays").glob("*.dtbo"))
    return {
        **files,
        **trees,
        **{name: beside / _FIRMWARE / name for name in FIRMWARE_FILES},
        **{f"overlays/{overlay.name}": overlay for overlay in overlays},
        "config.txt": CONFIG_TXT.encode(),
        "cmdline.txt": f"root=PARTUUID={DISK}-05 {kernel_arguments(board)}\n".encode(),
    }
