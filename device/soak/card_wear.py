"""What an hour of playing writes to the card, outbox and record together.

MIDI files of real playing are taken as they were played, with a clock that moves as fast as the
card lets it: every note that ends goes into a batch, batches and sessions through the outbox to a
broker that takes everything, rows are swept once a minute. Counted is what the kernel counts for
this process (`write_bytes` of /proc/self/io): pages of 4 KiB that it has to bring to the disk.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from device.soak.bench import report
from edge.messages import Clock, Envelope, encode, topic_of
from edge.midi import read_midi
from edge.note import NoteState, NoteUpdate, PedalEvent
from edge.publish.clock import Stamp, rfc3339
from edge.publish.disk_outbox import DiskOutbox
from edge.publish.history import BATCH_S, HistoryLog
from edge.publish.outbox import Outgoing
from edge.publish.session import SessionLog
from edge.publish.store import FILE

STEP_S = 0.1


@dataclass(frozen=True)
class Figures:
    """What was measured."""

    files: int
    hours_of_playing: float
    notes_per_hour: float
    batch_s: float
    messages_per_hour: float
    written_mib_per_hour: float
    kept_mib_per_hour: float


def steps_of(path: Path) -> Iterator[tuple[float, list[NoteUpdate | PedalEvent]]]:
    """What an ear would tell of a file, every `STEP_S`: time and events."""
    played = read_midi(path)
    events: list[tuple[float, NoteUpdate | PedalEvent]] = []
    for number, note in enumerate(played.notes):
        events.append((note.onset_s, NoteUpdate(number, NoteState.CONFIRMED, note)))
        end_s = note.onset_s + 0.1 if note.offset_s is None else note.offset_s
        events.append((end_s, NoteUpdate(number, NoteState.ENDED, note)))
    events += [(move.t_s, move) for move in played.pedal]
    events.sort(key=lambda each: each[0])
    now_s, at = 0.0, 0
    while at < len(events):
        now_s += STEP_S
        first = at
        while at < len(events) and events[at][0] <= now_s:
            at += 1
        yield now_s, [event for _, event in events[first:at]]


def written_bytes() -> int:
    """What this process has made the kernel write."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("write_bytes"))


def run(paths: list[Path], folder: Path, batch_s: float = BATCH_S) -> Figures:
    """Play the files one after the other through an outbox in ``folder``."""
    now_s = 1000.0
    outbox = DiskOutbox(folder, now_s=lambda: now_s)
    numbers: dict[str, int] = {}
    messages = notes = 0
    played_s = 0.0

    def stamp() -> Stamp:
        return Stamp(rfc3339(1.795e9 + now_s), round(now_s * 1e3), Clock.NTP)

    def say(name: str, message: Envelope) -> None:
        at = stamp()
        seq = numbers[name] = numbers.get(name, -1) + 1
        stamped = msgspec.structs.replace(
            message, boot="b" * 32, seq=seq, t=at.t, mono_ms=at.mono_ms, clock=at.clock
        )
        outbox.append(
            Outgoing(topic_of(name), name, seq, encode(stamped), now_s, "b" * 32, at.mono_ms)
        )

    def pass_on() -> None:
        outbox.keep(stamp())
        while (entry := outbox.next()) is not None:
            outbox.acknowledge(entry)

    before = written_bytes()
    for path in paths:
        session, history = SessionLog(0), HistoryLog(0, batch_s)
        began_s = now_s
        for at_s, events in steps_of(path):
            now_s = began_s + at_s
            for told in session.push(events, at_s):
                say("session", told)
                messages += 1
            for batch in history.push(events, at_s, session.id):
                say("history/notes", batch)
                messages += 1
                notes += len(batch.notes)
            pass_on()
        for batch in history.flush():
            say("history/notes", batch)
            notes += len(batch.notes)
        pass_on()
        played_s += now_s - began_s
    outbox.keep(stamp(), closing=True)
    hours = played_s / 3600
    return Figures(
        files=len(paths),
        hours_of_playing=hours,
        notes_per_hour=notes / hours,
        batch_s=batch_s,
        messages_per_hour=messages / hours,
        written_mib_per_hour=(written_bytes() - before) / 2**20 / hours,
        kept_mib_per_hour=(folder / FILE).stat().st_size / 2**20 / hours,
    )


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("midi", type=Path, nargs="+", help="MIDI files of real playing.")
    parser.add_argument("--batch-s", type=float, default=BATCH_S)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        report(run(options.midi, Path(folder), options.batch_s))
    return 0


if __name__ == "__main__":
    sys.exit(main())
