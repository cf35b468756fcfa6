"""One fault after the other while a piano is heard: does the ear go on, is it told, does it mend?

The live loop listens to the demo's recording, again and again, at the pace of real time, and
publishes under TLS, with an account, to a mosquitto as `sostenuto broker setup` writes it; its
outbox lies on a file system of its own. Each fault is really brought about, is left for a while,
and is taken away again, with nobody touching the program:

- a line to the broker that carries next to nothing;
- a line that swallows everything, as when a router dies: no error, no answer;
- a broker that no longer knows the password;
- a certificate of the broker's that has expired;
- a card that is full;
- a card that is read-only (the kernel lets none become so while a file is open for writing, so it
  is filled first, which makes the outbox close its own);
- a clock that jumps by ten years, and back.

Told is when the fault first shows where somebody looks: in the one line of trouble (the screen, the
log, `diagnostics`), in the queue and the drops of `health`, or in an `event` at a dashboard. Needs
mosquitto, OpenSSL's program, and the right to mount.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import threading
import time
import wave
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from unittest import mock

import soundfile

import edge.broker_setup as broker_setup
from device.soak.bench import Broker, Dashboard, Line, free_port, report, until
from edge.audio.block import Block, MidiBlock
from edge.audio.file import FileSource
from edge.broker_setup import DASHBOARD, BrokerPlan, Ports
from edge.listen import Event, Listener, ListenReport
from edge.messages import Clock, Envelope, Info, Notes
from edge.note import NoteState
from edge.publish.address import BrokerAddress, Tls
from edge.publish.clock import Stamp, rfc3339
from edge.publish.disk_outbox import DiskOutbox
from edge.publish.history import Record
from edge.publish.publisher import Publisher
from edge.recogniser import Recogniser, load_recogniser
from edge.resources import demo_recording

DEVICE = "soak"
CARD_BYTES = 4 * 1024 * 1024
SLOW_BYTES_PER_S = 300.0
TEN_YEARS_S = 10 * 365.25 * 86_400
PATIENT_MESSAGES = 10
"""Fewer wait at any time."""

LONGEST_TRIAL_S = 1200.0
LONGEST_PAUSE_S = 1.0
"""The ear may be kept waiting by a busy machine, and by no fault."""

MISDATED_S = 5.0
"""The sitting is dated by its first note, which comes a moment after the start."""

CHECKED = ("session", "history/notes", "event")


@dataclass(frozen=True)
class Outcome:
    """What one fault did."""

    fault: str
    told: str
    told_after_s: float
    lasted_s: float
    mended_after_s: float
    notes_heard: int
    longest_pause_s: float


@dataclass(frozen=True)
class Figures:
    """What the trial found; what a slow line has once been given comes late however long it takes,
    and ``latest_live_note_s`` says how late."""

    outcomes: tuple[Outcome, ...]
    seconds: float
    dropped_blocks: int
    lost: int
    latest_live_note_s: float
    sitting_off_by_s: float

    @property
    def good(self) -> bool:
        return (
            self.lost == self.dropped_blocks == 0
            and sum(o.notes_heard for o in self.outcomes) > 0
            and max(o.longest_pause_s for o in self.outcomes) < LONGEST_PAUSE_S
            and self.sitting_off_by_s < MISDATED_S
        )


@dataclass(frozen=True)
class Fault:
    """How a fault is brought about and taken away, where it shows, and what shows its end."""

    name: str
    bring: Callable[[], None]
    told: Callable[[], str]
    take_away: Callable[[], None]
    mended: Callable[[], object]


class Witnessed:
    """A recogniser, and the longest time for which it was given nothing to hear."""

    def __init__(self, recogniser: Recogniser) -> None:
        self._recogniser = recogniser
        self._asked_s = time.monotonic()
        self.longest_pause_s = 0.0

    def push(self, block: Block | MidiBlock) -> Sequence[Event]:
        now_s = time.monotonic()
        self.longest_pause_s = max(self.longest_pause_s, now_s - self._asked_s)
        self._asked_s = now_s
        return self._recogniser.push(block)

    def flush(self) -> Sequence[Event]:
        return self._recogniser.flush()

    def recover(self) -> Sequence[Event]:
        return self._recogniser.recover()

    def choose_piece(self, piece_id: str | None) -> None:
        self._recogniser.choose_piece(piece_id)


class JumpingClock:
    """A wall clock that somebody sets."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def set_ahead(self, seconds: float) -> None:
        """Set it so far ahead of the truth."""
        self.ahead_s = seconds

    def __call__(self) -> Stamp:
        wall_s = time.time() + self.ahead_s
        return Stamp(rfc3339(wall_s), int(time.monotonic() * 1000), Clock.NTP)


class House(Broker):
    """The broker as it is set up for one piano, whose accounts and certificate can be spoilt."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        ports = Ports(free_port(), free_port(), free_port(), free_port())
        self._plan = BrokerPlan(folder / "broker", (DEVICE,), ("127.0.0.1",), ports=ports)
        self._command = [self._command[0], "-c", str(self._plan.folder / "mosquitto.conf")]
        self.port = ports.local
        broker_setup.set_up(self._plan)

    def address_of(self, account: str) -> BrokerAddress:
        """By the network, under TLS."""
        folder = self._plan.folder / "accounts" / account
        password = (folder / "password").read_text().strip()
        tls = Tls(folder / "ca.crt")
        return BrokerAddress("127.0.0.1", self._plan.ports.tls, account, password, tls=tls)

    @contextmanager
    def _between_two_starts(self) -> Iterator[None]:
        self.stop()
        yield
        self.start()

    def forget_the_password(self) -> None:
        with self._between_two_starts():
            names = (DEVICE, DASHBOARD)
            known = {name: self.address_of(name).password or "" for name in names}
            text = broker_setup.password_file(known | {DEVICE: "another"})
            (self._plan.folder / "passwords").write_text(text)

    def let_the_certificate_expire(self) -> None:
        with self._between_two_starts(), mock.patch.object(broker_setup, "SERVER_DAYS", -1):
            broker_setup.set_up(self._plan)

    def put_right(self) -> None:
        with self._between_two_starts():
            broker_setup.set_up(self._plan)


class Card:
    """A small file system of its own, which can be filled and made read-only."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self._ballast = place / "holiday.mov"

    def fill(self) -> None:
        with suppress(OSError), self._ballast.open("wb", buffering=0) as film:
            while True:
                film.write(bytes(4096))

    def make_room(self) -> None:
        self._ballast.unlink()

    def remount(self, how: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{how}", str(self.place)], check=True)


@contextmanager
def a_card(place: Path) -> Iterator[Card]:
    """A `Card` at ``place`` while the block lasts."""
    place.mkdir()
    options = f"size={CARD_BYTES}"
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode:
        raise SystemExit(f"no file system can be mounted here: {mounted.stderr.strip()}")
    try:
        yield Card(place)
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def encores(path: Path, seconds: float) -> Path:
    """The demo's recording over and over, as a file of at least so many seconds."""
    samples, rate_hz = soundfile.read(demo_recording(), dtype="int16")
    times = int(seconds * rate_hz / len(samples)) + 1
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        for _ in range(times):
            file.writeframes(samples.tobytes())
    return path


class Trial:
    """The piano that listens, and whoever looks at it."""

    def __init__(self, folder: Path, card: Card, seconds: float) -> None:
        self.house = House(folder)
        self.house.start()
        own = self.house.address_of(DASHBOARD)
        self.dashboard = Dashboard(replace(own, port=self.house.port, tls=None))
        self.line = Line(self.house.address_of(DEVICE))
        self.card = card
        self.clock = JumpingClock()
        self.outbox = DiskOutbox(card.place / "state")
        self.publisher = Publisher(
            replace(self.house.address_of(DEVICE), port=self.line.address.port),
            DEVICE,
            outbox=self.outbox,
            now=self.clock,
            identity=DEVICE,
        )
        self.publisher.start(require_connection_s=20.0)
        self.ear = Witnessed(load_recogniser(provisional=True))
        self.notes = 0
        self._source = FileSource(encores(folder / "encores.wav", seconds))
        self._source.open()
        self.began_s = time.time()
        self._listener = Listener(
            self._source,
            self.ear,
            self.publisher,
            Info(software="soak"),
            on_message=self._count,
            health_every_s=1.0,
        )
        self._reports: list[ListenReport] = []
        self._thread = threading.Thread(
            target=lambda: self._reports.append(self._listener.run()), daemon=True
        )
        self._thread.start()
        until(lambda: self.notes > 0, "the first note")

    def _count(self, _topic: str, message: Envelope) -> None:
        if isinstance(message, Notes):
            self.notes += sum(note.state is NoteState.CONFIRMED for note in message.notes)

    # ---- where a fault shows

    def trouble(self, words: str) -> str:
        """The one line of trouble, if it has these words."""
        trouble = self.publisher.counters.trouble or ""
        return trouble if words in trouble else ""

    def backlog(self) -> Callable[[], str]:
        """Tells what health says of a broker that takes too little from now on."""
        before = self.publisher.counters.dropped

        def told() -> str:
            counters = self.publisher.counters
            waiting, dropped = counters.queued, counters.dropped - before
            words = f"health: {waiting} messages wait, {dropped} more were dropped"
            return words if waiting >= PATIENT_MESSAGES or dropped else ""

        return told

    def news(self, kind: str) -> Callable[[], str]:
        """Tells the first event of this kind that a dashboard sees from now on."""
        before = len(self.dashboard.events(kind))
        return lambda: next(iter(self.dashboard.events(kind)[before:]), "")

    def shown_year(self, year: int) -> str:
        """The time of the latest message at a dashboard, if it is of that year."""
        latest = self.dashboard.latest_t
        return f"messages bear {latest}" if latest.startswith(str(year)) else ""

    def is_well(self) -> bool:
        """Connected, and nothing waits but what was just said."""
        counters = self.publisher.counters
        waits = counters.queued >= PATIENT_MESSAGES
        return counters.connected and counters.trouble is None and not waits

    # ---- what is done to it

    def faults(self) -> Iterator[Fault]:
        """One after the other."""
        this_year = time.gmtime().tm_year
        line, house, card, clock = self.line, self.house, self.card, self.clock
        yield Fault(
            "a slow broker",
            lambda: line.carry(SLOW_BYTES_PER_S),
            self.backlog(),
            lambda: line.carry(),
            lambda: True,
        )
        yield Fault(
            "a half-open connection",
            line.swallow,
            lambda: self.trouble("broker"),
            line.go_on,
            lambda: True,
        )
        yield Fault(
            "a refused login",
            house.forget_the_password,
            lambda: self.trouble("refuses the login"),
            house.put_right,
            lambda: True,
        )
        yield Fault(
            "an expired certificate",
            house.let_the_certificate_expire,
            lambda: self.trouble("expired"),
            house.put_right,
            lambda: True,
        )
        failed, recovered = self.news("outbox_failed"), self.news("outbox_recovered")
        yield Fault("a full disk", card.fill, failed, card.make_room, recovered)
        failed, recovered = self.news("outbox_failed"), self.news("outbox_recovered")

        def read_only() -> None:
            card.fill()
            until(failed, "the full card to be noticed")
            card.remount("ro")

        def as_before() -> None:
            card.remount("rw")
            card.make_room()

        yield Fault("a read-only disk", read_only, failed, as_before, recovered)
        yield Fault(
            "a clock that jumps",
            lambda: clock.set_ahead(TEN_YEARS_S),
            lambda: self.shown_year(this_year + 10),
            lambda: clock.set_ahead(0.0),
            lambda: self.shown_year(this_year),
        )

    def suffer(self, fault: Fault, hold_s: float) -> Outcome:
        """Bring a fault about, wait until it is told, leave it, take it away, await the mending."""
        notes, self.ear.longest_pause_s = self.notes, 0.0
        began_s = time.monotonic()
        fault.bring()
        until(fault.told, f"{fault.name} to be told")
        told_s, told = time.monotonic(), fault.told()
        time.sleep(hold_s)
        fault.take_away()
        over_s = time.monotonic()
        until(lambda: self.is_well() and fault.mended(), f"{fault.name} to be over")
        mended_s = time.monotonic()
        return Outcome(
            fault=fault.name,
            told=told,
            told_after_s=told_s - began_s,
            lasted_s=over_s - began_s,
            mended_after_s=mended_s - over_s,
            notes_heard=self.notes - notes,
            longest_pause_s=self.ear.longest_pause_s,
        )

    def end(self) -> tuple[int, int, float]:
        """End in form; sound dropped, messages lost, and by how much the sitting is misdated."""
        self._listener.stop()
        self._thread.join()
        (report,) = self._reports
        last = {name: report.published.last_seq.get(name, -1) for name in CHECKED}

        def lost() -> int:
            boot = self.publisher.boot
            return sum(len(self.dashboard.missing(boot, name, n)) for name, n in last.items())

        with suppress(SystemExit):
            until(lambda: lost() == 0, "everything that was published", 20.0)
        first = Record(self.card.place / "state").sittings()[0]
        self.dashboard.close()
        self.line.close()
        self.house.stop()
        return report.dropped_blocks, lost(), abs(first.start_ms / 1e3 - self.began_s)


def run(folder: Path, hold_s: float) -> Figures:
    """Leave each fault for so long after it was told; ``folder`` keeps broker and card."""
    began_s = time.monotonic()
    folder.chmod(0o755)  # mosquitto has a user of its own
    with a_card(folder / "card") as card:
        trial = Trial(folder, card, LONGEST_TRIAL_S)
        try:
            outcomes = tuple(trial.suffer(fault, hold_s) for fault in trial.faults())
            dropped_blocks, lost, off_by_s = trial.end()
        finally:
            trial.house.kill()
    return Figures(
        outcomes=outcomes,
        seconds=time.monotonic() - began_s,
        dropped_blocks=dropped_blocks,
        lost=lost,
        latest_live_note_s=trial.dashboard.latest_live_note_s,
        sitting_off_by_s=off_by_s,
    )


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--hold-s", type=float, default=30.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = run(Path(folder), options.hold_s)
    for outcome in figures.outcomes:
        print(
            f"{outcome.fault:24} told after {outcome.told_after_s:5.1f} s, lasted"
            f" {outcome.lasted_s:5.1f} s, mended after {outcome.mended_after_s:5.1f} s; notes"
            f" heard {outcome.notes_heard:4}, longest pause {outcome.longest_pause_s:.2f} s"
        )
        print(f"{'':24} {outcome.told}")
    report(figures, leaving_out=("outcomes",))
    return 0 if figures.good else 1


if __name__ == "__main__":
    sys.exit(main())
