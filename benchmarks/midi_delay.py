"""How late is a note at the other end of the MIDI port?

    python -m benchmarks.midi_delay [--provisional] [--seconds 30]

The demo's recording is listened to at the pace of real time and played on a virtual port, as by
``sostenuto listen --midi-out virtual``; another client of the same MIDI system, ALSA's sequencer
or JACK, writes down when each *note on* arrives. The delay counts from the true onset of the key,
by the recording's labels. Where no sequencer is here, start a JACK server that needs no sound
card: ``jackd -d dummy -r 48000 -p 64``.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from edge.audio.block import STREAM_RATE_HZ, Block, MidiBlock
from edge.audio.file import FileSource
from edge.listen import Listener
from edge.messages import Info
from edge.midi import open_rtmidi, read_midi
from edge.midi_out import VIRTUAL, MidiOut
from edge.publish.publisher import Publisher
from edge.recogniser import load_recogniser
from edge.resources import shipped_dir

DEMO = shipped_dir() / "demo"
EARLIEST_S, LATEST_S = -0.05, 0.6
"""An arrival this long after an onset of its key is that onset's."""
NOTE_ON = 0x90


class FirstSeconds(FileSource):
    """The beginning of a recording."""

    def __init__(self, path: Path, seconds: float) -> None:
        super().__init__(path)
        self._until_sample = seconds * STREAM_RATE_HZ

    def items(self) -> Any:
        """Its blocks, at the pace of real time."""
        for item in super().items():
            if isinstance(item, Block | MidiBlock) and item.end_sample > self._until_sample:
                return
            yield item


def measure(seconds: float, *, provisional: bool) -> dict[str, Any]:
    """Notes that arrived, and how late."""
    arrived: list[tuple[float, list[int]]] = []
    out = MidiOut(VIRTUAL, provisional=provisional)
    out.open()
    synth = open_rtmidi()
    synth.set_callback(lambda event, _: arrived.append((time.monotonic(), event[0])))
    (ours,) = (i for i, name in enumerate(synth.get_ports()) if out.name in name)
    synth.open_port(ours)
    source = FirstSeconds(DEMO / "demo.flac", seconds + LATEST_S)
    recogniser = load_recogniser(provisional=True)
    publisher = Publisher(None, "midi-delay")
    Listener(source, recogniser, publisher, Info(software="0"), midi_out=out).run()
    synth.close_port()
    origin_s = source.origin_s or 0.0
    strikes = [(t_s - origin_s, bytes_[1]) for t_s, bytes_ in arrived if bytes_[0] == NOTE_ON]
    played = [n for n in read_midi(DEMO / "demo.mid").notes if n.onset_s < seconds]
    delays = []
    for note in played:
        of_key = [t_s - note.onset_s for t_s, pitch in strikes if pitch == note.pitch_midi]
        near = [delay for delay in of_key if EARLIEST_S < delay < LATEST_S]
        delays += [min(near)] if near else []
    return {
        "provisional": provisional,
        "played": len(played),
        "arrived": len(delays),
        "median_ms": round(float(np.median(delays)) * 1e3),
        "p95_ms": round(float(np.percentile(delays, 95)) * 1e3),
    }


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("--provisional", action="store_true")
    arguments.add_argument("--seconds", type=float, default=30.0)
    given = arguments.parse_args()
    Console().print_json(data=measure(given.seconds, provisional=given.provisional))
