"""Fusion: whom to trust more, and when to believe."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.matching.chords import Chords, chords_of_notes
from edge.matching.fusion import confidence, fused_score, segmentation_sureness
from edge.note import NoteEvent

share = st.floats(0.0, 1.0)


def every(step_s: float, sure: float = 1.0) -> Chords:
    return chords_of_notes([NoteEvent(60, i * step_s, None, 64, sure) for i in range(20)])


def test_slow_music_is_segmented_more_surely_than_fast_music() -> None:
    assert segmentation_sureness(every(0.5)) > segmentation_sureness(every(0.1)) > 0.0


def test_doubtful_notes_make_the_segmentation_doubtful() -> None:
    assert segmentation_sureness(every(0.5, 0.3)) == pytest.approx(
        0.3 * segmentation_sureness(every(0.5))
    )


def test_direct_matching_weighs_more_where_the_segmentation_is_doubtful() -> None:
    assert fused_score(1.0, 0.0, sureness=0.1) > fused_score(1.0, 0.0, sureness=0.9)


@given(direct=share, elastic=share, sureness=share)
def test_the_fusion_lies_between_the_two(direct: float, elastic: float, sureness: float) -> None:
    fused = fused_score(direct, elastic, sureness)
    assert min(direct, elastic) - 1e-9 <= fused <= max(direct, elastic) + 1e-9


@given(fused=share, rival=share, distinct=st.integers(3, 100), repeated=st.integers(0, 100))
def test_confidence_grows_with_the_fit_and_falls_with_that_of_others(
    fused: float, rival: float, distinct: int, repeated: int
) -> None:
    notes = distinct + repeated
    here = confidence(fused, rival, distinct, notes)
    assert 0.0 <= here <= 1.0
    assert confidence(fused + 0.1, rival, distinct, notes) >= here
    assert confidence(fused, rival + 0.1, distinct, notes) <= here
    assert confidence(fused, rival, distinct + 20, notes + 20) >= here


def test_what_only_repeats_adds_no_confidence() -> None:
    assert confidence(0.8, 0.5, 12, 60) < confidence(0.8, 0.5, 12, 20)


def test_a_perfect_fit_of_a_phrase_is_believed_and_a_middling_one_is_not() -> None:
    assert confidence(0.95, 0.3, 20, 40) > 0.99
    assert confidence(0.5, 0.4, 20, 40) < 0.1


def test_the_calibration_is_not_thrown_by_extremes() -> None:
    assert np.isfinite(confidence(-5.0, 1.0, 0, 0))
