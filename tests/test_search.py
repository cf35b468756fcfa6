"""The search: fingerprints vote for a piece and a place in it."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.matching import Catalogue
from edge.matching.chords import chords_of_notes
from edge.matching.search import (
    DIAGONALS_PER_PLACE,
    PLACES_IN_A_PIECE,
    VOTES_SHARE,
    places,
)
from tests.tunes import made_up_score, noise, played, with_mistakes

SCORES = [made_up_score(seed) for seed in range(30)]
CATALOGUE = Catalogue.from_scores(SCORES)


@given(number=st.integers(0, 29), from_quarter=st.integers(0, 60), tempo=st.floats(0.5, 2.0))
@settings(max_examples=30, deadline=None)
def test_a_passage_votes_for_its_piece_and_its_place(
    number: int, from_quarter: int, tempo: float
) -> None:
    passage = played(SCORES[number], from_quarter, 30.0, tempo)
    found = places(chords_of_notes(passage), CATALOGUE, most=5)
    place = next(place for place in found if place.piece == number)
    onsets = CATALOGUE.piece_chords(number).onset_quarters
    first = int((onsets < from_quarter).sum())
    assert place.first_chord <= first < place.first_chord + 2 * DIAGONALS_PER_PLACE


def test_places_in_one_piece_are_few_and_lie_apart() -> None:
    found = places(chords_of_notes(played(SCORES[3], quarters=80.0)), CATALOGUE, most=30)
    for piece in {place.piece for place in found}:
        firsts = sorted(place.first_chord for place in found if place.piece == piece)
        assert len(firsts) <= PLACES_IN_A_PIECE
        assert all(b - a > DIAGONALS_PER_PLACE for a, b in pairwise(firsts))


def test_mistakes_in_one_note_of_ten_leave_the_piece_among_the_first() -> None:
    for number in range(10):
        notes = with_mistakes(played(SCORES[number], 20.0, 30.0), seed=number)
        best = [place.piece for place in places(chords_of_notes(notes), CATALOGUE, most=5)]
        assert number in best


def test_several_packs_are_searched_as_one() -> None:
    together = Catalogue(
        tuple(Catalogue.from_scores(part).packs[0] for part in (SCORES[:10], SCORES[10:]))
    )
    for number in (2, 25):
        best = places(chords_of_notes(played(SCORES[number])), together, most=5)[0]
        assert best.piece == number


def test_music_without_a_known_fingerprint_has_no_place() -> None:
    assert places(chords_of_notes(played(SCORES[0], quarters=1.0)[:2]), CATALOGUE, most=5) == []


def test_noise_gets_few_votes() -> None:
    of_noise = places(chords_of_notes(noise(1)), CATALOGUE, most=1)
    of_music = places(chords_of_notes(played(SCORES[0])), CATALOGUE, most=1)
    assert not of_noise or of_noise[0].votes < 0.3 * of_music[0].votes


def test_of_too_many_votes_those_for_places_named_often_are_weighed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    passage = chords_of_notes(with_mistakes(played(SCORES[7], 20.0, 40.0), seed=7))
    everything = places(passage, CATALOGUE, most=5)
    monkeypatch.setattr("edge.matching.search.VOTES_SORTED", 60)
    few = places(passage, CATALOGUE, most=5)
    assert (few[0].piece, few[0].first_chord) == (7, everything[0].first_chord)


def test_places_with_few_votes_are_not_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    passage = chords_of_notes(played(SCORES[3], quarters=80.0))
    everything = places(passage, CATALOGUE, most=40)
    monkeypatch.setattr("edge.matching.search.FEWEST_PLACES", 1)
    found = places(passage, CATALOGUE, most=40)
    assert found == [each for each in everything if each.votes >= VOTES_SHARE * found[0].votes]
    assert len(found) < len(everything)
