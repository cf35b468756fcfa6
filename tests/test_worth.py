"""The measuring of the ear's parts: chords count once, and a perfect ear scores one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge.errors import InputError
from edge.note import NoteEvent
from edge.onsets import OnsetParameters
from edge.segmentation import SegmentationParameters
from training.thresholds import Judged
from training.worth import Rendered, model_variants, render_segments, score_onsets, strikes_s

RATE_HZ = 16_000


def note(onset_s: float, pitch_midi: int = 69) -> NoteEvent:
    return NoteEvent(pitch_midi, onset_s, onset_s + 0.5, 64, 1.0)


def test_the_notes_of_a_chord_are_one_strike() -> None:
    played = [note(0.5), note(0.51, 72), note(0.52, 76), note(0.9)]
    assert strikes_s(played).tolist() == [0.5, 0.9]


def test_onsets_where_the_strikes_are_score_one_and_a_missed_one_costs_recall() -> None:
    t = np.arange(2 * RATE_HZ) / RATE_HZ
    samples = np.zeros(len(t), np.float32)
    for onset_s in (0.5, 1.2):
        since = t - onset_s
        tone = 0.3 * np.sin(2 * np.pi * 440 * since) * np.exp(-3 * since)
        samples += np.where(since < 0, 0, tone).astype(np.float32)
    all_heard = Rendered(samples, (note(0.5), note(1.2)))
    one_missed = Rendered(samples, (note(0.5), note(0.8), note(1.2)))
    assert score_onsets([all_heard], OnsetParameters(), "onsets").f1 == 1
    worth = score_onsets([one_missed], OnsetParameters(), "onsets")
    assert worth.precision == 1
    assert worth.recall == pytest.approx(2 / 3)
    assert worth.bias_ms == pytest.approx(0, abs=16)


def test_a_rule_is_worth_what_is_lost_without_it() -> None:
    activations = np.zeros((100, 88, 5), np.float32)
    activations[50, 48, 0] = activations[70, 60, 0] = 0.9  # a' is struck; a'' never sounds
    activations[50:60, 48, 1:] = 0.8
    judged = [Judged(activations, (note(1.0),), 0.02)]
    parameters = SegmentationParameters(onset_threshold=(0.5, 0.5, 0.5), support=0.4)
    found = {worth.name: worth.precision for worth in model_variants(parameters, judged)}
    assert found["model, dynamic threshold"] == 1
    assert found["model, without support"] == 0.5


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere"):
        render_segments(tmp_path / "nowhere")
