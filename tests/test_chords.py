"""Chords: what is struck together belongs together."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edge.matching.chords import (
    CHORD_WINDOW_S,
    chord_starts,
    chords_of_notes,
    count_keys,
    held_keys,
    notes_of_chords,
    outer_pitches,
    pitch_keys,
)
from edge.note import NoteEvent


def note(pitch: int, onset_s: float, confidence: float = 1.0) -> NoteEvent:
    return NoteEvent(pitch, onset_s, None, 64, confidence)


def test_three_keys_within_30_ms_are_one_chord_and_the_next_is_another() -> None:
    chords = chords_of_notes([note(60, 1.0), note(67, 1.03), note(64, 1.01), note(72, 1.5)])
    assert chords.sizes.tolist() == [3, 1]
    assert chords.onset_s.tolist() == [1.0, 1.5]
    assert np.flatnonzero(held_keys(chords.keys)[0]).tolist() == [60, 64, 67]


def test_a_run_does_not_grow_into_one_endless_chord() -> None:
    onsets = np.arange(10) * 0.04
    assert chord_starts(onsets, CHORD_WINDOW_S).tolist() == [0, 2, 4, 6, 8]


def test_a_key_struck_twice_in_a_chord_counts_once() -> None:
    assert chords_of_notes([note(60, 0.0), note(60, 0.02)]).sizes.tolist() == [1]


def test_a_chord_is_as_sure_as_its_notes_are_on_average() -> None:
    chords = chords_of_notes([note(60, 0.0, 0.4), note(64, 0.0, 0.8)])
    np.testing.assert_allclose(chords.confidence, [0.6])


def test_outer_pitches_are_the_highest_and_the_lowest() -> None:
    keys = pitch_keys(np.array([48, 55, 64, 72, 30]), np.array([0, 4]))
    assert outer_pitches(keys, 2).tolist() == [[72, 48], [30, -1]]


def test_no_notes_are_no_chords() -> None:
    chords = chords_of_notes([])
    assert len(chords) == 0
    assert outer_pitches(chords.keys, 2).shape == (0, 2)


@given(
    pitches=st.lists(st.integers(21, 108), min_size=1, max_size=30),
    semitones=st.integers(-12, 12),
)
def test_transposing_moves_every_key_by_as_much(pitches: list[int], semitones: int) -> None:
    chords = chords_of_notes([note(p, i * 0.2) for i, p in enumerate(pitches)])
    moved = chords.transposed(semitones)
    assert notes_of_chords(moved.keys, moved.onset_s)[0].tolist() == [
        p + semitones for p in pitches
    ]


@given(st.lists(st.tuples(st.integers(21, 108), st.floats(0, 20)), max_size=60))
def test_no_note_is_lost_and_no_chord_lasts_longer_than_its_window(
    struck: list[tuple[int, float]],
) -> None:
    notes = [note(pitch, onset) for pitch, onset in struck]
    chords = chords_of_notes(notes)
    assert count_keys(chords.keys).sum() <= len(notes)
    assert np.all(np.diff(chords.onset_s) > CHORD_WINDOW_S)
    assert {pitch for pitch, _ in struck} == set(
        notes_of_chords(chords.keys, chords.onset_s)[0].tolist()
    )
