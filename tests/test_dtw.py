"""Time warping over chords: counted in notes, against an alignment worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge.matching.chords import Chords, count_keys, pitch_keys
from edge.matching.dtw import (
    MISSED_NOTE_COST,
    ROLLED_WITHIN_S,
    SKIPPABLE_CHORDS,
    Windows,
    align,
)

STEP_S = 0.5


def melody(*pitches: int, step_s: float = STEP_S) -> Chords:
    keys = pitch_keys(np.array(pitches), np.arange(len(pitches)))
    return Chords(np.arange(len(pitches)) * step_s, keys, count_keys(keys), np.ones(len(pitches)))


def window(*pitches: int, length: int = 0) -> Windows:
    keys = np.zeros((max(length, len(pitches)), 2), dtype=np.uint64)
    keys[: len(pitches)] = pitch_keys(np.array(pitches), np.arange(len(pitches)))
    return one_window(keys)


def one_window(keys: NDArray[np.uint64]) -> Windows:
    return Windows(np.ascontiguousarray(keys.T[:, :, None]), count_keys(keys)[:, None])


def test_a_faultless_performance_gains_all_of_its_notes() -> None:
    found = align(melody(60, 62, 64), window(59, 60, 62, 64, 65))
    assert found.gain[0] == pytest.approx(1.0)
    assert found.score_chord(0).tolist() == [1, 2, 3]


def test_a_missed_note_costs_its_share() -> None:
    found = align(melody(60, 64, 65), window(60, 62, 64, 65, 67, 69))
    np.testing.assert_allclose(found.gain[0], (3 - MISSED_NOTE_COST) / 3, rtol=1e-6)
    assert found.score_chord(0).tolist() == [0, 2, 3]


def test_a_note_too_many_gains_nothing_and_costs_nothing() -> None:
    found = align(melody(60, 61, 62, 64), window(55, 57, 60, 62, 64, 65, 67, 69))
    assert found.gain[0] == pytest.approx(3 / 4)
    assert found.score_chord(0).tolist() == [2, 2, 3, 4]


def rolled(gap_s: float) -> Chords:
    """C, E and G one after another, then B."""
    pitches = melody(60, 64, 67, 71)
    onsets = np.array([0.0, gap_s, 2 * gap_s, 2 * gap_s + 1.0])
    return Chords(onsets, pitches.keys, pitches.sizes, pitches.confidence)


def chord_then_b() -> Windows:
    keys = np.zeros((12, 2), dtype=np.uint64)
    keys[3] = pitch_keys(np.array([60, 64, 67]), np.array([0]))[0]
    keys[4] = pitch_keys(np.array([71]), np.array([0]))[0]
    return one_window(keys)


def test_a_rolled_chord_is_one_written_chord() -> None:
    found = align(rolled(0.05), chord_then_b())
    assert found.gain[0] == pytest.approx(1.0)
    assert found.score_chord(0).tolist() == [3, 3, 3, 4]


def test_a_broken_chord_is_not_the_written_chord() -> None:
    assert align(rolled(2 * ROLLED_WITHIN_S), chord_then_b()).gain[0] < 0.5


def test_other_music_gains_nothing() -> None:
    assert align(melody(60, 62, 64, 65), window(70, 73, 75, 78, 80, 82)).gain[0] <= 0.0


def test_windows_side_by_side_do_not_touch_each_other() -> None:
    played, one, other = melody(60, 64, 65), window(60, 62, 64, 65, 67), window(70, 60, 64, 65, 72)
    both = Windows(
        np.concatenate((one.keys, other.keys), axis=2),
        np.concatenate((one.sizes, other.sizes), axis=1),
    )
    found = align(played, both)
    for column, alone in enumerate((align(played, one), align(played, other))):
        assert found.gain[column] == alone.gain[0]
        assert found.score_chord(column).tolist() == alone.score_chord(0).tolist()


def test_hundreds_of_large_chords_are_counted_right() -> None:
    clusters = np.full((600, 2), 2**40 - 1, dtype=np.uint64)
    played = Chords(np.arange(600) * STEP_S, clusters, count_keys(clusters), np.ones(600))
    assert align(played, one_window(clusters)).gain[0] == pytest.approx(1.0)


def by_hand(played: Chords, written: Windows) -> float:
    """The same rule, cell by cell, without potentials and diagonals."""
    sizes = written.sizes[:, 0]
    diagonals = sizes.size - len(played) + 1

    def held(keys: NDArray[np.uint64]) -> int:
        return int(count_keys(keys))

    table = {
        (0, j): held(played.keys[0] & written.keys[:, j, 0])
        - MISSED_NOTE_COST * (sizes[j] - held(played.keys[0] & written.keys[:, j, 0]))
        for j in range(diagonals)
    }
    for i in range(1, len(played)):
        soon = played.onset_s[i] - played.onset_s[i - 1] <= ROLLED_WITHIN_S
        for j in range(i, i + diagonals):
            common = held(played.keys[i] & written.keys[:, j, 0])
            fresh = (
                held(played.keys[i] & ~played.keys[i - 1] & written.keys[:, j, 0]) if soon else 0
            )
            ways = [
                table[i - 1, j - moved]
                - MISSED_NOTE_COST * sizes[j - moved + 1 : j].sum()
                + common
                - MISSED_NOTE_COST * (sizes[j] - common)
                for moved in range(1, SKIPPABLE_CHORDS + 2)
                if (i - 1, j - moved) in table
            ]
            if (i - 1, j) in table:
                ways.append(table[i - 1, j] + (1 + MISSED_NOTE_COST) * fresh)
            table[i, j] = max(ways)
    last = len(played) - 1
    return max(gain for (i, _), gain in table.items() if i == last) / int(played.sizes.sum())


@given(
    played=st.lists(st.integers(60, 64), min_size=2, max_size=7),
    written=st.lists(st.integers(60, 64), min_size=12, max_size=16),
    step_s=st.sampled_from([0.1, 0.5]),
)
@settings(max_examples=60, deadline=None)
def test_whole_rows_at_once_give_what_cell_by_cell_gives(
    played: list[int], written: list[int], step_s: float
) -> None:
    hands, score = melody(*played, step_s=step_s), window(*written)
    np.testing.assert_allclose(align(hands, score).gain[0], by_hand(hands, score), atol=1e-5)
