"""What is counted when an ear is judged, and what the judgement looks like."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import mido
import numpy as np
import pytest
import soundfile as sf
from mir_eval.transcription import precision_recall_f1_overlap
from typer.testing import CliRunner

from converters.studio import app
from edge.errors import InputError, UsageError
from edge.note import NoteEvent, pitch_to_hz
from training import peers, report, robustness
from training.evaluation import (
    NoteScores,
    intervals_and_hz,
    mean_scores,
    restruck,
    score_notes,
)
from training.hearing import Hearing, Recording, recordings_in, rendered_in, restrikes_by_rate
from training.robustness import Piece

RATE_HZ = 16_000


def a_note(pitch_midi: int, onset_s: float, offset_s: float = 9.0, velocity: int = 64) -> NoteEvent:
    return NoteEvent(pitch_midi, onset_s, offset_s, velocity, 1.0)


def a_hearing(played: list[NoteEvent], heard: list[NoteEvent]) -> Hearing:
    return Hearing.judged(Recording("piece", Path("piece.flac"), tuple(played)), heard, 0.01)


def test_the_scores_are_those_of_mir_eval() -> None:
    rng = np.random.default_rng(4)
    played = [
        a_note(int(key), on_s, on_s + long_s)
        for key, on_s, long_s in zip(
            rng.integers(60, 66, 200),
            rng.uniform(0, 20, 200),
            rng.uniform(0.05, 1, 200),
            strict=True,
        )
    ]
    heard = [
        a_note(note.pitch_midi, note.onset_s + slip_s, (note.offset_s or 0) + 2 * slip_s)
        for note, slip_s in zip(played[30:], rng.normal(0.05, 0.03, 170), strict=True)
    ]
    found = score_notes(played, heard)
    reference, estimate = intervals_and_hz(played), intervals_and_hz(heard)
    theirs = precision_recall_f1_overlap(*reference, *estimate, offset_ratio=None)
    assert (found.precision, found.recall, found.f1) == pytest.approx(theirs[:3])
    with_offsets = precision_recall_f1_overlap(*reference, *estimate)[2]
    assert found.f1_with_offsets == pytest.approx(with_offsets)
    assert 0.1 < with_offsets < found.f1 < 0.9


def test_velocity_is_judged_on_the_notes_found_alone() -> None:
    played = [a_note(60, 1.0, velocity=80), a_note(64, 1.0, velocity=80), a_note(67, 2.0)]
    heard = [a_note(60, 1.0, velocity=70), a_note(64, 1.0, velocity=84), a_note(72, 2.0)]
    assert score_notes(played, heard).velocity_error == pytest.approx(7.0)
    assert score_notes(played, []).velocity_error is None


def test_a_recordings_own_level_is_taken_out_of_the_velocity() -> None:
    velocities = (40, 60, 80, 100)
    played = [a_note(60 + n, 1.0 + n, velocity=v) for n, v in enumerate(velocities)]
    quieter = [a_note(60 + n, 1.0 + n, velocity=v // 2 - 10) for n, v in enumerate(velocities)]
    found = score_notes(played, quieter)
    assert found.velocity_error == pytest.approx(45.0)
    assert found.levelled_velocity_error == pytest.approx(0.0, abs=1e-9)
    assert score_notes(played[:2], quieter[:2]).levelled_velocity_error is None


def test_a_restrike_is_the_same_key_within_a_quarter_of_a_second() -> None:
    played = [a_note(60, 1.0), a_note(62, 1.1), a_note(60, 1.2), a_note(60, 1.5), a_note(60, 1.7)]
    assert restruck(played).tolist() == [False, False, True, False, True]
    found = score_notes(played, [a_note(60, 1.0), a_note(60, 1.7)])
    assert (found.restrike_recall, found.restrikes) == (0.5, 2)


def test_restrikes_of_several_recordings_are_counted_together() -> None:
    many = NoteScores(1.0, 1.0, 1.0, 1.0, 4.0, 0.9, 90)
    few = NoteScores(0.0, 0.0, 0.0, 0.0, None, 0.0, 10)
    mean = mean_scores([many, few])
    assert mean.restrike_recall == pytest.approx(0.81)
    assert (mean.restrikes, mean.velocity_error, mean.f1) == (100, 4.0, 0.5)


def write_midi(path: Path, notes: list[NoteEvent], pedal_until_s: float | None = None) -> None:
    timed = [(n.onset_s, "note_on", n) for n in notes] + [
        (n.offset_s, "note_off", n) for n in notes
    ]
    messages = [
        (t_s, mido.Message(kind, note=n.pitch_midi, velocity=n.velocity)) for t_s, kind, n in timed
    ]
    if pedal_until_s is not None:
        for t_s, value in ((0.0, 127), (pedal_until_s, 0)):
            messages.append((t_s, mido.Message("control_change", control=64, value=value)))
    track, before = mido.MidiTrack(), 0
    for t_s, message in sorted(messages, key=lambda pair: pair[0]):
        track.append(message.copy(time=round(t_s * 960) - before))
        before = round(t_s * 960)
    mido.MidiFile(ticks_per_beat=480, tracks=[track]).save(path)


def write_tones(path: Path, notes: list[NoteEvent], length_s: float = 3.0) -> None:
    """Struck strings as decaying harmonics."""
    sound = np.zeros(int(length_s * RATE_HZ))
    for note in notes:
        time_s = np.arange(len(sound)) / RATE_HZ - note.onset_s
        struck = np.where(time_s >= 0, np.exp(-np.maximum(time_s, 0) / 0.6), 0.0)
        for harmonic in range(1, 6):
            phase = 2 * np.pi * harmonic * pitch_to_hz(note.pitch_midi) * time_s
            sound += 0.12 / harmonic * struck * np.sin(phase)
    sf.write(path, sound.astype(np.float32), RATE_HZ)


NOTES = [a_note(60, 0.4, 1.0), a_note(67, 1.1, 1.6), a_note(64, 1.8, 2.5)]


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    """Two recordings, one with two notes in its MIDI that do not sound."""
    folder = tmp_path / "recordings"
    folder.mkdir()
    for name, unheard in (("near", []), ("far", [a_note(40, 0.9, 1.2), a_note(90, 2.0, 2.4)])):
        write_tones(folder / f"{name}.flac", NOTES)
        write_midi(folder / f"{name}.mid", [*NOTES, *unheard])
    (folder / "index.csv").write_text("file,mic\nnear.flac,close\nfar.flac,ambient\n")
    return folder


def test_recordings_are_told_apart_by_their_microphone(recordings: Path) -> None:
    far, near = recordings_in(recordings)
    assert (far.name, far.groups) == ("far", ("ambient",))
    assert (near.name, near.groups) == ("near", ("close",))
    assert near.pedal_s is None


def test_the_pedal_is_known_where_the_midi_tells_of_it(recordings: Path) -> None:
    write_midi(recordings / "near.mid", NOTES, pedal_until_s=1.5)
    far, near = recordings_in(recordings)
    assert far.pedal_s is None
    assert near.pedal_s == ((0.0, 1.5),)
    assert near.played[0].offset_s == pytest.approx(1.0)


def test_an_index_without_microphones_is_refused(recordings: Path) -> None:
    (recordings / "index.csv").write_text("name,microphone\nnear,close\n")
    with pytest.raises(InputError, match="file and mic are needed"):
        recordings_in(recordings)


def test_recordings_are_scored_and_shown(
    recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "FOLDER", tmp_path / "nothing")
    command = ["evaluate", "--recordings", str(recordings), "--model", "templates"]
    run = CliRunner().invoke(app, [*command, "--json", "--report", str(tmp_path / "page")])
    assert run.exit_code == 0, run.output
    found = json.loads(run.stdout)
    assert found["model"] == "templates"
    assert found["files"]["near"]["recall"] == 1.0
    assert found["groups"]["ambient"]["recall"] == pytest.approx(3 / 5)
    assert found["cpu_s_per_s"] > 0
    assert "`make peers`" in run.stderr
    page = (tmp_path / "page" / "index.html").read_text()
    assert "far: onset F1" in page
    assert report.MISSED in page
    assert json.loads((tmp_path / "page" / "figures.json").read_text()) == found


@pytest.fixture
def rendered(tmp_path: Path) -> Path:
    """One dry segment and one in a room, as `render` lays them down."""
    shard = tmp_path / "rendered" / "shard_0000_00000"
    shard.mkdir(parents=True)
    for number, recipe in enumerate(
        ({"kind": "soup", "cents": 0.0}, {"kind": "soup", "rt60_s": 1.0})
    ):
        write_tones(shard / f"{number:07d}.flac", NOTES)
        rows = [
            {
                "pitch_midi": note.pitch_midi,
                "onset_s": note.onset_s,
                "offset_s": note.offset_s,
                "silence_s": 5.0,
                "velocity": note.velocity,
            }
            for note in [a_note(50, -1.0, 0.2), *NOTES]
        ]
        labels = {"piano": "tones", "duration_s": 2.0, "recipe": recipe, "notes": rows}
        (shard / f"{number:07d}.json").write_text(json.dumps({**labels, "pedal": [[0.0, 1.5]]}))
    return tmp_path / "rendered"


def test_rendered_labels_end_with_the_key_or_the_segment(rendered: Path) -> None:
    dry, room = rendered_in(rendered)
    assert (dry.groups, room.groups) == (("dry", "tones"), ("in a room", "tones"))
    assert dry.dry
    assert not room.dry
    assert [note.offset_s for note in dry.played] == [1.0, 1.6, 2.0]
    assert dry.pedal_is_down(1.0)
    assert not dry.pedal_is_down(1.5)


def test_labels_that_are_none_are_named(rendered: Path) -> None:
    broken = next(rendered.rglob("*.json"))
    broken.write_text('{"notes": [{}]}')
    with pytest.raises(InputError, match=broken.name):
        rendered_in(rendered)


def test_curves_are_drawn_from_dry_segments(rendered: Path, tmp_path: Path) -> None:
    command = ["evaluate", "--rendered", str(rendered), "--model", "templates", "--no-peers"]
    run = CliRunner().invoke(app, [*command, "--curves", "--json", "--report", str(tmp_path / "p")])
    assert run.exit_code == 0, run.output
    curves = json.loads(run.stdout)["curves"]
    assert set(curves) == {"noise", "room", "tuning", "level"}
    assert [point["step"] for point in curves["room"]["points"]] == [0.2, 0.4, 0.8, 1.6]
    assert all(0 <= point["f1"] <= 1 for one in curves.values() for point in one["points"])
    assert (tmp_path / "p" / "index.html").read_text().count("<polyline") == 3 * len(curves)


A_PIECE = Piece(
    np.sin(2 * np.pi * 440 * np.arange(2 * RATE_HZ) / RATE_HZ).astype(np.float32),
    (a_note(69, 0.5, 1.0),),
    cents=0.0,
)


def test_noise_lies_as_far_below_the_music_as_was_asked() -> None:
    noisy = robustness.with_noise(A_PIECE, 20.0, np.random.default_rng(1))
    ratio = np.mean(A_PIECE.samples**2) / np.mean((noisy.samples - A_PIECE.samples) ** 2)
    assert 10 * np.log10(ratio) == pytest.approx(20.0, abs=0.1)


def test_a_piano_tuned_higher_sounds_higher_and_its_labels_come_sooner() -> None:
    higher = robustness.tuned(A_PIECE, 50.0, np.random.default_rng(1))
    spectrum = np.abs(np.fft.rfft(higher.samples * np.hanning(len(higher.samples)), 2**18))
    heard_hz = float(np.argmax(spectrum)) * RATE_HZ / 2**18
    assert 1200 * np.log2(heard_hz / 440) == pytest.approx(50, abs=1)
    assert higher.played[0].onset_s == pytest.approx(0.5 * 440 / heard_hz, abs=1e-4)
    # A piano that was already 50 cents high is left as it is.
    same = robustness.tuned(replace(A_PIECE, cents=50.0), 50.0, np.random.default_rng(1))
    assert len(same.samples) == len(A_PIECE.samples)


def test_a_soft_piece_has_few_of_the_steps_of_16_bits() -> None:
    soft = robustness.at_level(A_PIECE, -70.0, np.random.default_rng(1))
    steps = np.unique(soft.samples * robustness.FULL_SCALE_16_BIT)
    assert steps.tolist() == list(range(-10, 11))


def test_a_rooms_walls_leave_the_onset_where_it_was() -> None:
    struck = replace(A_PIECE, samples=np.where(np.arange(2 * RATE_HZ) == 8000, 1, 0).astype("f4"))
    heard = robustness.in_a_room(struck, 0.8, np.random.default_rng(1)).samples
    assert np.abs(heard).argmax() == 8000
    assert np.abs(heard[8001:]).max() > 0.01


def test_restrikes_are_told_by_rate_and_pedal() -> None:
    played = [a_note(60, 1.0), a_note(60, 1.125), a_note(60, 2.0), a_note(60, 2.125)]
    recording = Recording("trill", Path("trill.flac"), tuple(played), pedal_s=((0.0, 1.5),))
    shares = restrikes_by_rate([Hearing.judged(recording, played[:3], 0.01)])
    told = [(share.from_hz, share.pedal_down, share.found, share.count) for share in shares]
    assert told == [(7.0, False, 0, 1), (7.0, True, 1, 1)]


def test_errors_are_told_by_kind() -> None:
    played = [a_note(60, 1.0), a_note(64, 2.0), a_note(67, 3.0)]
    heard = [a_note(60, 1.0), a_note(64, 1.92), a_note(72, 1.0), a_note(61, 1.0)]
    found = report.errors_of(a_hearing(played, heard))
    assert (found.missed, found.mistimed, found.false, found.overtones) == (2, 1, 3, 1)
    assert found.late_ms == pytest.approx(-80)


def test_the_worst_passage_comes_first_and_none_overlap() -> None:
    played = [a_note(60, 2.5)] + [a_note(60 + k, 20.5 + k / 10) for k in range(5)]
    starts_s = report.worst_passages(a_hearing(played, []))
    assert len(starts_s) == 2
    assert starts_s[0] <= 20.5 < starts_s[0] + report.PASSAGE_S
    assert starts_s[1] <= 2.5 < starts_s[1] + report.PASSAGE_S
    assert report.worst_passages(a_hearing(played, played)) == []


def test_a_roll_shows_each_note_in_the_colour_of_what_became_of_it() -> None:
    hearing = a_hearing(
        [a_note(60, 1.0, 2.0), a_note(64, 2.0, 3.0)], [a_note(60, 1.0, 2.0), a_note(90, 4.0, 5.0)]
    )
    picture = ElementTree.fromstring(report.piano_roll(hearing, 0.0))
    fills = [rect.get("fill") for rect in picture.iter("{http://www.w3.org/2000/svg}rect")]
    counts = {colour: fills.count(colour) for colour in (report.PLAYED, report.MISSED)}
    assert counts == {report.PLAYED: 1, report.MISSED: 1}
    # A bar and a tick at the onset.
    assert (fills.count(report.FOUND), fills.count(report.FALSE)) == (2, 2)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "give --recordings"),
        (["--recordings", "a", "--rendered", "b"], "give --recordings"),
        (["--reference", "a"], "give --recordings"),
        (["--recordings", "a", "--curves"], "--rendered"),
        (["--reference", "a", "--estimate", "b", "--report", "c"], "--report"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options: list[str], said: str) -> None:
    run = CliRunner().invoke(app, ["evaluate", *options])
    assert isinstance(run.exception, UsageError)
    assert said in str(run.exception)


@pytest.mark.skipif(not peers.has_basic_pitch(), reason="Basic Pitch is not here: make peers")
def test_basic_pitch_hears_the_same_recordings(recordings: Path) -> None:
    for hearing in peers.basic_pitch_hears(recordings_in(recordings)):
        assert hearing.scores.recall > 0.5
        assert hearing.cpu_s_per_s > 0
