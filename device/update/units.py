"""What updates need on a system, as steps of `install`: a folder of root's own, units, a rule."""

from __future__ import annotations

from device.service.place import File, Folder, Link, Step
from device.update.boot_files import shipped

PACKAGES = ("rauc", "squashfs-tools")
"""Debian's: they verify and unpack a bundle."""

UNITS = "/etc/systemd/system"
SETTLE = "sostenuto-settle.service"
STICK = "sostenuto-stick@.service"
RULES = "90-sostenuto-stick.rules"


def update_steps(*, slots: bool = False) -> tuple[Step, ...]:
    """On any system; with ``slots`` those of a card that has two."""
    steps: tuple[Step, ...] = (
        Folder("/var/lib/sostenuto/parcels"),
        Folder("/etc/rauc", shared=True),
        File(f"{UNITS}/{SETTLE}", shipped(SETTLE)),
        Link(f"{UNITS}/multi-user.target.wants/{SETTLE}", f"{UNITS}/{SETTLE}"),
        File(f"{UNITS}/{STICK}", shipped(STICK)),
        File(f"/etc/udev/rules.d/{RULES}", shipped(RULES)),
    )
    if not slots:
        return steps
    folder = f"{UNITS}/{SETTLE}.d"
    return (*steps, Folder(folder), File(f"{folder}/slots.conf", shipped("slots.conf")))
