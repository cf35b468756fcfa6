"""Brokers killed, programs killed, a day without a broker, and what that leaves: short trials.

The long ones are the modules of `device.soak`, which these run with smaller figures.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import edge.publish.connection as connection_module
import edge.publish.disk_outbox as disk_outbox
import edge.publish.publisher as publisher_module
from device.soak import (
    broker_kills,
    card_wear,
    day_without_broker,
    faults,
    process_kills,
    throughput,
)
from device.soak.bench import Line
from edge.messages import Clock, HistoryNotes, Piece, PieceState, Session, SessionState
from edge.midi import write_midi
from edge.note import NoteEvent
from edge.publish.address import BrokerAddress
from edge.publish.clock import Stamp, rfc3339
from edge.publish.disk_outbox import DiskOutbox
from edge.publish.history import Record
from edge.publish.publisher import Publisher


def session(notes: int = 0) -> Session:
    return Session(id="a-sitting", state=SessionState.UPDATE, notes=notes)


@pytest.mark.slow
def test_of_thirty_broker_kills_none_loses_a_message(tmp_path):
    figures = broker_kills.run(30, tmp_path)
    assert figures.good, figures
    assert figures.seconds < 120
    assert figures.reconnects >= 25
    assert figures.memory_growth_mib < 8


@pytest.mark.slow
def test_of_two_dozen_killed_programs_none_leaves_a_damaged_outbox(tmp_path):
    figures = process_kills.run(24, tmp_path)
    assert figures.good, figures
    assert figures.seen_on_card > 500


@pytest.mark.slow
def test_a_day_without_a_broker_keeps_the_newest_within_bounds_and_tells_the_rest(tmp_path):
    figures = day_without_broker.run(tmp_path, hours=24.0)
    assert figures.good, figures


@pytest.fixture
def folder_for_mosquitto() -> Iterator[Path]:
    """A folder that mosquitto's own user may look into, which pytest's is not."""
    made = Path(tempfile.mkdtemp(prefix="sostenuto-faults-"))
    yield made
    shutil.rmtree(made)


@pytest.mark.slow
def test_whatever_fails_the_ear_goes_on_it_is_told_and_mends_by_itself(
    folder_for_mosquitto, monkeypatch
):
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode:
        pytest.skip("file systems cannot be mounted here")
    monkeypatch.setattr(publisher_module, "ACKNOWLEDGE_S", 2.0)
    monkeypatch.setattr(publisher_module, "LONGEST_RETRY_S", 1.0)
    monkeypatch.setattr(connection_module, "KEEPALIVE_S", 4)
    monkeypatch.setattr(disk_outbox, "RETRY_S", 1.0)
    figures = faults.run(folder_for_mosquitto, hold_s=1.0)
    assert len(figures.outcomes) == 7
    assert figures.good, figures


@pytest.mark.slow
def test_two_thousand_messages_a_second_go_through_outbox_and_broker(tmp_path):
    late_s, _ = throughput.flow(tmp_path, pace_per_s=2000, seconds=2.0)
    assert late_s < 5.0  # on a machine that does something else beside; the trial says 1 s


def test_an_hour_of_playing_writes_little(tmp_path):
    notes = [NoteEvent(40 + i % 40, i / 8, i / 8 + 0.2, 64, 1.0) for i in range(8 * 300)]
    write_midi(tmp_path / "etude.mid", notes)
    figures = card_wear.run([tmp_path / "etude.mid"], tmp_path / "state")
    assert figures.notes_per_hour == pytest.approx(8 * 3600, rel=0.05)
    assert figures.kept_mib_per_hour < 5
    assert figures.written_mib_per_hour < 40


@pytest.fixture
def piano(tmp_path) -> Iterator[object]:
    """Makes publishers with one outbox on disk, one after the other."""
    made: list[Publisher] = []

    def make(address: BrokerAddress, **options: object) -> Publisher:
        identity = f"endurance-{time.monotonic_ns()}"
        outbox = DiskOutbox(tmp_path / "state")
        made.append(Publisher(address, "parlour", outbox=outbox, identity=identity, **options))
        return made[-1]

    yield make
    for each in made:
        each.close(timeout_s=1.0)


def test_what_is_left_when_the_program_ends_is_sent_by_the_next(
    mosquitto, subscribe, piano, wait_until
):
    mosquitto.stop()
    first = piano(mosquitto.address)
    first.start()
    for i in range(7):
        first.publish("session", session(i))
    first.publish("piece", Piece(state=PieceState.SEARCHING))
    wait_until(lambda: first.counters.trouble, "the failed attempt")
    report = first.close()
    assert (report.dropped, report.undelivered, report.kept) == (0, 8, 8)
    mosquitto.start()
    dashboard = subscribe(mosquitto.address)
    second = piano(mosquitto.address)
    second.start(require_connection_s=20.0)
    second.publish("piece", Piece(state=PieceState.MATCHED, title="Arabesque"))
    dashboard.wait_for(lambda: len(dashboard.messages("session")) == 7, "what was left")
    assert all(m.json["historical"] for m in dashboard.messages("session"))
    assert {m.json["boot"] for m in dashboard.messages("session")} == {first.boot}
    dashboard.wait_for(
        lambda: (
            dashboard.messages("piece")[-1:]
            and dashboard.messages("piece")[-1].json["boot"] == second.boot
            and len(dashboard.messages("piece")) >= 2
        ),
        "both pieces, the present one last",
    )
    late = subscribe(mosquitto.address)
    late.wait_for(lambda: late.messages("piece"), "the retained piece")
    assert late.messages("piece")[0].json["title"] == "Arabesque"
    assert late.messages("session") == []


def test_a_slow_broker_holds_up_nobody_and_gets_everything(
    mosquitto, subscribe, piano, monkeypatch
):
    with Line(mosquitto.address, bytes_per_s=20_000) as slow:
        dashboard = subscribe(mosquitto.address)
        sender = piano(slow.address)
        sender.start(require_connection_s=20.0)
        longest_s = 0.0
        for i in range(300):
            began_s = time.monotonic()
            sender.publish("session", session(i))
            longest_s = max(longest_s, time.monotonic() - began_s)
        assert longest_s < 1.0
        dashboard.wait_for(lambda: set(dashboard.seqs("session")) == set(range(300)), "all of them")
        assert sender.counters.dropped == 0


def test_a_half_open_connection_is_noticed_and_what_was_on_its_way_goes_again(
    mosquitto, subscribe, piano, wait_until, monkeypatch
):
    monkeypatch.setattr(publisher_module, "ACKNOWLEDGE_S", 0.5)
    monkeypatch.setattr(connection_module, "KEEPALIVE_S", 2)
    with Line(mosquitto.address) as line:
        dashboard = subscribe(mosquitto.address)
        sender = piano(line.address)
        sender.start(require_connection_s=20.0)
        sender.publish("session", session(0))
        dashboard.wait_for(lambda: dashboard.seqs("session"), "the first")
        line.swallow()  # as when a router dies: no error, no answer
        sender.publish("session", session(1))
        wait_until(lambda: not sender.counters.connected, "the loss noticed")
        line.go_on()
        dashboard.wait_for(lambda: 1 in dashboard.seqs("session"), "the second")
    assert sender.counters.dropped == 0


def test_a_clock_that_jumps_changes_no_number_and_no_order(mosquitto, subscribe, piano, tmp_path):
    jumps = iter([0.0, 3.2e8, -1.6e9, 60.0, -60.0])
    ahead_s = [1.795e9]

    def stamp() -> Stamp:
        now_s = time.monotonic()
        return Stamp(rfc3339(ahead_s[0] + now_s), round(now_s * 1e3), Clock.NTP)

    dashboard = subscribe(mosquitto.address)
    sender = piano(mosquitto.address, now=stamp)
    sender.start(require_connection_s=20.0)
    for i in range(50):
        if i % 10 == 0:
            ahead_s[0] = max(0.0, ahead_s[0] + next(jumps))
        sender.publish("session", session(i))
        sender.publish("history/notes", HistoryNotes(session_id="s"))
    dashboard.wait_for(lambda: len(dashboard.seqs("history/notes")) == 50, "all of them")
    assert dashboard.seqs("session") == list(range(50))
    assert sender.counters.dropped == 0
    sender.close()
    assert Record(tmp_path / "state").sittings()  # to be read, whatever its times are


def test_what_waits_on_the_card_takes_no_memory(mosquitto, piano, monkeypatch, wait_until):
    monkeypatch.setattr(disk_outbox, "FRESH_MESSAGES", 100)
    mosquitto.stop()
    sender = piano(mosquitto.address)
    sender.start()
    for i in range(3000):
        sender.publish("session", session(i))
        if i % 500 == 0:
            time.sleep(0.15)
    wait_until(lambda: sender._lanes.kept == 3000, "all of it on the card")
    assert sender._lanes.pressing <= 100
