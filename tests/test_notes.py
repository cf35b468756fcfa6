"""The note tracker: segments become notes with ids, seconds and MIDI velocities."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.note import KEYS, LOWEST_PITCH_MIDI, NoteState, NoteUpdate
from edge.notes import NoteTracker
from edge.segmentation import SegmentationParameters

HOP_S = 0.02
C4 = 60 - LOWEST_PITCH_MIDI


def activations(*onset_frames: int, frames: int = 80, velocity: float = 0.5) -> np.ndarray:
    """Middle C struck at these frames, sounding from the first for 30 frames."""
    made = np.zeros((frames, KEYS, 5), np.float32)
    for frame in onset_frames:
        made[frame - 1 : frame + 2, C4, 0] = (0.4, 0.9, 0.4)
        made[frame - 1 : frame + 2, C4, 3] = velocity
    made[onset_frames[0] : onset_frames[0] + 30, C4, 1] = 0.9
    made[onset_frames[0] : onset_frames[0] + 30, C4, 4] = 0.9
    return made


def track(*parts: np.ndarray) -> list[NoteUpdate]:
    tracker = NoteTracker(SegmentationParameters(), HOP_S)
    return [u for part in parts for u in tracker.push(part)] + tracker.flush()


def test_a_strike_is_confirmed_then_ended_in_seconds_under_one_id() -> None:
    confirmed, ended = track(activations(10))
    assert (confirmed.state, ended.state) == (NoteState.CONFIRMED, NoteState.ENDED)
    assert confirmed.id == ended.id
    assert confirmed.note.pitch_midi == 60
    assert confirmed.note.onset_s == pytest.approx(0.2, abs=0.005)
    assert confirmed.note.offset_s is None
    assert ended.note.offset_s == pytest.approx(0.8, abs=0.03)


def test_a_key_struck_again_ends_its_old_note_and_gets_a_new_id() -> None:
    updates = track(activations(10, 20))
    assert [u.state for u in updates] == [
        NoteState.CONFIRMED,
        NoteState.ENDED,
        NoteState.CONFIRMED,
        NoteState.ENDED,
    ]
    assert updates[0].id == updates[1].id != updates[2].id == updates[3].id


@pytest.mark.parametrize(("activation", "expected"), [(0.0, 1), (0.5, 64), (1.0, 127)])
def test_velocity_is_midis(activation: float, expected: int) -> None:
    assert track(activations(10, velocity=activation))[0].note.velocity == expected


@given(st.lists(st.integers(0, 80), max_size=6))
def test_any_split_of_the_frames_gives_the_same_notes(cuts: list[int]) -> None:
    whole = activations(10, 22)
    assert track(*np.split(whole, sorted(cuts))) == track(whole)
