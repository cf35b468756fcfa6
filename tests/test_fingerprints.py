"""Fingerprints: the same music gives the same ones, at any tempo; few are kept."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.matching.chords import chords_of_notes, outer_pitches
from edge.matching.fingerprints import (
    CHORD_STEPS,
    OTHERS_KEPT_ONE_IN,
    TOP_LINE_KEPT_ONE_IN,
    query_fingerprints,
    score_fingerprints,
)
from edge.note import NoteEvent
from tests.tunes import made_up_score, played


def test_two_chords_have_no_fingerprint() -> None:
    chords = chords_of_notes(played(made_up_score(1), quarters=1.0))
    assert score_fingerprints(chords.part(slice(0, 2))).codes.size == 0


def test_of_a_top_line_every_other_triple_is_kept() -> None:
    chords = chords_of_notes(played(made_up_score(1, chords=3000), quarters=9999.0))
    top = outer_pitches(chords.keys, 1)[:, 0]
    line = chords_of_notes(
        [
            NoteEvent(int(pitch), float(at), None, 64, 1.0)
            for pitch, at in zip(top, chords.onset_s, strict=True)
        ]
    )
    triples = sum(len(line) - first - second for first, second in CHORD_STEPS)
    kept = score_fingerprints(line).codes.size
    assert 0.8 < kept / (triples / TOP_LINE_KEPT_ONE_IN) < 1.2


def test_of_the_others_one_in_twelve_is_kept() -> None:
    chords = chords_of_notes(played(made_up_score(1, chords=3000), quarters=9999.0))
    voices = np.minimum(chords.sizes, 2)
    triples = sum(
        int((voices[: -a - b] * voices[a:-b] * voices[a + b :] - 1).sum()) for a, b in CHORD_STEPS
    )
    top_line = sum(len(chords) - a - b for a, b in CHORD_STEPS) / TOP_LINE_KEPT_ONE_IN
    kept = score_fingerprints(chords).codes.size
    assert 0.8 < kept / (triples / OTHERS_KEPT_ONE_IN + top_line) < 1.2


@given(seed=st.integers(0, 50), tempo=st.floats(0.5, 2.0))
@settings(max_examples=25, deadline=None)
def test_what_is_asked_at_any_tempo_holds_what_the_score_is_filed_under(
    seed: int, tempo: float
) -> None:
    score = made_up_score(seed)
    filed = score_fingerprints(chords_of_notes(played(score, quarters=60)))
    asked = query_fingerprints(chords_of_notes(played(score, quarters=60, tempo=tempo)))
    both = set(zip(filed.codes.tolist(), filed.chord.tolist(), strict=True))
    assert both <= set(zip(asked.codes.tolist(), asked.chord.tolist(), strict=True))


def test_other_music_in_the_same_key_shares_few() -> None:
    one, other = (
        set(score_fingerprints(chords_of_notes(played(made_up_score(seed)))).codes.tolist())
        for seed in (1, 2)
    )
    assert len(one & other) < 0.25 * len(one)
