"""Direct matching: in this rhythm, at one tempo."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.matching.direct import PHRASE_NOTES, direct_match
from edge.matching.templates import PitchTemplate, pitch_template
from tests.tunes import made_up_score, noise, played


def template(notes: list) -> PitchTemplate:
    return pitch_template(
        np.array([note.pitch_midi for note in notes]), np.array([note.onset_s for note in notes])
    )


WRITTEN = template(played(made_up_score(1), quarters=100))


@given(tempo=st.floats(0.55, 1.8), from_quarter=st.integers(0, 60))
@settings(max_examples=25, deadline=None)
def test_a_phrase_at_any_tempo_and_place_is_found_whole(tempo: float, from_quarter: int) -> None:
    phrase = played(made_up_score(1), from_quarter, 14.0, tempo)[:PHRASE_NOTES]
    assert direct_match(template(phrase), WRITTEN) > 0.9


def test_each_phrase_may_have_a_tempo_of_its_own() -> None:
    slow = played(made_up_score(1), 0, 20.0, 0.8)[:PHRASE_NOTES]
    fast = played(made_up_score(1), 40, 20.0, 1.2, start_s=slow[-1].onset_s + 1)[:PHRASE_NOTES]
    assert direct_match(template(slow + fast), WRITTEN) > 0.9


def test_the_right_notes_in_a_broken_rhythm_are_not_enough() -> None:
    phrase = played(made_up_score(1), 0, 20.0)[:PHRASE_NOTES]
    rng = np.random.default_rng(1)
    broken = pitch_template(
        np.array([note.pitch_midi for note in phrase]),
        np.cumsum(rng.choice([0.05, 0.4, 2.0], len(phrase))),
    )
    assert direct_match(broken, WRITTEN) < 0.6 < direct_match(template(phrase), WRITTEN)


def test_noise_is_not_found() -> None:
    assert direct_match(template(noise(1)), WRITTEN) < 0.4
