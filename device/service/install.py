"""What Sostenuto consists of on a Debian system: software, service, broker, names, limits.

The steps come in three lists, so that the builder of an image uses the same as `install`:

`system_steps`
    user, folders, unit, links, limits: the same on every device, nothing secret.
`software_steps`
    a virtual environment under ``/opt/sostenuto/software/VERSION``, and ``current``.
`piano_steps`
    what belongs to one piano alone: its broker's accounts, its settings. On an image these are
    made at first boot, on the device.

    place = Place(root)
    apply(system_steps(), place)
    apply(software_steps(environment_of(wheel, wheels, place)), place)
"""

from __future__ import annotations

import json
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from device.service.place import (
    Account,
    File,
    Folder,
    Link,
    Place,
    SetupError,
    Step,
    Tell,
    apply,
    take_away,
)
from device.service.software import (
    CURRENT,
    SOFTWARE,
    Environment,
    InUse,
    NothingElse,
    build_wheel,
    check_python,
    clone,
    environment_of,
)
from device.update.units import PACKAGES as UPDATE_PACKAGES
from device.update.units import update_steps
from edge.errors import UsageError
from edge.messages import check_device_name
from edge.publish.address import BrokerAddress, default_device_name

USER = "sostenuto"
SERVICE = "sostenuto.service"
STATE = "/var/lib/sostenuto"
SETTINGS = f"{STATE}/settings.toml"
PASSWORD = f"{STATE}/broker-password"
BROKER = "/etc/mosquitto/sostenuto"
UNITS = "/etc/systemd/system"
PROGRAMS = ("sostenuto", "sostenuto-device")
DASHBOARD_PORT = 8480

PACKAGES = ("python3-pyaudio", "python3-rtmidi", "python3-venv")
"""What comes from Debian: PyAudio and rtmidi have no wheels for every processor and Python."""

BROKER_PACKAGES = ("mosquitto", "openssl")

TRIAL = f"{STATE}/parcels/trial.json"
"""There while an update has still to prove itself (`device.update.outcome`)."""


@dataclass(frozen=True, slots=True)
class Packages:
    """Debian's packages; those that had to be fetched are noted in ``note``."""

    names: tuple[str, ...]
    note: str = "/opt/sostenuto/packages"

    def _missing(self, place: Place) -> tuple[str, ...]:
        try:
            status = place.at("/var/lib/dpkg/status").read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            raise UsageError(f"{place.root}: no Debian, or a system made of it") from error
        installed = {
            paragraph.partition("\n")[0].removeprefix("Package: ")
            for paragraph in status.split("\n\n")
            if "\nStatus: install ok installed\n" in paragraph
        }
        return tuple(name for name in self.names if name not in installed)

    def lacking(self, place: Place) -> str | None:
        """Those that are not installed."""
        missing = " ".join(self._missing(place))
        return f"packages {missing}" if missing else None

    def make(self, place: Place) -> None:
        """By apt-get, with fresh lists only where the old ones do not do."""
        missing = self._missing(place)
        words = ("apt-get", "install", "-y", "-q", "--no-install-recommends", *missing)
        try:
            place.run(*words)
        except SetupError:
            place.run("apt-get", "update", "-q")
            place.run(*words)
        note = place.at(self.note)
        before = note.read_text().split() if note.exists() else []
        note.write_text("\n".join((*before, *missing)) + "\n")

    def remains(self, place: Place) -> str | None:
        """Those that came with us, and are now left to ``apt-get autoremove``."""
        note = place.at(self.note)
        if not note.exists():
            return None
        return f"claim on packages {' '.join(note.read_text().split())} (apt-get autoremove)"

    def remove(self, place: Place) -> None:
        """Others may have come to need them: apt takes away those that nobody does."""
        note = place.at(self.note)
        place.run("apt-mark", "auto", *note.read_text().split())
        note.unlink()


@dataclass(frozen=True, slots=True)
class BrokerAccounts:
    """The accounts of one piano, its page and its dashboards at mosquitto; the broker's keys."""

    device: str

    @property
    def own_settings(self) -> str:
        """What ``sostenuto broker setup`` wrote for the piano itself."""
        return f"{BROKER}/accounts/{self.device}/sostenuto.toml"

    def lacking(self, place: Place) -> str | None:
        """Whether there are any for this piano."""
        there = place.at(self.own_settings).exists()
        return None if there else f"broker's accounts for {self.device} in {BROKER}"

    def make(self, place: Place) -> None:
        """By the software that was just installed."""
        place.run(f"{CURRENT}/bin/sostenuto", "broker", "setup", BROKER, "--device", self.device)

    def remains(self, place: Place) -> str | None:
        """All accounts."""
        return f"broker's accounts in {BROKER}" if place.at(BROKER).is_dir() else None

    def remove(self, place: Place) -> None:
        """With what the broker kept."""
        Folder(BROKER).remove(place)


@dataclass(frozen=True, slots=True)
class PianoSettings:
    """The settings of this piano, written once; then they are the owner's, and the dashboard's.

    Attributes
    ----------
    device : str
    broker : str or None
        Somebody else's broker; None: the one on this machine, by the accounts made for it.
    mic : str or None
    """

    device: str
    broker: str | None = None
    mic: str | None = None

    def lacking(self, place: Place) -> str | None:
        """Whether there are settings, whatever they say."""
        return None if place.at(SETTINGS).exists() else f"settings {SETTINGS}"

    def make(self, place: Place) -> None:
        """The broker's password comes along in a file that the service may read."""
        if self.broker is None:
            own = place.at(BrokerAccounts(self.device).own_settings)
            known = tomllib.loads(own.read_text(encoding="utf-8"))
            password = (own.parent / "password").read_text(encoding="ascii")
            File(PASSWORD, password, USER, 0o600).make(place)
            known["broker_password_file"] = PASSWORD
        else:
            known = {"device": self.device, "broker": self.broker}
        known |= {} if self.mic is None else {"mic": self.mic}
        known["dashboard_port"] = DASHBOARD_PORT
        known.pop("wait_for_broker", None)  # the unit says so
        File(SETTINGS, settings_text(known), USER, 0o600).make(place)

    def remains(self, place: Place) -> str | None:
        """They go with their folder."""

    def remove(self, place: Place) -> None:
        """They go with their folder."""


def settings_text(known: dict[str, object]) -> str:
    """Settings as TOML: strings, numbers and switches look there as they do in JSON."""
    lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in known.items()]
    return "\n".join(("# docs/settings.md says what else there is.", *lines)) + "\n"


def system_steps(*, own_broker: bool = True) -> tuple[Step, ...]:
    """What is the same on every device; with ``own_broker`` mosquitto is one of its programs."""
    broker: tuple[Step, ...] = (
        Folder(f"{UNITS}/mosquitto.service.d", shared=True),
        File(f"{UNITS}/mosquitto.service.d/sostenuto.conf", shipped("mosquitto.conf")),
    )
    return (
        Account(USER, STATE),
        Folder("/opt/sostenuto"),
        Folder(SOFTWARE),
        Folder(STATE, USER, 0o750),
        File(f"{UNITS}/{SERVICE}", shipped("sostenuto.service")),
        Folder(f"{UNITS}/multi-user.target.wants", shared=True),
        Link(f"{UNITS}/multi-user.target.wants/{SERVICE}", f"{UNITS}/{SERVICE}"),
        *(broker if own_broker else ()),
        Folder("/etc/systemd/journald.conf.d", shared=True),
        File("/etc/systemd/journald.conf.d/sostenuto.conf", shipped("journald.conf")),
        File("/etc/udev/rules.d/60-sostenuto-audio.rules", shipped("60-sostenuto-audio.rules")),
        *(Link(f"/usr/local/bin/{name}", f"{CURRENT}/bin/{name}") for name in PROGRAMS),
    )


def package_steps(*, own_broker: bool = True) -> tuple[Packages]:
    """What is Debian's; after `system_steps`, so that mosquitto does not start as it is shipped."""
    broker = BROKER_PACKAGES if own_broker else ()
    return (Packages((*PACKAGES, *UPDATE_PACKAGES, *broker)),)


def software_steps(environment: Environment) -> tuple[Step, ...]:
    """One version of the software, in use."""
    return (environment, InUse(environment.name), NothingElse())


def piano_steps(
    device: str, *, broker: str | None = None, mic: str | None = None
) -> tuple[Step, ...]:
    """What belongs to one piano; ``broker`` None for the broker on this very machine."""
    accounts = (BrokerAccounts(device),) if broker is None else ()
    return (*accounts, PianoSettings(device, broker, mic))


@dataclass(frozen=True, slots=True)
class Wish:
    """What `install` was asked for; None for what it shall find out itself."""

    wheel: Path | None = None
    wheels: Path | None = None
    device: str | None = None
    broker: str | None = None
    mic: str | None = None


def install(wish: Wish, place: Place, *, dry_run: bool = False, tell: Tell) -> list[str]:
    """Make everything so; what was changed, in words, and nothing where all was so already.

    On a root file system in a folder nothing of one piano alone is made, and nothing started.
    """
    if place.at(TRIAL).exists():
        raise UsageError(
            "an update is on trial here: wait until `sostenuto-device update status` "
            "says how it ended"
        )
    check_python(place)
    steps: tuple[Step, ...] = ()
    own_broker = wish.broker is None
    if place.live:
        kept = _kept_settings(wish, place)
        device = check_device_name(str(kept.get("device") or wish.device or default_device_name()))
        own_broker = place.at(BROKER).is_dir() if kept else wish.broker is None
        _check_broker(place, own_broker=own_broker, url=wish.broker)
        broker = None if own_broker else wish.broker or str(kept.get("broker"))
        steps = piano_steps(device, broker=broker, mic=wish.mic)
    system = (
        *system_steps(own_broker=own_broker),
        *update_steps(),
        *package_steps(own_broker=own_broker),
    )
    with _environment(wish, place) as environment:
        software = () if environment is None else software_steps(environment)
        changed = apply((*system, *software, *steps), place, dry_run=dry_run, tell=tell)
    if place.live and _systemd_runs():
        changed += _start(place, own_broker, bool(changed), dry_run=dry_run, tell=tell)
    return changed


def uninstall(
    place: Place, *, keep_data: bool = False, dry_run: bool = False, tell: Tell
) -> list[str]:
    """Take everything away, or all but settings, record, accounts and their user."""
    data: tuple[Step, ...] = (Account(USER, STATE), Folder(STATE, USER, 0o750), Folder(BROKER))
    all_steps = (*system_steps(), *update_steps(), *package_steps())
    rest = tuple(step for step in all_steps if step not in data)
    steps = rest if keep_data else (*data, *rest)
    live = place.live and _systemd_runs() and place.at(f"{UNITS}/{SERVICE}").exists()
    if live and not dry_run:
        place.run("systemctl", "stop", SERVICE)
    gone = take_away(steps, place, dry_run=dry_run, tell=tell)
    if live and not dry_run:
        place.run("systemctl", "daemon-reload")
        place.run("systemctl", "try-restart", "systemd-journald.service")
        if place.at("/usr/sbin/mosquitto").exists():
            place.run("systemctl", "try-restart", "mosquitto.service")
    return gone


def shipped(name: str) -> str:
    """The text of a file that lies beside this module."""
    return (Path(__file__).parent / name).read_text(encoding="utf-8")


def _kept_settings(wish: Wish, place: Place) -> dict[str, object]:
    """The settings of an earlier run; a wish that differs is refused, for they are a person's."""
    try:
        kept = tomllib.loads(place.at(SETTINGS).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{SETTINGS}: no TOML: {error}; mend it, or take it away") from error
    for key in ("device", "broker", "mic"):
        wanted = getattr(wish, key)
        if wanted is not None and wanted != kept.get(key):
            raise UsageError(
                f"--{key} {wanted!r}: {SETTINGS} is there already and says {kept.get(key)!r}; "
                "change it there"
            )
    return kept


def _check_broker(place: Place, *, own_broker: bool, url: str | None) -> None:
    """A broker that somebody has set up here is not taken over."""
    if url is not None:
        BrokerAddress.parse(url)
    if not own_broker or place.at(BROKER).is_dir() or not place.at("/usr/sbin/mosquitto").exists():
        return
    changed = [
        line.split()[-1]
        for line in _said(place, "dpkg", "--verify", "mosquitto").splitlines()
        if "/etc/mosquitto/" in line
    ]
    changed += [
        f"/etc/mosquitto/conf.d/{file.name}"
        for file in place.at("/etc/mosquitto/conf.d").glob("*.conf")
    ]
    if changed:
        raise UsageError(
            f"mosquitto here is set up by somebody already ({', '.join(changed)}) and stays as it "
            "is: name it with --broker mqtt://USER:PASSWORD@localhost"
        )


def _said(place: Place, *command: str) -> str:
    """What a program said that tells a finding by its exit code."""
    try:
        return place.run(*command)
    except SetupError as error:
        return str(error)


@contextmanager
def _environment(wish: Wish, place: Place) -> Iterator[Environment | None]:
    """What the wish, the folder of wheels or the clone gives; None: what is installed stays."""
    own = sorted(wish.wheels.glob("sostenuto-*.whl")) if wish.wheels else []
    source = clone()
    if wish.wheel is not None or own:
        yield environment_of(wish.wheel or own[-1], wish.wheels, place)
    elif source is not None:
        with tempfile.TemporaryDirectory(prefix="sostenuto-") as folder:
            yield environment_of(build_wheel(source, Path(folder)), wish.wheels, place)
    elif place.at(f"{CURRENT}/bin/sostenuto").exists():
        yield None
    else:
        raise UsageError("which software? give a wheel with --wheel, or run this from a clone")


def _systemd_runs() -> bool:
    return Path("/run/systemd/system").is_dir()


def _start(
    place: Place, own_broker: bool, changed: bool, *, dry_run: bool, tell: Tell
) -> list[str]:
    """Start what does not run, and what was changed anew; in words."""
    wanted = ("mosquitto.service", SERVICE) if own_broker else (SERVICE,)
    units = [unit for unit in wanted if changed or not _is_active(place, unit)]
    if changed and not dry_run:
        place.run("systemctl", "daemon-reload")
        place.run("systemctl", "try-restart", "systemd-journald.service")
    for unit in units:
        tell(f"start of {unit}")
        if not dry_run:
            place.run("systemctl", "restart", unit)
    return [f"start of {unit}" for unit in units]


def _is_active(place: Place, unit: str) -> bool:
    try:
        place.run("systemctl", "is-active", unit)
    except SetupError:
        return False
    return True
