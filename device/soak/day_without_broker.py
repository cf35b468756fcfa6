"""A day of playing with no broker in sight: what is kept, what goes first, and who is told.

A day's messages are published with the time stamps of a day, much faster than a day, while the
broker's port is closed. The bounds are set so that they do not suffice. Then a broker appears: it
must get the newest notes without a gap, every session, and an account of every number that is
missing.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

import edge.publish.disk_outbox as disk_outbox
import edge.publish.publisher as publisher_module
from device.soak.bench import Broker, report, until
from device.soak.broker_kills import a_batch
from edge.messages import Clock, Session, SessionState
from edge.publish.clock import Stamp, rfc3339
from edge.publish.disk_outbox import MEBIBYTE, Bounds, DiskOutbox
from edge.publish.publisher import Publisher
from edge.publish.store import FILE

DAY_S = 86_400
BATCH_EVERY_S = 2
SESSION_EVERY_S = 10
HURRY = 20
"""The trial lets out what was left behind so many times faster than a device does."""


@dataclass(frozen=True)
class Figures:
    """What one trial found."""

    hours: float
    seconds: float
    published: int
    delivered: int
    dropped: int
    announced: int
    lost: int
    sessions_dropped: int
    largest_outbox_mib: float
    bound_mib: float

    @property
    def good(self) -> bool:
        return (
            self.lost == self.sessions_dropped == 0
            and self.dropped == self.announced > 0
            and self.largest_outbox_mib <= self.bound_mib
        )


class _Clock:
    """A clock that the trial moves."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def stamp(self) -> Stamp:
        return Stamp(rfc3339(1.795e9 + self.now_s), round(self.now_s * 1e3), Clock.NTP)


def run(folder: Path, hours: float = 24.0, bound_mib: int = 8) -> Figures:
    """``bound_mib`` is the outbox's; an ordinary day of playing takes some 60."""
    began_s = time.monotonic()
    clock = _Clock()
    state = folder / "state"
    outbox = DiskOutbox(state, Bounds(bound_mib * MEBIBYTE), now_s=lambda: clock.now_s)
    broker = Broker(folder)
    hurried = {
        (publisher_module, "ANNOUNCE_UNHEARD_S"): 0.5,
        (publisher_module, "LONGEST_RETRY_S"): 1.0,
        (disk_outbox, "DRAIN_PER_S"): disk_outbox.DRAIN_PER_S * HURRY,
        (disk_outbox, "DRAIN_BURST"): disk_outbox.DRAIN_BURST * HURRY,
    }
    before = {(module, name): getattr(module, name) for module, name in hurried}
    for (module, name), value in hurried.items():
        setattr(module, name, value)
    piano = Publisher(broker.address, "soak", outbox=outbox, now=clock.stamp, identity="soak")
    piano.start()
    published = 0
    largest = 0
    for second in range(0, int(hours * 3600), BATCH_EVERY_S):
        clock.now_s += BATCH_EVERY_S
        piano.publish("history/notes", a_batch(second // BATCH_EVERY_S))
        published += 1
        if second % SESSION_EVERY_S == 0:
            piano.publish("session", Session(id="s", state=SessionState.UPDATE, notes=second))
            published += 1
        while len(piano._inbox) > 100:
            time.sleep(0.002)
        largest = max(largest, outbox._bytes)
    until(lambda: not piano._inbox, "the day to be on the card")
    broker.start()
    came, listener = _listen(broker)
    ticking = threading.Event()

    def tick() -> None:
        while not ticking.wait(0.01):
            clock.now_s += 0.01

    threading.Thread(target=tick, daemon=True).start()
    last = {name: piano._next_seq[name] - 1 for name in ("history/notes", "session")}
    until(lambda: piano.counters.connected and not piano._lanes.pressing, "a connection", 60)
    until(
        lambda: (
            last["history/notes"] in came["history/notes"] and last["session"] in came["session"]
        ),
        "the newest messages",
    )
    until(lambda: not piano.counters.queued, "an empty outbox")
    time.sleep(1.0)
    missing = {name: set(range(last[name] + 1)) - came[name].keys() for name in last}
    told: set[tuple[str, int]] = set()
    announced = 0
    for event in came["event"].values():
        gap = event.get("dropped")
        if gap is not None and gap["topic"] in last:
            announced += gap["count"]
            told |= {(gap["topic"], n) for n in range(gap["first_seq"], gap["last_seq"] + 1)}
    piano.close()
    listener.disconnect()
    listener.loop_stop()
    broker.kill()
    ticking.set()
    for (module, name), value in before.items():
        setattr(module, name, value)
    assert (state / FILE).exists()
    return Figures(
        hours=hours,
        seconds=time.monotonic() - began_s,
        published=published,
        delivered=sum(len(came[name]) for name in last),
        dropped=sum(len(numbers) for numbers in missing.values()),
        announced=announced,
        lost=sum((name, n) not in told for name, numbers in missing.items() for n in numbers),
        sessions_dropped=len(missing["session"]),
        largest_outbox_mib=largest / MEBIBYTE,
        bound_mib=float(bound_mib),
    )


def _listen(broker: Broker) -> tuple[dict[str, dict[int, Any]], paho.Client]:
    """Everything that comes on the topics of the trial, by number."""
    came: dict[str, dict[int, Any]] = {"history/notes": {}, "session": {}, "event": {}}
    ready = threading.Event()

    def take(_client: Any, _userdata: Any, message: paho.MQTTMessage) -> None:
        name = message.topic.split("/", 3)[3]
        if name in came:
            document = json.loads(message.payload)
            came[name][document["seq"]] = document if name == "event" else None

    client = paho.Client(CallbackAPIVersion.VERSION2)
    client.on_message = take
    client.on_connect = lambda c, *_: c.subscribe("sostenuto/#", qos=1)
    client.on_subscribe = lambda *_: ready.set()
    client.connect(broker.address.host, broker.address.port)
    client.loop_start()
    until(ready.is_set, "the subscription")
    return came, client


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hours", type=float, default=24.0)
    parser.add_argument("--bound-mib", type=int, default=8)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = run(Path(folder), options.hours, options.bound_mib)
    report(figures)
    return 0 if figures.good else 1


if __name__ == "__main__":
    sys.exit(main())
