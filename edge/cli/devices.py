"""`sostenuto devices`: what can be listened to, and how loud it is."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict

from edge.audio.block import Block
from edge.audio.devices import Microphone, list_microphones, load_pyaudio
from edge.audio.microphone import MicrophoneSource
from edge.audio.source import SourceEvent
from edge.cli import console
from edge.errors import DeviceError, UsageError
from edge.midi import open_rtmidi, stable_port_name
from edge.vitals import Meter

METER_S = 0.1
"""The meter is drawn ten times a second on a terminal, and once a second elsewhere."""

METER_FLOOR_DBFS = -72.0
METER_COLUMNS = 48


def run(*, level: bool, mic: str | None, seconds: float | None, json: bool) -> None:
    """List the inputs, or show how loud one is."""
    if level:
        show_level(mic, seconds, as_json=json)
        return
    if mic is not None or seconds is not None:
        raise UsageError("--mic and --seconds go with --level; add it, or leave them out")
    microphones, no_sound = _microphones()
    ports, no_midi = _midi_ports("MidiIn")
    outputs, _ = _midi_ports("MidiOut")
    missing = [str(error) for error in (no_sound, no_midi) if error is not None]
    if json:
        console.out_json(
            {
                "audio": [asdict(m) for m in microphones],
                "midi": ports,
                "midi_out": outputs,
                "missing": missing,
            }
        )
    else:
        _print(microphones, ports, outputs)
        for line in missing:
            console.err(f"sostenuto: {line}")
    if no_sound is not None and no_midi is not None:
        raise DeviceError("neither microphones nor MIDI inputs can be listed on this machine")


def _microphones() -> tuple[list[Microphone], DeviceError | None]:
    try:
        audio = load_pyaudio().PyAudio()
    except DeviceError as error:
        return [], error
    try:
        return list_microphones(audio), None
    finally:
        audio.terminate()


def _midi_ports(side: str) -> tuple[list[str], DeviceError | None]:
    try:
        port = open_rtmidi(side)
    except DeviceError as error:
        return [], error
    return [stable_port_name(name) for name in port.get_ports()], None


def _print(microphones: list[Microphone], ports: list[str], outputs: list[str]) -> None:
    console.out("microphones (listen --mic NAME, or a part of it):")
    for each in microphones:
        mark = ", the system's input" if each.default else ""
        plural = "s" * (each.channels != 1)
        console.out(
            f"  {each.name}   ({each.channels} channel{plural}, {each.sample_rate_hz} Hz{mark})"
        )
    if not microphones:
        console.out("  none")
    _print_ports("inputs (listen --midi-in PORT, or a part of it):", ports)
    _print_ports("outputs (listen --midi-out PORT, or a part of it):", outputs)


def _print_ports(heading: str, ports: list[str]) -> None:
    console.out(f"MIDI {heading}")
    for name in ports or ["none"]:
        console.out(f"  {name}")


def show_level(mic: str | None, seconds: float | None, *, as_json: bool) -> None:
    """Show the level of a microphone until ``seconds`` are over or the user ends it."""
    source = MicrophoneSource(mic)
    source.open()
    meter = Meter()
    on_screen = sys.stdout.isatty() and not as_json
    every_s = METER_S if on_screen else 1.0
    began_s = drawn_s = time.monotonic()
    console.err(f"level of {source.name}; Ctrl-C ends it")
    try:
        for item in source.items():
            if isinstance(item, SourceEvent):
                console.err(f"sostenuto: {item.message}")
            elif isinstance(item, Block):
                meter.push(item.samples)
            now_s = time.monotonic()
            if now_s - drawn_s >= every_s:
                drawn_s = now_s
                _draw(meter, on_screen=on_screen, as_json=as_json)
            if seconds is not None and now_s - began_s >= seconds:
                break
    except KeyboardInterrupt:
        pass  # the way this command is meant to end
    finally:
        if on_screen:
            console.out()
        source.close()


def _draw(meter: Meter, *, on_screen: bool, as_json: bool) -> None:
    level, peak = meter.level_dbfs, meter.peak_dbfs
    if as_json:
        console.out_json({"level_dbfs": level, "peak_dbfs": peak, "state": meter.state})
        return
    line = f"{meter_bar(level, peak)} {_decibels(level)} dBFS, peak {_decibels(peak)} dBFS"
    if on_screen:
        sys.stdout.write(f"\r{line} {meter.state.value:<9}")
        sys.stdout.flush()
    else:
        console.out(f"{line} {meter.state.value}")


def meter_bar(level_dbfs: float | None, peak_dbfs: float | None) -> str:
    """A bar as long as the level is loud, with a mark at the peak."""
    cells = ["#"] * _columns(level_dbfs) + ["."] * (METER_COLUMNS - _columns(level_dbfs))
    peak = _columns(peak_dbfs)
    if peak > 0:
        cells[peak - 1] = "|"
    return "[" + "".join(cells) + "]"


def _columns(dbfs: float | None) -> int:
    if dbfs is None:
        return 0
    share = 1.0 - dbfs / METER_FLOOR_DBFS
    return round(min(1.0, max(0.0, share)) * METER_COLUMNS)


def _decibels(dbfs: float | None) -> str:
    return "  -inf" if dbfs is None else f"{dbfs:6.1f}"
