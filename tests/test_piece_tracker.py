"""The piece, live: named soon, kept, lost, exchanged; the same for any split of the notes."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from edge.matching import Catalogue, MatchState, PieceMatch, PieceTracker
from edge.matching.tracker import LOST_AFTER, SILENCE_S
from edge.note import NoteEvent
from tests.tunes import made_up_score, noise, played

SCORES = [made_up_score(seed) for seed in range(30)]
CATALOGUE = Catalogue.from_scores(SCORES[:20])
HEARD_AFTER_S = 0.2


def listen(
    tracker: PieceTracker, notes: list[NoteEvent], until_s: float, from_s: float = 0.0
) -> list[tuple[float, PieceMatch]]:
    """Notes as they come, ten times a second; what was published, and when."""
    told = []
    waiting = sorted(notes, key=lambda note: note.onset_s)
    for tick in range(int(from_s * 10), int(until_s * 10) + 1):
        now_s = tick / 10
        come = [note for note in waiting if note.onset_s + HEARD_AFTER_S <= now_s]
        waiting = waiting[len(come) :]
        match = tracker.push(come, now_s)
        if match is not None:
            told.append((now_s, match))
    return told


def test_a_piece_is_named_within_ten_seconds_and_kept() -> None:
    told = listen(PieceTracker(CATALOGUE), played(SCORES[3], 0.0, 60.0), 30.0)
    named = [(at_s, match) for at_s, match in told if match.state is MatchState.MATCHED]
    assert named[0][0] < 10.0
    assert {match.candidates[0].piece_id for _, match in named} == {"piece-3"}
    assert told[-1][1].state is MatchState.MATCHED


def test_nothing_is_published_while_nothing_changes() -> None:
    told = listen(PieceTracker(CATALOGUE), played(SCORES[3], 0.0, 80.0), 40.0)
    matched = [match for _, match in told if match.state is MatchState.MATCHED]
    assert 1 <= len(matched) <= 4


def test_the_player_goes_on_to_another_piece() -> None:
    tracker = PieceTracker(CATALOGUE)
    notes = played(SCORES[3], 0.0, 40.0) + played(SCORES[7], 0.0, 60.0, start_s=21.0)
    told = listen(tracker, notes, 50.0)
    named = [m.candidates[0].piece_id for _, m in told if m.state is MatchState.MATCHED]
    assert list(dict.fromkeys(named)) == ["piece-3", "piece-7"]


def test_a_piece_that_breaks_off_is_lost() -> None:
    tracker = PieceTracker(CATALOGUE)
    notes = played(SCORES[3], 0.0, 40.0) + noise(1, 150, start_s=20.0)
    told = listen(tracker, notes, 45.0)
    states = [match.state for _, match in told]
    assert MatchState.LOST in states
    lost_s = next(at_s for at_s, match in told if match.state is MatchState.LOST)
    assert 20.0 < lost_s < 20.0 + 10.0 + 2.0 * LOST_AFTER + 2.0
    assert tracker.current.state is MatchState.LOST


def test_a_lost_piece_is_found_again() -> None:
    tracker = PieceTracker(CATALOGUE)
    notes = (
        played(SCORES[3], 0.0, 40.0)
        + noise(1, 110, start_s=20.0)
        + played(SCORES[3], 20.0, 50.0, start_s=43.0)
    )
    told = listen(tracker, notes, 68.0)
    assert [match.state for _, match in told if match.candidates][-1] is MatchState.MATCHED
    assert tracker.current.candidates[0].piece_id == "piece-3"


def test_a_long_silence_ends_the_piece_and_a_short_one_does_not() -> None:
    tracker = PieceTracker(CATALOGUE)
    notes = played(SCORES[3], 0.0, 40.0)
    end_s = notes[-1].onset_s
    listen(tracker, notes, end_s + SILENCE_S - 3.0)
    assert tracker.current.state is MatchState.MATCHED
    told = listen(tracker, [], end_s + SILENCE_S + 4.0, from_s=end_s + SILENCE_S - 2.9)
    assert [match.state for _, match in told] == [MatchState.SEARCHING]
    assert tracker.current.candidates == ()


def test_what_no_score_holds_is_searched_for_ever() -> None:
    two_notes = [NoteEvent(60, 1.0, None, 64, 1.0), NoteEvent(64, 2.0, None, 64, 1.0)]
    one_key = [NoteEvent(60, 0.3 * k, None, 64, 1.0) for k in range(120)]
    trill = [NoteEvent(72 + 2 * (k % 2), 0.1 * k, None, 64, 1.0) for k in range(350)]
    broken_chord = [NoteEvent((48, 55, 64, 60)[k % 4], 0.2 * k, None, 64, 1.0) for k in range(180)]
    unknown = played(SCORES[25], 0.0, 100.0)
    for notes in (two_notes, one_key, trill, broken_chord, unknown, noise(3, 200)):
        told = listen(PieceTracker(CATALOGUE), notes, 40.0)
        assert all(match.state is MatchState.SEARCHING for _, match in told)


def test_a_few_notes_name_nothing() -> None:
    tracker = PieceTracker(CATALOGUE)
    listen(tracker, played(SCORES[3], 0.0, 4.0), 6.0)
    assert tracker.current.state is MatchState.SEARCHING


def test_reset_forgets() -> None:
    tracker = PieceTracker(CATALOGUE)
    first = listen(tracker, played(SCORES[3], 0.0, 40.0), 15.0)
    tracker.reset()
    assert tracker.current == PieceMatch(MatchState.SEARCHING, ())
    assert listen(tracker, played(SCORES[3], 0.0, 40.0), 15.0) == first


NOTES = sorted(
    played(SCORES[3], 0.0, 30.0) + played(SCORES[9], 10.0, 40.0, start_s=17.0),
    key=lambda note: note.onset_s,
)


def final_answer(cuts: list[int]) -> PieceMatch:
    tracker = PieceTracker(CATALOGUE)
    edges = [0, *sorted(cuts), len(NOTES)]
    for start, end in pairwise(edges):
        part = NOTES[start:end]
        if part:
            tracker.push(part, part[-1].onset_s)
    tracker.push([], NOTES[-1].onset_s + 2.0)
    return tracker.current


@given(st.lists(st.integers(0, len(NOTES)), max_size=40))
@settings(max_examples=8, deadline=None)
def test_any_split_of_the_notes_gives_the_same_answer(cuts: list[int]) -> None:
    assert final_answer(cuts) == final_answer([])
