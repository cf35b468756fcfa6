"""Direct matching: in this rhythm, at one tempo."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.matching.direct import PHRASE_NOTES, direct_match
from edge.matching.templates import PitchTemplate, pitch_template
from tests.tunes import made_up_score, noise, played


def template(notes: list) -> PitchTemplate:
    return pitch_template(
        np.array([note.pitch_midi for note in notes]), np.array([note.onset_s for note in notes])
    )


NOTES = played(made_up_score(1), quarters=100)
WRITTEN = template(NOTES)


def matched(notes: list, *places: tuple[int, int]) -> float:
    """With so many notes, in turn, looked for from a quarter of the score on."""
    near = [
        np.count_nonzero(made_up_score(1).onset_quarters < from_quarter) + np.arange(count)
        for from_quarter, count in places
    ]
    return direct_match(template(notes), WRITTEN, np.concatenate(near))


@given(tempo=st.floats(0.55, 1.8), from_quarter=st.integers(0, 60))
@settings(max_examples=25, deadline=None)
def test_a_phrase_at_any_tempo_and_place_is_found_whole(tempo: float, from_quarter: int) -> None:
    phrase = played(made_up_score(1), from_quarter, 14.0, tempo)[:PHRASE_NOTES]
    assert matched(phrase, (from_quarter, len(phrase))) > 0.9


def test_each_phrase_may_have_a_tempo_of_its_own() -> None:
    slow = played(made_up_score(1), 0, 20.0, 0.8)[:PHRASE_NOTES]
    fast = played(made_up_score(1), 40, 20.0, 1.2, start_s=slow[-1].onset_s + 1)[:PHRASE_NOTES]
    assert matched(slow + fast, (0, len(slow)), (40, len(fast))) > 0.9


@pytest.mark.parametrize("quarters", [-12, 12])
def test_time_warping_need_not_be_right_to_the_note(quarters: int) -> None:
    phrase = played(made_up_score(1), 40, 14.0)[:PHRASE_NOTES]
    assert matched(phrase, (40 + quarters, len(phrase))) > 0.9


def test_the_right_notes_in_a_broken_rhythm_are_not_enough() -> None:
    phrase = played(made_up_score(1), 0, 20.0)[:PHRASE_NOTES]
    rng = np.random.default_rng(1)
    broken = [
        replace(note, onset_s=float(onset_s))
        for note, onset_s in zip(
            phrase, np.cumsum(rng.choice([0.05, 0.4, 2.0], len(phrase))), strict=True
        )
    ]
    assert matched(broken, (0, len(broken))) < 0.6 < matched(phrase, (0, len(phrase)))


def test_noise_is_not_found() -> None:
    assert matched(noise(1), (0, len(noise(1)))) < 0.4


def test_a_pitch_that_is_not_written_is_not_found() -> None:
    strange = [replace(note, pitch_midi=note.pitch_midi + 61) for note in NOTES[:PHRASE_NOTES]]
    assert matched(strange, (0, len(strange))) == 0.0
