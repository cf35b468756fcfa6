"""What the boot loader and RAUC are told of a card: for whoever builds the image.

RAUC tells the boot loader by a program of ours: `device.update.grub_boot` on the generic image,
`device.update.raspberrypi_boot` on a Raspberry Pi, installed as `backend` says and executable.
"""

from __future__ import annotations

from pathlib import Path
from string import Template

from device.update import grub_boot

_FOLDER = "/usr/lib/sostenuto"

MASKED = ("rauc-mark-good.service",)
"""Debian's RAUC finds every start good; here a start has to prove it."""


def shipped(name: str) -> str:
    """The text of a file that lies beside this module."""
    return (Path(__file__).parent / name).read_text(encoding="utf-8")


def backend(compatible: str) -> tuple[str, str]:
    """Where RAUC's program for a board's boot loader is installed, and its text."""
    name = "raspberrypi" if compatible.startswith("sostenuto-raspberrypi-") else "grub"
    return f"{_FOLDER}/{name}-boot", shipped(f"{name}_boot.py")


def system_conf(compatible: str, disk: str) -> str:
    """``/etc/rauc/system.conf`` for a card whose disk signature is ``disk``, eight hex digits."""
    return Template(shipped("system.conf.in")).substitute(
        compatible=compatible,
        disk=disk,
        backend=backend(compatible)[0],
    )


def grub_cfg(disk: str, arguments: str) -> str:
    """``grub/grub.cfg`` of the card; ``arguments`` are the kernel's, besides root and slot."""
    return Template(shipped("grub.cfg.in")).substitute(disk=disk, arguments=arguments)


def grubenv(**variables: str) -> bytes:
    """GRUB's environment block, 1024 bytes: at first ``ORDER='A B'``, A good and settled."""
    return grub_boot.to_bytes(grub_boot.NEW | variables)


def autoboot_txt() -> bytes:
    """``autoboot.txt`` of a new card: slot A is good and starts."""
    from device.update.raspberrypi_boot import Boot

    return Boot("A", "A", frozenset("A")).to_bytes()
