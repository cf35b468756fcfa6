"""Pitch templates: key, tuning and tempo taken out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.matching.templates import middle_step, pitch_template, tuning_offset

PITCH = np.array([60, 64, 67, 72, 67])
ONSET_S = np.array([0.0, 0.5, 1.0, 1.5, 2.5])


def test_a_template_counts_from_its_middle_pitch_and_in_its_middle_step() -> None:
    template = pitch_template(PITCH, ONSET_S)
    assert template.middle_pitch == 67
    assert template.semitones.tolist() == [-7, -3, 0, 5, 0]
    assert template.times.tolist() == [0.0, 1.0, 2.0, 3.0, 5.0]


@pytest.mark.parametrize("cents", [-45, -20, 0, 13, 49])
def test_a_piano_out_of_tune_gives_the_same_template(cents: int) -> None:
    template = pitch_template(PITCH + cents / 100, ONSET_S)
    assert template.semitones.tolist() == pitch_template(PITCH, ONSET_S).semitones.tolist()
    assert template.tuning_semitones == pytest.approx(cents / 100)


def test_pitches_just_below_and_just_above_the_half_are_neighbours() -> None:
    assert abs(tuning_offset(np.array([60.49, 61.51]))) == pytest.approx(0.5)


@given(semitones=st.integers(-12, 12), tempo=st.floats(0.5, 2.0), start_s=st.floats(-100, 100))
def test_key_tempo_and_beginning_fall_out(semitones: int, tempo: float, start_s: float) -> None:
    moved = pitch_template(PITCH + semitones, ONSET_S / tempo + start_s)
    plain = pitch_template(PITCH, ONSET_S)
    assert moved.semitones.tolist() == plain.semitones.tolist()
    np.testing.assert_allclose(moved.times, plain.times, atol=1e-6)


def test_the_notes_of_a_chord_say_nothing_about_the_tempo() -> None:
    assert middle_step(np.array([0.0, 0.005, 0.01, 1.0, 1.01, 2.0])) == pytest.approx(0.99)


def test_one_note_has_a_template() -> None:
    assert pitch_template(np.array([60]), np.array([3.0])).times.tolist() == [0.0]
