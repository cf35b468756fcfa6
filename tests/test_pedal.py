"""The pedal is read from strings that ring without being held, and in doubt nothing is said."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge.ear import ModelEar, load_ear
from edge.features import FeatureParameters
from edge.manifest import HEADS
from edge.note import KEYS, LOWEST_PITCH_MIDI, NoteState, NoteUpdate, PedalEvent
from edge.pedal import (
    LOWEST_UNDAMPED_PITCH_MIDI,
    PedalParameters,
    PedalStream,
    pedal_moves,
)
from training.targets import HELD, NOTE_DTYPE, SOUNDING, draw_targets

Float32 = NDArray[np.float32]
HOP_S = 0.02
TRIAD = (60, 64, 67)


def drawn(
    *notes: tuple[int, int, int, int], frames: int = 200, level: float = 0.9
) -> tuple[Float32, Float32]:
    """Sounding and held of (pitch, struck, let go, silent), in frames."""
    sounding, held = np.zeros((2, frames, KEYS), np.float32)
    for pitch, struck, let_go, silent in notes:
        held[struck:let_go, pitch - LOWEST_PITCH_MIDI] = level
        sounding[struck:silent, pitch - LOWEST_PITCH_MIDI] = level
    return sounding, held


def moves(*notes: tuple[int, int, int, int]) -> list[PedalEvent]:
    return pedal_moves(*drawn(*notes), HOP_S)


def test_a_triad_that_rings_on_after_the_keys_is_a_pedal_from_there_to_its_silence() -> None:
    down, up = moves(*((pitch, 10, 40, 120) for pitch in TRIAD))
    assert (down.down, up.down) == (True, False)
    assert down.t_s == pytest.approx(40 * HOP_S)
    assert up.t_s == pytest.approx(120 * HOP_S)


def test_keys_let_go_one_after_the_other_date_the_pedal_by_the_first() -> None:
    down, _ = moves((60, 10, 30, 150), (64, 20, 40, 150), (67, 30, 50, 150))
    assert down.t_s == pytest.approx(30 * HOP_S)


def test_a_triad_whose_dampers_fall_with_the_keys_is_no_pedal() -> None:
    assert moves(*((pitch, 10, 40, 40) for pitch in TRIAD)) == []


def test_dampers_that_take_their_time_are_no_pedal() -> None:
    slow = round(PedalParameters().free_s / HOP_S) - 1
    assert moves(*((pitch, 10, 40, 40 + slow) for pitch in TRIAD)) == []


def test_two_strings_are_too_few() -> None:
    assert moves((60, 10, 40, 120), (64, 10, 40, 120)) == []


def test_the_top_of_the_keyboard_has_no_dampers_and_no_say() -> None:
    top = LOWEST_UNDAMPED_PITCH_MIDI
    assert moves(*((top + k, 10, 15, 120) for k in range(5))) == []
    assert moves(*((top - 1 - k, 10, 15, 120) for k in range(5))) != []


def test_an_ear_that_cannot_tell_key_from_string_hears_no_pedal() -> None:
    sounding, _ = drawn(*((pitch, 10, 40, 120) for pitch in TRIAD))
    assert pedal_moves(sounding, sounding, HOP_S) == []


def test_strings_that_ring_before_a_key_was_held_say_nothing() -> None:
    sounding, held = drawn(*((pitch, 10, 10, 120) for pitch in TRIAD))
    assert not held.any()
    assert pedal_moves(sounding, held, HOP_S) == []


def test_a_free_string_that_is_struck_again_was_not_damped() -> None:
    """The pedal stays down while its strings are held again one by one, until they are damped."""
    sounding, held = drawn(
        *((pitch, 10, 40, 160) for pitch in TRIAD),
        *((pitch, 70, 100, 160) for pitch in TRIAD),
    )
    down, up = pedal_moves(sounding, held, HOP_S)
    assert down.t_s == pytest.approx(40 * HOP_S)
    assert up.t_s == pytest.approx(160 * HOP_S)


def test_a_string_that_fades_while_the_others_ring_on_is_not_the_pedal_coming_up() -> None:
    _, up = moves((72, 10, 40, 70), *((pitch, 10, 40, 120) for pitch in TRIAD))
    assert up.t_s == pytest.approx(120 * HOP_S)
    held_again = ((pitch, 90, 130, 160) for pitch in TRIAD)
    _, up = moves((72, 10, 40, 70), *((pitch, 10, 40, 120) for pitch in TRIAD), *held_again)
    assert up.t_s == pytest.approx(160 * HOP_S)


def test_a_pedal_that_is_changed_with_the_harmony_moves_twice() -> None:
    heard = moves(
        *((pitch, 10, 40, 80) for pitch in TRIAD),
        *((pitch + 5, 80, 110, 150) for pitch in TRIAD),
    )
    assert [move.down for move in heard] == [True, False, True, False]
    times = [round(move.t_s / HOP_S) for move in heard]
    assert times == [40, 80, 110, 150]


def test_trembling_between_the_two_levels_of_the_switches_changes_nothing() -> None:
    p = PedalParameters()
    sounding, held = drawn(*((pitch, 10, 40, 120) for pitch in TRIAD))
    trembling = np.random.default_rng(5).uniform(0.01, 0.99, sounding.shape).astype(np.float32)
    unsure = p.silent + (p.rings - p.silent) * trembling
    ringing = sounding.copy()
    ringing[60:120][sounding[60:120] > 0] = unsure[60:120][sounding[60:120] > 0]
    assert pedal_moves(ringing, held, HOP_S) == pedal_moves(sounding, held, HOP_S)


def test_a_pedal_that_is_down_comes_up_at_the_end_of_the_stream() -> None:
    down, up = moves(*((pitch, 10, 40, 200) for pitch in TRIAD))
    assert down.down and not up.down
    assert up.t_s == pytest.approx(200 * HOP_S)


def test_silence_and_noise_below_the_levels_say_nothing() -> None:
    rng = np.random.default_rng(3)
    sounding, held = rng.uniform(0, 0.45, (2, 500, KEYS)).astype(np.float32)
    assert pedal_moves(sounding, held, HOP_S) == []


def test_what_a_model_is_taught_of_a_pedalled_chord_is_a_pedal() -> None:
    notes = np.array([(p, 80, 0.5, 1.0, 2.5) for p in TRIAD], NOTE_DTYPE)
    targets = draw_targets(notes, 0, 200, FeatureParameters())
    down, up = pedal_moves(targets[:, :, SOUNDING], targets[:, :, HELD], HOP_S)
    assert (down.t_s, up.t_s) == pytest.approx((1.0, 2.5), abs=HOP_S)
    notes["silence_s"] = notes["offset_s"]
    targets = draw_targets(notes, 0, 200, FeatureParameters())
    assert pedal_moves(targets[:, :, SOUNDING], targets[:, :, HELD], HOP_S) == []


def test_the_models_ear_tells_the_pedal_among_the_notes(monkeypatch: pytest.MonkeyPatch) -> None:
    notes = np.array([(p, 80, 0.5, 1.0, 2.5) for p in TRIAD], NOTE_DTYPE)
    targets = draw_targets(notes, 0, 200, FeatureParameters())[:, :, : len(HEADS)]
    ear = load_ear()
    assert isinstance(ear, ModelEar)
    monkeypatch.setattr(ear._model, "push", lambda _cube: targets)
    heard = ear.push(np.zeros(2048, np.float32))
    moves_told = [(e.down, round(e.t_s, 2)) for e in heard if isinstance(e, PedalEvent)]
    assert moves_told == [(True, 1.0), (False, 2.5)]
    ended = [e for e in heard if isinstance(e, NoteUpdate) and e.state is NoteState.ENDED]
    assert [round(e.note.offset_s or 0, 1) for e in ended] == [1.0] * len(TRIAD)
    assert max(heard.index(e) for e in ended) < heard.index(PedalEvent(2.5, down=False))


@given(
    seed=st.integers(0, 2**32 - 1),
    cuts=st.lists(st.integers(0, 200), max_size=6),
)
def test_any_split_gives_the_same_moves_down_and_up_in_turn(seed: int, cuts: list[int]) -> None:
    rng = np.random.default_rng(seed)
    notes = []
    for _ in range(25):
        struck = int(rng.integers(0, 150))
        let_go = struck + int(rng.integers(2, 40))
        notes.append((int(rng.integers(40, 90)), struck, let_go, let_go + int(rng.integers(0, 60))))
    sounding, held = drawn(*notes)
    whole = pedal_moves(sounding, held, HOP_S)
    stream = PedalStream(HOP_S)
    found: list[PedalEvent] = []
    edges = [0, *sorted(cuts), 200]
    for a, b in pairwise(edges):
        found += stream.push(sounding[a:b], held[a:b])
    assert found + stream.flush() == whole
    assert [move.down for move in whole] == [k % 2 == 0 for k in range(len(whole))]
    assert all(a.t_s <= b.t_s for a, b in pairwise(whole))
    assert stream.push(sounding, held) + stream.flush() == whole
