from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from edge.messages import Session, SessionState
from edge.note import NoteEvent, NoteState, NoteUpdate, PedalEvent, Strike
from edge.publish.session import SILENCE_S, UPDATE_S, SessionLog


@dataclass(frozen=True)
class Candidate:
    """As `edge.matching` has it, as far as a session cares."""

    piece_id: str
    confidence: float = 0.9
    work_id: str = "w"
    title: str = "t"
    composer: str = "c"


@dataclass(frozen=True)
class Match:
    state: str
    candidates: tuple[Any, ...] = ()


def matched(piece_id: str, confidence: float = 0.9) -> Match:
    return Match("matched", (Candidate(piece_id, confidence),))


def note(onset_s: float, state: NoteState = NoteState.CONFIRMED) -> NoteUpdate:
    return NoteUpdate(int(onset_s * 1000), state, NoteEvent(60, onset_s, None, 64, 0.9))


def states(said: list[Session]) -> list[SessionState]:
    return [each.state for each in said]


def test_a_session_is_new_then_updated_then_ended_under_one_id():
    log = SessionLog(stream_start_mono_ms=500)
    said = [log.begin(0.0)]
    for second in range(1, 31):
        said += log.push([note(float(second))], now_s=float(second))
    said += log.close(31.0)
    assert states(said) == [SessionState.NEW, *[SessionState.UPDATE] * 3, SessionState.END]
    assert len({each.id for each in said}) == 1
    assert said[-1].notes == 30
    assert said[-1].minutes == pytest.approx(29 / 60, abs=0.001)
    assert said[-1].start_s == 1.0
    assert said[-1].stream_start_mono_ms == 500


def test_only_confirmed_notes_count():
    log = SessionLog()
    log.begin(0.0)
    others = [s for s in NoteState if s is not NoteState.CONFIRMED]
    log.push(
        [note(1.0, state) for state in others] + [PedalEvent(1.0, True), Strike(1.0, 0.3)], 1.0
    )
    assert log.close(2.0)[0].notes == 0


def test_without_notes_there_is_no_update():
    log = SessionLog()
    log.begin(0.0)
    log.push([note(1.0)], 1.0)
    assert states(log.push([], 1.0 + UPDATE_S)) == [SessionState.UPDATE]
    assert log.push([], 1.0 + 3 * UPDATE_S) == []


def test_a_long_silence_ends_a_session_and_the_next_note_begins_another():
    log = SessionLog()
    first = log.begin(0.0)
    log.push([note(1.0)], 1.0)
    ended = log.push([], 1.5 + SILENCE_S)
    assert states(ended) == [SessionState.END]
    assert ended[0].id == first.id
    assert log.push([], 2.0 + 2 * SILENCE_S) == []
    begun = log.push([note(800.0)], 800.2)
    assert states(begun) == [SessionState.NEW]
    assert begun[0].id != first.id
    assert log.close(801.0)[0].notes == 1


def test_listening_to_silence_ends_nothing():
    log = SessionLog()
    log.begin(0.0)
    assert log.push([], 10 * SILENCE_S) == []
    assert states(log.close(10 * SILENCE_S)) == [SessionState.END]


def test_closing_twice_ends_once():
    log = SessionLog()
    log.begin(0.0)
    assert len(log.close(1.0)) == 1
    assert log.close(2.0) == []


def test_pieces_are_listed_in_order_with_the_time_played():
    log = SessionLog()
    log.begin(0.0)
    log.push([note(0.0)], 0.0)
    log.push([matched("elise", 0.8)], 6.0)
    log.push([matched("elise", 0.95)], 30.0)
    log.push([matched("waltz")], 66.0)
    log.push([Match("lost")], 96.0)
    log.push([matched("elise", 0.7)], 100.0)
    log.push([note(130.0)], 130.0)
    end = log.close(140.0)[0]
    assert [p.piece_id for p in end.pieces] == ["elise", "waltz"]
    assert end.pieces[0].start_s == 6.0
    assert end.pieces[0].confidence == 0.95
    assert end.pieces[0].minutes == pytest.approx((60 + 30) / 60)
    assert end.pieces[1].minutes == pytest.approx(0.5)


def test_a_piece_still_being_played_counts_up_to_the_last_note():
    log = SessionLog()
    log.begin(0.0)
    log.push([matched("elise")], 6.0)
    said = log.push([note(36.0)], 36.2)
    assert said[0].pieces[0].minutes == pytest.approx(0.5)
