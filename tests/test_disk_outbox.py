"""What is told as kept is kept: the outbox on a card that fills, breaks, and loses its power."""

from __future__ import annotations

import resource
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.messages import (
    Clock,
    Envelope,
    EventMessage,
    HistoryNote,
    HistoryNotes,
    Piece,
    PieceState,
    Session,
    SessionState,
    decode,
    encode,
    topic_of,
)
from edge.publish.clock import Stamp, rfc3339
from edge.publish.disk_outbox import (
    DRAIN_BURST,
    DRAIN_PER_S,
    REPLAY_S,
    RETRY_S,
    SWEEP_S,
    Bounds,
    DiskOutbox,
)
from edge.publish.lanes import Dispatch, Lanes
from edge.publish.outbox import DropLedger, Outgoing
from edge.publish.store import FILE

WALL_S = 1_795_000_000.0
MESSAGES: dict[str, Envelope] = {
    "session": Session(id="s", state=SessionState.NEW),
    "piece": Piece(state=PieceState.SEARCHING),
    "event": EventMessage(kind="overrun"),
    "history/notes": HistoryNotes(
        session_id="s",
        notes=(
            HistoryNote(
                id=1, pitch_midi=60, onset_s=1.0, offset_s=1.5, velocity=64, confidence=0.9
            ),
        ),
    ),
}


class Start:
    """One start of the program, with a clock that moves when it is told to, and no network."""

    def __init__(
        self,
        folder: Path,
        boot: str = "first",
        bounds: Bounds | None = None,
        clock: Clock = Clock.NTP,
        now_s: float = 1000.0,
    ) -> None:
        self.boot = boot
        self.now_s = now_s
        self.clock = clock
        self.ahead_s = WALL_S
        self.outbox = DiskOutbox(folder, bounds or Bounds(), now_s=lambda: self.now_s)
        self.drops = DropLedger(boot)
        self.lanes = Lanes(self.outbox, self.drops)
        self.seq: dict[str, int] = {}
        self.events: list[EventMessage] = []

    def stamp(self) -> Stamp:
        wall = rfc3339(self.ahead_s + self.now_s)
        return Stamp(wall, round(self.now_s * 1e3), self.clock)

    def make(self, name: str, message: Envelope | None = None) -> None:
        seq = self.seq[name] = self.seq.get(name, -1) + 1
        stamp = self.stamp()
        stamped = msgspec.structs.replace(
            message or MESSAGES[name],
            boot=self.boot,
            seq=seq,
            t=stamp.t,
            mono_ms=stamp.mono_ms,
            clock=stamp.clock,
        )
        entry = Outgoing(
            topic_of(name), name, seq, encode(stamped), self.now_s, self.boot, stamp.mono_ms
        )
        self.lanes.accept(entry)

    def wait(self, seconds: float) -> None:
        self.now_s += seconds
        self.events += self.lanes.keep(self.stamp())

    def send(self) -> list[Dispatch]:
        sent = []
        while (dispatch := self.lanes.next(self.now_s, room=True)) is not None:
            sent.append(dispatch)
        return sent

    def deliver(self) -> list[str]:
        """Let the broker take everything, in its own time; each message in short."""
        told: list[str] = []
        while True:
            self.wait(0.2)
            sent = self.send()
            for dispatch in sent:
                self.lanes.acknowledge(dispatch.entry)
                told.append(in_short(dispatch))
            if not sent and not self.outbox.draining:
                return told

    def lose_broker(self) -> None:
        self.lanes.disconnected()

    def pull_the_plug(self) -> None:
        """Nothing more is written; what is on the card stays as it is."""
        self.outbox._close()


def in_short(dispatch: Dispatch) -> str:
    message = decode(dispatch.entry.name, dispatch.payload)
    assert isinstance(message, Envelope)
    marks = "r" * dispatch.retain + "h" * message.historical
    return f"{message.boot} {dispatch.entry.name} {message.seq}{' ' + marks if marks else ''}"


def rows(folder: Path, query: str) -> list[tuple[object, ...]]:
    connection = sqlite3.connect(folder / FILE)
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


@pytest.fixture
def start(tmp_path):
    """Makes starts of the program on one card; the one before is cut off."""
    made: list[Start] = []

    def begin(boot: str = "first", **options: object) -> Start:
        if made:
            made[-1].pull_the_plug()
            options.setdefault("now_s", made[-1].now_s + 60)
        made.append(Start(tmp_path / "state", boot, **options))
        return made[-1]

    yield begin
    made[-1].pull_the_plug()


def test_nothing_is_sent_before_it_is_on_the_card(start, tmp_path):
    piano = start()
    piano.make("session")
    assert piano.send() == []
    piano.wait(0.0)
    assert rows(tmp_path / "state", "SELECT name, seq FROM outbox") == [("session", 0)]
    assert [in_short(d) for d in piano.send()] == ["first session 0"]


def test_what_waited_when_the_power_went_is_sent_by_the_next_start_and_marked(start):
    piano = start()
    for name in ("session", "piece", "history/notes"):
        piano.make(name)
    piano.wait(0.0)
    again = start("second")
    again.make("session")
    assert again.deliver() == [
        "first session 0 h",
        "first piece 0 h",
        "first history/notes 0 h",
        "second session 0",
    ]
    assert again.deliver() == []
    assert len(again.lanes) == 0


def test_only_what_is_on_the_card_counts_as_kept(start):
    piano = start()
    piano.make("piece")
    assert (len(piano.lanes), piano.lanes.kept) == (1, 0)
    piano.wait(0.0)
    assert (len(piano.lanes), piano.lanes.kept) == (1, 1)


def test_what_a_killed_broker_may_have_forgotten_is_sent_again(start):
    piano = start()
    for _ in range(3):
        piano.make("session")
    assert piano.deliver() == ["first session 0", "first session 1", "first session 2"]
    piano.lose_broker()
    piano.make("session")
    repeated = piano.deliver()
    assert repeated == [
        "first session 0 h",
        "first session 1 h",
        "first session 2 h",
        "first session 3",
    ]
    assert len(piano.lanes) == 0
    assert piano.drops.total == 0


def test_what_is_on_its_way_again_stays_on_the_card_until_that_is_acknowledged(start):
    piano = start()
    piano.make("session")
    piano.deliver()
    piano.wait(REPLAY_S + 10)
    piano.make("event")
    piano.deliver()
    piano.lose_broker()
    assert [in_short(d) for d in piano.send()] == ["first session 0 h", "first event 0 h"]
    piano.wait(SWEEP_S + 1)  # the session was acknowledged so long ago that it might go
    piano.lose_broker()
    assert piano.deliver() == ["first session 0 h", "first event 0 h"]


def test_what_the_broker_has_had_for_long_is_not_sent_again(start, tmp_path):
    piano = start()
    piano.make("session")
    piano.deliver()
    piano.wait(REPLAY_S + 1)
    piano.make("session")
    piano.deliver()
    piano.wait(SWEEP_S + 1)
    assert rows(tmp_path / "state", "SELECT seq FROM outbox") == [(1,)]
    piano.lose_broker()
    assert piano.deliver() == ["first session 1 h"]


def test_two_sessions_and_two_batches_within_a_millisecond_are_both_recorded(start, tmp_path):
    piano = start()
    for name in ("a", "b"):
        piano.make("session", Session(id=name, state=SessionState.END, notes=1))
        piano.make("history/notes")
    piano.wait(0.0)
    assert piano.events == []
    assert len(rows(tmp_path / "state", "SELECT id FROM sessions")) == 2
    assert len(rows(tmp_path / "state", "SELECT id FROM history")) == 2


def test_what_the_broker_refused_is_not_sent_again_and_is_missing_once(start, tmp_path):
    piano = start()
    piano.make("session")
    piano.make("event")
    piano.wait(0.2)
    refused, taken = piano.send()
    piano.lanes.refuse(refused.entry)
    piano.lanes.acknowledge(taken.entry)
    piano.lose_broker()
    assert piano.deliver() == ["first event 0 h"]
    assert [(g.topic, g.first_seq, g.count) for g in piano.drops.take()] == [("session", 0, 1)]
    piano.wait(SWEEP_S)
    assert rows(tmp_path / "state", "SELECT name FROM outbox") == [("event",)]
    assert len(piano.lanes) == 0


def test_what_was_left_behind_is_let_through_slowly_and_holds_up_nothing_new(start):
    piano = start()
    for _ in range(500):
        piano.make("event")
    piano.wait(0.0)
    again = start("second")
    again.make("session")
    again.wait(0.0)
    first = [in_short(d) for d in again.send()]
    assert len(first) == DRAIN_BURST + 1
    assert first[-1] == "second session 0"
    began_s = again.now_s
    assert len(again.deliver()) + DRAIN_BURST == 500
    assert again.now_s - began_s >= (500 - 2 * DRAIN_BURST) / DRAIN_PER_S


def test_after_the_past_of_a_retained_topic_its_present_is_told_once_more(start):
    piano = start()
    piano.make("piece")
    piano.wait(0.0)
    again = start("second")
    again.make("piece")
    again.lanes.connected()
    assert again.deliver() == ["first piece 0 h", "second piece 0 r"]


def test_full_the_oldest_notes_go_first_then_the_oldest_of_the_rest(start):
    size = 400
    piano = start(bounds=Bounds(max_bytes=40 * size))
    for _ in range(10):
        piano.make("session")
    for _ in range(100):
        piano.make("history/notes")
        piano.wait(1.0)
    gaps = piano.drops.take()
    assert [(g.topic, g.first_seq) for g in gaps] == [("history/notes", 0)]
    assert gaps[0].count == gaps[0].last_seq + 1
    assert piano.outbox._bytes <= 40 * size
    assert piano.outbox._bytes >= 35 * size
    kept = piano.deliver()
    assert sum("session" in line for line in kept) == 10
    notes = [int(line.split()[2]) for line in kept if "history" in line]
    assert notes == list(range(gaps[0].last_seq + 1, 100))


def test_what_is_older_than_allowed_goes_by_the_time_that_the_program_ran(start):
    piano = start(bounds=Bounds(max_age_days=1.0))
    piano.make("session")
    piano.wait(0.0)
    piano.ahead_s += 10 * 365 * 86400.0  # the wall clock jumps: nothing happens
    piano.wait(SWEEP_S)
    assert len(piano.lanes) == 1
    for _ in range(25):
        piano.wait(3600.0)
    assert len(piano.lanes) == 0
    assert [(g.topic, g.first_seq) for g in piano.drops.take()] == [("session", 0)]


def test_age_goes_on_counting_in_the_next_start_whatever_its_clocks_say(start):
    piano = start(bounds=Bounds(max_age_days=1.0))
    piano.make("session")
    piano.wait(0.0)
    piano.wait(13 * 3600.0)
    piano.make("event")
    piano.wait(0.0)
    again = start("second", bounds=Bounds(max_age_days=1.0), now_s=5.0)
    again.make("event")
    again.wait(0.0)
    again.wait(12 * 3600.0)
    gone = again.drops.take()
    assert [(g.topic, g.first_seq, g.boot) for g in gone] == [("session", 0, "first")]
    assert len(again.lanes) == 2


def test_times_are_put_right_once_the_clock_is_known(start):
    piano = start(clock=Clock.UNSYNCED)
    piano.ahead_s = 0.0  # 1970: no battery, no network
    piano.make("session")
    piano.wait(0.0)
    made_s = piano.now_s
    again = start("second", clock=Clock.UNSYNCED)
    again.ahead_s = 0.0
    again.make("session")
    again.wait(5.0)
    again.ahead_s, again.clock = WALL_S, Clock.NTP
    again.make("session")
    again.wait(1.0)
    first = next(d for d in again.send() if d.entry.boot == "first")
    message = decode("session", first.payload)
    assert isinstance(message, Session)
    assert message.clock is Clock.NTP
    assert message.t == rfc3339(WALL_S + made_s)
    assert (message.boot, message.seq, message.mono_ms) == ("first", 0, round(made_s * 1e3))


def test_a_file_that_is_no_database_is_put_aside_and_publishing_goes_on(start, tmp_path):
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / FILE).write_bytes(b"a letter to Clara" * 100)
    piano = start()
    piano.make("session")
    piano.wait(0.0)
    assert [e.kind for e in piano.events] == ["outbox_put_aside"]
    assert "put aside as outbox.sqlite.aside" in piano.events[0].text
    assert (tmp_path / "state" / f"{FILE}.aside").read_bytes().startswith(b"a letter")
    assert piano.deliver() == ["first session 0"]
    assert rows(tmp_path / "state", "PRAGMA integrity_check") == [("ok",)]


def test_another_programs_database_is_put_aside_unharmed(start, tmp_path):
    (tmp_path / "state").mkdir()
    other = sqlite3.connect(tmp_path / "state" / FILE)
    other.execute("CREATE TABLE recipes (name TEXT)")
    other.commit()
    other.close()
    piano = start()
    piano.make("session")
    piano.wait(0.0)
    assert "belongs to another program" in piano.events[0].text
    aside = sqlite3.connect(tmp_path / "state" / f"{FILE}.aside")
    assert aside.execute("SELECT name FROM sqlite_master").fetchall() == [("recipes",)]
    aside.close()
    assert piano.deliver() == ["first session 0"]


def test_a_database_damaged_in_the_middle_is_put_aside_when_that_shows(start, tmp_path):
    piano = start()
    for _ in range(400):
        piano.make("history/notes")
    piano.wait(0.0)
    piano.outbox.keep(piano.stamp(), closing=True)
    path = tmp_path / "state" / FILE
    damaged = bytearray(path.read_bytes())
    assert len(damaged) > 8 * 4096
    for page in range(2, len(damaged) // 4096):
        damaged[page * 4096 : page * 4096 + 2048] = b"\xff" * 2048
    path.write_bytes(damaged)
    again = start("second")
    again.make("session")
    assert "second session 0" in again.deliver()
    assert "outbox_put_aside" in [e.kind for e in again.events]
    again.make("session")
    assert again.deliver() == ["second session 1"]


def test_a_row_that_cannot_be_read_is_dropped_and_named(start, tmp_path):
    piano = start()
    for _ in range(3):
        piano.make("session")
    piano.wait(0.0)
    piano.pull_the_plug()
    connection = sqlite3.connect(tmp_path / "state" / FILE)
    connection.execute("UPDATE outbox SET payload = 'scrambled' WHERE seq = 1")
    connection.commit()
    connection.close()
    again = start("second")
    again.make("session")
    assert again.deliver() == ["first session 0 h", "first session 2 h", "second session 0"]
    again.wait(SWEEP_S)
    gaps = again.drops.take()
    assert [(g.topic, g.boot, g.first_seq, g.count) for g in gaps] == [("session", "first", 1, 1)]
    assert len(again.lanes) == 0


@contextmanager
def full_card(spare_bytes: int, folder: Path) -> Iterator[None]:
    """No file of this process may grow past what the outbox has now, and some bytes."""
    used = max(path.stat().st_size for path in folder.iterdir() if path.suffix != ".sqlite-shm")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (used + spare_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_on_a_full_card_messages_wait_in_memory_and_go_back_to_it_by_themselves(start, tmp_path):
    piano = start()
    piano.make("session")
    piano.wait(0.0)
    with full_card(0, tmp_path / "state"):
        for _ in range(40):
            piano.make("history/notes")
            piano.wait(0.2)
        assert [e.kind for e in piano.events] == ["outbox_failed"]
        assert "messages wait in memory" in piano.events[0].text
        assert piano.drops.total == 0
        on_card = piano.outbox.kept
        assert on_card < 41
        piano.wait(RETRY_S)
        assert len(piano.events) == 1  # said once, however often it is tried
    piano.wait(RETRY_S)
    piano.wait(0.2)
    assert [e.kind for e in piano.events] == ["outbox_failed", "outbox_recovered"]
    assert piano.outbox.kept == 41
    again = start("second")
    again.make("session")
    delivered = again.deliver()
    assert len(delivered) == 42
    assert len(set(delivered)) == 42


def test_on_a_full_card_publishing_goes_on(start, tmp_path):
    piano = start()
    piano.make("session")
    piano.wait(0.0)
    with full_card(0, tmp_path / "state"):
        for _ in range(5):
            piano.make("piece")
            piano.make("event")
        delivered = piano.deliver()
    assert "first event 4" in delivered
    assert piano.drops.total == 0


def test_where_nothing_can_be_written_memory_does_until_it_can(tmp_path):
    place = tmp_path / "state"
    place.symlink_to("/proc/nothing-can-be-made-here")
    piano = Start(place)
    for _ in range(3):
        piano.make("session")
    assert piano.deliver() == [f"first session {i}" for i in range(3)]
    assert [e.kind for e in piano.events] == ["outbox_failed"]
    piano.make("session")
    piano.make("history/notes")
    place.unlink()
    piano.wait(RETRY_S)
    assert piano.outbox.kept == 2
    assert [e.kind for e in piano.events] == ["outbox_failed", "outbox_recovered"]
    assert piano.deliver() == ["first session 3 h", "first history/notes 0 h"]
    piano.pull_the_plug()


def test_messages_that_came_before_the_card_could_be_read_follow_those_on_it(start, tmp_path):
    piano = start()
    for _ in range(5):
        piano.make("session")
    piano.wait(0.0)
    piano.pull_the_plug()
    state = tmp_path / "state"
    state.rename(tmp_path / "away")
    state.symlink_to("/proc/nothing-can-be-made-here")
    again = start("second")
    again.make("session")
    again.wait(1.0)
    state.unlink()
    (tmp_path / "away").rename(state)
    again.wait(RETRY_S)
    assert again.deliver() == [*(f"first session {i} h" for i in range(5)), "second session 0 h"]


def test_broker_and_card_lost_together_leave_nothing_unsent(start):
    piano = start()
    for _ in range(200):
        piano.make("event")
    piano.wait(0.0)
    again = start("second")
    again.make("session")
    again.wait(0.2)
    on_their_way = again.send()
    assert len(on_their_way) == DRAIN_BURST + 1
    again.outbox._fail("the card came loose")
    again.lose_broker()
    again.make("session")
    again.wait(RETRY_S)
    delivered = again.deliver()
    assert {f"first event {i} h" for i in range(200)} <= set(delivered)
    assert sum(line.startswith("second session") for line in delivered) == 2
    assert len(again.lanes) == 0


def test_two_listeners_do_not_share_an_outbox(start, tmp_path):
    piano = start()
    piano.make("session")
    piano.wait(0.0)
    other = Start(tmp_path / "state", "other")
    other.make("session")
    assert other.deliver() == ["other session 0"]
    assert "another listener" in other.events[0].text
    assert piano.deliver() == ["first session 0"]


STEPS = st.one_of(
    st.sampled_from(sorted(MESSAGES)),
    st.sampled_from(
        ["connect", "lose", "send", "acknowledge one", "wait", "long wait", "plug", "card"]
    ),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(STEPS, max_size=50))
def test_whatever_happens_what_was_on_the_card_is_delivered_or_named(tmp_path_factory, steps):
    folder = tmp_path_factory.mktemp("card")
    bounds = Bounds(max_bytes=3000)
    piano = Start(folder, "b0", bounds)
    connected = False
    sent: list[Dispatch] = []
    content: dict[tuple[str, str, int], bytes] = {}
    promised: set[tuple[str, str, int]] = set()
    delivered: set[tuple[str, str, int]] = set()
    missing: set[tuple[str, str, int]] = set()

    def count_drops() -> None:
        for gap in piano.drops.take():
            assert gap.last_seq - gap.first_seq + 1 == gap.count
            for seq in range(gap.first_seq, gap.last_seq + 1):
                missing.add((gap.boot or piano.boot, gap.topic, seq))

    def deliver(dispatch: Dispatch) -> None:
        key = dispatch.entry.key
        alike = dispatch.payload.replace(b'"historical":true', b'"historical":false')
        assert content.setdefault(key, alike) == alike
        delivered.add(key)
        piano.lanes.acknowledge(dispatch.entry)

    for step in [*steps, "plug", "connect", "finish"]:
        if step in MESSAGES:
            piano.make(step)
        elif step == "connect" and not connected:
            piano.lanes.connected()
            connected = True
        elif step == "lose" and connected:
            piano.lanes.disconnected()
            sent.clear()
            connected = False
        elif step in ("send", "finish") and connected:
            for _ in range(1 if step == "send" else 20):
                piano.wait(0.2)
                sent += piano.send()
                if step == "finish":
                    for dispatch in sent:
                        deliver(dispatch)
                    sent.clear()
        elif step == "acknowledge one" and sent:
            deliver(sent.pop(0))
        elif step == "wait":
            piano.wait(0.2)
        elif step == "long wait":
            piano.wait(100.0)
        elif step == "card":
            piano.outbox._fail("the card came loose")
        elif step == "plug":
            piano.wait(RETRY_S)
            piano.wait(0.2)
            promised |= {
                (piano.boot, n, i) for n, last in piano.seq.items() for i in range(last + 1)
            }
            count_drops()
            piano.pull_the_plug()
            piano = Start(folder, f"b{len(promised)}-{piano.boot}", bounds, now_s=piano.now_s + 9)
            piano.make("session")
            piano.wait(0.2)
            sent.clear()
            connected = False
    count_drops()
    assert promised <= delivered | missing
    assert len(piano.lanes) == 0
    piano.pull_the_plug()


@pytest.fixture
def small_card(tmp_path) -> Iterator[Path]:
    """A file system of half a MiB of its own, where this user may mount one."""
    place = tmp_path / "card"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(place)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("file systems cannot be mounted here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_card_that_others_fill_is_lived_with_until_they_make_room(small_card):
    piano = Start(small_card / "state")
    piano.make("session")
    piano.wait(0.0)
    ballast = small_card / "holiday.mov"
    with suppress(OSError), ballast.open("wb") as film:
        while True:
            film.write(bytes(4096))
            film.flush()
    for _ in range(40):
        piano.make("history/notes")
        piano.wait(0.2)
    assert [e.kind for e in piano.events] == ["outbox_failed"]
    assert len(piano.deliver()) == 41
    for _ in range(40):
        piano.make("history/notes")
    ballast.unlink()
    piano.wait(RETRY_S)
    piano.wait(0.2)
    assert [e.kind for e in piano.events] == ["outbox_failed", "outbox_recovered"]
    assert piano.outbox.kept == 40
    assert piano.drops.total == 0
    piano.pull_the_plug()


def test_a_card_that_becomes_read_only_is_lived_with_until_it_is_not(small_card):
    piano = Start(small_card / "state")
    piano.make("session")
    piano.wait(0.0)
    piano.outbox.keep(piano.stamp(), closing=True)
    remount = ["mount", "-o", "remount,ro", str(small_card)]
    subprocess.run(remount, check=True)
    again = Start(small_card / "state", "second")
    again.make("session")
    assert again.deliver() == ["second session 0"]
    assert [e.kind for e in again.events] == ["outbox_failed"]
    again.make("session")
    remount[2] = "remount,rw"
    subprocess.run(remount, check=True)
    again.wait(RETRY_S)
    assert "first session 0 h" in again.deliver()
    assert [e.kind for e in again.events] == ["outbox_failed", "outbox_recovered"]
    again.pull_the_plug()
