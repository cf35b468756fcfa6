"""What Sostenuto consists of on a Debian system: software, service, broker, names, limits.

The steps come in three lists, so that the builder of an image uses the same as `install`:

`system_steps`
    user, folders, unit, links, limits: the same on every device, nothing secret.
`software_steps`
    a virtual environment under ``/opt/sostenuto/software/VERSION``, and ``current``.
`device_steps`
    what belongs to one piano alone: its broker's accounts, its settings. On an image these are
    made at first boot, on the device.

    place = Place(root)
    apply(system_steps(), place)
    apply(software_steps(environment_of(wheel, wheels, place)), place)
"""

from __future__ import annotations

from pathlib import Path

from device.service.place import Account, File, Folder, Link, Step
from device.service.software import CURRENT, SOFTWARE, Environment, NothingElse

USER = "sostenuto"
SERVICE = "sostenuto.service"
STATE = "/var/lib/sostenuto"
BROKER = "/etc/mosquitto/sostenuto"
UNITS = "/etc/systemd/system"
PROGRAMS = ("sostenuto", "sostenuto-device")

PACKAGES = ("mosquitto", "openssl", "python3-pyaudio", "python3-rtmidi", "python3-venv")
"""What comes from Debian: PyAudio and rtmidi have no wheels for every processor and Python."""


def system_steps() -> tuple[Step, ...]:
    """What is the same on every device."""
    return (
        Account(USER, STATE),
        Folder("/opt/sostenuto"),
        Folder(SOFTWARE),
        Folder(STATE, USER, 0o750),
        File(f"{UNITS}/{SERVICE}", shipped("sostenuto.service")),
        Folder(f"{UNITS}/multi-user.target.wants", shared=True),
        Link(f"{UNITS}/multi-user.target.wants/{SERVICE}", f"{UNITS}/{SERVICE}"),
        Folder(f"{UNITS}/mosquitto.service.d", shared=True),
        File(f"{UNITS}/mosquitto.service.d/sostenuto.conf", shipped("mosquitto.conf")),
        Folder("/etc/systemd/journald.conf.d", shared=True),
        File("/etc/systemd/journald.conf.d/sostenuto.conf", shipped("journald.conf")),
        File("/etc/udev/rules.d/60-sostenuto-audio.rules", shipped("60-sostenuto-audio.rules")),
        *(Link(f"/usr/local/bin/{name}", f"{CURRENT}/bin/{name}") for name in PROGRAMS),
    )


def software_steps(environment: Environment) -> tuple[Step, ...]:
    """One version of the software, in use."""
    return (environment, Link(CURRENT, environment.name), NothingElse(environment.name))


def shipped(name: str) -> str:
    """The text of a file that lies beside this module."""
    return (Path(__file__).parent / name).read_text(encoding="utf-8")
