"""A broker killed again and again while a piano publishes: what is lost, what comes twice.

mosquitto is killed with SIGKILL at random moments and started again, with messages of QoS 1 on
the way all the time. It loses what it acknowledged since it last saved its state. In the end
everything that was published must have come, and what came twice must be the same message.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import edge.publish.publisher as publisher_module
from device.soak.bench import AUTOSAVE_S, Broker, Dashboard, report, resident_bytes, until
from edge.messages import EventMessage, HistoryNote, HistoryNotes, Session, SessionState
from edge.publish.disk_outbox import DiskOutbox
from edge.publish.publisher import Publisher

MESSAGES_PER_S = 10.0
LONGEST_LIFE_S = 1.5
LONGEST_DEATH_S = 0.3
SETTLE_S = 60.0
"""After the last kill, everything has come by then."""

CHECKED = ("session", "history/notes", "event")


@dataclass(frozen=True)
class Figures:
    """What one trial found."""

    kills: int
    seconds: float
    published: int
    lost: int
    dropped: int
    repeats: int
    repeats_that_differ: int
    reconnects: int
    memory_growth_mib: float

    @property
    def good(self) -> bool:
        return self.lost == 0 and self.dropped == 0 and self.repeats_that_differ == 0


def a_batch(number: int) -> HistoryNotes:
    """Two seconds of ordinary playing."""
    notes = tuple(
        HistoryNote(
            id=number * 12 + i,
            pitch_midi=48 + (number * 7 + i) % 30,
            onset_s=number * 2.0 + i / 6,
            offset_s=number * 2.0 + i / 6 + 0.3,
            velocity=60 + i,
            confidence=0.9,
        )
        for i in range(12)
    )
    return HistoryNotes(session_id="s", notes=notes)


def publish_some(piano: Publisher, number: int) -> None:
    """One of the messages that must not be lost, in turn."""
    if number % 3 == 0:
        piano.publish("history/notes", a_batch(number))
    elif number % 3 == 1:
        piano.publish("session", Session(id="s", state=SessionState.UPDATE, notes=number))
    else:
        piano.publish("event", EventMessage(kind="overrun", text=f"the {number}th"))


def run(kills: int, folder: Path, seed: int = 1) -> Figures:
    """Kill the broker so many times; ``folder`` keeps outbox and broker."""
    chance = random.Random(seed)
    began_s = time.monotonic()
    patience_s = publisher_module.LONGEST_RETRY_S
    publisher_module.LONGEST_RETRY_S = 0.5  # a broker that is back in a moment
    broker = Broker(folder)
    broker.start()
    dashboard = Dashboard(broker.address)
    time.sleep(2.0 * AUTOSAVE_S)  # the broker has saved that there is a dashboard
    piano = Publisher(broker.address, "soak", outbox=DiskOutbox(folder / "state"), identity="soak")
    piano.start(require_connection_s=20.0)
    over = threading.Event()
    published = [0]

    def play() -> None:
        while not over.wait(1.0 / MESSAGES_PER_S):
            publish_some(piano, published[0])
            published[0] += 1

    player = threading.Thread(target=play)
    player.start()
    memory = 0
    try:
        for kill in range(kills):
            time.sleep(chance.uniform(0.05, LONGEST_LIFE_S))
            broker.kill()
            time.sleep(chance.uniform(0.0, LONGEST_DEATH_S))
            broker.start()
            if kill == kills // 4:
                memory = resident_bytes()
        grown = resident_bytes() - memory
    finally:
        over.set()
        player.join()
    last = {name: piano._next_seq.get(name, 0) - 1 for name in CHECKED}

    def lost() -> int:
        return sum(len(dashboard.missing(piano.boot, name, n)) for name, n in last.items())

    until(lambda: piano.counters.connected, "the last connection")
    end_s = time.monotonic() + SETTLE_S
    while lost() and time.monotonic() < end_s:
        time.sleep(0.2)
    counters = piano.counters
    figures = Figures(
        kills=kills,
        seconds=time.monotonic() - began_s,
        published=published[0],
        lost=lost(),
        dropped=counters.dropped,
        repeats=dashboard.seen.repeats,
        repeats_that_differ=dashboard.seen.changed,
        reconnects=counters.reconnects,
        memory_growth_mib=grown / 2**20,
    )
    piano.close()
    dashboard.close()
    broker.kill()
    publisher_module.LONGEST_RETRY_S = patience_s
    return figures


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = run(options.kills, Path(folder), options.seed)
    report(figures)
    return 0 if figures.good else 1


if __name__ == "__main__":
    sys.exit(main())
