"""How much goes through outbox and broker on one core, and what ordinary playing costs.

Publisher, mosquitto and a subscriber share one core. In the first part messages of QoS 1 are
published at a growing pace, each through the card; the pace counts as kept where the subscriber
had all of them within a second of the last. In the second part an hour's ordinary messages (a
batch of notes live ten times a second, a batch of ended notes every two seconds, a session every
ten) are published at the pace of real time, and the processor time of the publishing process is
taken.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from device.soak.bench import Broker, report, until
from device.soak.broker_kills import a_batch
from edge.messages import NoteMessage, Notes, Session, SessionState
from edge.note import NoteState
from edge.publish.disk_outbox import DiskOutbox
from edge.publish.publisher import Publisher

PACES_PER_S = (1000, 2000, 3000, 4000, 6000)
GOAL_PER_S = 2000
GOAL_CORE_PERCENT = 2.0
BURST_S = 5.0
SLICE_S = 0.01


@dataclass(frozen=True)
class Figures:
    """What one trial found."""

    kept_messages_per_s: int
    seconds_after_the_last: float
    core_percent_at_that: float
    core_percent_playing: float
    core_percent_silent: float

    @property
    def good(self) -> bool:
        return (
            self.kept_messages_per_s >= GOAL_PER_S
            and self.core_percent_playing <= GOAL_CORE_PERCENT
        )


def _count(broker: Broker) -> tuple[list[int], paho.Client]:
    """A subscriber in a process of its own would be fairer; this one only counts."""
    count = [0]
    ready = threading.Event()

    def take(_client: Any, _userdata: Any, _message: paho.MQTTMessage) -> None:
        count[0] += 1

    client = paho.Client(CallbackAPIVersion.VERSION2)
    client.on_message = take
    client.on_connect = lambda c, *_: c.subscribe("sostenuto/v1/soak/session", qos=1)
    client.on_subscribe = lambda *_: ready.set()
    client.connect(broker.address.host, broker.address.port)
    client.loop_start()
    until(ready.is_set, "the subscription")
    return count, client


def flow(folder: Path, pace_per_s: int, seconds: float = BURST_S) -> tuple[float, float]:
    """Seconds until the subscriber had the last message, and the share of a core, in percent."""
    broker = Broker(folder)
    broker.start()
    count, client = _count(broker)
    piano = Publisher(broker.address, "soak", outbox=DiskOutbox(folder / "state"), identity="soak")
    piano.start(require_connection_s=20.0)
    began_s, cpu_s = time.monotonic(), _cpu_s()
    total = int(pace_per_s * seconds)
    for number in range(total):
        due_s = began_s + number / pace_per_s
        while (wait_s := due_s - time.monotonic()) > 0:
            time.sleep(max(wait_s, SLICE_S))
        piano.publish("session", Session(id="s", state=SessionState.UPDATE, notes=number))
    last_s = time.monotonic()
    until(lambda: count[0] >= total, f"{total} messages at {pace_per_s} a second", 60)
    done_s = time.monotonic()
    percent = 100 * (_cpu_s() - cpu_s) / (done_s - began_s)
    late_s = (done_s - last_s) + max(0.0, last_s - began_s - seconds)
    piano.close()
    client.disconnect()
    client.loop_stop()
    broker.kill()
    return late_s, percent


def ordinary(folder: Path, seconds: float, *, playing: bool) -> float:
    """Share of a core, in percent, that publishing takes; numbering and encoding included."""
    broker = Broker(folder)
    broker.start()
    piano = Publisher(broker.address, "soak", outbox=DiskOutbox(folder / "state"), identity="soak")
    piano.start(require_connection_s=20.0)
    began_s, cpu_s = time.monotonic(), _cpu_s()
    tenth = 0
    while time.monotonic() - began_s < seconds:
        tenth += 1
        if playing:
            piano.publish("notes", _live(tenth))
            if tenth % 20 == 0:
                piano.publish("history/notes", a_batch(tenth // 20))
            if tenth % 100 == 0:
                piano.publish("session", Session(id="s", state=SessionState.UPDATE, notes=tenth))
        time.sleep(max(0.0, began_s + tenth / 10 - time.monotonic()))
    percent = 100 * (_cpu_s() - cpu_s) / (time.monotonic() - began_s)
    piano.close()
    broker.kill()
    return percent


def _live(tenth: int) -> Notes:
    states = (NoteState.PROVISIONAL, NoteState.CONFIRMED, NoteState.ENDED)
    return Notes(
        notes=tuple(
            NoteMessage(
                id=tenth,
                state=state,
                pitch_midi=60,
                onset_s=tenth / 10,
                offset_s=None,
                velocity=64,
                confidence=0.9,
            )
            for state in states
        ),
        heard_s=tenth / 10,
    )


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def run(paces: tuple[int, ...] = PACES_PER_S, playing_s: float = 60.0) -> Figures:
    """On the last core that this process may use; its choice is put back."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(allowed)})
    try:
        kept, late_s, percent = 0, 0.0, 0.0
        for pace in paces:
            with tempfile.TemporaryDirectory() as folder:
                took_s, used = flow(Path(folder), pace)
            if took_s > 1.0:
                break
            kept, late_s, percent = pace, took_s, used
        with tempfile.TemporaryDirectory() as folder:
            playing = ordinary(Path(folder), playing_s, playing=True)
        with tempfile.TemporaryDirectory() as folder:
            silent = ordinary(Path(folder), playing_s / 3, playing=False)
    finally:
        os.sched_setaffinity(0, allowed)
    return Figures(kept, late_s, percent, playing, silent)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--playing-s", type=float, default=60.0)
    options = parser.parse_args()
    figures = run(playing_s=options.playing_s)
    report(figures)
    return 0 if figures.good else 1


if __name__ == "__main__":
    sys.exit(main())
