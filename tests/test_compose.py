from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edge.following import Position
from edge.messages import NoteMessage, PedalMessage, PieceState, StrikeMessage, decode, encode
from edge.note import NoteEvent, NoteState, NoteUpdate, PedalEvent, Strike
from edge.publish.compose import notes_message, piece_message, position_message


@dataclass(frozen=True)
class Candidate:
    """As `edge.matching` has it."""

    piece_id: str
    work_id: str = "w"
    title: str = "Für Elise"
    composer: str = "Beethoven"
    confidence: float = 0.87654
    start_s: float = 12.345678
    bar: int = 9
    tempo_ratio: float = 0.94321
    transposition: int = 0
    bars: int = 0


@dataclass(frozen=True)
class Match:
    state: str
    candidates: tuple[Any, ...] = ()


def update(offset_s: float | None = None) -> NoteUpdate:
    note = NoteEvent(60, 1.234567, offset_s, 64, 0.98765)
    return NoteUpdate(7, NoteState.CONFIRMED, note)


def test_a_note_and_a_pedal_move_become_one_message():
    message = notes_message([update(), PedalEvent(1.5, True)], heard_s=1.45678)
    assert message is not None
    assert message.notes == (
        NoteMessage(
            id=7,
            state=NoteState.CONFIRMED,
            pitch_midi=60,
            onset_s=1.2346,
            offset_s=None,
            velocity=64,
            confidence=0.988,
        ),
    )
    assert message.pedal == (PedalMessage(t_s=1.5, down=True),)
    assert message.heard_s == 1.4568


def test_a_strike_alone_is_a_message_and_its_strength_is_at_most_one():
    message = notes_message([Strike(1.23456, 1.2)], heard_s=1.3)
    assert message is not None
    assert message.strikes == (StrikeMessage(t_s=1.2346, strength=1.0),)
    assert message.notes == ()


def test_a_note_that_is_over_says_when():
    message = notes_message([update(offset_s=2.0)], heard_s=2.0)
    assert message is not None
    assert message.notes[0].offset_s == 2.0


def test_where_nothing_was_played_there_is_no_message():
    assert notes_message([], heard_s=1.0) is None
    assert notes_message([Match("searching")], heard_s=1.0) is None


def test_a_recognised_piece_is_named_with_where_it_was_begun():
    piece = piece_message(Match("matched", (Candidate("elise"), Candidate("other"))))
    assert piece.state is PieceState.MATCHED
    assert (piece.piece_id, piece.title, piece.composer) == ("elise", "Für Elise", "Beethoven")
    assert (piece.confidence, piece.tempo_ratio, piece.start_s, piece.bar) == (
        0.877,
        0.943,
        12.3457,
        9,
    )
    assert [c.piece_id for c in piece.candidates] == ["elise", "other"]


def test_while_searching_only_the_candidates_are_told_and_at_most_five():
    piece = piece_message(Match("searching", tuple(Candidate(f"p{i}") for i in range(7))))
    assert piece.state is PieceState.SEARCHING
    assert piece.piece_id is None
    assert piece.confidence == 0.0
    assert len(piece.candidates) == 5


def test_none_of_these_is_still_a_search():
    assert piece_message(Match("none")).state is PieceState.SEARCHING


def test_a_lost_piece_is_still_named():
    piece = piece_message(Match("lost", (Candidate("other"),)), last=Candidate("elise"))
    assert piece.state is PieceState.LOST
    assert piece.piece_id == "elise"


def test_every_piece_message_keeps_to_the_contract():
    for state in ("searching", "matched", "lost", "none"):
        piece = piece_message(Match(state, (Candidate("elise"),)), last=Candidate("elise"))
        stamped = encode(piece).replace(b'"boot":"","seq":0,"t":""', STAMP)
        assert decode("piece", stamped)


STAMP = b'"boot":"b","seq":0,"t":"2026-11-20T18:02:11.120Z"'


def test_a_position_says_where_how_fast_and_for_how_long() -> None:
    here = Position(31.40001, 34.5, 12, 2.5, 68.02, 0.9412, 0.9, False, "elise", 1.13, 32.08, 3.0)
    said = position_message(here)
    assert (said.piece_id, said.bar, said.beat, said.quarters) == ("elise", 12, 2.5, 34.5)
    assert (said.t_s, said.until_s, said.beats_in_bar) == (31.4, 32.08, 3.0)
    assert (said.tempo_bpm, said.tempo_ratio, said.lost) == (68.02, 0.941, False)


def test_a_place_that_is_lost_has_no_tempo_and_goes_nowhere() -> None:
    lost = Position(31.4, 34.5, 12, 2.5, 68.0, 0.9, 0.1, True, "elise", 1.13, 32.08, 3.0)
    said = position_message(lost)
    assert said.lost
    assert (said.bar, said.tempo_bpm, said.tempo_ratio, said.until_s) == (12, None, None, None)
