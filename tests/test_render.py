"""The renderer: samples struck, damped, mixed and labelled (`training.render`).

A tiny piano is made here: decaying sines with a latency of their own before the attack, so
that nothing but the renderer can put the onsets right.
"""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge.errors import InputError, UsageError
from edge.note import NoteEvent, pitch_to_hz
from tests.pianos import write_piano
from training.render import command, room
from training.render import performance as playing
from training.render.modelled import decaying_sine, draw_model, key_layers
from training.render.piano import (
    ONSET_MARGIN_SAMPLES,
    SAMPLE_RATE_HZ,
    SampledPiano,
    read_at,
)
from training.render.recordings import load_piano, load_pianos
from training.render.segment import (
    NOTE_DTYPE,
    Conditions,
    Segment,
    Sources,
    draw_performance,
    labels_of,
    make_sources,
    render_segment,
    segment_rng,
)
from training.render.soundfont import SoundfontPreset, load_soundfont
from training.render.synthesis import Touch, mix, sounding_end_s

QUIET = Touch(
    cents_of_key=np.zeros(128),
    gain_db_of_key=np.zeros(128),
    velocity_exponent=1.5,
    damper_factor=1.0,
    resonance=0.0,
    release_noise_db=-np.inf,
    layer_jitter=0.0,
)
ONLY_SINGLE_KEYS = Conditions(
    pop=0, score=0, chords=0, scales=0, repetitions=0, single_keys=1, soup=0, silence=0, clean=1
)
NO_PEDAL = np.zeros((0, 2))


@pytest.fixture(scope="module")
def pianos_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pianos")
    write_piano(folder / "first")
    write_piano(folder / "second", keys=range(21, 109, 11))
    return folder


@pytest.fixture(scope="module")
def piano(pianos_folder: Path) -> SampledPiano:
    piano, _ = load_piano(pianos_folder / "first")
    return piano


@pytest.fixture(scope="module")
def sources(pianos_folder: Path) -> Sources:
    return make_sources(load_pianos(pianos_folder)[0])


def play(
    piano: SampledPiano,
    rows: list[tuple[int, float, float, int]],
    pedal: NDArray[np.float64] = NO_PEDAL,
    length_s: float = 2.0,
    touch: Touch = QUIET,
) -> NDArray[np.float32]:
    notes = np.array(rows, playing.PLAYED_DTYPE)
    performance = playing.Performance(notes, pedal)
    return mix(segment_rng(0, 0), piano, performance, touch, int(length_s * SAMPLE_RATE_HZ))


def level(samples: NDArray[np.float32], start_s: float, stop_s: float) -> float:
    window = samples[int(start_s * SAMPLE_RATE_HZ) : int(stop_s * SAMPLE_RATE_HZ)]
    return float(np.sqrt(np.mean(np.square(window))) + 1e-12)


def energy_rise_s(samples: NDArray[np.float32]) -> float:
    """Where the sound first passes a tenth of its peak."""
    return float(np.argmax(np.abs(samples) > 0.1 * np.abs(samples).max())) / SAMPLE_RATE_HZ


@pytest.mark.parametrize("pitch_midi", [21, 34, 47, 60, 73, 86, 99, 108])
def test_sound_rises_within_3_ms_of_the_onset_label(piano: SampledPiano, pitch_midi: int) -> None:
    samples = play(piano, [(pitch_midi, 0.5, 1.0, 90)])
    assert abs(energy_rise_s(samples) - 0.5) <= 0.003


def test_a_key_sounds_at_its_pitch_also_between_recorded_keys(piano: SampledPiano) -> None:
    for pitch_midi in (57, 58, 59, 61):
        samples = play(piano, [(pitch_midi, 0.0, 2.0, 90)])
        spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples)), 2**18))
        heard_hz = np.argmax(spectrum) * SAMPLE_RATE_HZ / 2**18
        assert 1200 * np.log2(heard_hz / pitch_to_hz(pitch_midi)) == pytest.approx(0, abs=3)


def test_detuning_moves_the_pitch_by_its_cents(piano: SampledPiano) -> None:
    detuned = replace(QUIET, cents_of_key=np.full(128, 37.0))
    samples = play(piano, [(69, 0.0, 2.0, 90)], touch=detuned)
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples)), 2**18))
    heard_hz = np.argmax(spectrum) * SAMPLE_RATE_HZ / 2**18
    assert 1200 * np.log2(heard_hz / 440.0) == pytest.approx(37, abs=3)


def test_a_harder_strike_is_louder_and_brighter(piano: SampledPiano) -> None:
    soft = play(piano, [(48, 0.0, 2.0, 30)])
    hard = play(piano, [(48, 0.0, 2.0, 120)])

    def treble_share(samples: NDArray[np.float32]) -> float:
        power = np.abs(np.fft.rfft(samples)) ** 2
        split = int(1.5 * pitch_to_hz(48) * len(samples) / SAMPLE_RATE_HZ)
        return float(power[split:].sum() / power.sum())

    assert level(hard, 0.0, 0.3) > 4 * level(soft, 0.0, 0.3)
    assert treble_share(hard) > 1.2 * treble_share(soft)


def test_a_released_note_is_damped_within_300_ms(piano: SampledPiano) -> None:
    samples = play(piano, [(60, 0.1, 0.6, 90)])
    assert level(samples, 0.9, 1.0) < 0.02 * level(samples, 0.5, 0.6)


def test_the_pedal_carries_a_released_note(piano: SampledPiano) -> None:
    pedal = np.array([[0.3, 1.4]])
    samples = play(piano, [(60, 0.1, 0.6, 90)], pedal)
    assert level(samples, 0.9, 1.3) > 0.3 * level(samples, 0.5, 0.6)
    assert level(samples, 1.8, 2.0) < 0.02 * level(samples, 0.9, 1.3)


def test_the_highest_keys_have_no_damper(piano: SampledPiano) -> None:
    damped = play(piano, [(85, 0.1, 0.2, 90)])
    undamped = play(piano, [(97, 0.1, 0.2, 90)])
    assert level(damped, 0.6, 0.8) < 0.01 * level(damped, 0.1, 0.2)
    assert level(undamped, 0.6, 0.8) > 0.1 * level(undamped, 0.1, 0.2)


def test_a_restruck_key_stops_its_former_sound(piano: SampledPiano) -> None:
    pedal = np.array([[0.0, 2.0]])
    loud_then_soft = play(piano, [(60, 0.1, 0.3, 120), (60, 0.5, 0.7, 20)], pedal)
    soft_alone = play(piano, [(60, 0.5, 0.7, 20)], pedal)
    after = slice(int(0.6 * SAMPLE_RATE_HZ), None)
    assert np.max(np.abs((loud_then_soft - soft_alone)[after])) < 0.05 * np.abs(soft_alone).max()


def test_labels_end_at_the_pedal_and_at_the_next_strike() -> None:
    notes = np.array(
        [(60, 0.1, 0.2, 80), (64, 0.1, 0.5, 80), (60, 0.7, 0.8, 80), (67, 1.5, 1.6, 80)],
        playing.PLAYED_DTYPE,
    )
    performance = playing.Performance(notes, np.array([[0.15, 1.0]]))
    assert sounding_end_s(performance).tolist() == [0.7, 1.0, 1.0, 1.6]


def test_a_note_that_began_before_the_segment_is_labelled_before_zero() -> None:
    notes = np.array([(60, -0.5, 0.2, 80), (62, -0.9, -0.1, 80)], playing.PLAYED_DTYPE)
    labels = labels_of(playing.Performance(notes, NO_PEDAL), 1.0)
    assert labels["pitch_midi"].tolist() == [60]
    assert labels["onset_s"].tolist() == [-0.5]


def test_the_notes_of_a_segment_begin_in_it_and_end_with_their_keys() -> None:
    labels = np.array([(60, -0.2, 0.5, 1.0, 70), (64, 0.1, 0.6, 2.0, 80)], NOTE_DTYPE)
    made = Segment(np.zeros(16_000, np.float32), labels, np.array([[0.0, 2.0]]), "", {})
    assert made.played == (NoteEvent(64, 0.1, 0.6, 80, 1.0),)


def test_a_note_that_began_before_the_segment_is_heard_at_its_start(piano: SampledPiano) -> None:
    samples = play(piano, [(60, -0.3, 1.0, 90)])
    assert level(samples, 0.0, 0.1) > 0.01


def test_a_rendered_segment_rises_where_its_first_label_says(sources: Sources) -> None:
    checked = 0
    for index in range(80):
        segment = render_segment(segment_rng(8, index), sources, 1.0, ONLY_SINGLE_KEYS)
        if len(segment.notes) == 0 or not 0.1 < segment.notes["onset_s"][0] < 0.95:
            continue
        first_s = float(segment.notes["onset_s"][0])
        around = segment.samples[: int((first_s + 0.03) * SAMPLE_RATE_HZ)]
        before = np.max(np.abs(around[: int((first_s - 0.01) * SAMPLE_RATE_HZ)]))
        if before > 0.02 * np.max(np.abs(around)):  # an undamped or released key still rings
            continue
        checked += 1
        assert abs(energy_rise_s(around) - first_s) <= 0.003
    assert checked >= 5


def test_the_same_seed_and_index_give_the_same_samples(sources: Sources) -> None:
    first = render_segment(segment_rng(7, 3), sources, 1.5)
    again = render_segment(segment_rng(7, 3), sources, 1.5)
    other = render_segment(segment_rng(7, 4), sources, 1.5)
    assert np.array_equal(first.samples, again.samples)
    assert np.array_equal(first.notes, again.notes)
    assert first.recipe == again.recipe
    assert not np.array_equal(first.samples, other.samples)


def test_segments_stay_within_full_scale_and_sorted(sources: Sources) -> None:
    for index in range(30):
        segment = render_segment(segment_rng(1, index), sources, 1.0)
        assert segment.samples.shape == (SAMPLE_RATE_HZ,)
        assert segment.samples.dtype == np.float32
        assert np.all(np.isfinite(segment.samples))
        assert np.max(np.abs(segment.samples)) <= 10 ** (-3 / 20) + 1e-6
        notes = segment.notes
        assert np.all(np.diff(notes["onset_s"]) >= 0)
        assert np.all(notes["onset_s"] < notes["offset_s"])
        assert np.all(notes["offset_s"] <= notes["silence_s"] + 1e-9)
        assert np.all((notes["pitch_midi"] >= 21) & (notes["pitch_midi"] <= 108))
        assert np.all((notes["velocity"] >= 1) & (notes["velocity"] <= 127))


def test_a_held_out_instrument_is_never_heard(pianos_folder: Path) -> None:
    sources = make_sources(load_pianos(pianos_folder, held_out=["second"])[0])
    heard = {render_segment(segment_rng(2, i), sources, 0.5).piano for i in range(12)}
    assert heard == {"first"}


def test_all_sets_of_an_instrument_are_held_out_together(tmp_path: Path) -> None:
    for name in ("grand_yamahaC3_headroom_close", "grand_yamahaC3_headroom_decca", "other"):
        write_piano(tmp_path / name, keys=range(21, 109, 29), duration_s=0.5)
    left, _ = load_pianos(tmp_path, held_out=["grand_yamahaC3_headroom_close"])
    assert [piano.name for piano in left] == ["other"]


def test_one_instrument_is_heard_alone_with_all_its_sets(tmp_path: Path) -> None:
    sets = ("grand_yamahaC3_headroom_close", "grand_yamahaC3_headroom_decca", "upright")
    for name in sets:
        write_piano(tmp_path / "pianos" / name, keys=range(21, 109, 30), duration_s=0.3)
    others = command.all_but("grand_yamahaC3_headroom", tmp_path)
    pianos, _ = load_pianos(tmp_path / "pianos", others)
    assert {piano.name for piano in pianos} == set(sets[:2])
    with pytest.raises(UsageError, match=r"'harp'.*upright"):
        command.all_but("harp", tmp_path)


def test_a_soundfont_alone_is_heard_without_any_recorded_set(tmp_path: Path) -> None:
    write_piano(tmp_path / "pianos" / "upright_made", keys=range(21, 109, 30), duration_s=0.3)
    others = command.all_but("grand", tmp_path, [SoundfontPreset(Path("grand.sf2"))])
    assert others == ["upright_made"]
    assert load_pianos(tmp_path / "pianos", others) == ([], [])


def test_one_kind_of_playing_can_be_asked_for(sources: Sources) -> None:
    conditions = command.conditions_of(True, "repetitions", sources)
    kinds = {
        render_segment(segment_rng(6, index), sources, 1.0, conditions).recipe["kind"]
        for index in range(8)
    }
    assert kinds == {"repetitions"}
    # No scores were loaded.
    with pytest.raises(UsageError, match=r"'score'.*chords"):
        command.conditions_of(True, "score", sources)


def test_pieces_can_be_asked_for_in_octaves(sources: Sources) -> None:
    onset_s = np.arange(40) * 0.25
    score = playing.played(np.tile([48, 72], 20), onset_s, onset_s + 0.2, np.full(40, 64))
    piece = playing.Performance(score, NO_PEDAL)
    library = replace(sources, scores=playing.piece_library([piece]))
    doubled = command.conditions_of(True, "score", library, octaves=1.0)
    kinds = {draw_performance(segment_rng(8, n), library, doubled, 4.0)[0] for n in range(5)}
    assert kinds == {"score in octaves"}


def test_an_unknown_instrument_cannot_be_held_out(pianos_folder: Path) -> None:
    with pytest.raises(InputError, match="cannot hold out 'third'"):
        load_pianos(pianos_folder, held_out=["third"])


@given(
    st.lists(
        st.tuples(
            st.integers(15, 115),
            st.floats(0, 3),
            st.floats(0.001, 1.5),
            st.integers(1, 127),
        ),
        max_size=25,
    )
)
def test_a_key_is_always_up_before_it_is_struck_again(
    rows: list[tuple[int, float, float, int]],
) -> None:
    written = [(key, onset, onset + length, velocity) for key, onset, length, velocity in rows]
    notes = playing.playable(np.array(written, playing.PLAYED_DTYPE))
    for key in np.unique(notes["pitch_midi"]):
        same = notes[notes["pitch_midi"] == key]
        assert 21 <= key <= 108
        assert np.all(same["onset_s"][1:] > same["release_s"][:-1])
    assert np.all(notes["release_s"] > notes["onset_s"])


@pytest.mark.parametrize(
    "hands",
    [playing.chords, playing.scales, playing.repetitions, playing.single_keys, playing.soup],
)
def test_invented_music_is_playable_on_one_piano(hands: object) -> None:
    assert callable(hands)
    for index in range(10):
        performance = hands(segment_rng(5, index), 4.0)
        assert len(performance.notes) > 0
        assert np.array_equal(playing.playable(performance.notes.copy()), performance.notes)


def test_repetitions_reach_ten_notes_a_second_on_one_key() -> None:
    fastest_s = min(
        float(np.min(np.diff(same["onset_s"]), initial=9.0))
        for index in range(20)
        for notes in [playing.repetitions(segment_rng(9, index), 6.0).notes]
        for same in [notes[notes["pitch_midi"] == key] for key in np.unique(notes["pitch_midi"])]
    )
    assert 0.05 < fastest_s < 0.115


def test_a_score_played_by_hand_is_neither_even_nor_flat() -> None:
    onset_s = np.repeat(np.arange(40) * 0.25, 3)
    keys = np.tile([48, 64, 72], 40)
    score = playing.played(keys, onset_s, onset_s + 0.2, np.full(120, 64))
    by_hand = playing.humanised(segment_rng(3, 0), playing.Performance(score, NO_PEDAL)).notes
    assert len(by_hand) == 120
    assert np.std(by_hand["velocity"]) > 2
    beats = by_hand["onset_s"][by_hand["pitch_midi"] == 72]
    assert 0.002 < np.std(np.diff(beats)) < 0.15


def test_octaves_are_added_to_a_hand_and_nothing_is_lost() -> None:
    keys = np.tile([41, 77], 40)
    onset_s = np.arange(80) * 0.25
    written = playing.Performance(
        playing.played(keys, onset_s, onset_s + 0.2, np.full(80, 64)), NO_PEDAL
    )
    away = set()
    for index in range(30):
        notes = playing.in_octaves(segment_rng(6, index), written).notes
        assert np.array_equal(playing.playable(notes.copy()), notes)
        assert np.isin(notes["pitch_midi"], (41, 77)).sum() == 80
        added = notes[~np.isin(notes["pitch_midi"], (41, 77))]
        away |= {int(pitch) for pitch in added["pitch_midi"]}
    assert away == {41 - 12, 77 + 12, 77 + 24, 77 + 19, 41 - 19}  # 17 is no key of a piano


def test_a_midi_file_keeps_notes_pedal_and_velocity(tmp_path: Path) -> None:
    import mido

    track = mido.MidiTrack()
    for message in (
        mido.Message("control_change", control=64, value=100, time=0),
        mido.Message("note_on", note=60, velocity=70, time=480),
        mido.Message("note_off", note=60, velocity=0, time=480),
        mido.Message("control_change", control=64, value=0, time=480),
    ):
        track.append(message)
    midi = mido.MidiFile(ticks_per_beat=480, tracks=[track])
    midi.save(tmp_path / "one.mid")
    read = playing.read_midi((tmp_path / "one.mid").read_bytes())
    assert read.notes.tolist() == [(60, 0.5, 1.0, 70)]
    assert read.pedal.tolist() == [[0.0, 1.5]]


def test_a_damaged_midi_file_is_refused() -> None:
    with pytest.raises(InputError, match="not a readable MIDI file"):
        playing.read_midi(b"MThd nothing")


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_a_room_begins_with_the_direct_sound_and_keeps_the_level(seed: int) -> None:
    rng = segment_rng(seed, 0)
    place = room.draw_room(rng)
    assert place.response[0] == 1.0
    assert 0.2 <= place.rt60_s <= 1.6
    later = float(np.sum(place.response[1:] ** 2))
    assert -10 * np.log10(later) == pytest.approx(place.direct_to_reverberant_db, abs=0.1)
    dry = np.zeros(8000, np.float32)
    dry[1000:1500] = rng.standard_normal(500)
    wet = room.in_room(dry, place)
    assert np.all(np.abs(wet[:1000]) < 1e-4)
    assert room.rms(wet) == pytest.approx(room.rms(dry), rel=0.01)


@pytest.mark.parametrize("sound", [room.coloured_noise, room.mains_hum, room.babble, room.thumps])
def test_other_sounds_are_finite_and_not_silent(sound: object) -> None:
    assert callable(sound)
    for index in range(10):
        samples = sound(segment_rng(4, index), 16_000)
        assert samples.shape == (16_000,)
        assert np.all(np.isfinite(samples))
    assert np.max(np.abs(sound(segment_rng(4, 0), 64_000))) > 0.05


def test_clipping_bounds_the_peaks() -> None:
    sine = np.sin(np.arange(4000) / 10).astype(np.float32)
    for index in range(10):
        assert np.max(np.abs(room.clipped(segment_rng(6, index), sine))) < 0.9


def test_reading_at_unit_speed_changes_nothing() -> None:
    samples = np.sin(np.arange(200) / 7).astype(np.float32)
    assert np.allclose(read_at(samples, 1.0, 100, first=1.0), samples[1:101], atol=1e-6)


def test_reading_faster_raises_a_sine_without_distorting_it() -> None:
    samples = np.sin(2 * np.pi * 440 / SAMPLE_RATE_HZ * np.arange(8000)).astype(np.float32)
    ratio = 2 ** (1 / 12)
    heard = read_at(samples, ratio, 6000, first=1.0)
    ideal = np.sin(2 * np.pi * 440 / SAMPLE_RATE_HZ * (1.0 + ratio * np.arange(len(heard))))
    assert np.max(np.abs(heard - ideal)) < 1e-3


def test_a_recording_is_cut_with_its_onset_at_the_margin(piano: SampledPiano) -> None:
    for layers in piano.layers.values():
        for sample in layers:
            rise = np.argmax(np.abs(sample.samples) > 0.1 * np.abs(sample.samples[:1600]).max())
            assert abs(int(rise) - ONSET_MARGIN_SAMPLES) <= 48


def test_a_shard_of_files_depends_on_its_number_alone(tmp_path: Path, sources: Sources) -> None:
    plan = command.RenderPlan(tmp_path, 3, 66, 0.5, Conditions())
    files = command.render_shard(plan, sources, 1)
    assert sorted(files) == [f"{n:07}.{e}" for n in (64, 65) for e in ("flac", "json", "mid")]
    elsewhere = replace(plan, folder=tmp_path / "elsewhere")
    assert command.render_shard(elsewhere, sources, 1) == files


def test_a_written_segment_keeps_its_notes_in_json_and_midi(sources: Sources) -> None:
    segment = render_segment(segment_rng(1, 2), sources, 3.0)
    files = command.segment_files(segment)
    labels = json.loads(files[".json"])
    assert [n["pitch_midi"] for n in labels["notes"]] == segment.notes["pitch_midi"].tolist()
    samples, rate = sf.read(io.BytesIO(files[".flac"]), dtype="float32")
    assert rate == SAMPLE_RATE_HZ
    assert np.max(np.abs(samples - segment.samples)) < 1e-4
    midi = playing.read_midi(files[".mid"])
    began = segment.notes[segment.notes["onset_s"] >= 0]
    assert np.allclose(
        np.sort(midi.notes["onset_s"])[-len(began) :], np.sort(began["onset_s"]), atol=2e-3
    )


@pytest.mark.parametrize("pitch_midi", [24, 60, 100])
def test_a_modelled_key_rises_at_its_onset(pitch_midi: int) -> None:
    layers = key_layers(segment_rng(0, pitch_midi), draw_model(segment_rng(1, 1)), pitch_midi)
    for sound in layers:
        assert abs(energy_rise_s(sound) - ONSET_MARGIN_SAMPLES / SAMPLE_RATE_HZ) <= 0.003
        assert np.all(np.isfinite(sound))


def test_a_decaying_sine_is_what_its_formula_says() -> None:
    time_s = np.arange(1000) / SAMPLE_RATE_HZ
    expected = np.sin(2 * np.pi * 440 * time_s + 0.3) * np.exp(-time_s / 0.05)
    assert np.allclose(decaying_sine(440.0, 0.05, 0.3, 1000), expected, atol=1e-5)


def test_where_nobody_plays_there_is_sound_without_notes(sources: Sources) -> None:
    nobody = Conditions(0, 0, 0, 0, 0, 0, 0, silence=1, clean=0, noise=1)
    segment = render_segment(segment_rng(0, 0), sources, 1.0, nobody)
    assert len(segment.notes) == 0
    assert np.max(np.abs(segment.samples)) >= 10 ** (-40 / 20) * 0.99


def test_a_soundfont_program_is_read_from_its_name() -> None:
    assert SoundfontPreset.parse("a/b.sf2") == SoundfontPreset(Path("a/b.sf2"), 0)
    assert SoundfontPreset.parse("a/b.sf2:3") == SoundfontPreset(Path("a/b.sf2"), 3)
    with pytest.raises(InputError, match="a program is 0 to 127"):
        SoundfontPreset.parse("a/b.sf2:200")


def test_a_missing_soundfont_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.sf2 does not exist"):
        load_soundfont(SoundfontPreset(tmp_path / "none.sf2"))
