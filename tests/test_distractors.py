"""Spliced pieces: the same for a number and a seed, and like music in all that counts."""

from __future__ import annotations

import numpy as np

from benchmarks.distractors import distractor
from edge.matching.pack import pack_piece
from tests.tunes import made_up_score

SCORES = [made_up_score(seed) for seed in range(5)]


def test_a_distractor_depends_on_its_number_and_the_seed_alone() -> None:
    one, again, other = (distractor(number, SCORES, seed=1) for number in (3, 3, 4))
    np.testing.assert_array_equal(one.pitch_midi, again.pitch_midi)
    np.testing.assert_array_equal(one.onset_quarters, again.onset_quarters)
    assert one.piece.piece_id == "distractor-000003"
    assert (
        one.pitch_midi.size != other.pitch_midi.size or (one.pitch_midi != other.pitch_midi).any()
    )


def test_a_distractor_can_be_packed_and_its_time_never_goes_back() -> None:
    for number in range(8):
        made = distractor(number, SCORES, seed=2)
        assert (np.diff(made.onset_quarters) >= 0).all()
        assert (np.diff(made.bar_quarters) > 0).all()
        assert (np.diff(made.tempo_s) > 0).all()
        assert made.pitch_midi.min() >= 21 and made.pitch_midi.max() <= 108
        assert pack_piece(made).codes.size > 0
