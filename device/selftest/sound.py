"""Ten seconds of the microphone: no sound lost, not silent, not clipped.

The microphone is opened as the piano opens it, by PyAudio. While the service holds it, the service
is asked instead, twice, over MQTT: what it counted between is a reading like any other, and nobody
fights for the device.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from device.selftest.verdict import failed, not_tried, passed
from edge.audio.block import STREAM_RATE_HZ, Block
from edge.audio.devices import list_microphones, load_pyaudio
from edge.audio.microphone import MicrophoneSource
from edge.audio.source import SourceEvent, SourceEventKind
from edge.client import Dashboard
from edge.errors import BrokerError, DeviceError, SostenutoError
from edge.messages import AudioState, Check, Diagnostics, Health
from edge.publish.address import BrokerAddress
from edge.vitals import SILENT_PEAK_DBFS, Meter

LISTENED_S = 10.0

SERVICE_ANSWERS_S = 3.0
"""A service that runs answers within a block of sound; so long is waited for a slow network."""

_CARD = re.compile(r"\(hw:\d+,\d+\)$")

NO_MICROPHONE = (
    "plug it in, and see `sostenuto devices`; one that another program holds is free after "
    "`systemctl stop sostenuto`"
)

SETTLES = 'name one in the settings, mic = "NAME", or with --mic NAME (a part of it is enough)'


@dataclass(frozen=True, slots=True)
class SoundReading:
    """What came in.

    Attributes
    ----------
    name : str
        Of the microphone.
    seconds : float
        Of sound.
    losses : int
        Times that sound was lost, and
    lost_s : float
        how much.
    level_dbfs, peak_dbfs : float or None
        RMS of the last second and highest sample; None for nothing but zeros.
    clipping : bool
    asked : bool
        Whether the service was asked, which holds the microphone.
    """

    name: str
    seconds: float
    losses: int
    lost_s: float
    level_dbfs: float | None
    peak_dbfs: float | None
    clipping: bool
    asked: bool = False


def judge_sound(reading: SoundReading) -> Check:
    """Sound came, all of it, and neither too little nor too much."""
    name = f"{reading.name!r}{', asked of the service' if reading.asked else ''}"
    peak = "nothing but zeros" if reading.peak_dbfs is None else f"{reading.peak_dbfs:.0f} dBFS"
    if reading.seconds <= 0:
        return failed(
            "microphone",
            f"{name} is open and gives no sound",
            "pull it out and plug it in again; try another socket",
        )
    if reading.losses:
        return failed(
            "microphone",
            f"{name}: sound was lost {reading.losses} times, {reading.lost_s:.2f} s "
            f"in {reading.seconds:.0f} s",
            "another USB socket, no hub; see `power`; does something else keep the processor busy?",
        )
    if reading.peak_dbfs is None or reading.peak_dbfs < SILENT_PEAK_DBFS:
        return failed(
            "microphone",
            f"{name} is silent: highest sample {peak}, even a quiet room has more than "
            f"{SILENT_PEAK_DBFS:.0f} dBFS",
            "is it muted, by a switch or in alsamixer? is it the right one? the dashboard "
            "tells its level, sostenuto devices --level that of each",
        )
    if reading.clipping:
        return failed(
            "microphone",
            f"{name} clips: highest sample {peak}",
            "move it away from the strings, or turn its gain down: at itself, or alsamixer, F4",
        )
    return passed(
        "microphone", f"{name}: {reading.seconds:.0f} s, none lost, highest sample {peak}"
    )


def check_choice(cards: list[str], wanted: str | None) -> Check | None:
    """Two microphones and nobody who says which of them: a failure that names both; else None.

    ``cards`` are the names of those that are hardware: PortAudio lists each of them under names
    of plugins too.
    """
    like = [name for name in cards if (wanted or "").lower() in name.lower()]
    if wanted in cards or len(like) < 2:
        return None
    which = ", ".join(map(repr, like))
    if wanted is None:
        return failed(
            "microphone", f"there are {len(like)} microphones and none is chosen: {which}", SETTLES
        )
    return failed("microphone", f"{len(like)} are named like {wanted!r}: {which}", SETTLES)


def listen(
    wanted: str | None,
    seconds: float = LISTENED_S,
    told: Callable[[float], None] = lambda _share: None,
    open_audio: Callable[[], Any] | None = None,
) -> SoundReading:
    """Hear ``seconds`` of the microphone.

    Raises
    ------
    DeviceError
        There is none, or it cannot be opened.
    """
    source = MicrophoneSource(wanted, open_audio=open_audio)
    source.open()
    meter = Meter()
    heard, losses, lost = 0, 0, 0
    try:
        for item in source.items():
            if isinstance(item, SourceEvent):
                losses += item.kind is not SourceEventKind.ATTENTION
                lost += item.lost_samples
                if item.kind is SourceEventKind.DEVICE_LOST:
                    break
            elif isinstance(item, Block):
                meter.push(item.samples)
                heard += len(item.samples)
                told(heard / (seconds * STREAM_RATE_HZ))
            if heard >= seconds * STREAM_RATE_HZ:
                break
    finally:
        source.close()
    return SoundReading(
        source.name,
        heard / STREAM_RATE_HZ,
        # PortAudio tells of losses too that were too short for the clock to date.
        max(losses, source.overflows),
        lost / STREAM_RATE_HZ,
        meter.level_dbfs,
        meter.peak_dbfs,
        meter.state is AudioState.CLIPPING,
    )


@contextmanager
def the_service(broker: BrokerAddress, device: str) -> Iterator[Dashboard | None]:
    """A way to ask the service that listens; None where none answers."""
    try:
        with Dashboard(broker, device, topics=("rsp/+", "notes")) as dashboard:
            try:
                dashboard.ask(device, "health", timeout_s=SERVICE_ANSWERS_S)
            except SostenutoError:
                yield None
            else:
                yield dashboard
    except BrokerError:
        yield None


def between(before: Health, after: Health, name: str) -> SoundReading | None:
    """What a service counted between two looks; None where it hears no microphone."""
    if after.audio in (AudioState.OFF, AudioState.MIDI):
        return None
    return SoundReading(
        name,
        after.uptime_s - before.uptime_s,
        after.overruns - before.overruns,
        (after.dropped_samples - before.dropped_samples) / STREAM_RATE_HZ,
        after.level_dbfs,
        after.peak_dbfs,
        after.audio is AudioState.CLIPPING,
        asked=True,
    )


def ask(dashboard: Dashboard, device: str, seconds: float, told: Callable[[float], None]) -> Check:
    """The service's own word on ``seconds`` of sound.

    Raises
    ------
    BrokerError
        It no longer answers.
    """
    before: Health = dashboard.ask(device, "health")
    diagnostics: Diagnostics = dashboard.ask(device, "diagnostics")
    told_device = diagnostics.info.audio_device
    began_s = time.monotonic()
    while (gone_s := time.monotonic() - began_s) < seconds:
        told(gone_s / seconds)
        time.sleep(min(0.5, seconds - gone_s))
    after: Health = dashboard.ask(device, "health")
    name = "microphone" if told_device is None else told_device.name
    if after.audio in (AudioState.LOST, AudioState.RECOVERING):
        return failed(
            "microphone", f"{name!r}: the service has lost it, and looks for it", NO_MICROPHONE
        )
    reading = between(before, after, name)
    if reading is None:
        why = "is switched off" if after.audio is AudioState.OFF else "hears by MIDI"
        return not_tried("microphone", f"the service {why}", "switch listening on, and try again")
    return judge_sound(reading)


def check_microphone(
    wanted: str | None,
    seconds: float = LISTENED_S,
    told: Callable[[float], None] = lambda _share: None,
    open_audio: Callable[[], Any] | None = None,
) -> Check:
    """Open the microphone and judge what comes."""
    try:
        choice = check_choice(_cards(open_audio), wanted)
        if choice is not None:
            return choice
        return judge_sound(listen(wanted, seconds, told, open_audio))
    except DeviceError as error:
        return failed("microphone", str(error), NO_MICROPHONE)


def check_there(wanted: str | None, open_audio: Callable[[], Any] | None = None) -> Check | None:
    """What is wrong before anything is heard: no microphone, two, or one that is taken; or None."""
    try:
        choice = check_choice(_cards(open_audio), wanted)
        if choice is None:
            source = MicrophoneSource(wanted, open_audio=open_audio)
            source.open()
            source.close()
        return choice
    except DeviceError as error:
        return failed("microphone", str(error), NO_MICROPHONE)


def _cards(open_audio: Callable[[], Any] | None) -> list[str]:
    """The inputs that are hardware, by the names they are chosen by."""
    try:
        audio = open_audio() if open_audio is not None else load_pyaudio().PyAudio()
    except OSError as error:
        raise DeviceError(f"no sound system on this machine ({error})") from error
    try:
        return [
            each.name
            for each in list_microphones(audio)
            if _CARD.search(str(audio.get_device_info_by_index(each.index)["name"]))
        ]
    finally:
        audio.terminate()
