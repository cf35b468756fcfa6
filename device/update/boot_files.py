"""What the boot loader and RAUC are told of a card: for whoever builds the image.

On the generic image, GRUB starts the slot and RAUC has its own way with GRUB's environment. On a
Raspberry Pi, RAUC is given `device.update.raspberrypi_boot`, installed as `RASPBERRYPI_BACKEND`
and executable.
"""

from __future__ import annotations

from pathlib import Path
from string import Template

RASPBERRYPI_BACKEND = "/usr/lib/sostenuto/raspberrypi-boot"
GRUBENV = "/boot/card/grub/grubenv"

_GRUB = f"bootloader=grub\ngrubenv={GRUBENV}"
_TRYBOOT = "bootloader=custom"
_HANDLER = f"\n[handlers]\nbootloader-custom-backend={RASPBERRYPI_BACKEND}"

MASKED = ("rauc-mark-good.service",)
"""Debian's RAUC finds every start good; here a start has to prove it."""


def shipped(name: str) -> str:
    """The text of a file that lies beside this module."""
    return (Path(__file__).parent / name).read_text(encoding="utf-8")


def system_conf(compatible: str, disk: str) -> str:
    """``/etc/rauc/system.conf`` for a card whose disk signature is ``disk``, eight hex digits."""
    raspberrypi = compatible.startswith("sostenuto-raspberrypi-")
    return Template(shipped("system.conf.in")).substitute(
        compatible=compatible,
        disk=disk,
        boot=_TRYBOOT if raspberrypi else _GRUB,
        handlers=_HANDLER if raspberrypi else "",
    )


def grub_cfg(disk: str, arguments: str) -> str:
    """``grub/grub.cfg`` of the card; ``arguments`` are the kernel's, besides root and slot."""
    return Template(shipped("grub.cfg.in")).substitute(disk=disk, arguments=arguments)


def grubenv(**variables: str) -> bytes:
    """GRUB's environment block, 1024 bytes: at first ``ORDER='A B'``, A good and settled."""
    said = {"ORDER": "A B", "A_OK": "1", "A_TRY": "0", "B_OK": "0", "B_TRY": "0", "SETTLED": "A"}
    lines = "".join(f"{name}={value}\n" for name, value in (said | variables).items())
    return f"# GRUB Environment Block\n{lines}".encode().ljust(1024, b"#")


def autoboot_txt() -> bytes:
    """``autoboot.txt`` of a new card: slot A is good and starts."""
    from device.update.raspberrypi_boot import Boot

    return Boot("A", "A", frozenset("A")).to_bytes()
