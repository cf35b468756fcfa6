"""Activations become notes: one strike one note, whatever the level, and the same in any split."""

from __future__ import annotations

from itertools import pairwise

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge.note import KEYS
from edge.segmentation import Segment, SegmentationParameters, SegmentationStream, segment

Float32 = NDArray[np.float32]
A4 = 48
ORDINARY = SegmentationParameters()
FIXED = SegmentationParameters(dynamic=False)


def silence(frames: int) -> tuple[Float32, Float32]:
    return np.zeros((frames, KEYS), np.float32), np.zeros((frames, KEYS), np.float32)


def strike(
    onset: Float32, at: float, key: int = A4, height: float = 0.9, width: float = 1.2
) -> None:
    """Add an onset peak as a model gives it: a bell a few frames wide."""
    frames = np.arange(len(onset))
    bell = height * np.exp(-0.5 * ((frames - at) / width) ** 2)
    onset[:, key] = np.maximum(onset[:, key], bell)


def hold(sounding: Float32, start: int, end: int, key: int = A4, height: float = 0.8) -> None:
    sounding[start:end, key] = height


def one_note() -> tuple[Float32, Float32]:
    onset, sounding = silence(60)
    strike(onset, 10.25)
    hold(sounding, 10, 40)
    return onset, sounding


def test_one_strike_gives_one_note_between_the_frames_where_it_lay() -> None:
    [note] = segment(*one_note())
    assert note.key == A4
    assert note.onset_frame == pytest.approx(10.25, abs=0.1)
    assert note.offset_frame == pytest.approx(39.5, abs=0.6)
    assert 0.5 < note.confidence <= 1


def test_a_note_is_given_one_frame_after_its_peak() -> None:
    onset, sounding = one_note()
    stream = SegmentationStream(ORDINARY)
    given_at = [
        t
        for t in range(60)
        if any(s.offset_frame is None for s in push(stream, onset, sounding, t))
    ]
    assert given_at == [11]


def push(stream: SegmentationStream, onset: Float32, sounding: Float32, t: int) -> list[Segment]:
    return stream.push(onset[t : t + 1], sounding[t : t + 1])


def test_silence_gives_nothing() -> None:
    assert segment(*silence(100)) == []


def test_faint_noise_gives_nothing() -> None:
    noise = np.random.default_rng(1).uniform(0, 0.15, (500, KEYS)).astype(np.float32)
    assert segment(noise, noise) == []


def test_noise_that_passes_the_fixed_step_soon_raises_the_dynamic_one_above_it() -> None:
    noise = np.random.default_rng(2).uniform(0, 0.4, (900, KEYS)).astype(np.float32)
    late_fixed = [n for n in segment(noise, noise, parameters=FIXED) if n.onset_frame > 500]
    late_dynamic = [n for n in segment(noise, noise) if n.onset_frame > 500]
    assert len(late_fixed) > 1000
    assert len(late_dynamic) < len(late_fixed) / 20


def test_a_key_repeated_ten_times_a_second_under_a_held_pedal_gives_ten_notes() -> None:
    onset, sounding = silence(80)
    for strike_number in range(10):
        strike(onset, 10 + 5 * strike_number)
    hold(sounding, 10, 75)
    notes = segment(onset, sounding)
    assert [round(note.onset_frame) for note in notes] == list(range(10, 60, 5))
    for before, after in pairwise(notes):
        assert before.offset_frame == after.onset_frame


def test_one_note_whose_partials_beat_stays_one_note() -> None:
    onset, sounding = one_note()
    frames = np.arange(12, 60)
    onset[12:, A4] = np.maximum(onset[12:, A4], 0.15 * (1 + np.sin(frames * 0.7)))
    sounding[12:40, A4] = 0.6 + 0.2 * np.sin(frames[:28] * 0.7)
    assert len(segment(onset, sounding)) == 1


def test_a_ragged_peak_is_one_strike() -> None:
    onset, sounding = silence(40)
    onset[10:17, A4] = [0.3, 0.8, 0.75, 0.9, 0.7, 0.75, 0.3]
    hold(sounding, 10, 30)
    assert len(segment(onset, sounding)) == 1


def test_a_saturated_peak_is_one_strike() -> None:
    onset, sounding = silence(40)
    onset[10:16, A4] = 1.0
    hold(sounding, 10, 30)
    assert len(segment(onset, sounding)) == 1


def test_a_soft_passage_is_heard_below_the_step_of_an_ordinary_one() -> None:
    onset, sounding = silence(800)
    for number in range(38):
        strike(onset, 20 + 20 * number, height=0.27)
        hold(sounding, 20 + 20 * number, 30 + 20 * number)
    assert segment(onset, sounding, parameters=FIXED) == []
    assert len(segment(onset, sounding)) > 20


def test_soft_notes_after_a_loud_one_are_heard() -> None:
    onset, sounding = silence(100)
    for at, height in ((10, 1.0), (20, 0.45), (40, 0.4)):
        strike(onset, at, height=height)
    hold(sounding, 10, 90)
    assert [round(note.onset_frame) for note in segment(onset, sounding)] == [10, 20, 40]


def test_the_step_of_one_register_does_not_move_the_other() -> None:
    onset, sounding = silence(400)
    for number in range(15):
        strike(onset, 10 + 20 * number, key=10, height=1.0)
    strike(onset, 350, key=70, height=0.35)
    hold(sounding, 0, 400, key=10)
    hold(sounding, 350, 380, key=70)
    notes = segment(onset, sounding)
    assert sum(note.key == 10 for note in notes) == 15
    assert sum(note.key == 70 for note in notes) == 1


def test_an_overtone_far_below_its_chord_is_not_a_note() -> None:
    onset, sounding = silence(40)
    strike(onset, 10, key=20, height=1.0)
    strike(onset, 10, key=32, height=0.35)
    hold(sounding, 10, 30, key=20)
    hold(sounding, 10, 30, key=32)
    strict = SegmentationParameters(chord_fraction=0.4)
    assert [note.key for note in segment(onset, sounding, parameters=strict)] == [20]


def test_an_onset_without_sound_is_not_a_note() -> None:
    onset, sounding = silence(40)
    strike(onset, 10)
    assert segment(onset, sounding) == []


def test_without_flux_the_step_is_higher() -> None:
    onset, sounding = silence(40)
    strike(onset, 10, height=0.5)
    hold(sounding, 10, 30)
    gated = SegmentationParameters(flux_weight=0.5)
    some, none = np.ones(40, np.float32), np.zeros(40, np.float32)
    assert len(segment(onset, sounding, parameters=gated, flux=some)) == 1
    assert segment(onset, sounding, parameters=gated, flux=none) == []


def test_a_fading_note_ends_when_it_drops_not_while_it_fades() -> None:
    onset, sounding = silence(400)
    strike(onset, 10, key=0)
    frames = np.arange(10, 300)
    sounding[10:300, 0] = 0.9 * 0.5 ** ((frames - 10) / 150)
    [note] = segment(onset, sounding)
    assert note.offset_frame == pytest.approx(300, abs=1)


def test_a_short_gap_in_the_sounding_does_not_end_a_note() -> None:
    onset, sounding = one_note()
    sounding[20:22, A4] = 0
    [note] = segment(onset, sounding)
    assert note.offset_frame is not None and note.offset_frame > 38


def test_an_offset_activation_ends_a_wavering_note_earlier() -> None:
    onset, sounding = one_note()
    sounding[25:40, A4] = 0.4
    offset = np.zeros_like(onset)
    offset[25:, A4] = 1.0
    [without], [with_offset] = segment(onset, sounding), segment(onset, sounding, offset)
    assert with_offset.offset_frame is not None and without.offset_frame is not None
    assert with_offset.offset_frame < 26 < without.offset_frame


HAND = SegmentationParameters(hand_keys=5, hand_threshold=0.7)


@pytest.mark.parametrize(
    ("next_key", "next_frame", "held", "end_frame"),
    [
        (A4 + 2, 25, 0.5, 25),  # the hand goes on
        (A4 + 2, 25, 0.9, 39.5),  # the finger stays
        (A4 + 9, 25, 0.5, 39.5),  # another hand
        (A4 + 4, 12, 0.5, 39.5),  # one chord
    ],
)
def test_a_hand_that_strikes_the_next_key_lets_go_of_the_last(
    next_key: int, next_frame: int, held: float, end_frame: float
) -> None:
    onset, sounding = silence(60)
    strike(onset, 10)
    strike(onset, next_frame, next_key)
    hold(sounding, 10, 40, height=held)
    hold(sounding, next_frame, 50, next_key)
    first = segment(onset, sounding, parameters=HAND)[0]
    assert first.key == A4
    assert first.offset_frame == pytest.approx(end_frame, abs=0.6)


def test_velocity_is_read_at_the_peak() -> None:
    onset, sounding = one_note()
    velocity = np.zeros_like(onset)
    velocity[10, A4] = 0.63
    [note] = segment(onset, sounding, velocity=velocity)
    assert note.velocity == pytest.approx(0.63)


def test_a_note_struck_in_the_last_frame_is_not_lost() -> None:
    onset, sounding = silence(11)
    onset[9:, A4] = [0.4, 0.9]
    hold(sounding, 10, 11)
    [note] = segment(onset, sounding)
    assert note.offset_frame == 11


def test_what_was_started_is_ended_and_nothing_else() -> None:
    rng = np.random.default_rng(4)
    onset = rng.uniform(0, 1, (300, KEYS)).astype(np.float32) ** 6
    stream = SegmentationStream(ORDINARY)
    found = stream.push(onset, np.sqrt(onset)) + stream.flush()
    started = sorted((s.key, s.onset_frame) for s in found if s.offset_frame is None)
    ended = sorted((s.key, s.onset_frame) for s in found if s.offset_frame is not None)
    assert started == ended and len(started) > 100


def test_parameters_come_from_a_manifest_and_refuse_what_is_no_activation() -> None:
    assert msgspec.convert({}, SegmentationParameters) == ORDINARY
    plain = msgspec.to_builtins(SegmentationParameters(shadow_fraction=0.4))
    assert msgspec.convert(plain, SegmentationParameters).shadow_fraction == 0.4
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"shadow_fraction": 4}, SegmentationParameters)
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"shade": 0.4}, SegmentationParameters)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    cuts=st.lists(st.integers(0, 120), max_size=6),
    dynamic=st.booleans(),
)
def test_any_split_gives_the_whole_signals_notes(seed: int, cuts: list[int], dynamic: bool) -> None:
    rng = np.random.default_rng(seed)
    onset, sounding, offset, velocity = (
        rng.uniform(0, 1, (120, KEYS)).astype(np.float32) ** power for power in (6, 1, 4, 1)
    )
    flux = rng.uniform(0, 1, 120).astype(np.float32)
    parameters = SegmentationParameters(dynamic=dynamic, flux_weight=0.3, hand_keys=4)
    whole = SegmentationStream(parameters)
    expected = whole.push(onset, sounding, offset, velocity, flux) + whole.flush()
    split = SegmentationStream(parameters)
    found: list[Segment] = []
    edges = [0, *sorted(cuts), 120]
    for a, b in pairwise(edges):
        found += split.push(onset[a:b], sounding[a:b], offset[a:b], velocity[a:b], flux[a:b])
    assert found + split.flush() == expected


def moved(value: object) -> object:
    """Another value of a threshold's kind."""
    if isinstance(value, tuple):
        return tuple(moved(one) for one in value)
    if isinstance(value, bool):
        return not value
    assert isinstance(value, int | float)
    return value + 3 if isinstance(value, int) else value * 2


EVERY_STEP = msgspec.structs.replace(
    ORDINARY, shadow_fraction=0.8, chord_fraction=0.2, flux_weight=0.3, hand_keys=4
)


@pytest.mark.parametrize("field", SegmentationParameters.__struct_fields__)
def test_every_threshold_has_its_effect(field: str) -> None:
    rng = np.random.default_rng(7)
    onset, sounding, offset, velocity = (
        rng.uniform(0, 1, (240, KEYS)).astype(np.float32) ** power for power in (6, 1, 4, 1)
    )
    flux = rng.uniform(0, 1, 240).astype(np.float32)
    changed = msgspec.structs.replace(EVERY_STEP, **{field: moved(getattr(EVERY_STEP, field))})
    notes, others = (
        segment(onset, sounding, offset, velocity, parameters, flux)
        for parameters in (EVERY_STEP, changed)
    )
    assert notes
    assert notes != others


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_a_key_sounds_one_note_at_a_time(seed: int) -> None:
    rng = np.random.default_rng(seed)
    onset = rng.uniform(0, 1, (120, KEYS)).astype(np.float32) ** 4
    sounding = rng.uniform(0, 1, (120, KEYS)).astype(np.float32)
    free_from = np.zeros(KEYS)
    for note in segment(onset, sounding, parameters=HAND):
        assert note.offset_frame is not None
        assert free_from[note.key] <= note.onset_frame < note.offset_frame
        free_from[note.key] = note.offset_frame
