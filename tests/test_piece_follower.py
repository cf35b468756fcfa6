"""Piece and place, live: caught up at once, left honestly, the same for any split of the notes."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.errors import CatalogueError
from edge.following import PieceFollower, Position
from edge.matching import Catalogue, MatchState, PieceMatch
from edge.matching.score import Hand
from edge.matching.tracker import SILENCE_S
from edge.note import NoteEvent
from tests.tunes import made_up_score, noise, played, with_mistakes

SCORES = [made_up_score(seed) for seed in range(12)]
CATALOGUE = Catalogue.from_scores(SCORES)
HEARD_AFTER_S = 0.24
Told = list[tuple[float, PieceMatch | Position]]


def listen(pieces: PieceFollower, notes: list[NoteEvent], until_s: float) -> Told:
    """Notes as an ear tells them, twenty times a second; what was said, and when."""
    told: Told = []
    waiting = sorted(notes, key=lambda note: note.onset_s)
    for tick in range(int(until_s * 20) + 1):
        now_s = tick / 20
        come = [note for note in waiting if note.onset_s + HEARD_AFTER_S <= now_s]
        waiting = waiting[len(come) :]
        told += [(now_s, event) for event in pieces.push(come, now_s)]
    return told


def places(told: Told) -> list[Position]:
    return [event for _, event in told if isinstance(event, Position)]


def test_once_the_piece_is_named_the_place_is_there_at_once_and_right() -> None:
    told = listen(PieceFollower(CATALOGUE), played(SCORES[3], 0.0, 60.0), 30.0)
    named_s = next(at_s for at_s, e in told if isinstance(e, PieceMatch) and e.state == "matched")
    assert named_s == next(at_s for at_s, event in told if isinstance(event, Position))
    for position in places(told):
        assert position.piece_id == "piece-3"
        assert not position.lost
        assert position.quarters == pytest.approx(2.0 * position.t_s, abs=0.05)


def test_every_note_from_then_on_gives_a_position() -> None:
    notes = played(SCORES[3], 0.0, 60.0)
    told = listen(PieceFollower(CATALOGUE), notes, 35.0)
    first_s = places(told)[0].t_s
    assert len(places(told)) == 1 + sum(note.onset_s > first_s for note in notes)


def test_the_piece_is_joined_where_the_player_is_not_at_its_beginning() -> None:
    told = listen(PieceFollower(CATALOGUE), played(SCORES[5], 60.0, 60.0), 30.0)
    last = places(told)[-1]
    assert last.quarters == pytest.approx(60.0 + 2.0 * last.t_s, abs=1.0)


def test_a_piece_that_is_left_for_another_ends_with_a_last_word() -> None:
    notes = played(SCORES[3], 0.0, 40.0) + played(SCORES[7], 0.0, 60.0, start_s=21.0)
    said = places(listen(PieceFollower(CATALOGUE), notes, 50.0))
    ids = [position.piece_id for position in said]
    assert list(dict.fromkeys(ids)) == ["piece-3", "piece-7"]
    last_of_first = said[ids.index("piece-7") - 1]
    assert last_of_first.lost
    assert last_of_first.confidence == 0.0


def test_silence_ends_with_a_last_word_too() -> None:
    notes = played(SCORES[3], 0.0, 40.0)
    told = listen(PieceFollower(CATALOGUE), notes, notes[-1].onset_s + SILENCE_S + 4.0)
    assert places(told)[-1].lost
    assert not places(told)[-2].lost
    assert isinstance(told[-2][1], PieceMatch)
    assert told[-2][1].state is MatchState.SEARCHING


def test_the_piece_is_kept_while_its_left_hand_is_practised_alone() -> None:
    score = made_up_score(seed=40, chords=260)
    pieces = PieceFollower(Catalogue.from_scores([score, *SCORES]))
    notes = played(score, 0.0, 40.0)
    left = score.hand == Hand.LEFT
    shift_s = notes[-1].onset_s + 0.6
    notes += [
        NoteEvent(int(pitch), float(at_s) + shift_s, None, 64, 1.0)
        for pitch, at_s in zip(score.pitch_midi[left], score.onset_s[left], strict=True)
        if at_s < 30.0
    ]
    told = listen(pieces, notes, notes[-1].onset_s + 1.0)
    states = [event.state for _, event in told if isinstance(event, PieceMatch)]
    assert MatchState.LOST not in states
    for position in places(told)[-20:]:
        assert not position.lost
        assert position.quarters == pytest.approx(2.0 * (position.t_s - shift_s), abs=0.1)


def test_unknown_music_has_no_place() -> None:
    assert not places(listen(PieceFollower(CATALOGUE), noise(3, 150), 35.0))


def test_a_chosen_piece_is_followed_from_its_first_notes() -> None:
    pieces = PieceFollower(CATALOGUE, piece_id="piece-4")
    told = listen(pieces, played(SCORES[4], 0.0, 20.0), 12.0)
    assert isinstance(told[0][1], PieceMatch)
    assert told[0][1].candidates[0].title == "Piece 4"
    assert all(isinstance(event, Position) for _, event in told[1:])
    for position in places(told):
        assert position.quarters == pytest.approx(2.0 * position.t_s, abs=0.05)
    pieces.reset()
    assert listen(pieces, played(SCORES[4], 0.0, 20.0), 12.0) == told


def test_a_chosen_piece_that_is_not_in_the_catalogue_is_refused() -> None:
    with pytest.raises(CatalogueError, match=r"'piece-44'.*12.*did you mean.*piece-4"):
        PieceFollower(CATALOGUE, piece_id="piece-44")
    with pytest.raises(CatalogueError, match="identify"):
        PieceFollower(CATALOGUE, piece_id="?")


def test_between_notes_the_place_goes_on_for_as_long_as_a_note_takes_to_be_heard() -> None:
    notes = played(SCORES[3], 0.0, 60.0)
    told = listen(PieceFollower(CATALOGUE, latency_s=HEARD_AFTER_S), notes, 30.0)
    onsets_s = sorted({note.onset_s for note in notes})
    for position in places(told)[20:-2]:
        following_s = onsets_s[int(np.searchsorted(onsets_s, position.t_s + 1e-6))]
        assert position.until_s == pytest.approx(following_s + HEARD_AFTER_S, abs=0.05)
        here = position.quarters_at(position.until_s)
        assert here == pytest.approx(2.0 * (following_s + HEARD_AFTER_S), abs=0.1)
        assert position.quarters_at(position.until_s + 9.0) == here


NOTES = sorted(
    with_mistakes(played(SCORES[3], 0.0, 30.0), seed=2)
    + with_mistakes(played(SCORES[9], 10.0, 36.0, start_s=17.0), seed=3),
    key=lambda note: note.onset_s,
)


def matches_and_places(
    cuts_s: list[float],
) -> tuple[list[PieceMatch], list[Position]]:
    """What is said of ``NOTES``, told at these moments and at the end, as late as an ear tells."""
    pieces, said, waiting = PieceFollower(CATALOGUE, HEARD_AFTER_S), [], list(NOTES)
    for now_s in [*sorted(cuts_s), NOTES[-1].onset_s + SILENCE_S + 4.0]:
        come = [note for note in waiting if note.onset_s + HEARD_AFTER_S <= now_s]
        waiting = waiting[len(come) :]
        said += pieces.push(come, now_s)
    return (
        [event for event in said if isinstance(event, PieceMatch)],
        [event for event in said if isinstance(event, Position)],
    )


WHOLE = matches_and_places([])


def test_the_whole_names_both_pieces_and_places_them() -> None:
    assert {position.piece_id for position in WHOLE[1]} == {"piece-3", "piece-9"}


@given(st.lists(st.floats(0.0, 36.0), max_size=60))
@settings(max_examples=8, deadline=None)
def test_any_split_of_the_notes_gives_the_same_matches_and_places(cuts_s: list[float]) -> None:
    assert matches_and_places(cuts_s) == WHOLE


def test_one_note_at_a_time_gives_the_same_too() -> None:
    ends_s = [note.onset_s + HEARD_AFTER_S for note in NOTES]
    ticks_s = [tick / 50 for tick in range(int(50 * ends_s[-1]))]
    assert all(a <= b for a, b in pairwise(ends_s))
    assert matches_and_places([*ends_s, *ticks_s]) == WHOLE
