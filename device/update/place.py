"""This device, as an update sees it: where things lie, what is in force, what it may ask for.

Everything that an update does goes through these few values, so that a test gives it another
folder, another service and another self-test, and all the rest is the real thing.
"""

from __future__ import annotations

import configparser
import fcntl
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from device.update.bundle import ANY_BOARD, PARCELS, Bundle, Kind, last_words, run_program
from device.update.durable import FULL, disk_says, pointed_at
from edge.errors import DeviceError, InputError
from edge.resources import parcels_dir, software_version, version_numbers

SERVICE = "sostenuto.service"

READY_S = 180.0
"""A service that is not ready in so long will not be: LiteRT on the smallest board takes 20 s."""

MOST_RESTARTS = 5
"""A service that ended so often before it was ready is waited for no longer."""

SELF_TEST_S = 900.0
"""The known recording with two models on the smallest board takes two minutes; see `bench`."""

SPARE_BYTES = 32 << 20
"""So much stays free on the card, whatever is applied."""

ARCHITECTURES = {"aarch64": "arm64", "x86_64": "amd64"}


class Service(Protocol):
    """The part of the service manager that an update needs."""

    def restart(self) -> bool:
        """Start the ear again; whether it says that it is ready."""

    def ready(self) -> bool:
        """Whether it says so already, or does within `READY_S`."""

    def reboot(self, *, tryboot: bool) -> None:
        """Start the device again; a Raspberry Pi's other slot is asked for by ``tryboot``."""


class SystemdService:
    """systemd's `sostenuto.service`, which is of ``Type=notify``: active means ready."""

    def restart(self) -> bool:
        """Where no systemd runs there is nothing to start again."""
        if not Path("/run/systemd/system").is_dir():
            return True
        run_program(("systemctl", "reset-failed", SERVICE))
        run_program(("systemctl", "restart", "--no-block", SERVICE))
        time.sleep(1.0)  # until then the old one may still count as active
        return self.ready()

    def ready(self) -> bool:
        if not Path("/run/systemd/system").is_dir():
            return True
        until_s = time.monotonic() + READY_S
        while time.monotonic() < until_s:
            if run_program(("systemctl", "is-active", "--quiet", SERVICE)).returncode == 0:
                return True
            restarts = run_program(("systemctl", "show", "--value", "-p", "NRestarts", SERVICE))
            if int(restarts.stdout.strip() or 0) >= MOST_RESTARTS:
                return False
            time.sleep(0.5)
        return False

    def reboot(self, *, tryboot: bool) -> None:
        argument = ("--reboot-argument=0 tryboot",) if tryboot else ()
        run_program(("systemctl", "reboot", *argument))


def default_board(system_conf: Path) -> str:
    """What RAUC calls this device; without slots, Debian on this processor."""
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        parser.read_string(system_conf.read_text(encoding="utf-8"))
        return parser["system"]["compatible"]
    except (OSError, KeyError, configparser.Error):
        machine = platform.machine()
        return f"sostenuto-debian-{ARCHITECTURES.get(machine, machine)}"


@dataclass(frozen=True, slots=True)
class Place:
    """Where things lie on a device, and the programs that are run.

    Attributes
    ----------
    parcels : Path
        Root's own folder: the parcels, the mark of a trial, what the last update came to.
    software : Path
        Virtual environments, ``current`` and ``settled`` (`device.update.software`).
    state : Path
        The service's folder, where it finds what it shall tell.
    keyring, system_conf, slots_status : Path
        Whom the device believes; RAUC's configuration, where there are slots, and what it noted
        down of the bundles that it wrote to them.
    python : str
        Makes virtual environments.
    self_test : tuple of str
        In place of `sostenuto-device selftest`; none: the one of what is tested.
    """

    parcels: Path = field(default_factory=parcels_dir)
    software: Path = Path("/opt/sostenuto/software")
    state: Path = field(default_factory=lambda: parcels_dir().parent)
    keyring: Path = Path("/etc/rauc/keyring.pem")
    system_conf: Path = Path("/etc/rauc/system.conf")
    slots_status: Path = Path("/var/lib/rauc/slots.raucs")
    os_release: Path = Path("/etc/os-release")
    kernel_arguments: Path = Path("/proc/cmdline")
    python: str = "/usr/bin/python3"
    self_test: tuple[str, ...] = ()
    service: Service = field(default_factory=SystemdService)

    @property
    def has_slots(self) -> bool:
        return self.system_conf.is_file()

    @property
    def tries_by_firmware(self) -> bool:
        """A Raspberry Pi: its firmware starts the other slot once when asked to."""
        return default_board(self.system_conf).startswith("sostenuto-raspberrypi-")

    @property
    def booted_slot(self) -> str | None:
        """The slot that runs, as the boot loader said it to the kernel."""
        try:
            words = self.kernel_arguments.read_text(encoding="ascii", errors="replace").split()
        except OSError:
            return None
        said = [word.partition("=")[2] for word in words if word.startswith("rauc.slot=")]
        return said[-1] if said and said[-1] in ("A", "B") else None

    @property
    def boards(self) -> tuple[str, ...]:
        """What a bundle may be made for."""
        return (ANY_BOARD, default_board(self.system_conf))

    @property
    def running_software(self) -> str:
        """The version of the software in use; of a link that was turned, the new one."""
        target = pointed_at(self.software / "current")
        version = None if target is None else target.partition("-")[0]
        return version if version and version_numbers(version) else software_version()

    def version_of(self, kind: Kind) -> str:
        """What is in force: a parcel's version, or that of the software that brought it."""
        if kind is Kind.SYSTEM:
            return self._image_version()
        if kind is Kind.SOFTWARE:
            return self.running_software
        parcel = pointed_at(self.parcels / kind / "current")
        ours = self.running_software
        if parcel and (version_numbers(parcel) or ()) > (version_numbers(ours) or ()):
            return parcel
        return ours

    def _image_version(self) -> str:
        """Of the bundle that the running slot was written from; of a card, what lies on it."""
        written = self._slot_said().get("bundle.version", "")
        if version_numbers(written):
            return written
        try:
            lines = self.os_release.read_text(encoding="utf-8").splitlines()
        except OSError:
            lines = []
        said = dict(line.partition("=")[::2] for line in lines)
        version = said.get("IMAGE_VERSION", "").strip('"')
        return version if version_numbers(version) else software_version()

    def _slot_said(self) -> dict[str, str]:
        """What RAUC noted down of the slot that runs, once it was written to the end."""
        conf, status = (configparser.ConfigParser(interpolation=None, strict=False) for _ in "01")
        conf.read((self.system_conf,), encoding="utf-8")
        status.read((self.slots_status,), encoding="utf-8")
        for section in conf.sections():
            if self.booted_slot and conf[section].get("bootname") == self.booted_slot:
                said = dict(status[section]) if section in status else {}
                return said if said.get("status") == "ok" else {}
        return {}

    def free_bytes(self, kind: Kind) -> int:
        """Room for an update of this kind."""
        folder = self.software if kind is Kind.SOFTWARE else self.parcels
        return shutil.disk_usage(folder).free

    def slot_bytes(self) -> dict[str, int]:
        """The smallest slot of each of RAUC's classes, in bytes."""
        parser = configparser.ConfigParser(interpolation=None, strict=False)
        parser.read_string(self.system_conf.read_text(encoding="utf-8"))
        sizes: dict[str, int] = {}
        for section in parser.sections():
            words = section.split(".")
            if words[0] == "slot" and len(words) == 3:
                with Path(parser[section]["device"]).open("rb") as device:
                    size = device.seek(0, os.SEEK_END)
                sizes[words[1]] = min(size, sizes.get(words[1], size))
        return sizes

    # -- what it may ask for

    def hears(self, program: Path | None = None, **folders: Path) -> str | None:
        """Run the self-test in a process of its own; None, or why it failed.

        Parameters
        ----------
        program : Path, optional
            Another environment's `sostenuto-device`.
        folders : Path
            ``models`` and ``catalog`` to try in place of those in force.
        """
        own = (str(program),) if program else (sys.executable, "-m", "device")
        words = [*(self.self_test or (*own, "selftest", "--known-answer", "--json"))]
        for option, folder in folders.items():
            words += [f"--{option}", str(folder)]
        try:
            ran = run_program(words, SELF_TEST_S)
        except subprocess.TimeoutExpired:
            return f"the self-test did not end within {SELF_TEST_S:.0f} s"
        except OSError as error:
            return f"the self-test cannot be run: {error.strerror}"
        if ran.returncode == 0:
            return None
        return f"the self-test failed: {_what_failed(ran)}"

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Nobody else changes this device meanwhile; its folder is root's own.

        Raises
        ------
        DeviceError
            An update is under way, or the folder is not one that only we write.
        """
        try:
            self.parcels.mkdir(parents=True, exist_ok=True, mode=0o755)
            owner = self.parcels.lstat()
            if self.parcels.is_symlink() or owner.st_uid != os.geteuid():
                raise DeviceError(
                    f"{self.parcels} is a link, or belongs to user {owner.st_uid}; updates need a "
                    "folder of their own: run this as root, or move it away"
                )
            lock = os.open(self.parcels / ".lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            if error.errno in FULL:
                raise DeviceError(disk_says(error, self.parcels.parent)) from None
            raise DeviceError(
                f"{self.parcels}: cannot be written ({error.strerror}); run this as root"
            ) from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise DeviceError("another update is under way; wait until it is done") from None
        mask = os.umask(0o022)  # the service, another user, has to read what is laid out
        try:
            yield
        finally:
            os.umask(mask)
            os.close(lock)


def fits(bundle: Bundle, place: Place, *, allow_downgrade: bool = False) -> None:
    """Refuse a bundle that is not for this device, or not now.

    Raises
    ------
    InputError
        For another board, of a kind that does not exist here, older, for newer software, or
        larger than the slot or the disk.
    """
    name = bundle.path.name
    if bundle.board not in place.boards:
        raise InputError(
            f"{name}: made for {bundle.board}; this device is {place.boards[-1]}: get the one "
            "for it"
        )
    if bundle.kind is Kind.SYSTEM and not place.has_slots:
        raise InputError(
            f"{name}: a whole system, and this device has no slots for one; update the software, "
            "and Debian by apt"
        )
    if bundle.kind is Kind.SOFTWARE and place.has_slots:
        raise InputError(
            f"{name}: software alone, and here it is part of the system; get a system bundle"
        )
    ours = place.version_of(bundle.kind)
    if _older(bundle.version, ours) and not allow_downgrade:
        raise InputError(
            f"{name}: {bundle.kind} {bundle.version}, older than {ours}, which is in force; "
            "--allow-downgrade applies it all the same"
        )
    software = place.running_software
    if _older(software, bundle.label.needs):
        raise InputError(
            f"{name}: needs software {bundle.label.needs} or newer; this device has {software}: "
            "update that first"
        )
    if bundle.kind in PARCELS and not _older(software, bundle.version):
        raise InputError(
            f"{name}: {bundle.kind} {bundle.version} would not be used, since software {software} "
            f"brought its own; pack it as {software}.1 or newer"
        )
    _has_room(bundle, place)


def _has_room(bundle: Bundle, place: Place) -> None:
    name = bundle.path.name
    if bundle.kind is Kind.SYSTEM:
        slots = place.slot_bytes()
        for slot, needed in bundle.label.images.items():
            if needed > slots.get(slot, 0):
                raise InputError(
                    f"{name}: its {slot} has {needed:,} bytes, the slot {slots.get(slot, 0):,}; "
                    "this card was laid out for smaller systems: flash a new one"
                )
        return
    copy = bundle.path.stat().st_size
    needed, free = bundle.label.unpacked_bytes + copy + SPARE_BYTES, place.free_bytes(bundle.kind)
    if needed > free:
        raise InputError(
            f"{name}: needs {needed:,} bytes of room, {SPARE_BYTES:,} to spare included; "
            f"{free:,} are free: make room, or use a larger card"
        )


def _older(version: str, than: str) -> bool:
    return (version_numbers(version) or (0,)) < (version_numbers(than) or (0,))


def _what_failed(ran: subprocess.CompletedProcess[str]) -> str:
    """The checks that a self-test did not pass, from its JSON; else its last words."""
    import msgspec

    from edge.messages import SelfTest

    try:
        found = msgspec.json.decode(ran.stdout, type=SelfTest)
    except msgspec.DecodeError:
        return last_words(ran)
    return "; ".join(f"{c.name}: {c.text}" for c in found.checks if not c.passed) or last_words(ran)
