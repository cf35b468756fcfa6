"""A training folder that many hands filled: every fault is named, skipped and counted."""

from __future__ import annotations

import csv
import io
import random
import re
import tarfile
from collections.abc import Callable
from pathlib import Path

import mido
import numpy as np
import pytest
import soundfile as sf
from rich.console import Console

from edge.errors import InputError
from edge.features import FeatureParameters
from tests.pianos import SOURCE_RATE_HZ, write_piano
from training.render import performance as playing
from training.render.heard_pitch import heard_cents
from training.render.modelled import draw_model, key_layers
from training.render.piano import SAMPLE_RATE_HZ
from training.render.recordings import AFTER_THE_BLOW_SAMPLES, load_piano, load_pianos
from training.render.segment import load_sources, segment_rng
from training.shards import Shard, load_shard, shard_bytes
from training.skipped import Skipped, report_count, report_skipped
from training.targets import NOTE_DTYPE

KEYS = range(33, 109, 6)


def faulty_set(folder: Path, sample: str, **columns: object) -> Path:
    """A piano of which one line of the list says something else."""
    write_piano(folder, keys=KEYS, duration_s=1.0)
    with (folder / "regions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        if row["sample"] == f"samples/{sample}.flac":
            row.update({name: str(value) for name, value in columns.items()})
    with (folder / "regions.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, fieldnames=list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    return folder


def only_skipped(folder: Path) -> str:
    piano, skipped = load_piano(folder)
    assert len(skipped) == 1
    serving = {sample.name for layer in piano.layers.values() for sample in layer}
    assert skipped[0].name.removeprefix(f"{folder.name}/") not in serving
    return str(skipped[0])


def test_of_a_sound_set_nothing_is_skipped(tmp_path: Path) -> None:
    write_piano(tmp_path / "set", keys=KEYS, duration_s=1.0)
    assert load_piano(tmp_path / "set")[1] == []


def unreadable(path: Path) -> None:
    path.write_bytes(b"not sound")


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:3_000])


def silent(path: Path) -> None:
    sf.write(path, np.zeros(20_000), SOURCE_RATE_HZ)


def missing(path: Path) -> None:
    path.unlink()


def not_numbers(path: Path) -> None:
    samples, rate_hz = sf.read(path)
    samples[5_000] = np.nan
    sf.write(path, samples, rate_hz, format="WAV", subtype="FLOAT")


def only_a_click(path: Path) -> None:
    samples, rate_hz = sf.read(path)
    sf.write(path, samples[:2_000], rate_hz)


def attack_comes_late(path: Path) -> None:
    samples, rate_hz = sf.read(path)
    sf.write(path, np.concatenate([np.zeros(rate_hz // 2), samples]), rate_hz)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (unreadable, "cannot be decoded"),
        (cut_short, "cannot be decoded"),
        (silent, "silent"),
        (missing, "there is no such file"),
        (not_numbers, "values that are not numbers"),
        (only_a_click, "0.09 s of sound: at least"),
        (attack_comes_late, r"its attack is heard at 0.5\d\d s, listed at 0.0"),
    ],
)
def test_a_recording_that_cannot_be_used_is_named_with_its_fault(
    damage: Callable[[Path], None], reason: str, tmp_path: Path
) -> None:
    write_piano(tmp_path / "set", keys=KEYS, duration_s=1.0)
    damage(tmp_path / "set" / "samples" / "k57.flac")
    said = only_skipped(tmp_path / "set")
    assert said.startswith("set/samples/k57.flac: ")
    assert re.search(reason, said)


@pytest.mark.parametrize("listed", [33, 45, 50, 55, 56, 58, 59, 64, 69, 76, 81, 105])
def test_a_recording_of_another_key_is_named_also_by_octaves_and_semitones(
    listed: int, tmp_path: Path
) -> None:
    folder = faulty_set(tmp_path / "set", "k57", pitch_keycenter=listed)
    said = only_skipped(folder)
    assert said.startswith("set/samples/k57.flac: mislabelled: sounds ")
    heard = float(said.split("sounds ")[1].split(" cents")[0])
    if abs(57 - listed) <= 24:
        assert heard == pytest.approx(100 * (57 - listed), abs=20)


@pytest.mark.parametrize("pitch_midi", [24, 45, 69, 90, 105])
@pytest.mark.parametrize("wrong_by", [-12, -7, -1, 0, 1, 5, 12, 19])
def test_strings_stiff_as_a_piano_s_are_heard_at_their_pitch(
    pitch_midi: int, wrong_by: int
) -> None:
    listed = pitch_midi + wrong_by
    for sound in key_layers(segment_rng(0, pitch_midi), draw_model(segment_rng(1, 1)), pitch_midi):
        cents = heard_cents(sound[AFTER_THE_BLOW_SAMPLES:], listed, SAMPLE_RATE_HZ)
        assert cents == pytest.approx(-100 * wrong_by, abs=49)


def detuned(cents: float, path: Path) -> None:
    """The recording read faster: every partial higher by so much."""
    samples, rate_hz = sf.read(path)
    places = np.arange(0, len(samples) - 1, 2 ** (cents / 1200))
    sf.write(path, np.interp(places, np.arange(len(samples)), samples), rate_hz)


def test_an_old_piano_a_third_of_a_semitone_flat_is_believed_and_its_wrong_label_found(
    tmp_path: Path,
) -> None:
    folder = faulty_set(tmp_path / "set", "k57", pitch_keycenter=58)
    for path in (folder / "samples").iterdir():
        detuned(-35.0, path)
    said = only_skipped(folder)
    assert re.search(r"k57.flac: mislabelled: sounds -1[34]\d cents from its key 58", said)
    assert re.search(r"the keys about it -[34]\d$", said)


def test_a_set_that_sounds_a_semitone_beside_all_its_labels_is_refused(tmp_path: Path) -> None:
    write_piano(tmp_path / "pianos" / "good", keys=KEYS, duration_s=1.0)
    write_piano(tmp_path / "pianos" / "shifted", keys=KEYS, duration_s=1.0)
    for path in (tmp_path / "pianos" / "shifted" / "samples").iterdir():
        detuned(100.0, path)
    pianos, skipped = load_pianos(tmp_path / "pianos")
    assert [piano.name for piano in pianos] == ["good"]
    assert [one.name for one in skipped] == ["shifted"]
    assert re.search(r"sound \+(9|10)\d cents from their labels on the whole", skipped[0].reason)


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("pitch_keycenter", "A4", "pitch_keycenter is 'A4': a whole number from 0 to 127"),
        ("pitch_keycenter", 200, "pitch_keycenter is '200'"),
        ("hivel", 128, "hivel is '128'"),
        ("lokey", 70, "keys 70 to 59, velocities 1 to 127: the first must not be above"),
        ("onset_s", "nan", "onset_s is 'nan': a number is needed"),
        ("onset_s", -1, "onset_s -1.0: it counts from the file's start"),
        ("onset_s", 30, "its attack is heard at 0.0"),
        ("tune_cents", 1200, "tune_cents 1200.0: -100 to 100"),
    ],
)
def test_a_line_of_the_list_that_cannot_be_right_is_named(
    column: str, value: object, reason: str, tmp_path: Path
) -> None:
    said = only_skipped(faulty_set(tmp_path / "set", "k57", **{column: value}))
    assert said.startswith("set/samples/k57.flac: ")
    assert reason in said


def test_a_list_without_a_column_costs_its_set_and_no_other(tmp_path: Path) -> None:
    for name in ("good", "bad"):
        write_piano(tmp_path / name, keys=range(33, 109, 24), duration_s=1.0)
    regions = tmp_path / "bad" / "regions.csv"
    regions.write_text(regions.read_text().replace("onset_s", "attack"))
    pianos, skipped = load_pianos(tmp_path)
    assert [piano.name for piano in pianos] == ["good"]
    assert "has no column onset_s" in str(skipped[0])
    (tmp_path / "good" / "regions.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"no sample set with a regions\.csv to play"):
        load_pianos(tmp_path)


def a_midi_file(notes: int = 12) -> bytes:
    track = mido.MidiTrack([mido.MetaMessage("key_signature", key="C")])
    for i in range(notes):
        track.append(mido.Message("note_on", note=60 + i, velocity=70, time=40))
        track.append(mido.Message("note_off", note=60 + i, velocity=0, time=200))
    content = io.BytesIO()
    mido.MidiFile(tracks=[track]).save(file=content)
    return content.getvalue()


def an_archive(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:xz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def test_midi_files_that_are_no_pieces_are_named_and_remembered_with_the_others(
    tmp_path: Path,
) -> None:
    files = {
        "a/good.mid": a_midi_file(),
        "a/broken.mid": b"MThd nothing",
        "a/short.mid": a_midi_file()[:60],
        "a/two_notes.mid": a_midi_file(2),
    }
    archive = an_archive(tmp_path / "scores.tar.xz", files)
    for _ in ("read", "remembered"):
        library, skipped = playing.load_library(archive, tmp_path / "cache")
        assert library is not None
        assert len(library) == 1
        assert [one.name for one in skipped] == [
            "scores.tar.xz/a/broken.mid",
            "scores.tar.xz/a/short.mid",
            "scores.tar.xz/a/two_notes.mid",
        ]
        assert skipped[0].reason == "not a readable MIDI file: it is cut short"
        assert "2 notes: a piece has 8 or more" in skipped[2].reason


def test_a_damaged_archive_is_named_and_what_lies_before_the_damage_is_used(
    tmp_path: Path,
) -> None:
    rng = random.Random(1)
    noise = {f"n{i}.bin": rng.randbytes(200_000) for i in range(3)}
    archive = an_archive(tmp_path / "scores.tar.xz", {"good.mid": a_midi_file(), **noise})
    archive.write_bytes(archive.read_bytes()[:-200_000])
    library, skipped = playing.load_library(archive, None)
    assert library is not None
    assert len(library) == 1
    assert [one.name for one in skipped] == ["scores.tar.xz"]
    archive.write_bytes(b"no archive")
    library, skipped = playing.load_library(archive, None)
    assert library is None
    assert "a damaged archive" in skipped[0].reason


def test_bytes_changed_at_random_make_a_midi_file_readable_or_refused() -> None:
    rng = random.Random(7)
    whole = a_midi_file()
    refused = 0
    for _ in range(400):
        damaged = bytearray(whole)
        for _ in range(3):
            damaged[rng.randrange(60)] = rng.randrange(256)
        try:
            notes = playing.read_midi(bytes(damaged)).notes
        except InputError:
            refused += 1
        else:
            assert np.all(notes["onset_s"] >= 0)
            assert np.all(np.isfinite(notes["release_s"]))
    assert 100 < refused < 400


def test_all_that_is_skipped_of_a_training_folder_is_named_and_counted(tmp_path: Path) -> None:
    faulty_set(tmp_path / "pianos" / "set", "k57", pitch_keycenter=58)
    silent(tmp_path / "pianos" / "set" / "samples" / "k69.flac")
    (tmp_path / "performances").mkdir()
    for name in ("performances/pop909.tar.xz", "scores_cc_by_midi.tar.xz"):
        an_archive(tmp_path / name, {"good.mid": a_midi_file(), "bad.mid": b"MThd"})
    sources = load_sources(tmp_path)
    console = Console(record=True, width=60, file=io.StringIO())
    report_skipped(sources.skipped, console)
    report_count(sources.skipped, console)
    lines = console.export_text().splitlines()
    names = [line.split(": ")[0] for line in lines]
    assert names == [
        "skipped set/samples/k69.flac",
        "skipped set/samples/k57.flac",
        "skipped pop909.tar.xz/bad.mid",
        "skipped scores_cc_by_midi.tar.xz/bad.mid",
        "4 files were skipped; each is named above",
    ]


def a_shard(**changes: float) -> Shard:
    features = FeatureParameters()
    spectra = np.full((2, 100, features.bins), 9, np.uint8)
    notes = np.array([(69, 80, 0.5, 1.0, 1.2)], NOTE_DTYPE)
    for field, value in changes.items():
        notes[field] = value
    return Shard(spectra, (notes, notes))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"pitch": 20}, "2 of 2 notes cannot be a piano's"),
        ({"velocity": 0}, "2 of 2 notes"),
        ({"onset_s": np.nan}, "2 of 2 notes"),
        ({"offset_s": 0.2}, "2 of 2 notes"),
    ],
)
def test_a_shard_with_impossible_notes_is_refused(
    change: dict[str, float], reason: str, tmp_path: Path
) -> None:
    (tmp_path / "good.npz").write_bytes(shard_bytes(a_shard()))
    assert len(load_shard(tmp_path / "good.npz").notes) == 2
    (tmp_path / "bad.npz").write_bytes(shard_bytes(a_shard(**change)))
    with pytest.raises(InputError, match=reason):
        load_shard(tmp_path / "bad.npz")


def test_broken_shards_are_named_counted_and_left_out_of_the_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("keras", reason="training needs the extra `train`")
    from training.dataset import SegmentBatches, Variation

    whole = shard_bytes(a_shard())
    (tmp_path / "002-00000.npz").write_bytes(whole)
    (tmp_path / "002-00001.npz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "002-00002.npz").write_bytes(b"")
    silent = Shard(a_shard().spectra * 0, a_shard().notes)
    narrow = Shard(a_shard().spectra[..., :50], a_shard().notes)
    (tmp_path / "002-00003.npz").write_bytes(shard_bytes(silent))
    (tmp_path / "002-00004.npz").write_bytes(shard_bytes(narrow))
    batches = SegmentBatches(tmp_path, FeatureParameters(), 2, 64, 3, Variation(), 1)
    assert [path.name for path in batches.shards] == ["002-00000.npz"]
    told = capsys.readouterr().err
    for number in (1, 2, 3, 4):
        assert told.count(f"skipped {tmp_path.name}/002-0000{number}.npz: ") == 1
    assert "4 of 5 shards skipped" in told
    batches.on_epoch_end()
    assert capsys.readouterr().err == ""
    assert batches[0][0].shape == (2, 64, FeatureParameters().bins)


def test_one_file_is_counted_as_one() -> None:
    console = Console(record=True, file=io.StringIO())
    report_count([Skipped("a", "b")], console)
    report_count([], console)
    assert console.export_text() == "1 file was skipped; each is named above\n"
