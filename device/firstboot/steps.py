"""What a card needs beside `device.service.install.system_steps` to find itself at its start."""

from __future__ import annotations

from importlib.resources import files

from device.service.install import UNITS
from device.service.place import File, Folder, Link, Step

UNIT = "sostenuto-firstboot.service"
REPORT = "sostenuto-report.service"
TIMER = "sostenuto-report.timer"


def firstboot_steps() -> tuple[Step, ...]:
    """Units that run at start and every two minutes, and NetworkManager's manners."""
    return (
        *(File(f"{UNITS}/{name}", shipped(name)) for name in (UNIT, REPORT, TIMER)),
        Folder(f"{UNITS}/multi-user.target.wants", shared=True),
        Link(f"{UNITS}/multi-user.target.wants/{UNIT}", f"{UNITS}/{UNIT}"),
        Folder(f"{UNITS}/timers.target.wants", shared=True),
        Link(f"{UNITS}/timers.target.wants/{TIMER}", f"{UNITS}/{TIMER}"),
        Folder("/etc/NetworkManager/conf.d", shared=True),
        File("/etc/NetworkManager/conf.d/sostenuto.conf", shipped("NetworkManager.conf")),
    )


def shipped(name: str) -> str:
    """A file that lies beside this module."""
    return (files("device.firstboot") / name).read_text(encoding="utf-8")
