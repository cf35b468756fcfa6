"""Identification: any tempo, any place, any key if asked, mistakes and all; and nothing claimed
of what is not known."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.matching import Catalogue, MatchState, identify
from edge.note import NoteEvent
from tests.tunes import made_up_score, noise, played, with_mistakes

SCORES = [made_up_score(seed) for seed in range(40)]
CATALOGUE = Catalogue.from_scores(SCORES[:30])


@given(number=st.integers(0, 29), from_quarter=st.integers(0, 60), tempo=st.floats(0.5, 2.0))
@settings(max_examples=30, deadline=None)
def test_a_passage_is_named_with_its_place_at_any_tempo_from_half_to_double(
    number: int, from_quarter: int, tempo: float
) -> None:
    match = identify(played(SCORES[number], from_quarter, 40.0, tempo), CATALOGUE)
    best = match.candidates[0]
    assert match.state is MatchState.MATCHED
    assert best.piece_id == f"piece-{number}"
    assert best.start_s == pytest.approx(from_quarter * 0.5, abs=0.8)
    assert best.bar == pytest.approx(from_quarter // 4 + 1, abs=1)
    assert best.tempo_ratio == pytest.approx(tempo, rel=0.05)
    assert best.transposition == 0


@given(number=st.integers(0, 29), semitones=st.integers(-6, 6))
@settings(max_examples=12, deadline=None)
def test_a_transposed_passage_is_named_if_asked(number: int, semitones: int) -> None:
    notes = played(SCORES[number], 20.0, 40.0, transposition=semitones)
    best = identify(notes, CATALOGUE, transposed=True).candidates[0]
    assert best.piece_id == f"piece-{number}"
    assert best.transposition == semitones


def test_of_a_theme_that_comes_back_the_first_time_is_named() -> None:
    theme, middle = made_up_score(50, chords=60), made_up_score(51, chords=60)
    length = theme.onset_quarters[-1] + 2.0
    middle_end = length + middle.onset_quarters[-1] + 2.0
    rondo = replace(
        theme,
        pitch_midi=np.concatenate((theme.pitch_midi, middle.pitch_midi, theme.pitch_midi)),
        onset_quarters=np.concatenate(
            (
                theme.onset_quarters,
                middle.onset_quarters + length,
                theme.onset_quarters + middle_end,
            )
        ),
        duration_quarters=np.concatenate(
            (theme.duration_quarters, middle.duration_quarters, theme.duration_quarters)
        ),
        hand=np.concatenate((theme.hand, middle.hand, theme.hand)),
    )
    catalogue = Catalogue.from_scores([*SCORES[:10], rondo])
    best = identify(played(theme, 0.0, 40.0), catalogue).candidates[0]
    assert best.piece_id == "piece-50"
    assert best.start_s == 0.0


@given(st.randoms(use_true_random=False))
@settings(max_examples=10, deadline=None)
def test_the_order_in_which_notes_are_given_does_not_matter(shuffler: random.Random) -> None:
    notes = played(SCORES[4], 8.0, 30.0)
    shuffled = notes.copy()
    shuffler.shuffle(shuffled)
    assert identify(shuffled, CATALOGUE) == identify(notes, CATALOGUE)


def test_mistakes_in_one_note_of_ten_are_forgiven() -> None:
    for number in range(12):
        notes = with_mistakes(played(SCORES[number], 12.0, 50.0), seed=number)
        match = identify(notes, CATALOGUE)
        assert match.candidates[0].piece_id == f"piece-{number}"
        assert match.state is MatchState.MATCHED


def test_an_unknown_piece_is_called_none() -> None:
    for score in SCORES[30:]:
        match = identify(played(score, 0.0, 70.0), CATALOGUE)
        assert match.state is MatchState.NONE
        assert len(match.candidates) <= 5


def test_a_little_of_an_unknown_piece_leaves_the_search_open() -> None:
    assert identify(played(SCORES[35], 0.0, 12.0), CATALOGUE).state is MatchState.SEARCHING


@pytest.mark.parametrize(
    "notes",
    [
        [],
        [NoteEvent(60, 1.0, None, 64, 1.0)],
        [NoteEvent(60, 1.0, None, 64, 1.0), NoteEvent(62, 2.0, None, 64, 1.0)],
        [NoteEvent(60, i * 0.3, None, 64, 1.0) for i in range(100)],
        [NoteEvent(60 + i % 2, 1.0, None, 64, 1.0) for i in range(100)],
        noise(5),
    ],
    ids=["nothing", "one note", "two notes", "one key", "all at once", "noise"],
)
def test_what_is_no_music_is_never_claimed(notes: list[NoteEvent]) -> None:
    assert identify(notes, CATALOGUE).state is not MatchState.MATCHED


def test_a_work_that_is_left_out_is_not_named() -> None:
    match = identify(played(SCORES[2], 0.0, 70.0), CATALOGUE, without_works={"work-2"})
    assert match.state is MatchState.NONE
    assert "piece-2" not in {each.piece_id for each in match.candidates}


def test_candidates_are_of_different_works_and_best_first() -> None:
    candidates = identify(played(SCORES[2]), CATALOGUE).candidates
    assert len({each.work_id for each in candidates}) == len(candidates)
    confidences = [each.confidence for each in candidates]
    assert confidences == sorted(confidences, reverse=True)


def test_an_hour_of_music_is_asked_about_in_bounded_time() -> None:
    notes = [
        note for k in range(20) for note in played(SCORES[k], quarters=999.0, start_s=k * 200.0)
    ]
    assert identify(notes, CATALOGUE).candidates[0].piece_id == "piece-0"
