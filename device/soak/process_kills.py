"""The listening program killed again and again: what its outbox is worth afterwards.

A child publishes as fast as the card and the broker let it and is killed with SIGKILL at a random
moment. Then its outbox is looked at, as the card has it: it must be sound, and everything in it
must be at the dashboard in the end. No number may ever come with two contents.
"""

from __future__ import annotations

import argparse
import random
import sqlite3
import subprocess
import sys
import tempfile
import time
import zlib
from dataclasses import dataclass
from pathlib import Path

from device.soak.bench import Broker, Dashboard, Key, alike, report
from edge.publish.disk_outbox import DiskOutbox
from edge.publish.outbox import HISTORY
from edge.publish.publisher import Publisher
from edge.publish.store import FILE

CHILD = """
import sys, time
from pathlib import Path
from device.soak.broker_kills import publish_some
from edge.publish.address import BrokerAddress
from edge.publish.disk_outbox import DiskOutbox
from edge.publish.outbox import HISTORY
from edge.publish.publisher import Publisher
piano = Publisher(BrokerAddress("127.0.0.1", int(sys.argv[1])), "soak",
                  outbox=DiskOutbox(Path(sys.argv[2])), identity="soak")
piano.start()
print("playing", flush=True)
number = 0
while True:
    publish_some(piano, number)
    number += 1
    time.sleep(0.004)
"""

LONGEST_LIFE_S = 1.0

SETTLE_S = 240.0
"""The last start has sent everything by then."""


@dataclass(frozen=True)
class Figures:
    """What one trial found."""

    kills: int
    seconds: float
    seen_on_card: int
    lost: int
    damaged: int
    repeats: int
    repeats_that_differ: int
    starts_seen: int

    @property
    def good(self) -> bool:
        return self.lost == self.damaged == self.repeats_that_differ == 0


def on_the_card(folder: Path) -> tuple[dict[Key, int], bool]:
    """The messages in an outbox whose owner is dead, and whether SQLite finds it sound."""
    connection = sqlite3.connect(folder / FILE)
    try:
        sound = connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        rows = connection.execute(
            "SELECT b.boot, o.name, o.seq, o.payload FROM outbox o JOIN boots b ON b.no = o.boot_no"
        ).fetchall()
    except sqlite3.Error:
        return {}, False
    finally:
        connection.close()
    return {
        (boot, name, seq): alike(zlib.decompress(payload) if name == HISTORY else payload)
        for boot, name, seq, payload in rows
    }, sound


def run(kills: int, folder: Path, seed: int = 1) -> Figures:
    """Kill the program so many times; ``folder`` keeps outbox and broker."""
    chance = random.Random(seed)
    began_s = time.monotonic()
    broker = Broker(folder)
    broker.start()
    dashboard = Dashboard(broker.address)
    state = folder / "state"
    promised: dict[Key, int] = {}
    damaged = differing = 0
    for _ in range(kills):
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(broker.port), str(state)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert child.stdout is not None
        child.stdout.readline()
        time.sleep(chance.uniform(0.0, LONGEST_LIFE_S))
        child.kill()
        child.wait()
        child.stdout.close()
        if (state / FILE).exists():
            rows, sound = on_the_card(state)
            damaged += not sound
            differing += sum(promised.get(key, alike_) != alike_ for key, alike_ in rows.items())
            promised.update(rows)
    last = Publisher(broker.address, "soak", outbox=DiskOutbox(state), identity="soak")
    last.start(require_connection_s=20.0)
    seen = dashboard.seen
    end_s = time.monotonic() + SETTLE_S
    while promised.keys() - seen.content.keys() and time.monotonic() < end_s:
        time.sleep(0.2)
    differing += sum(seen.content.get(key, alike_) != alike_ for key, alike_ in promised.items())
    last.close()
    dashboard.close()
    broker.kill()
    return Figures(
        kills=kills,
        seconds=time.monotonic() - began_s,
        seen_on_card=len(promised),
        lost=len(promised.keys() - seen.content.keys()),
        damaged=damaged,
        repeats=seen.repeats,
        repeats_that_differ=differing + seen.changed,
        starts_seen=len({boot for boot, _, _ in seen.content}),
    )


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = run(options.kills, Path(folder), options.seed)
    report(figures)
    return 0 if figures.good else 1


if __name__ == "__main__":
    sys.exit(main())
