"""`sostenuto-device selftest`: which checks are run, in which order, and how they are told."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import msgspec

from device.selftest import by_ear, machine, sound
from device.selftest.broker import check_broker, tell
from device.selftest.by_ear import AtMicrophone, AtService
from device.selftest.hashes import check_catalogue, check_models, manifests_in
from device.selftest.known_answer import check_known_answer
from device.selftest.own_pieces import check_own_pieces
from device.selftest.verdict import failed, not_tried, passed, summed_up, verdict_of
from device.service.install import SERVICE, STATE
from edge.audio.microphone import MicrophoneSource
from edge.calibration import UNCALIBRATED, default_calibration_file, read_calibration
from edge.cli import console
from edge.cli.listen import DEFAULT_BROKER
from edge.client import Dashboard
from edge.ear import DEFAULT_MODEL
from edge.errors import BrokerError, CatalogueError, ModelError, UsageError
from edge.matching import Catalogue, default_catalogue_dir
from edge.messages import Check, SelfTest, Verdict
from edge.publish.address import BrokerAddress, default_device_name
from edge.publish.store import state_folder
from edge.recogniser import load_recogniser
from edge.resources import models_dir
from edge.settings import Settings, broker_address, read_settings

FAILED_EXIT = 1

SETTINGS_FILE = Path(STATE) / "settings.toml"
"""What the service on this machine reads."""

CALIBRATION = Path(STATE) / ".config" / "sostenuto" / "calibration.json"
"""Where `sostenuto calibrate` lays what it found when it is run as the service's user."""

Told = Callable[[str, float], None]
"""Is told what is being looked at, and which share of it is done."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line says; None: what the settings say, or what is installed."""

    settings: Path | None = None
    mic: str | None = None
    broker: str | None = None
    models: Path | None = None
    catalogue: Path | None = None
    mqtt: bool = True


@dataclass(frozen=True, slots=True)
class Subject:
    """The piano's ear that is tested.

    Attributes
    ----------
    settings : Settings
    models, catalogue : Path
        Folders of the note models and of the catalogue's packs.
    device : str
        Its name in topics.
    broker : BrokerAddress or None
        None: MQTT is left out.
    mic : str or None
        The microphone by name; None for the system's input.
    """

    settings: Settings
    models: Path
    catalogue: Path
    device: str
    broker: BrokerAddress | None
    mic: str | None

    @property
    def model(self) -> Path | str:
        """The model in use: its manifest in the folder, or what the settings call it."""
        name = self.settings.model or DEFAULT_MODEL
        manifest = self.models / f"{name}.json"
        return manifest if manifest.exists() else name

    @property
    def state(self) -> Path:
        """The folder that keeps what is played."""
        if self.settings.outbox is not None:
            return Path(self.settings.outbox)
        return Path(STATE) if Path(STATE).is_dir() else state_folder()

    @property
    def calibration(self) -> Path:
        """What is known of this piano's tuning: by the settings, the service's, or this user's."""
        if self.settings.calibration is not None:
            return Path(self.settings.calibration)
        return CALIBRATION if CALIBRATION.exists() else default_calibration_file()


def subject_of(asked: Asked, settings: Settings) -> Subject:
    """What is tested; the command line wins over the settings.

    Raises
    ------
    UsageError
        No broker, or a file of its settings that cannot be used.
    ModelError
        The installation has no models.
    """
    catalogue = asked.catalogue or (Path(settings.catalog) if settings.catalog else None)
    broker = None
    if asked.mqtt:
        broker = broker_address(asked.broker or settings.broker or DEFAULT_BROKER, settings)
    return Subject(
        settings,
        asked.models or models_dir(),
        catalogue or default_catalogue_dir(),
        settings.device or default_device_name(),
        broker,
        asked.mic or settings.mic,
    )


def settings_asked(asked: Asked) -> tuple[Settings, Check]:
    """The settings that are tested with, and whether they could be read.

    Raises
    ------
    UsageError
        A file that was named cannot be used, or this user may not look into the service's folder.
    """
    if asked.settings is None and Path(STATE).is_dir() and not os.access(STATE, os.X_OK):
        raise UsageError(
            f"the settings of this piano, in {STATE}, belong to its service: run it as root "
            "(sudo sostenuto-device selftest), or give others with --settings FILE"
        )
    if asked.settings is not None:
        return read_settings(asked.settings), passed("settings", str(asked.settings))
    if os.access(SETTINGS_FILE, os.R_OK):
        try:
            return read_settings(SETTINGS_FILE), passed("settings", str(SETTINGS_FILE))
        except UsageError as error:
            return Settings(), failed("settings", str(error), "mend that line; docs/settings.md")
    return Settings(), not_tried(
        "settings",
        f"no {SETTINGS_FILE} that this user may read: tested with the defaults",
        "give them with --settings FILE, or run it as root",
    )


def known_answer_checks(models: Path, catalogue: Path, told: Told) -> Iterator[Check]:
    """The hashes, and the known recording heard with every model of the folder."""
    yield check_models(models)
    yield check_catalogue(catalogue)
    opened = _catalogue(catalogue)
    if opened is not None:
        yield check_own_pieces(opened)
    try:
        manifests = manifests_in(models)
    except ModelError:
        return
    for manifest in manifests:
        yield from check_known_answer(manifest, opened, partial(told, _hearing(manifest)))


def full_checks(asked: Asked, told: Told) -> Iterator[Check]:
    """Everything: the ear, the machine under it, the broker, and last the microphone."""
    settings, read = settings_asked(asked)
    subject = subject_of(asked, settings)
    yield read
    yield check_models(subject.models)
    yield check_catalogue(subject.catalogue)
    catalogue, model = _catalogue(subject.catalogue), subject.model
    if catalogue is not None:
        yield check_own_pieces(catalogue)
    yield from check_known_answer(model, catalogue, partial(told, _hearing(model)), speed=True)
    service = machine.read_service(machine.ask_systemd(SERVICE))
    yield machine.judge_service(service)
    yield machine.judge_watchdog(machine.read_watchdog())
    yield machine.judge_clock(machine.read_clock())
    yield machine.judge_disk(machine.read_disk(subject.state))
    yield machine.judge_power(machine.read_power())
    told("broker", 0.0)
    broker = _broker(subject)
    yield broker
    reachable = subject.broker if verdict_of(broker) is Verdict.PASSED else None
    runs = service is not None and service.state == "active"
    yield _microphone(subject, reachable, partial(told, "microphone"), service_runs=runs)


def _broker(subject: Subject) -> Check:
    if subject.broker is None:
        return not_tried("broker", "left out by --no-mqtt")
    return check_broker(subject.broker, subject.device)


def _microphone(
    subject: Subject,
    broker: BrokerAddress | None,
    told: Callable[[float], None],
    *,
    service_runs: bool,
) -> Check:
    if subject.settings.midi_in is not None:
        return not_tried("microphone", f"this piano is heard by MIDI: {subject.settings.midi_in}")
    with _service_of(replace(subject, broker=broker)) as service:
        if service is not None:
            try:
                return sound.ask(service, subject.device, sound.LISTENED_S, told)
            except BrokerError as error:
                return failed("microphone", str(error), "journalctl -u sostenuto says more")
    if service_runs:
        return not_tried(
            "microphone",
            "the service holds it, and does not answer over MQTT",
            "mend what `broker` says; or systemctl stop sostenuto, and try again",
        )
    return sound.check_microphone(subject.mic, sound.LISTENED_S, told)


def run(asked: Asked, *, known_answer: bool, json: bool) -> int:
    """Run the checks and tell of them; returns the exit code."""
    console.mute_libraries()
    with progress() as told:
        if known_answer:
            models, catalogue = asked.models or models_dir(), asked.catalogue
            checks = known_answer_checks(models, catalogue or default_catalogue_dir(), told)
        else:
            checks = full_checks(asked, told)
        found = summed_up(checks)
    if json:
        console.out(msgspec.json.encode(found).decode())
    else:
        show(found)
    if not known_answer:
        publish(found, asked)
    return 0 if found.passed else FAILED_EXIT


def run_by_ear(asked: Asked, patience_s: float, *, json: bool) -> int:
    """The test by ear, in sentences; returns the exit code."""
    console.mute_libraries()
    say = console.err if json else console.out
    subject = subject_of(asked, settings_asked(asked)[0])
    with _service_of(subject) as service:
        ear: AtMicrophone | AtService
        if service is not None:
            ear = AtService(service, subject.device)
        else:
            say("One moment: I am getting ready.")
            missing = sound.check_there(subject.mic)
            if missing is not None:
                say(f"The trouble is the microphone: {missing.text}.")
                say(f"What to do: {missing.remedy}.")
                return _told(summed_up([missing]), json=json)
            known = subject.calibration.exists()
            calibration = read_calibration(subject.calibration) if known else UNCALIBRATED
            recogniser = load_recogniser(subject.model, calibration=calibration)
            ear = AtMicrophone(MicrophoneSource(subject.mic), recogniser)
        return _told(summed_up(by_ear.run(ear, say, patience_s)), json=json)


def _told(found: SelfTest, *, json: bool) -> int:
    if json:
        console.out(msgspec.json.encode(found).decode())
    return 0 if found.passed else FAILED_EXIT


@contextmanager
def _service_of(subject: Subject) -> Iterator[Dashboard | None]:
    """The service that holds the microphone, where it and its broker answer."""
    if subject.broker is None:
        yield None
        return
    with sound.the_service(subject.broker, subject.device) as service:
        yield service


def publish(found: SelfTest, asked: Asked) -> None:
    """Tell the house too, where its broker was found to take messages."""
    if not any(c.name == "broker" and verdict_of(c) is Verdict.PASSED for c in found.checks):
        return
    subject = subject_of(asked, settings_asked(asked)[0])
    if subject.broker is not None:
        try:
            tell(subject.broker, subject.device, found)
        except BrokerError as error:
            console.err(f"not told over MQTT: {error}")


def show(found: SelfTest) -> None:
    """The checks as a table, and one line that sums them up."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    colours = {Verdict.PASSED: "green", Verdict.FAILED: "red", Verdict.NOT_TRIED: "yellow"}
    table = Table(box=None, pad_edge=False)
    for heading in ("verdict", "check", "found"):
        table.add_column(heading, no_wrap=heading != "found")
    for check in found.checks:
        verdict = verdict_of(check)
        text = check.text if check.remedy is None else f"{check.text}\n→ {check.remedy}"
        word = verdict.value.replace("_", " ")
        table.add_row(Text(word, style=colours[verdict]), check.name, Text(text))
    screen = Console()
    screen.print(table)
    screen.print(Text(summary(found)))


def summary(found: SelfTest) -> str:
    """One line for people."""
    verdicts = [verdict_of(check) for check in found.checks]
    counted = [
        f"{verdicts.count(verdict)} {verdict.value.replace('_', ' ')}"
        for verdict in Verdict
        if verdict in verdicts
    ]
    word = "self-test passed" if found.passed else "self-test FAILED"
    return f"{word}: {', '.join(counted)}"


def _hearing(model: Path | str) -> str:
    return f"known recording, {Path(model).stem}"


def _catalogue(folder: Path) -> Catalogue | None:
    try:
        return Catalogue.open(folder)
    except CatalogueError:
        return None


@contextmanager
def progress() -> Iterator[Told]:
    """A bar on standard error, where that is a screen; gone when all is done."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:.0f} %"))
    screen = Console(stderr=True)
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as bar:
        task = bar.add_task("", total=1.0)
        yield lambda what, share: bar.update(task, description=what, completed=share)
