"""Positions are told at once, then at most four a second; what is lost is told once."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from edge.following import Position
from edge.publish.pace import POSITIONS_PER_S, PositionPace

HERE = Position(1.0, 4.0, 2, 1.0, 120.0, 1.0, 0.9, False, "elise", 2.0, 1.5, 4.0)


def at(t_s: float, bar: int = 2, *, lost: bool = False, piece_id: str = "elise") -> Position:
    return replace(HERE, t_s=t_s, until_s=t_s + 1.0, bar=bar, lost=lost, piece_id=piece_id)


def test_the_first_is_told_at_once_and_the_newest_of_those_that_follow_in_its_time() -> None:
    pace = PositionPace()
    assert pace.push([at(1.0)], 1.0) == [at(1.0)]
    assert pace.push([at(1.1)], 1.1) == []
    assert pace.push([at(1.2)], 1.2) == []
    assert pace.push([], 1.24) == []
    assert pace.push([], 1.25) == [at(1.2)]
    assert pace.push([], 9.0) == []


def test_a_place_is_carried_on_until_the_next_can_be_told_and_then_waits() -> None:
    pace = PositionPace()
    fast = replace(at(1.0), until_s=1.1)
    assert pace.push([fast], 1.05) == [replace(fast, until_s=1.3)]
    assert pace.push([], 1.2) == []
    assert pace.push([], 1.31) == [fast]
    assert pace.push([], 2.0) == []


def test_while_notes_come_nothing_is_told_twice() -> None:
    pace = PositionPace()
    played = [replace(at(tick / 10), until_s=tick / 10 + 0.1) for tick in range(10, 30)]
    told = [p for position in played for p in pace.push([position], position.t_s)]
    assert [position.t_s for position in told] == sorted({position.t_s for position in told})


def test_losing_the_place_is_told_at_once_and_once_with_the_last_sure_bar() -> None:
    pace = PositionPace()
    pace.push([at(1.0, bar=7)], 1.0)
    assert pace.push([at(1.1, bar=7)], 1.1) == []
    assert pace.push([at(1.2, bar=99, lost=True)], 1.2) == [at(1.2, bar=7, lost=True)]
    assert pace.push([at(1.3, bar=98, lost=True)], 1.6) == []
    assert pace.push([at(1.7, bar=20)], 1.8) == [at(1.7, bar=20)]


def test_a_place_that_was_never_sure_is_never_told() -> None:
    pace = PositionPace()
    assert pace.push([at(1.0, lost=True)], 1.0) == []
    assert pace.push([at(2.0, lost=True, piece_id="other")], 2.0) == []


def test_one_piece_ends_and_the_next_begins_in_one_breath() -> None:
    pace = PositionPace()
    pace.push([at(1.0)], 1.0)
    last_word = at(2.0, lost=True)
    first = at(2.1, bar=1, piece_id="other")
    assert pace.push([last_word, first], 2.5) == [last_word]
    assert pace.push([], 2.75) == [first]


@given(st.lists(st.floats(0.0, 0.3), max_size=60))
def test_never_more_than_four_a_second(gaps_s: list[float]) -> None:
    pace, now_s, told_s = PositionPace(), 0.0, []
    for gap_s in gaps_s:
        now_s += gap_s
        told_s += [now_s for _ in pace.push([at(now_s)], now_s)]
    for first, fifth in zip(told_s, told_s[POSITIONS_PER_S:], strict=False):
        assert fifth - first >= 1.0 - 1e-9
