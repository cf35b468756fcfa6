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


def guessed(tracker: NoteTracker, frame: int, *, confidence: float = 0.5) -> list[NoteUpdate]:
    """What is guessed at frame 12, when it is foreseen that middle C is struck at ``frame``."""
    tracker.push(np.zeros((12, KEYS, 5), np.float32))
    return tracker.guess(activations(frame)[12:], struck_s=0.3, least_confidence=confidence)


def test_a_guess_is_confirmed_under_its_id() -> None:
    tracker = NoteTracker(SegmentationParameters(), HOP_S)
    [guess] = guessed(tracker, 15)
    assert (guess.id, guess.state) == (0, NoteState.PROVISIONAL)
    assert guess.note.onset_s == pytest.approx(0.3, abs=0.005)
    confirmed, ended = [*tracker.push(activations(16)[12:]), *tracker.flush()]
    assert (confirmed.id, confirmed.state) == (0, NoteState.CONFIRMED)
    assert confirmed.note.onset_s == pytest.approx(0.32, abs=0.005)
    assert (ended.id, ended.state) == (0, NoteState.ENDED)


def test_a_guess_that_nothing_confirms_is_withdrawn_once_the_frames_around_it_are_judged() -> None:
    tracker = NoteTracker(SegmentationParameters(), HOP_S)
    [guess] = guessed(tracker, 15)
    silence = np.zeros((1, KEYS, 5), np.float32)
    told = [(frame, u) for frame in range(12, 40) for u in tracker.push(silence)]
    [(frame, withdrawn)] = told
    assert (withdrawn.id, withdrawn.state) == (guess.id, NoteState.WITHDRAWN)
    # A peak in frame 18 could lie 60 ms after the onset, and frame 19 would have confirmed it.
    assert 19 <= frame <= 20
    assert tracker.flush() == []


def test_a_strike_further_off_is_another_note() -> None:
    tracker = NoteTracker(SegmentationParameters(), HOP_S)
    guessed(tracker, 15)
    states = [(u.id, u.state) for u in tracker.push(activations(20)[12:]) + tracker.flush()]
    assert states == [
        (0, NoteState.WITHDRAWN),
        (1, NoteState.CONFIRMED),
        (1, NoteState.ENDED),
    ]


def test_one_strike_is_guessed_once_and_not_when_it_is_known() -> None:
    tracker = NoteTracker(SegmentationParameters(), HOP_S)
    assert len(guessed(tracker, 15)) == 1
    assert tracker.guess(activations(16)[12:], struck_s=0.3, least_confidence=0.5) == []
    tracker.push(activations(15)[12:18])
    assert tracker.guess(activations(15)[12:], struck_s=0.3, least_confidence=0.5) == []


def test_a_guess_that_is_not_sure_enough_or_elsewhere_is_not_made() -> None:
    assert guessed(NoteTracker(SegmentationParameters(), HOP_S), 15, confidence=0.99) == []
    assert guessed(NoteTracker(SegmentationParameters(), HOP_S), 25) == []


def test_guessing_changes_nothing_of_what_is_sure() -> None:
    tracker = NoteTracker(SegmentationParameters(), HOP_S)
    whole = activations(10, 22)
    sure = tracker.push(whole[:20])
    tracker.guess(activations(23)[20:], struck_s=0.44, least_confidence=0.5)
    sure += tracker.push(whole[20:]) + tracker.flush()
    known = [(u.state, u.note) for u in sure if u.state is not NoteState.WITHDRAWN]
    assert known == [(u.state, u.note) for u in track(whole)]


def test_what_is_provisional_at_the_end_is_withdrawn() -> None:
    tracker = NoteTracker(SegmentationParameters(), HOP_S)
    guessed(tracker, 15)
    assert [u.state for u in tracker.flush()] == [NoteState.WITHDRAWN]


@pytest.mark.parametrize(("activation", "expected"), [(0.0, 1), (0.5, 64), (1.0, 127)])
def test_velocity_is_midis(activation: float, expected: int) -> None:
    assert track(activations(10, velocity=activation))[0].note.velocity == expected


@given(st.lists(st.integers(0, 80), max_size=6))
def test_any_split_of_the_frames_gives_the_same_notes(cuts: list[int]) -> None:
    whole = activations(10, 22)
    assert track(*np.split(whole, sorted(cuts))) == track(whole)
