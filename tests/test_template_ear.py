"""Onsets and templates alone hear single notes, chords and repetitions, the same in any split."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge.note import Heard, NoteEvent, NoteState, NoteUpdate, pitch_to_hz
from edge.template_ear import TemplateEar

Float32 = NDArray[np.float32]
RATE_HZ = 16_000


def play(*notes: tuple[float, int, float], length_s: float = 2.0, ends_s: float = 9.9) -> Float32:
    """Struck strings: (onset in s, pitch, level), damped at ``ends_s``."""
    t = np.arange(int(length_s * RATE_HZ)) / RATE_HZ
    samples = np.zeros(len(t))
    for onset_s, pitch_midi, level in notes:
        since = t - onset_s
        damping = np.where(t > ends_s, np.exp(-(t - ends_s) / 0.03), 1.0)
        for h in range(1, 11):
            hz = h * pitch_to_hz(pitch_midi)
            if hz < 7_500:
                ring = level * h**-1.5 * np.exp(-(2 + h / 3) * np.maximum(since, 0)) * damping
                samples += np.where(since < 0, 0, ring * np.sin(2 * np.pi * hz * since))
    return samples.astype(np.float32)


def heard(samples: Float32) -> list[NoteUpdate]:
    ear = TemplateEar()
    return [u for u in ear.push(samples) + ear.flush() if isinstance(u, NoteUpdate)]


def confirmed(samples: Float32) -> list[NoteEvent]:
    return [update.note for update in heard(samples) if update.state is NoteState.CONFIRMED]


@pytest.mark.parametrize("pitch_midi", [45, 60, 69, 84])
def test_one_note_is_heard_once_at_its_pitch_and_time(pitch_midi: int) -> None:
    [note] = confirmed(play((0.5, pitch_midi, 0.3)))
    assert note.pitch_midi == pitch_midi
    assert note.onset_s == pytest.approx(0.5, abs=0.02)


def test_a_damped_note_ends_when_the_damper_falls() -> None:
    *_, ended = heard(play((0.5, 60, 0.3), ends_s=1.2, length_s=2.5))
    assert ended.state is NoteState.ENDED
    assert ended.note.offset_s == pytest.approx(1.2, abs=0.1)


def test_a_triad_is_three_notes() -> None:
    notes = confirmed(play((0.5, 60, 0.2), (0.5, 64, 0.2), (0.5, 67, 0.2)))
    assert sorted(note.pitch_midi for note in notes) == [60, 64, 67]


def test_a_recordings_level_does_not_matter() -> None:
    samples = play((0.3, 60, 0.3), (0.8, 67, 0.2), (1.3, 72, 0.3))
    for gain in (0.05, 0.3, 1.0):
        found = [note.pitch_midi for note in confirmed(gain * samples)]
        assert found == [60, 67, 72]


def test_a_key_struck_four_times_a_second_is_heard_each_time() -> None:
    times_s = [0.3, 0.55, 0.8, 1.05, 1.3]
    notes = confirmed(play(*((t, 65, 0.3) for t in times_s)))
    assert [note.onset_s for note in notes] == pytest.approx(times_s, abs=0.03)
    assert {note.pitch_midi for note in notes} == {65}


def test_silence_gives_nothing() -> None:
    assert heard(np.zeros(2 * RATE_HZ, np.float32)) == []
    assert heard(np.zeros(0, np.float32)) == []


def test_going_noise_gives_few_notes() -> None:
    noise = np.random.default_rng(3).normal(0, 0.01, 10 * RATE_HZ).astype(np.float32)
    assert len(confirmed(noise)) < 10


def test_a_note_is_confirmed_within_the_look_ahead() -> None:
    ear = TemplateEar()
    samples = play((0.5, 69, 0.3))
    start = RATE_HZ // 2
    step = 80
    heard_samples = next(
        n + step for n in range(0, len(samples), step) if ear.push(samples[n : n + step])
    )
    assert heard_samples - start <= ear.lookahead_samples + 2 * ear.hop_samples
    assert ear.lookahead_samples < 0.2 * RATE_HZ


def test_every_note_that_is_confirmed_is_ended_once_and_later_than_it_began() -> None:
    updates = heard(play((0.2, 60, 0.3), (0.5, 60, 0.3), (0.9, 64, 0.3), (1.4, 52, 0.3)))
    started = [u.id for u in updates if u.state is NoteState.CONFIRMED]
    ended = [u for u in updates if u.state is NoteState.ENDED]
    assert started == list(range(len(started))) and len(started) >= 4
    assert sorted(u.id for u in ended) == started
    assert all(u.note.offset_s is not None and u.note.offset_s > u.note.onset_s for u in ended)


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), cuts=st.lists(st.integers(0, 24_000), max_size=6))
def test_any_split_gives_the_same_updates(seed: int, cuts: list[int]) -> None:
    rng = np.random.default_rng(seed)
    notes = [(float(rng.uniform(0, 1.2)), int(rng.integers(30, 100)), 0.2) for _ in range(8)]
    samples = play(*notes, length_s=1.5)
    ear, whole = TemplateEar(), TemplateEar()
    found: list[Heard] = []
    for a, b in pairwise([0, *sorted(cuts), len(samples)]):
        found += ear.push(samples[a:b])
    assert found + ear.flush() == whole.push(samples) + whole.flush()


def test_after_a_flush_the_ear_starts_afresh() -> None:
    ear = TemplateEar()
    samples = play((0.3, 62, 0.3))
    first = ear.push(samples) + ear.flush()
    assert ear.push(samples) + ear.flush() == first
