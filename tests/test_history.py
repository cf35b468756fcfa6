"""What was played is found by time, whatever the clocks did, and is gone when it is erased."""

from __future__ import annotations

import json
import sqlite3
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from edge.cli.app import run_command
from edge.errors import InputError, UsageError
from edge.messages import (
    Clock,
    Envelope,
    HistoryNote,
    HistoryNotes,
    PedalMessage,
    PiecePlayed,
    Session,
    SessionState,
    encode,
    topic_of,
)
from edge.midi import read_midi
from edge.note import NoteEvent, NoteState, NoteUpdate, PedalEvent
from edge.publish.clock import Stamp, rfc3339
from edge.publish.disk_outbox import SWEEP_S, Bounds, DiskOutbox
from edge.publish.history import (
    BATCH_S,
    FOREVER_MS,
    HistoryLog,
    PedalMoved,
    Played,
    Record,
    answer_history,
    wall_ms,
)
from edge.publish.outbox import Outgoing
from edge.publish.store import FILE, state_folder

EVENING_S = datetime(2026, 11, 20, 18, 0, tzinfo=UTC).timestamp()


def ended(number: int, onset_s: float, offset_s: float) -> NoteUpdate:
    note = NoteEvent(60 + number % 12, onset_s, offset_s, 64, 0.98765)
    return NoteUpdate(number, NoteState.ENDED, note)


def test_ended_notes_are_gathered_for_two_seconds():
    log = HistoryLog(stream_start_mono_ms=500)
    assert log.push([ended(1, 0.5, 1.0)], 1.0, "s") == []
    assert log.push([ended(2, 1.5, 2.0), PedalEvent(2.1, True)], 2.2, "s") == []
    (batch,) = log.push([], 1.0 + BATCH_S, "s")
    assert [n.id for n in batch.notes] == [1, 2]
    assert batch.notes[0].confidence == 0.988
    assert [(p.t_s, p.down) for p in batch.pedal] == [(2.1, True)]
    assert (batch.session_id, batch.stream_start_mono_ms) == ("s", 500)
    assert log.push([], 60.0, "s") == []
    assert log.flush() == []


def test_only_notes_that_have_ended_are_history():
    log = HistoryLog()
    steps = [
        NoteUpdate(1, state, NoteEvent(60, 1.0, None, 64, 0.5))
        for state in NoteState
        if state is not NoteState.ENDED
    ]
    log.push(steps, 1.0, "s")
    assert log.flush() == []


def test_a_new_session_begins_a_new_batch():
    log = HistoryLog()
    log.push([ended(1, 0.5, 1.0)], 1.0, "first")
    (batch,) = log.push([ended(2, 1.1, 1.2)], 1.3, "second")
    assert (batch.session_id, len(batch.notes)) == ("first", 1)
    assert log.flush()[0].session_id == "second"


class Evening:
    """Starts of the program that record what is played at given minutes of one evening."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def play(
        self,
        boot: str,
        minutes: range,
        *,
        mono_at_six_s: float,
        clock: Clock = Clock.NTP,
        wall_off_s: float = 0.0,
        set_in_the_end: bool = False,
    ) -> None:
        """A note at each full minute after six; the monotonic clock is ``mono_at_six_s`` at six."""
        now_s = [mono_at_six_s]
        outbox = DiskOutbox(self.folder, now_s=lambda: now_s[0], computer_start=boot)
        ahead_s = EVENING_S - mono_at_six_s

        def stamp(quality: Clock = clock, off_s: float = wall_off_s) -> Stamp:
            return Stamp(rfc3339(ahead_s + off_s + now_s[0]), round(now_s[0] * 1e3), quality)

        def say(name: str, seq: int, message: Envelope) -> None:
            at = stamp()
            stamped = msgspec.structs.replace(
                message, boot=boot, seq=seq, t=at.t, mono_ms=at.mono_ms, clock=at.clock
            )
            entry = Outgoing(topic_of(name), name, seq, encode(stamped), now_s[0], boot, at.mono_ms)
            outbox.append(entry)

        start_ms = round((mono_at_six_s - 3600) * 1e3)
        for seq, minute in enumerate(minutes):
            now_s[0] = mono_at_six_s + 60 * minute + 1
            onset_s = 3600.0 + 60 * minute
            batch = HistoryNotes(
                session_id=f"{boot}'s",
                notes=(
                    HistoryNote(
                        id=seq,
                        pitch_midi=60 + minute % 12,
                        onset_s=onset_s,
                        offset_s=onset_s + 0.5,
                        velocity=70,
                        confidence=0.9,
                    ),
                ),
                pedal=(PedalMessage(t_s=onset_s + 0.1, down=True),),
                stream_start_mono_ms=start_ms,
            )
            say("history/notes", seq, batch)
            piece = PiecePlayed(
                piece_id="p",
                work_id="w",
                title="Träumerei",
                composer="Schumann",
                confidence=1.0,
                start_s=0.0,
                minutes=1.0,
            )
            session = Session(
                id=f"{boot}'s",
                state=SessionState.UPDATE,
                notes=seq + 1,
                minutes=float(minute - minutes[0]),
                pieces=(piece,),
                start_s=3600.0 + 60 * minutes[0],
                stream_start_mono_ms=start_ms,
            )
            say("session", seq, session)
            outbox.keep(stamp())
        if set_in_the_end:
            outbox.keep(stamp(Clock.NTP, 0.0))
            now_s[0] += 1
        outbox.keep(stamp(Clock.NTP, 0.0) if set_in_the_end else stamp(), closing=True)


@pytest.fixture
def evening(tmp_path):
    return Evening(tmp_path / "state")


def at_minute(minute: float) -> float:
    return (EVENING_S + 60 * minute) * 1e3


def minutes_of(record: Record, since: float, until: float) -> list[float]:
    found = record.played(at_minute(since), at_minute(until))
    return [(e.onset_ms / 1e3 - EVENING_S) / 60 for e in found if isinstance(e, Played)]


def test_notes_are_found_by_the_time_at_which_they_were_struck(evening):
    evening.play("first", range(30), mono_at_six_s=5000.0)
    record = Record(evening.folder)
    assert minutes_of(record, 10, 13) == [10, 11, 12]
    assert minutes_of(record, 28.5, 60) == [29]
    assert minutes_of(record, -60, 0) == []
    pedal = [e for e in record.played(at_minute(3), at_minute(4)) if isinstance(e, PedalMoved)]
    assert [(e.at_ms, e.down) for e in pedal] == [(at_minute(3) + 100, True)]


def test_several_starts_are_one_record_though_each_has_its_own_monotonic_clock(evening):
    evening.play("first", range(10), mono_at_six_s=90_000.0)
    evening.play("second", range(20, 30), mono_at_six_s=-1000.0 + 2000)
    assert minutes_of(Record(evening.folder), 8, 22) == [8, 9, 20, 21]


def test_a_clock_that_was_set_late_puts_the_whole_start_right(evening):
    evening.play(
        "first",
        range(10),
        mono_at_six_s=4000.0,
        clock=Clock.UNSYNCED,
        wall_off_s=-50 * 365 * 86400.0,
        set_in_the_end=True,
    )
    record = Record(evening.folder)
    assert minutes_of(record, 4, 6) == [4, 5]
    assert record.sittings()[0].clock is Clock.NTP


def test_a_clock_that_was_never_set_says_so(evening):
    evening.play(
        "first",
        range(3),
        mono_at_six_s=4000.0,
        clock=Clock.UNSYNCED,
        wall_off_s=-50 * 365 * 86400.0,
    )
    assert Record(evening.folder).sittings()[0].clock is Clock.UNSYNCED


def test_a_time_is_found_without_looking_at_the_rest(evening):
    evening.play("first", range(30), mono_at_six_s=5000.0)
    connection = sqlite3.connect(evening.folder / FILE)
    plan = connection.execute(
        "EXPLAIN QUERY PLAN SELECT id, payload FROM history WHERE id BETWEEN 1 AND 2 ORDER BY id"
    ).fetchall()
    connection.close()
    assert [row[3] for row in plan] == [
        "SEARCH history USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)"
    ]


def test_sessions_are_listed_once_with_their_newest_figures(evening):
    evening.play("first", range(10), mono_at_six_s=5000.0)
    evening.play("second", range(20, 30), mono_at_six_s=5000.0)
    record = Record(evening.folder)
    assert [(s.session.id, s.session.notes) for s in record.sittings()] == [
        ("first's", 10),
        ("second's", 10),
    ]
    assert record.sittings()[1].start_ms == at_minute(20)
    assert [s.session.id for s in record.sittings(at_minute(5), at_minute(7))] == ["first's"]
    assert [s.session.id for s in record.sittings(at_minute(25))] == ["second's"]


def test_what_is_erased_is_nowhere_on_the_card_and_is_not_sent(evening):
    evening.play("first", range(10), mono_at_six_s=5000.0)
    evening.play("second", range(20, 30), mono_at_six_s=5000.0)
    record = Record(evening.folder)
    erased = record.erase(at_minute(-1), at_minute(15))
    assert (erased.batches, erased.sessions, erased.waiting) == (10, 1, 20)
    assert minutes_of(record, -1, 60) == list(range(20, 30))
    assert [s.session.id for s in record.sittings()] == ["second's"]
    everything = b"".join(path.read_bytes() for path in evening.folder.iterdir())
    assert b"first's" not in everything
    assert b"second's" in everything


def test_erasing_all_leaves_nothing_put_aside_either(evening):
    evening.play("first", range(3), mono_at_six_s=5000.0)
    (evening.folder / f"{FILE}.aside").write_bytes(b"first's")
    Record(evening.folder).erase()
    everything = b"".join(path.read_bytes() for path in evening.folder.iterdir())
    assert b"first's" not in everything


def test_a_listener_goes_on_while_another_program_erases(evening):
    evening.play("before", range(10), mono_at_six_s=5000.0)
    now_s = [9000.0]
    outbox = DiskOutbox(evening.folder, now_s=lambda: now_s[0], computer_start="now")
    stamp = Stamp(rfc3339(EVENING_S + 7200), 9_000_000, Clock.NTP)
    session = Session(
        id="now", state=SessionState.NEW, notes=1, boot="now", t=stamp.t, mono_ms=stamp.mono_ms
    )
    entry = Outgoing(topic_of("session"), "session", 0, encode(session), 9000.0, "now", 9_000_000)
    outbox.append(entry)
    outbox.keep(stamp)
    assert len(outbox) == 21
    Record(evening.folder).erase(0.0, at_minute(30))
    now_s[0] += SWEEP_S + 1
    outbox.keep(stamp)
    assert len(outbox) == 1
    sent = outbox.next()
    assert sent is not None
    assert sent.key == entry.key
    assert outbox.next() is None
    outbox.keep(stamp, closing=True)


def test_a_record_too_large_gives_up_its_oldest(tmp_path, monkeypatch):
    monkeypatch.setattr("edge.publish.store.TRIM_ROWS", 50)
    evening = Evening(tmp_path / "state")
    evening.play("first", range(300), mono_at_six_s=5000.0)
    now_s = [90_000.0]
    bounds = Bounds(record_bytes=100_000)
    outbox = DiskOutbox(evening.folder, bounds, now_s=lambda: now_s[0], computer_start="later")
    entry = Outgoing(topic_of("event"), "event", 0, b"{}", 0.0, "b", 0)
    outbox.append(entry)
    for _ in range(8):
        now_s[0] += SWEEP_S + 1
        outbox.keep(Stamp(rfc3339(EVENING_S), 0, Clock.NTP))
    outbox.keep(Stamp(rfc3339(EVENING_S), 0, Clock.NTP), closing=True)
    kept = minutes_of(Record(evening.folder), -1, 400)
    assert 0 < len(kept) < 300
    assert kept == list(range(300 - len(kept), 300))


def test_a_record_too_old_is_forgotten_by_the_time_that_the_program_ran(tmp_path):
    folder, now_s, wall_s = tmp_path / "state", [50.0], [EVENING_S]

    def stamp() -> Stamp:
        return Stamp(rfc3339(wall_s[0] + now_s[0]), round(now_s[0] * 1e3), Clock.NTP)

    def a_start(boot: str, from_s: float) -> DiskOutbox:
        now_s[0] = from_s
        bounds = Bounds(record_days=7.0)
        return DiskOutbox(folder, bounds, now_s=lambda: now_s[0], computer_start=boot)

    def run_for(outbox: DiskOutbox, boot: str, days: int) -> None:
        """A note and its session each day."""
        for _ in range(days):
            at_s = now_s[0]
            note = HistoryNote(
                id=1, pitch_midi=60, onset_s=0.0, offset_s=1.0, velocity=64, confidence=0.9
            )
            of_the_day = {"boot": boot, "seq": round(at_s), "mono_ms": round(at_s * 1e3)}
            for name, made in (
                ("history/notes", HistoryNotes(session_id=f"{boot} {at_s}", notes=(note,))),
                ("session", Session(id=f"{boot} {at_s}", state=SessionState.END, notes=1)),
            ):
                message = msgspec.structs.replace(made, t=stamp().t, **of_the_day)
                topic, seq = topic_of(name), message.seq
                outbox.append(
                    Outgoing(topic, name, seq, encode(message), at_s, boot, message.mono_ms)
                )
            outbox.keep(stamp())
            now_s[0] += 86_400.0
            outbox.keep(stamp())

    def kept() -> list[str]:
        record = Record(folder)
        ids = [sitting.session.id for sitting in record.sittings()]
        assert [played.session_id for played in record.played()] == ids
        return ids

    first = a_start("first", 50.0)
    run_for(first, "first", 5)
    wall_s[0] += 3.2e8  # ten years in a moment
    first.keep(stamp())
    assert len(kept()) == 5
    run_for(first, "first", 5)
    assert kept() == [f"first {50.0 + 86_400 * day}" for day in range(3, 10)]
    first.keep(stamp(), closing=True)
    second = a_start("second", 20.0)
    run_for(second, "second", 3)
    assert len(kept()) == 7 + 3  # of an earlier start is known when it was last heard of
    run_for(second, "second", 5)
    assert kept() == [f"second {20.0 + 86_400 * day}" for day in range(1, 8)]
    second.keep(stamp(), closing=True)


def test_a_command_is_answered_by_time_and_within_bounds(evening):
    evening.play("first", range(30), mono_at_six_s=5000.0)
    sessions = answer_history(evening.folder, None)
    assert sessions["more"] is False
    assert sessions["sessions"][0]["pieces"][0]["title"] == "Träumerei"
    assert sessions["sessions"][0]["t"] == rfc3339(EVENING_S)
    notes = answer_history(
        evening.folder,
        {"what": "notes", "from": "2026-11-20T18:10:00Z", "to": "2026-11-20T18:20:00Z", "limit": 3},
    )
    assert notes["more"] is True
    assert [n["t"] for n in notes["notes"]] == [rfc3339(EVENING_S + 60 * m) for m in (10, 11, 12)]
    assert notes["notes"][0] == {
        "t": "2026-11-20T18:10:00.000Z",
        "pitch_midi": 70,
        "duration_s": 0.5,
        "velocity": 70,
        "confidence": 0.9,
        "session_id": "first's",
    }
    assert answer_history(evening.folder, {"what": "notes", "session_id": "no"})["notes"] == []


@pytest.mark.parametrize(
    ("question", "says"),
    [
        ({"what": "sound"}, "what 'sound': allowed are sessions and notes"),
        ({"limit": 0}, "limit 0: allowed are 1 to 100"),
        ({"what": "notes", "limit": 10_000}, "limit 10000: allowed are 1 to 500"),
        ({"from": "yesterday"}, "time 'yesterday': write 2026-11-20"),
        ({"form": "2026"}, "allowed are what, from, to, session_id and limit"),
        ([], "history: "),
        ({"from": 5}, "history: "),
    ],
)
def test_a_question_that_cannot_be_understood_is_refused(evening, question, says):
    evening.play("first", range(1), mono_at_six_s=5000.0)
    with pytest.raises(UsageError, match=says):
        answer_history(evening.folder, question)


def test_where_nothing_was_recorded_one_line_says_so(tmp_path):
    with pytest.raises(InputError, match="nothing was recorded there"):
        Record(tmp_path).sittings()
    (tmp_path / FILE).write_bytes(b"no database at all, but of some length" * 50)
    with pytest.raises(InputError, match="is it an outbox"):
        Record(tmp_path).sittings()


def test_a_time_without_a_zone_is_the_systems():
    assert wall_ms("2026-11-20T18:00:00Z") == EVENING_S * 1e3
    assert wall_ms("2026-11-20") == datetime(2026, 11, 20).astimezone().timestamp() * 1e3


def test_the_command_lists_writes_out_and_erases(evening, tmp_path, capsys):
    evening.play("first", range(5), mono_at_six_s=5000.0)
    at = ["--outbox", str(evening.folder)]
    assert run_command(["history", "list", *at]) == 0
    line = capsys.readouterr().out
    assert "5 notes  Träumerei" in line
    midi, document = tmp_path / "evening.mid", tmp_path / "evening.json"
    assert run_command(["history", "export", "--out", str(midi), *at]) == 0
    written = read_midi(midi)
    assert [n.pitch_midi for n in written.notes] == [60, 61, 62, 63, 64]
    assert [n.onset_s for n in written.notes] == pytest.approx([0, 60, 120, 180, 240], abs=0.01)
    assert run_command(["history", "export", "--out", str(document), *at]) == 0
    read = json.loads(document.read_text("utf-8"))
    assert len(read["notes"]) == len(read["pedal"]) == 5
    assert read["sessions"][0]["id"] == "first's"
    capsys.readouterr()
    assert run_command(["history", "erase", *at]) == 2
    assert run_command(["history", "erase", "--all", "--json", *at]) == 0
    assert json.loads(capsys.readouterr().out) == {"batches": 5, "sessions": 1, "waiting": 10}
    assert run_command(["history", "list", "--json", *at]) == 0
    assert json.loads(capsys.readouterr().out) == {"sessions": []}
    assert run_command(["history", "export", "--out", str(midi), *at]) == 3


@pytest.mark.parametrize(
    "wrong",
    [
        ["burn"],
        ["export"],
        ["list", "--out", "x.mid"],
        ["export", "--out", "x.wav"],
        ["erase", "--all", "--from", "2026"],
    ],
)
def test_a_wrong_command_is_one_line(evening, wrong, capsys):
    evening.play("first", range(1), mono_at_six_s=5000.0)
    assert run_command(["history", *wrong, "--outbox", str(evening.folder)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_state_lies_where_systemd_says_else_where_the_user_keeps_it(monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", "/home/clara/state")
    assert state_folder() == Path("/home/clara/state/sostenuto")
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/sostenuto:/var/lib/other")
    assert state_folder() == Path("/var/lib/sostenuto")


def test_forever_is_longer_than_any_clock():
    assert datetime(9999, 1, 1, tzinfo=UTC).timestamp() * 1e3 < FOREVER_MS
