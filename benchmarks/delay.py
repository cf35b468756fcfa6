"""From the hammer's blow to the message at a subscriber, in a run at the pace of real time.

``sostenuto listen`` hears the demo's recording as a microphone would give it (each block comes when
its last sample has sounded) and publishes to a mosquitto on this machine. A subscriber notes when
each message arrives, on the machine's one monotonic clock. A confirmed note is matched with what
was played (same pitch, onset within 50 ms, by mir_eval), and its delay is counted from the onset in
the recording's MIDI, not from the onset that the ear found.

When sample 0 sounded is told by the `session` message (``stream_start_mono_ms``); as a check, no
message may arrive before the sound it tells of.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import paho.mqtt.client as paho
import psutil
from paho.mqtt.enums import CallbackAPIVersion

from benchmarks.places import demo
from edge.midi import read_midi
from edge.note import NoteEvent
from training.evaluation import ONSET_TOLERANCE_S, intervals_and_hz

PATIENCE_S = 20.0
BYTES_PER_MB = 1024 * 1024


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until_open(port: int) -> None:
    until_s = time.monotonic() + PATIENCE_S
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        if time.monotonic() > until_s:
            raise RuntimeError(f"mosquitto did not open port {port} within {PATIENCE_S:.0f} s")
        time.sleep(0.02)


@contextmanager
def mosquitto() -> Iterator[int]:
    """A mosquitto of our own; gives its port."""
    program = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
    if program is None:
        raise RuntimeError("mosquitto is not installed: apt-get install mosquitto")
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        settings = Path(folder) / "mosquitto.conf"
        settings.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\nlog_type none\n")
        broker = subprocess.Popen([program, "-c", str(settings)])
        try:
            wait_until_open(port)
            yield port
        finally:
            broker.terminate()
            broker.wait()


@dataclass
class Subscriber:
    """Everything below ``sostenuto/``, each with the moment of its arrival."""

    port: int
    arrived: list[tuple[float, str, bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._ready = threading.Event()
        self._client = paho.Client(CallbackAPIVersion.VERSION2)
        self._client.on_connect = lambda client, *_: client.subscribe("sostenuto/#", qos=1)
        self._client.on_subscribe = lambda *_: self._ready.set()
        self._client.on_message = self._take
        self._client.connect("127.0.0.1", self.port)
        self._client.loop_start()
        if not self._ready.wait(PATIENCE_S):
            raise RuntimeError("the subscriber could not subscribe")

    def _take(self, _client: Any, _userdata: Any, message: paho.MQTTMessage) -> None:
        self.arrived.append((time.monotonic(), message.topic, bytes(message.payload)))

    def messages(self, name: str) -> list[tuple[float, dict[str, Any]]]:
        """(arrival in seconds of the monotonic clock, document) of one topic."""
        return [
            (at, json.loads(body))
            for at, topic, body in self.arrived
            if topic.split("/", 3)[3:] == [name]  # after the root, the version and the device
        ]

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@dataclass(frozen=True, slots=True)
class Confirmed:
    """A confirmed note and when its message came, in seconds of the stream."""

    note: NoteEvent
    arrived_s: float


def confirmed_notes(subscriber: Subscriber, stream_start_s: float) -> list[Confirmed]:
    """The first message that confirms each note."""
    found: dict[int, Confirmed] = {}
    for at_s, batch in subscriber.messages("notes"):
        for step in batch["notes"]:
            if step["state"] == "confirmed" and step["id"] not in found:
                note = NoteEvent(
                    step["pitch_midi"], step["onset_s"], None, step["velocity"], step["confidence"]
                )
                found[step["id"]] = Confirmed(note, at_s - stream_start_s)
    return list(found.values())


def delays_s(played: list[NoteEvent], heard: list[Confirmed]) -> list[float]:
    """Arrival minus true onset, for each played note that was confirmed."""
    from mir_eval.transcription import match_notes

    if not heard:
        return []
    pairs = match_notes(
        *intervals_and_hz(played),
        *intervals_and_hz([confirmed.note for confirmed in heard]),
        onset_tolerance=ONSET_TOLERANCE_S,
        offset_ratio=None,
    )
    return [heard[found].arrived_s - played[true].onset_s for true, found in pairs]


def listen(port: int, ear: str) -> dict[str, float]:
    """Run ``sostenuto listen`` to its end; what it used of the machine."""
    program = Path(sys.executable).with_name("sostenuto")
    command = [str(program), "listen", "--file", str(demo()[0]), "--model", ear, "--json"]
    command += ["--broker", f"mqtt://127.0.0.1:{port}"]
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors) as run,
    ):
        watched = psutil.Process(run.pid)
        readings: list[tuple[float, float]] = []
        most_bytes = 0
        while run.poll() is None:
            try:
                used = watched.cpu_times()
                most_bytes = max(most_bytes, watched.memory_info().rss)
            except psutil.Error:
                break
            readings.append((time.monotonic(), used.user + used.system))
            time.sleep(0.1)
        if run.wait() != 0:
            errors.seek(0)
            raise RuntimeError(f"{' '.join(command)}: {errors.read().strip()}")
    # The first tenth holds importing and loading.
    steady = readings[len(readings) // 10 :]
    (first_s, first_used_s), (last_s, last_used_s) = steady[0], steady[-1]
    return {
        "cpu_share": (last_used_s - first_used_s) / (last_s - first_s),
        "memory_mb": most_bytes / BYTES_PER_MB,
    }


def piece_named_after_s(subscriber: Subscriber, first_note_s: float) -> dict[str, Any]:
    """Which piece was published as matched, and how long after the first note."""
    for at_s, piece in subscriber.messages("piece"):
        if piece["state"] == "matched":
            return {"piece": piece["title"], "piece_after_s": at_s - first_note_s}
    return {"piece": None, "piece_after_s": None}


def measure(ear: str) -> dict[str, Any]:
    """One run at the pace of real time."""
    with mosquitto() as port:
        subscriber = Subscriber(port)
        used = listen(port, ear)
        subscriber.close()
    sessions = [session for _, session in subscriber.messages("session")]
    stream_start_s = sessions[0]["stream_start_mono_ms"] / 1000
    played = list(read_midi(demo()[1]).notes)
    heard = confirmed_notes(subscriber, stream_start_s)
    if any(confirmed.arrived_s < confirmed.note.onset_s for confirmed in heard):
        raise RuntimeError("a message came before the sound it tells of: the clocks disagree")
    found = delays_s(played, heard)
    figures: dict[str, Any] = {
        "played": len(played),
        "confirmed_rightly": len(found),
        "confirmed": len(heard),
        **used,
        **piece_named_after_s(subscriber, stream_start_s + played[0].onset_s),
    }
    if found:
        figures["median_ms"] = float(np.median(found)) * 1000
        figures["p95_ms"] = float(np.percentile(found, 95)) * 1000
    return figures
