"""`sostenuto listen`: the live loop with a source, a broker and a way to be ended."""

from __future__ import annotations

import platform
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from edge.audio.block import Block, MidiBlock
from edge.audio.file import FileSource
from edge.audio.source import Source, SourceEvent
from edge.board import board_name, system_name
from edge.calibration import (
    UNCALIBRATED,
    Calibration,
    LoudestMinute,
    calibrate,
    default_calibration_file,
    in_words,
    read_calibration,
)
from edge.cli import console
from edge.cli.calibrate import keep
from edge.cli.common import open_catalogue
from edge.cli.dashboard import dashboard_at
from edge.cli.household import a_household
from edge.cli.identify import is_midi
from edge.display import key_name, named, place
from edge.ear import ModelEar
from edge.errors import RESTART_EXIT, DeviceError, InputError, UsageError
from edge.listen import LIVE_KINDS, MIDI_KINDS, Listener, ListenReport
from edge.matching import Catalogue
from edge.messages import (
    CatalogueInfo,
    Envelope,
    EventMessage,
    Info,
    ModelInfo,
    Notes,
    Piece,
    PieceState,
    Position,
    Session,
)
from edge.midi import MidiFileSource, MidiPortSource
from edge.midi_out import MidiOut
from edge.note import NoteState
from edge.publish import notices
from edge.publish.address import BrokerAddress, default_device_name
from edge.publish.disk_outbox import MEBIBYTE, Bounds, DiskOutbox
from edge.publish.metrics import MetricsServer
from edge.publish.publisher import Publisher
from edge.publish.store import state_folder
from edge.recogniser import Recogniser, load_recogniser
from edge.settings import Settings, broker_address, read_settings
from edge.watchdog import Supervisor

DEFAULT_BROKER = "mqtt://localhost"

CONNECT_S = 8.0
"""A broker that gives no sign in so long is not there, at the start of an interactive run."""


SWITCHED_OFF = (
    "switched off by a command, and stays so: the command listen, or --switch-on, switches it on"
)


@dataclass(frozen=True, slots=True)
class ListenOptions:
    """The command line of `listen`, as given."""

    mic: str | None = None
    file: Path | None = None
    midi_in: str | None = None
    midi_out: str | None = None
    midi_out_provisional: bool = False
    broker: str | None = None
    embedded_broker: bool = False
    no_mqtt: bool = False
    model: str | None = None
    catalog: Path | None = None
    piece: str | None = None
    settings: Path | None = None
    device: str | None = None
    wait_for_broker: bool = False
    wait_for_source: bool = False
    outbox: Path | None = None
    home_assistant: bool | None = None
    metrics: int | None = None
    dashboard: int | None = None
    switch_on: bool = False
    calibration: Path | None = None
    no_calibration: bool = False
    calibrate: bool = False
    fast: bool = False
    json: bool = False


LOCK_S = 0.001
"""So long a thread may keep Python's lock from another: a sound card's callback waits for it, and
what the card keeps meanwhile is some milliseconds (`edge.audio.devices.make_room`)."""


def run(options: ListenOptions, software: str) -> int:
    """Listen until the source ends or the user does; returns the exit code."""
    check(options)
    settings = settings_of(options)
    device = options.device or settings.device or default_device_name()
    catalogue = open_catalogue(_catalog_dir(options, settings))
    source = make_source(options, settings)
    calibration = known_calibration(options, settings, source.kind)
    recogniser = load_recogniser(
        options.model or settings.model,
        catalogue,
        provisional=settings.provisional,
        calibration=calibration,
        piece_id=options.piece,
        needs_ear=source.kind not in MIDI_KINDS,
    )
    midi_out = make_midi_out(options, settings)
    overheard = LoudestMinute() if options.calibrate else None
    if overheard is not None:
        source = Overheard(source, overheard)
    open_source(source, patient=options.wait_for_source or settings.wait_for_source)
    try:
        if midi_out is not None:
            midi_out.open()
        outbox_folder = kept_in(options, settings, source.kind)
        live = source.kind in LIVE_KINDS
        if live:
            sys.setswitchinterval(LOCK_S)
        with (
            a_broker(options, settings) as broker,
            a_household(
                settings,
                device,
                software,
                broker,
                state=(outbox_folder or state_folder()) if live else None,
                record=outbox_folder,
                switch_on=options.switch_on,
            ) as household,
            metrics_at(settings.metrics_port) as metrics,
            dashboard_at(settings.dashboard_port, settings, options.settings, device, broker),
        ):
            outbox = None if outbox_folder is None else make_outbox(outbox_folder, settings)
            publisher = Publisher(broker, device, outbox=outbox, guests=household.guests)
            patient = options.wait_for_broker or settings.wait_for_broker
            publisher.start(None if patient else CONNECT_S)
            listener = Listener(
                source,
                recogniser,
                publisher,
                describe(software, recogniser, catalogue),
                on_message=_tell_json if options.json else Teller(),
                midi_out=midi_out,
                commander=household.commander,
                listening=household.listening,
                on_vitals=None if metrics is None else metrics.show,
                supervisor=Supervisor(),
                notices=partial(notices.take, state_folder()) if live else None,
                health_every_s=settings.health_every_s,
            )
            console.err(_greeting(source, broker, device))
            if not household.listening:
                console.err(SWITCHED_OFF)
            if midi_out is not None:
                console.err(f"playing on MIDI output {midi_out.name}")
            if calibration is not UNCALIBRATED:
                console.err(f"calibrated: {in_words(calibration)[0]}")
            with ended_by_signals(listener.stop):
                report = listener.run()
    finally:
        if midi_out is not None:
            midi_out.close()
        source.close()
    _sum_up(report, as_json=options.json)
    if overheard is not None:
        calibrate_by(overheard, calibration, calibration_file(options, settings))
    damage = getattr(source, "damage", None)
    if damage is not None:
        raise damage
    return RESTART_EXIT if report.restart else 0


def settings_of(options: ListenOptions) -> Settings:
    """The settings' file with what the command line says of the household."""
    settings = read_settings(options.settings) if options.settings else Settings()
    if options.home_assistant is not None:
        settings = replace(settings, home_assistant=options.home_assistant)
    if options.metrics is not None:
        settings = replace(settings, metrics_port=options.metrics)
    if options.dashboard is not None:
        settings = replace(settings, dashboard_port=options.dashboard)
    return settings


@contextmanager
def metrics_at(port: int | None) -> Iterator[MetricsServer | None]:
    """A server for Prometheus while it listens; None for none."""
    if port is None:
        yield None
        return
    with MetricsServer(port) as server:
        yield server


def check(options: ListenOptions) -> None:
    """Refuse options that do not fit together."""
    sources = {"--mic": options.mic, "--file": options.file, "--midi-in": options.midi_in}
    given = [name for name, value in sources.items() if value is not None]
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)} given; one source is allowed: choose one")
    ways = {
        "--broker": options.broker is not None,
        "--embedded-broker": options.embedded_broker,
        "--no-mqtt": options.no_mqtt,
    }
    chosen = [name for name, value in ways.items() if value]
    if len(chosen) > 1:
        raise UsageError(f"{' and '.join(chosen)} given; one of them is allowed: choose one")
    if options.no_calibration and options.calibration is not None:
        raise UsageError("--calibration and --no-calibration given; choose one")
    if options.midi_in is not None and (options.calibration is not None or options.calibrate):
        raise UsageError("--midi-in needs no ear to calibrate; leave out the one or the other")
    if options.fast and options.file is None:
        raise UsageError("--fast given without --file; a microphone keeps its own pace")
    if options.fast and options.midi_out is not None:
        raise UsageError("--midi-out plays at the pace of real time; leave out --fast")


def make_source(options: ListenOptions, settings: Settings) -> Source:
    """The source that the command line names, or else the settings, or else the system's input."""
    if options.file is not None:
        if is_midi(options.file):
            return MidiFileSource(options.file, paced=not options.fast)
        return FileSource(options.file, paced=not options.fast)
    midi_in = options.midi_in or (settings.midi_in if options.mic is None else None)
    if midi_in is not None:
        return MidiPortSource(midi_in)
    from edge.audio.microphone import MicrophoneSource

    return MicrophoneSource(options.mic or settings.mic)


def open_source(source: Source, *, patient: bool) -> None:
    """Open it; one that is not there ends the command, or is looked for by the live loop.

    Raises
    ------
    DeviceError
        It is not there, and nobody is patient.
    """
    try:
        source.open()
    except DeviceError as error:
        if not patient:
            raise
        console.err(f"{error}; waiting for it")


def make_midi_out(options: ListenOptions, settings: Settings) -> MidiOut | None:
    """The port that plays what is heard, if the command line or the settings name one.

    Raises
    ------
    UsageError
        Provisional notes are to be sent, and there is no port, or there are no such notes.
    """
    wanted = None if options.fast else options.midi_out or settings.midi_out
    provisional = options.midi_out_provisional or settings.midi_out_provisional
    if provisional and wanted is None and not options.fast:
        raise UsageError("provisional notes need a port to go to: give --midi-out PORT")
    if provisional and not settings.provisional:
        raise UsageError("provisional notes are off: the settings say provisional = false")
    return None if wanted is None else MidiOut(wanted, provisional=provisional)


def calibration_file(options: ListenOptions, settings: Settings) -> Path:
    """The calibration that the command line names, or else the settings, or else the default."""
    if options.calibration is not None:
        return options.calibration
    return Path(settings.calibration) if settings.calibration else default_calibration_file()


def known_calibration(options: ListenOptions, settings: Settings, kind: str) -> Calibration:
    """What is known of the piano that is heard.

    The default file is that of the piano beside this microphone, so a recording is heard with a
    calibration only where one is named.
    """
    named = options.calibration is not None or settings.calibration is not None
    path = calibration_file(options, settings)
    may_be_missing = options.calibrate or not named
    if options.no_calibration or not (named or kind == "microphone"):
        return UNCALIBRATED
    if may_be_missing and not path.exists():
        return UNCALIBRATED
    return read_calibration(path)


class Overheard:
    """A source, and what is kept of its sound as it passes."""

    def __init__(self, source: Source, kept: LoudestMinute) -> None:
        self._source = source
        self._kept = kept
        self.open, self.stop, self.close = source.open, source.stop, source.close

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)

    def items(self) -> Iterator[Block | MidiBlock | SourceEvent]:
        """All that the source gives."""
        for item in self._source.items():
            if isinstance(item, Block):
                self._kept.push(item.samples)
            yield item


def calibrate_by(heard: LoudestMinute, before: Calibration, path: Path) -> None:
    """Write down how the piano stood that was heard; where that cannot be told, say why."""
    try:
        found = calibrate(heard.samples, before.offset_cents)
    except InputError as error:
        console.err(f"sostenuto: not calibrated: {error}")
        return
    keep(found, path)
    console.err(f"calibrated: {in_words(found)[0]}; from the next start on, by {path}")


def kept_in(options: ListenOptions, settings: Settings, kind: str) -> Path | None:
    """Folder where messages wait, and what was played is recorded: on disk, for a piano.

    A recording that is listened to leaves nothing behind, unless a place is named for it.
    """
    named = options.outbox or (Path(settings.outbox) if settings.outbox else None)
    if named is None and kind not in LIVE_KINDS:
        return None
    return named or state_folder()


def make_outbox(folder: Path, settings: Settings) -> DiskOutbox:
    """The outbox in ``folder``, within the bounds of the settings."""
    bounds = Bounds(
        max_bytes=settings.outbox_mb * MEBIBYTE,
        max_age_days=settings.outbox_days,
        record_bytes=settings.history_mb * MEBIBYTE,
        record_days=settings.history_days,
    )
    return DiskOutbox(folder, bounds)


@contextmanager
def a_broker(options: ListenOptions, settings: Settings) -> Iterator[BrokerAddress | None]:
    """The broker to publish to, brought along if so wished; None for none."""
    if options.no_mqtt:
        yield None
    elif options.embedded_broker:
        from edge.publish.embedded import EmbeddedBroker

        with EmbeddedBroker() as embedded:
            yield embedded.address
    else:
        yield broker_address(options.broker or settings.broker or DEFAULT_BROKER, settings)


@contextmanager
def ended_by_signals(stop: Callable[[], None]) -> Iterator[None]:
    """SIGINT and SIGTERM call ``stop``; the second of them ends the program as usual."""

    def end(number: int, _frame: object) -> None:
        signal.signal(number, before[signal.Signals(number)])
        stop()

    wanted = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in wanted}
    for number in wanted:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in wanted:
            signal.signal(number, before[number])


def describe(software: str, recogniser: Recogniser, catalogue: Catalogue) -> Info:
    """What runs here, for the `info` topic."""
    models: tuple[ModelInfo, ...] = ()
    runtime = None
    if isinstance(recogniser.ear, ModelEar):
        manifest = recogniser.ear.manifest
        models = (ModelInfo(name=manifest.name, sha256=manifest.sha256),)
        runtime = _runtime()
    return Info(
        software=software,
        models=models,
        catalogue=CatalogueInfo(
            version=catalogue.version, sha256=catalogue.sha256, pieces=len(catalogue)
        ),
        board=board_name(),
        system=f"{system_name()}, Python {platform.python_version()}",
        runtime=runtime,
    )


def _runtime() -> str | None:
    for package in ("ai-edge-litert", "tflite-runtime"):
        try:
            return f"{package} {version(package)}"
        except PackageNotFoundError:
            continue
    return None


def _catalog_dir(options: ListenOptions, settings: Settings) -> Path | None:
    if options.catalog is not None:
        return options.catalog
    return Path(settings.catalog) if settings.catalog else None


def _greeting(source: Source, broker: BrokerAddress | None, device: str) -> str:
    where = "publishing nowhere"
    if broker is not None:
        where = f"publishing to {broker} as sostenuto/v1/{device}"
    return f"listening to {source.name}, {where}; Ctrl-C ends it"


def _tell_json(topic: str, message: Envelope) -> None:
    document: dict[str, Any] = {"topic": topic, **msgspec.to_builtins(message)}
    console.out_json(document)


class Teller:
    """Prints what is published, for a person: of the place, only when another bar begins."""

    def __init__(self) -> None:
        self._bar: tuple[str, int, bool] | None = None

    def __call__(self, _topic: str, message: Envelope) -> None:
        if isinstance(message, Position):
            bar = (message.piece_id, message.bar, message.lost)
            if bar == self._bar:
                return
            self._bar = bar
        for line in lines_of(message):
            console.out(line)


def lines_of(message: Envelope) -> Iterator[str]:
    """A message as lines for a person; most messages have none."""
    if isinstance(message, Notes):
        for note in message.notes:
            if note.state is NoteState.CONFIRMED:
                name = key_name(note.pitch_midi)
                yield f"{note.onset_s:9.2f} s  {name:<4} velocity {note.velocity}"
    elif isinstance(message, Piece) and message.state is PieceState.MATCHED:
        piece = named(message.title, message.composer)
        yield f"this is {piece}, {message.confidence:.0%} sure"
    elif isinstance(message, Piece) and message.state is PieceState.LOST:
        yield f"no longer {message.title}"
    elif isinstance(message, Position):
        when = f"{message.t_s:9.2f} s  " if message.t_s is not None else ""
        yield f"{when}{place(message)}"
    elif isinstance(message, EventMessage):
        yield f"{message.kind}: {message.text}"
    elif isinstance(message, Session) and message.state == "end":
        yield f"session over: {message.notes} notes in {message.minutes:.1f} min"


def summary(report: ListenReport) -> dict[str, object]:
    """The last line of ``--json``."""
    return {
        "boot": report.published.boot,
        "last_seq": report.published.last_seq,
        "dropped": report.published.dropped,
        "undelivered": report.published.undelivered,
        "kept": report.published.kept,
        "notes": report.notes,
        "dropped_blocks": report.dropped_blocks,
        "dropped_samples": report.dropped_samples,
        "faults": report.faults,
    }


def _sum_up(report: ListenReport, *, as_json: bool) -> None:
    if as_json:
        console.out_json(summary(report))
        return
    kept = report.published.kept
    if kept:
        console.out(f"{kept} messages are kept for the broker until the next start")
    faults = ", ".join(f"{count} {kind}" for kind, count in report.faults.items()) or "no faults"
    console.out(
        f"{report.notes} notes; {report.published.dropped} messages and "
        f"{report.dropped_blocks} blocks of sound dropped; {faults}"
    )
