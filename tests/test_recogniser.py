"""The recogniser: any split gives the same notes, gaps end what sounded, MIDI skips the ear."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import edge
from edge.audio.block import STREAM_RATE_HZ, Block, MidiBlock
from edge.audio.file import AudioFile
from edge.ear import load_ear
from edge.following import PieceFollower, Position
from edge.matching import Catalogue, Piece, Score
from edge.note import Heard, NoteEvent, NoteState, NoteUpdate, PedalEvent, Strike, pitch_to_hz
from edge.recogniser import Event, Recogniser, load_recogniser
from edge.resources import demo_recording

PITCHES = (60, 64, 67, 72)


def struck(pitch_midi: int, seconds: float, length_s: float = 0.6) -> np.ndarray:
    """A string of eight fading partials, struck once and damped at the end."""
    t = np.arange(round(seconds * STREAM_RATE_HZ)) / STREAM_RATE_HZ
    hz = pitch_to_hz(pitch_midi)
    partials = sum(
        np.exp(-t * (2 + h)) * np.sin(2 * np.pi * h * hz * t) / h**2 for h in range(1, 9)
    )
    attack = np.minimum(1, t / 0.003) * np.where(t < length_s, 1, np.exp(-(t - length_s) / 0.03))
    return (0.2 * partials * attack).astype(np.float32)


@pytest.fixture(scope="module")
def melody() -> np.ndarray:
    """Half a second of rest, then one note every half second."""
    sound = np.zeros(round(3.5 * STREAM_RATE_HZ), np.float32)
    for i, pitch in enumerate(PITCHES):
        start = round((0.5 + 0.5 * i) * STREAM_RATE_HZ)
        sound[start : start + STREAM_RATE_HZ] += struck(pitch, 1.0, 0.45)
    return sound


@pytest.fixture(scope="module")
def recogniser() -> Recogniser:
    return Recogniser(load_ear())


def hear(recogniser: Recogniser, blocks: list[Block]) -> list[Event]:
    recogniser.reset()
    return [e for b in blocks for e in recogniser.push(b)] + recogniser.flush()


def cut(sound: np.ndarray, cuts: list[int]) -> list[Block]:
    edges = [0, *sorted(cuts), len(sound)]
    return [Block(a, sound[a:b]) for a, b in itertools.pairwise(edges)]


def notes(events: list[Event], state: NoteState) -> list[NoteEvent]:
    return [e.note for e in events if isinstance(e, NoteUpdate) and e.state is state]


def test_a_melody_is_heard_as_its_notes(recogniser: Recogniser, melody: np.ndarray) -> None:
    heard = notes(hear(recogniser, cut(melody, [])), NoteState.CONFIRMED)
    assert [note.pitch_midi for note in heard] == list(PITCHES)
    for i, note in enumerate(heard):
        assert note.onset_s == pytest.approx(0.5 + 0.5 * i, abs=0.03)


def test_every_note_that_began_ends_under_the_same_id(
    recogniser: Recogniser, melody: np.ndarray
) -> None:
    events = [e for e in hear(recogniser, cut(melody, [])) if isinstance(e, NoteUpdate)]
    began = [e.id for e in events if e.state is NoteState.CONFIRMED]
    ended = [e.id for e in events if e.state is NoteState.ENDED]
    assert len(set(began)) == len(began)
    assert sorted(began) == sorted(ended)


@settings(max_examples=12, deadline=None)
@given(st.lists(st.integers(0, round(3.5 * STREAM_RATE_HZ)), max_size=20))
def test_any_split_into_blocks_gives_the_same_events(
    recogniser: Recogniser, melody: np.ndarray, cuts: list[int]
) -> None:
    assert hear(recogniser, cut(melody, cuts)) == hear(recogniser, cut(melody, []))


def test_any_split_into_blocks_gives_the_same_places(melody: np.ndarray) -> None:
    quarters = np.arange(4.0)
    score = Score(
        piece=Piece("melody", "melody", "A Melody", ""),
        pitch_midi=np.array(PITCHES, np.uint8),
        onset_quarters=quarters,
        duration_quarters=np.ones(4),
        hand=np.zeros(4, np.uint8),
        bar_quarters=np.zeros(1),
        bar_number=np.ones(1, np.int32),
        bar_beat_quarters=np.ones(1),
        tempo_quarters=np.array([0.0, 4.0]),
        tempo_s=np.array([0.0, 2.0]),
    )
    pieces = PieceFollower(Catalogue.from_scores([score]), 0.2, "melody")
    recogniser = Recogniser(load_ear(), pieces)
    one_by_one = cut(melody, list(range(0, len(melody), 500)))
    told = [
        [event for event in hear(recogniser, blocks) if isinstance(event, Position)]
        for blocks in (cut(melody, []), one_by_one, cut(melody, [7_000, 31_111]))
    ]
    assert [round(position.beat, 1) for position in told[0]] == [1.0, 2.0, 3.0, 4.0]
    assert told[0] == told[1] == told[2]


def test_a_gap_ends_what_sounded_and_later_notes_keep_their_time(
    recogniser: Recogniser, melody: np.ndarray
) -> None:
    whole = notes(hear(recogniser, cut(melody, [])), NoteState.CONFIRMED)
    lost_from, goes_on_at = round(1.1 * STREAM_RATE_HZ), round(1.4 * STREAM_RATE_HZ)
    events = hear(
        recogniser,
        [Block(0, melody[:lost_from]), Block(goes_on_at, melody[goes_on_at:])],
    )
    ids = [e.id for e in events if isinstance(e, NoteUpdate) and e.state is NoteState.CONFIRMED]
    assert len(set(ids)) == len(ids)
    after = [n for n in notes(events, NoteState.CONFIRMED) if n.onset_s > 1.1]
    expected = [n for n in whole if n.onset_s > 1.45]
    assert [n.pitch_midi for n in after] == [n.pitch_midi for n in expected]
    for one, other in zip(after, expected, strict=True):
        assert one.onset_s == pytest.approx(other.onset_s, abs=0.02)
    before_gap = [n for n in notes(events, NoteState.ENDED) if n.onset_s < 1.1]
    assert all(n.offset_s is not None and n.offset_s <= 1.1 + 0.02 for n in before_gap)


def test_what_goes_on_sounding_after_a_gap_is_not_struck_by_it(recogniser: Recogniser) -> None:
    with AudioFile(demo_recording()) as file:
        sound = np.concatenate([block.samples for block in file.blocks(1.0)])
    struck_by_it = 0
    for goes_on_at_s in (4.0, 6.1, 10.2, 14.3, 25.65):
        first = round(goes_on_at_s * STREAM_RATE_HZ)
        stretch = Block(first, sound[first : first + STREAM_RATE_HZ])
        whole, torn = (
            Counter(
                note.pitch_midi
                for note in notes(
                    hear(recogniser, [Block(0, sound[: first - lost]), stretch]),
                    NoteState.CONFIRMED,
                )
                if note.onset_s > goes_on_at_s
            )
            for lost in (0, 1600)
        )
        struck_by_it += (torn - whole).total()
    assert struck_by_it <= 1  # about 20 keys are down in these five moments


def test_a_hiccup_of_the_sound_card_neither_ends_nor_strikes_a_note(
    recogniser: Recogniser,
) -> None:
    with AudioFile(demo_recording()) as file:
        sound = np.concatenate([block.samples for block in file.blocks(1.0)])[: 12 * STREAM_RATE_HZ]
    lost = round(0.03 * STREAM_RATE_HZ)
    edges = [0, *range(STREAM_RATE_HZ, len(sound), STREAM_RATE_HZ // 2), len(sound) + lost]
    torn = [Block(a, sound[a : b - lost]) for a, b in itertools.pairwise(edges)]
    whole, heard = (
        Counter(
            (e.note.pitch_midi, round(e.note.onset_s, 1))
            for e in hear(recogniser, blocks)
            if isinstance(e, NoteUpdate) and e.state is NoteState.CONFIRMED
        )
        for blocks in (cut(sound, []), torn)
    )
    assert len(torn) > 20
    assert (heard - whole).total() + (whole - heard).total() <= 0.1 * whole.total()


def test_a_card_that_stutters_costs_no_new_beginnings(melody: np.ndarray) -> None:
    ear = Scripted()
    recogniser = Recogniser(ear)
    for first in range(0, len(melody), 800):  # 20 ms come, 30 ms are lost
        recogniser.push(Block(first, melody[first : first + 320]))
    assert ear.ends <= 4  # until 85 ms are kept


def test_after_a_failure_what_sounded_is_ended_and_later_notes_get_new_ids(
    recogniser: Recogniser, melody: np.ndarray
) -> None:
    recogniser.reset()
    failed_at = round(0.9 * STREAM_RATE_HZ)
    before = recogniser.push(Block(0, melody[:failed_at]))
    ended = recogniser.recover()
    assert [e.state for e in ended if isinstance(e, NoteUpdate)] == [NoteState.ENDED]
    assert [n.pitch_midi for n in notes(ended, NoteState.ENDED)] == [PITCHES[0]]
    after = [*recogniser.push(Block(failed_at, melody[failed_at:])), *recogniser.flush()]
    heard = notes(after, NoteState.CONFIRMED)
    assert [n.pitch_midi for n in heard] == list(PITCHES[1:])
    ids = [
        e.id
        for e in [*before, *after]
        if isinstance(e, NoteUpdate) and e.state is NoteState.CONFIRMED
    ]
    assert len(set(ids)) == len(ids)


class Scripted:
    """An ear that says what it was told to say."""

    sample_rate_hz = STREAM_RATE_HZ
    hop_samples = 320
    lookahead_samples = 320

    def __init__(self, *said: Heard) -> None:
        self._said = list(said)
        self.ends = 0

    def push(self, _samples: np.ndarray) -> list[Heard]:
        said, self._said = self._said, []
        return said

    def flush(self) -> list[Heard]:
        self.ends += 1
        return []

    def reset(self) -> None:
        pass


def test_after_a_failure_guesses_are_withdrawn_and_the_pedal_is_let_go() -> None:
    guess = NoteUpdate(0, NoteState.PROVISIONAL, NoteEvent(60, 0.1, None, 64, 0.6))
    recogniser = Recogniser(Scripted(guess, PedalEvent(0.2, down=True)))
    recogniser.push(Block(0, np.zeros(STREAM_RATE_HZ, np.float32)))
    assert recogniser.recover() == [
        NoteUpdate(0, NoteState.WITHDRAWN, guess.note),
        PedalEvent(1.0, down=False),
    ]
    assert recogniser.recover() == []


def test_strikes_and_the_pedal_keep_the_streams_time_behind_a_gap() -> None:
    recogniser = Recogniser(Scripted(Strike(0.5, 0.1), PedalEvent(0.25, down=True)))
    heard = recogniser.push(Block(2 * STREAM_RATE_HZ, np.zeros(320, np.float32)))
    assert heard == [Strike(2.5, 0.1), PedalEvent(2.25, down=True)]


def test_guesses_say_nothing_of_the_piece() -> None:
    class Pieces:
        def __init__(self) -> None:
            self.notes: list[NoteEvent] = []

        def reset(self) -> None:
            pass

        def push(self, notes: list[NoteEvent], _now_s: float) -> list[Event]:
            self.notes += notes
            return []

    note = NoteEvent(60, 0.1, None, 64, 0.6)
    pieces = Pieces()
    states = (NoteState.PROVISIONAL, NoteState.CONFIRMED, NoteState.ENDED, NoteState.WITHDRAWN)
    ear = Scripted(
        Strike(0.1, 0.2), *(NoteUpdate(k, state, note) for k, state in enumerate(states))
    )
    Recogniser(ear, pieces).push(Block(0, np.zeros(320, np.float32)))  # type: ignore[arg-type]
    assert pieces.notes == [note]


def test_a_keyboards_own_notes_pass_unchanged(recogniser: Recogniser) -> None:
    recogniser.reset()
    note = NoteEvent(60, 1.0, None, 80, 1.0)
    update = NoteUpdate(0, NoteState.CONFIRMED, note)
    assert recogniser.push(MidiBlock(16_320, (update,))) == [update]
    assert recogniser.now_sample == 16_320


def test_one_call_writes_a_recording_down(melody: np.ndarray) -> None:
    stereo_44k = np.repeat(np.repeat(melody, 3)[:, None], 2, axis=1)
    found = edge.transcribe(stereo_44k, 48_000)
    assert [note.pitch_midi for note in found] == list(PITCHES)
    assert all(note.offset_s is not None and note.offset_s > note.onset_s for note in found)


def test_silence_holds_no_note(recogniser: Recogniser) -> None:
    silence = np.zeros(3 * STREAM_RATE_HZ, np.float32)
    assert hear(recogniser, cut(silence, [])) == []


def test_what_a_keyboard_left_open_is_ended_with_the_stream_and_no_model_is_loaded() -> None:
    recogniser = load_recogniser("no such model", needs_ear=False)
    held = NoteUpdate(7, NoteState.CONFIRMED, NoteEvent(60, 0.5, None, 64, 1.0))
    recogniser.push(MidiBlock(16_000, (held, PedalEvent(0.6, True))))
    recogniser.push(MidiBlock(32_000, ()))
    over = NoteUpdate(7, NoteState.ENDED, NoteEvent(60, 0.5, 2.0, 64, 1.0))
    assert recogniser.flush() == [over, PedalEvent(2.0, False)]
    assert recogniser.flush() == []
