from __future__ import annotations

import io

import pytest
from rich.console import Console

from edge.display import (
    Picture,
    draw,
    figures_line,
    key_name,
    losses_line,
    named,
    piece_line,
    place,
    place_at,
    place_line,
    summary_lines,
    window,
)
from edge.messages import (
    AudioState,
    Availability,
    Health,
    NoteMessage,
    Notes,
    PedalMessage,
    Piece,
    PieceCandidate,
    PiecePlayed,
    PieceState,
    Position,
    Session,
    SessionState,
)
from edge.note import NoteState

ELISE = {
    "piece_id": "elise",
    "work_id": "woo59",
    "title": "Für Elise",
    "composer": "Beethoven",
    "confidence": 0.93,
}


def note(number: int, state: NoteState, pitch: int = 60, onset_s: float = 1.0) -> NoteMessage:
    offset_s = onset_s + 0.5 if state is NoteState.ENDED else None
    return NoteMessage(
        id=number,
        state=state,
        pitch_midi=pitch,
        onset_s=onset_s,
        offset_s=offset_s,
        velocity=70,
        confidence=0.9,
    )


def screen(picture: Picture, now_s: float, *, columns: int = 100, ascii_only: bool = False) -> str:
    console = Console(file=io.StringIO(), width=columns, color_system=None)
    console.print(draw(picture, now_s, columns, ascii_only=ascii_only))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_note_sounds_from_its_first_message_to_its_last() -> None:
    picture = Picture()
    picture.take("notes", Notes(seq=0, notes=(note(1, NoteState.PROVISIONAL),)), 0.0)
    assert [n.pitch_midi for n in picture.sounding()] == [60]
    assert picture.notes == 0
    picture.take("notes", Notes(seq=1, notes=(note(1, NoteState.CONFIRMED, pitch=62),)), 0.0)
    assert [n.pitch_midi for n in picture.sounding()] == [62]
    assert picture.notes == 1
    picture.take("notes", Notes(seq=2, notes=(note(1, NoteState.ENDED, pitch=62),)), 0.0)
    assert picture.sounding() == []
    assert [n.offset_s for n in picture.roll()] == [1.5]


def test_a_guess_that_is_withdrawn_leaves_no_trace() -> None:
    picture = Picture()
    picture.take("notes", Notes(notes=(note(1, NoteState.PROVISIONAL),)), 0.0)
    picture.take("notes", Notes(seq=1, notes=(note(1, NoteState.WITHDRAWN),)), 0.0)
    assert picture.roll() == []


def test_delay_is_counted_from_the_sound_even_if_the_session_comes_after_the_note() -> None:
    picture = Picture()
    picture.take("notes", Notes(notes=(note(1, NoteState.CONFIRMED, onset_s=1.0),)), 101.2)
    assert picture.delay_ms() is None
    session = Session(id="a", state=SessionState.NEW, stream_start_mono_ms=100_000)
    picture.take("session", session, 101.3)
    assert picture.delay_ms() == (pytest.approx(200.0), pytest.approx(200.0))
    assert "200 ms" in figures_line(picture)


def test_messages_that_did_not_come_are_counted_by_their_numbers() -> None:
    picture = Picture()
    for seq in (0, 1, 4, 4, 5):
        picture.take("notes", Notes(seq=seq), 0.0)
    picture.take("piece", Piece(seq=1, state=PieceState.SEARCHING), 0.0)
    assert picture.missing == 2 + 1
    assert picture.last_seq == {"notes": 5, "piece": 1}
    assert "3 messages missing" in losses_line(picture)


def test_the_piece_is_told_as_far_as_it_is_known() -> None:
    picture = Picture()
    assert "listening" in piece_line(picture)
    guess = PieceCandidate(**{**ELISE, "confidence": 0.4})
    picture.take("piece", Piece(state=PieceState.SEARCHING, candidates=(guess,)), 0.0)
    assert piece_line(picture) == "perhaps Für Elise (Beethoven), 40% sure"
    picture.take("notes", Notes(heard_s=4.5), 0.0)
    picture.take("piece", Piece(seq=1, state=PieceState.MATCHED, **ELISE), 0.0)
    assert piece_line(picture) == "Für Elise (Beethoven), 93% sure"
    assert picture.matched_s == 4.5
    picture.take("piece", Piece(seq=2, state=PieceState.LOST, **ELISE), 0.0)
    assert piece_line(picture) == "no longer Für Elise"


def test_the_screen_shows_keys_piece_delay_and_losses() -> None:
    picture = Picture()
    picture.take("availability", Availability.ONLINE, 0.0)
    picture.take("notes", Notes(notes=(note(1, NoteState.CONFIRMED),), heard_s=1.2), 0.0)
    picture.take("piece", Piece(state=PieceState.MATCHED, **ELISE), 0.0)
    health = Health(audio=AudioState.RUNNING, uptime_s=1.0, overruns=2, dropped_samples=640)
    picture.take("health", health, 0.0)
    drawn = screen(picture, now_s=1.2)
    assert "Für Elise (Beethoven), 93% sure" in drawn
    assert "dropped 2 times (640 samples)" in drawn
    assert "C4" in drawn
    assert len(drawn.splitlines()) <= 23


def test_a_struck_key_stands_above_its_place_on_the_keyboard() -> None:
    picture = Picture()
    picture.take("notes", Notes(notes=(note(1, NoteState.CONFIRMED, pitch=60),)), 0.0)
    lines = screen(picture, now_s=1.1, ascii_only=True).splitlines()
    struck = next(line for line in lines if "*" in line)
    assert struck.index("*") == 2 + 60 - 21
    assert struck.isascii()


def test_a_narrow_terminal_keeps_the_middle_of_the_keyboard() -> None:
    assert window(88) == (21, 108)
    assert window(200) == (21, 108)
    lowest, highest = window(60)
    assert highest - lowest + 1 == 60
    assert lowest < 60 < highest
    picture = Picture()
    picture.take("notes", Notes(notes=(note(1, NoteState.CONFIRMED, pitch=21),)), 0.0)
    widths = {len(line) for line in screen(picture, 1.1, columns=64).splitlines()}
    assert max(widths) <= 64


def test_the_pedal_is_shown_while_it_is_down() -> None:
    picture = Picture()
    picture.take("notes", Notes(pedal=(PedalMessage(t_s=1.0, down=True),)), 0.0)
    assert "pedal" in screen(picture, 1.0)
    picture.take("notes", Notes(seq=1, pedal=(PedalMessage(t_s=2.0, down=False),)), 0.0)
    assert "pedal" not in screen(picture, 2.0)


def test_the_summary_names_the_piece_that_was_played_longest() -> None:
    picture = Picture()
    short = PiecePlayed(**{**ELISE, "title": "Another"}, start_s=0.0, minutes=0.1)
    long = PiecePlayed(**ELISE, start_s=3.0, minutes=0.4)
    session = Session(id="a", state=SessionState.END, pieces=(short, long))
    picture.take("session", session, 0.0)
    assert "this was Für Elise (Beethoven)" in summary_lines(picture)[0]
    assert "no piece" in summary_lines(Picture())[0]


def test_a_folk_song_has_no_composer() -> None:
    assert named("Greensleeves", "") == "Greensleeves"
    assert named("Für Elise", "Beethoven") == "Für Elise (Beethoven)"


def test_middle_c_is_c4() -> None:
    assert [key_name(p) for p in (21, 60, 61, 108)] == ["A0", "C4", "C#4", "C8"]


BAR_12 = Position(
    piece_id="elise",
    bar=12,
    beat=2.5,
    confidence=0.9,
    tempo_bpm=120.0,
    tempo_ratio=0.85,
    t_s=31.0,
    until_s=33.0,
    beats_in_bar=3.0,
)


def test_between_two_messages_the_place_goes_on_in_tempo_and_then_waits() -> None:
    assert place_at(BAR_12, 30.0) == (12, 2.5)
    assert place_at(BAR_12, 31.5) == (12, 3.5)
    assert place_at(BAR_12, 31.75) == (13, 1.0)
    assert place_at(BAR_12, 33.0) == place_at(BAR_12, 99.0) == (13, 3.5)


def test_bar_beat_and_tempo_are_on_the_screen_while_the_piece_is_known() -> None:
    picture = Picture()
    assert place_line(picture, 31.0) == ""
    picture.take("piece", Piece(state=PieceState.MATCHED, **ELISE), 0.0)
    picture.take("position", BAR_12, 0.0)
    line = "bar 12, beat 2; 120 beats a minute, a little slower than written"
    assert line in screen(picture, 31.1)
    assert "bar 13, beat 1" in screen(picture, 31.8)
    lost = Position(piece_id="elise", bar=13, beat=1.0, confidence=0.2, lost=True, seq=1)
    picture.take("position", lost, 0.0)
    assert "lost after bar 13" in screen(picture, 32.0)
    picture.take("piece", Piece(state=PieceState.LOST, seq=1, **ELISE), 0.0)
    assert place_line(picture, 33.0) == ""


def test_a_tempo_as_written_needs_no_word() -> None:
    def said(tempo_ratio: float) -> str:
        return place(
            Position(
                piece_id="e",
                bar=1,
                beat=1.0,
                confidence=1.0,
                tempo_bpm=100.0,
                tempo_ratio=tempo_ratio,
            )
        )

    assert said(1.05) == "bar 1, beat 1; 100 beats a minute"
    assert said(1.2).endswith("a little faster than written")
    assert said(0.5).endswith("much slower than written")
