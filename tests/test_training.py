"""How the ear learns: targets by hand, crops and variation, one graph in two forms, conversion."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest

from edge.errors import InputError
from edge.features import FeatureParameters, harmonic_cube
from edge.manifest import HEADS, Training
from edge.model import NoteModel
from edge.note import KEYS, LOWEST_PITCH_MIDI, NoteEvent
from edge.segmentation import SegmentationParameters
from training import thresholds
from training.architecture import BlockShape, compressed, conv3d_reference, separable3d
from training.crew import store
from training.run_record import RunRecord, record_run
from training.shards import Shard, load_shard, shard_bytes
from training.targets import (
    NOTE_DTYPE,
    OFFSET,
    ONSET,
    SOUNDING,
    VELOCITY,
    VELOCITY_KNOWN,
    draw_targets,
)
from training.thresholds import Judged, fit_thresholds, judge

keras = pytest.importorskip("keras", reason="training needs the extra `train`")

FEATURES = FeatureParameters()
A4 = 69 - LOWEST_PITCH_MIDI


def played(*notes: tuple[int, int, float, float]) -> np.ndarray:
    """Rows (pitch, velocity, onset, key let go) whose sound ends with the key."""
    return np.array([(*note, note[-1]) for note in notes], NOTE_DTYPE)


def test_an_onset_is_a_triangle_about_its_exact_time() -> None:
    # 0.205 s is a quarter of the way from frame 10 to frame 11.
    targets = draw_targets(played((69, 127, 0.205, 0.5)), 0, 40, FEATURES)
    onset = targets[:, A4, ONSET]
    np.testing.assert_allclose(onset[8:13], [0, 0.375, 0.875, 0.625, 0.125], atol=1e-5)
    assert onset[13:].max() == onset[:8].max() == 0
    assert targets[:, A4, SOUNDING].sum() == pytest.approx(15)
    assert targets[25, A4, OFFSET] == pytest.approx(1)
    known = targets[:, A4, VELOCITY_KNOWN] > 0
    assert (targets[known, A4, VELOCITY] == 1).all()
    assert known.sum() == 4


def test_a_crop_sees_the_same_targets_as_the_whole() -> None:
    notes = played((60, 64, 0.31, 0.9), (60, 80, 0.95, 1.4), (64, 90, 0.2, 2.0))
    whole = draw_targets(notes, 0, 100, FEATURES)
    np.testing.assert_allclose(draw_targets(notes, 30, 40, FEATURES), whole[30:70], atol=1e-5)


def test_a_key_struck_again_has_two_peaks() -> None:
    notes = played((69, 64, 0.2, 0.3), (69, 64, 0.3, 0.4))
    onset = draw_targets(notes, 0, 30, FEATURES)[:, A4, ONSET]
    assert onset[[10, 15]] == pytest.approx(1, abs=1e-5)
    assert onset[12] < 0.1


def a_shard(segments: int = 2, frames: int = 120) -> Shard:
    rng = np.random.default_rng(3)
    spectra = rng.integers(0, 120, (segments, frames, FEATURES.bins)).astype(np.uint8)
    notes = []
    for i in range(segments):
        key_bin = 37 + 3 * (A4 + i)
        spectra[i, 50:80, key_bin - 1 : key_bin + 2] = 250
        notes.append(played((69 + i, 100, 1.0, 1.6)))
    return Shard(spectra, tuple(notes))


def test_a_shard_comes_back_as_it_was_stored(tmp_path: Path) -> None:
    shard = a_shard()
    store(tmp_path / "001-00000.npz", shard_bytes(shard))
    back = load_shard(tmp_path / "001-00000.npz")
    np.testing.assert_array_equal(back.spectra, shard.spectra)
    assert [n.tolist() for n in back.notes] == [n.tolist() for n in shard.notes]
    assert list(tmp_path.iterdir()) == [tmp_path / "001-00000.npz"]


def test_transposing_moves_sound_and_labels_together() -> None:
    from training.dataset import Variation, vary

    still = Variation(
        level_db=0,
        tilt_db=0,
        ripple_db=0,
        fine_ripple_db=0,
        contrast=0,
        noise_floor_db=0,
        shift_semitones=5,
    )
    shard = a_shard(1)
    spectrum = np.where(shard.spectra[0] > 240, 1.0, 0.0).astype(np.float32)
    moved = set()
    for seed in range(12):
        rng = np.random.default_rng(seed)
        varied, notes = vary(spectrum, shard.notes[0], FEATURES, still, rng)
        cube = harmonic_cube(varied, FEATURES)[60, :, FEATURES.harmonics.index(1)]
        loudest = cube.reshape(KEYS, -1).sum(axis=1).argmax()
        assert loudest == notes["pitch"][0] - LOWEST_PITCH_MIDI
        moved.add(int(notes["pitch"][0]))
    assert len(moved) > 3


def test_batches_depend_on_the_seed_alone_and_see_shards_that_come_later(tmp_path: Path) -> None:
    from training.dataset import SegmentBatches, Variation

    with pytest.raises(InputError, match="no training shards"):
        SegmentBatches(tmp_path, FEATURES, 2, 64, 3, Variation(), 1)
    store(tmp_path / "001-00000.npz", shard_bytes(a_shard()))
    one = SegmentBatches(tmp_path, FEATURES, 2, 64, 3, Variation(), 1)
    same = SegmentBatches(tmp_path, FEATURES, 2, 64, 3, Variation(), 1)
    for mine, other in zip(one[0], same[0], strict=True):
        np.testing.assert_array_equal(mine, other)
    assert one[0][0].shape == (2, 64, FEATURES.bins)
    assert one[0][1].shape == (2, 64, KEYS, 6)
    store(tmp_path / "001-00001.npz", shard_bytes(a_shard()))
    one.on_epoch_end()
    assert len(one.shards) == 2


def a_narrow_architecture(**changed: object):  # type: ignore[no-untyped-def]
    from training.architecture import Architecture, BlockShape

    blocks = (BlockShape(2, 1, 3, reach_channels=2), BlockShape(3, 0, 3))
    plain = Architecture("small", FEATURES, 4, 1, 1, 8, blocks)
    return msgspec.structs.replace(plain, **changed)


@pytest.fixture(scope="module")
def small():  # type: ignore[no-untyped-def]
    """A narrow model of every kind of layer that ships, its weights random."""
    from training.graph import sequence_model

    keras.utils.set_random_seed(5)
    architecture = a_narrow_architecture()
    return architecture, sequence_model(architecture)


def a_spectrum(frames: int = 100) -> np.ndarray:
    spectrum = np.zeros((frames, FEATURES.bins), np.float32)
    spectrum[40:80] = np.random.default_rng(2).random((40, FEATURES.bins))
    return spectrum


INVERTED = (
    BlockShape(2, 1, 3, 2, expanded_channels=12),
    BlockShape(3, 0, 3, expanded_channels=12),
)


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"blocks": INVERTED},
        {"groups": 2},
        {"skips": False},
        {"recurrent_units": 4},
        {"harmonic_stack": False},
    ],
    ids=["plain", "inverted", "shuffled", "no skips", "recurrent", "no harmonics"],
)
def test_step_by_step_with_states_equals_the_whole_sequence(changed: dict[str, object]) -> None:
    from training.graph import copy_weights, sequence_model, streaming_model

    keras.utils.set_random_seed(5)
    architecture = a_narrow_architecture(**changed)
    model, streaming = sequence_model(architecture), streaming_model(architecture, 2)
    copy_weights(model, streaming)
    spectrum = a_spectrum()
    whole = np.asarray(keras.ops.sigmoid(model(spectrum[None])))[0]
    cube = harmonic_cube(spectrum, FEATURES)
    states = [np.zeros(s.shape, np.float32) for s in streaming.inputs[1:]]
    answers = []
    for k in range(0, len(cube), 2):
        answer, *following = streaming([cube[None, k : k + 2], *states])
        states = [np.asarray(s) for s in following]
        answers.append(np.asarray(answer)[0])
    stream = np.concatenate(answers)
    late = architecture.lookahead_frames
    settled = architecture.past_frames + late + (30 if "recurrent_units" in changed else 0)
    assert whole[settled:-late].std() > 0.01
    np.testing.assert_allclose(stream[settled + late :], whole[settled:-late], atol=1e-5)


def test_lower_layers_learn_more_slowly() -> None:
    from training.train import depth_below_heads

    names = ["stem_time/kernel", "to_keys_mix/bias", "block0_mix/kernel", "block5_reach/kernel"]
    assert [depth_below_heads(name, 6) for name in [*names, "heads/kernel", "fresh/kernel"]] == [
        8, 7, 6, 1, 0, 0,
    ]  # fmt: skip


@pytest.mark.parametrize("frames", [1, 4, 6, 8])
def test_an_ear_looks_ahead_as_far_as_it_is_told(frames: int) -> None:
    assert separable3d(lookahead_frames=frames).lookahead_frames == frames
    assert compressed(lookahead_frames=frames).lookahead_frames == frames


@pytest.mark.parametrize("ear", [separable3d(8), conv3d_reference(2)], ids=lambda ear: ear.family)
def test_an_ear_with_whole_kernels_sees_as_far_as_the_factored_one(ear) -> None:  # type: ignore[no-untyped-def]
    from training.graph import sequence_model

    keras.utils.set_random_seed(5)
    model = sequence_model(ear)
    spectrum = np.random.default_rng(4).random((1, 90, FEATURES.bins)).astype(np.float32)
    before = np.asarray(model(spectrum))
    spectrum[:, 40] = 0
    changed = np.flatnonzero(np.abs(np.asarray(model(spectrum)) - before).max(axis=(0, 2, 3)))
    assert before.shape == (1, 90, KEYS, 5)
    assert (changed.min(), changed.max()) == (40 - ear.lookahead_frames, 40 + ear.past_frames)


def test_eight_bits_answer_like_the_model_they_came_from(small, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    from converters.tflite import convert, manifest_of, write_model
    from edge.manifest import read_manifest, read_model_file

    architecture, model = small
    spectrum = a_spectrum()
    converted = convert(model, architecture, [spectrum])
    assert converted.quantisation == "int8"
    assert not {"CONV_3D", "QUANTIZE", "DEQUANTIZE"} & set(converted.operators)
    training = Training("small", model.count_params(), "noise", 0.0, 0)
    write_model(
        tmp_path, manifest_of(converted, architecture, "small", "0", training), converted.content
    )
    manifest = read_manifest(tmp_path / "small.json")
    device = NoteModel(manifest, read_model_file(manifest, tmp_path))
    heard = np.concatenate([device.push(spectrum), device.flush()])
    whole = np.asarray(keras.ops.sigmoid(model(spectrum[None])))[0]
    inner = slice(architecture.past_frames + architecture.lookahead_frames, -8)
    assert np.abs(heard[inner] - whole[inner]).mean() < 0.02


def test_the_loss_hears_every_head_where_it_is_judged_and_velocity_where_it_is_known() -> None:
    from training.objective import UNJUDGED_START_FRAMES, note_loss

    targets = draw_targets(played((69, 110, 0.5, 0.9)), 0, 60, FEATURES)[None]
    shares = np.clip(targets[..., : len(HEADS)], 1e-6, 1 - 1e-6)
    right = np.log(shares / (1 - shares)).astype(np.float32)

    def loss(frame: int, head: str) -> float:
        logits = right.copy()
        logits[0, frame, A4, HEADS.index(head)] *= -1
        return float(note_loss(targets, logits))

    least = float(note_loss(targets, right))
    assert all(loss(25, head) > least + 1e-3 for head in HEADS)
    assert loss(40, "velocity") == pytest.approx(least)
    assert all(loss(UNJUDGED_START_FRAMES - 1, head) == least for head in HEADS)


def a_checkpoint(path: Path, architecture, model) -> Path:  # type: ignore[no-untyped-def]
    np.savez(path, **{f"w{i:03}": w for i, w in enumerate(model.get_weights())})
    path.with_suffix(".json").write_bytes(msgspec.json.encode(architecture))
    return path


def test_a_run_begins_with_the_weights_of_a_narrower_or_shorter_sighted_checkpoint(  # type: ignore[no-untyped-def]
    small, tmp_path: Path
) -> None:
    from training.graph import sequence_model
    from training.train import Schedule, averaged_model, train
    from training.widening import begin_from

    architecture, model = small
    narrow = a_checkpoint(tmp_path / "narrow.npz", architecture, model)
    for stored, mine in zip(averaged_model(narrow).weights, model.weights, strict=True):
        np.testing.assert_array_equal(stored, mine)
    wider = msgspec.structs.replace(architecture, channels=10)
    widened = sequence_model(wider)
    begin_from(widened, model)
    heard = np.random.default_rng(1).random((1, 12, architecture.features.bins), np.float32)
    np.testing.assert_allclose(
        widened.predict(heard, verbose=0), model.predict(heard, verbose=0), atol=1e-5
    )
    for layer in widened.layers:
        if layer.name.endswith("_time"):  # the new channels are alive
            assert np.abs(layer.get_weights()[0][:, :, -1]).sum() > 0
    first, *rest = architecture.blocks
    ahead = msgspec.structs.replace(first, future_frames=first.future_frames + 1)
    farther = sequence_model(msgspec.structs.replace(architecture, blocks=(ahead, *rest)))
    begin_from(farther, model)
    np.testing.assert_allclose(
        farther.predict(heard, verbose=0), model.predict(heard, verbose=0), atol=1e-5
    )
    wide = a_checkpoint(tmp_path / "wide.npz", wider, widened)
    with pytest.raises(InputError, match=r"small with \d+ parameters cannot begin small with"):
        train(architecture, tmp_path, tmp_path / "run", Schedule(hours=1), start_from=wide)


@pytest.mark.parametrize("family", ["separable3d", "compressed"])
def test_the_checkpoints_are_of_the_families_as_they_are_built(family: str) -> None:
    from training.architecture import FAMILIES, read_architecture

    stored = Path(__file__).parents[1] / "training" / "checkpoints" / f"{family}.json"
    assert read_architecture(stored) == FAMILIES[family]()


def test_a_description_of_another_version_is_refused(small, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    from training.train import averaged_model

    stored = a_checkpoint(tmp_path / "old.npz", *small)
    described = json.loads((tmp_path / "old.json").read_text())
    (tmp_path / "old.json").write_text(json.dumps(described | {"normalised": True}))
    with pytest.raises(InputError, match=r"old.json describes no model of this version .*normal"):
        averaged_model(stored)


def a_run(folder: Path, architecture, model) -> Path:  # type: ignore[no-untyped-def]
    """A run as training leaves it, with what it was trained on and what was kept apart."""
    for shards in ("shards", "judging"):
        store(folder / shards / "001-00000.npz", shard_bytes(a_shard()))
    a_checkpoint(folder / "average.npz", architecture, model)
    (folder / "average.json").rename(folder / "architecture.json")
    (folder / "log.jsonl").write_text('{"steps": 7}\n')
    return folder


def convert_run(run: Path, out: Path, recordings: Path | None = None) -> None:
    from converters.model_command import convert_command

    convert_command(run, out, "tiny", "0.1", "two notes", recordings)


def test_a_run_becomes_an_ear_with_thresholds_and_figures(  # type: ignore[no-untyped-def]
    small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import soundfile

    from converters import model_command
    from edge.ear import load_ear
    from edge.manifest import read_manifest
    from edge.midi import write_midi

    monkeypatch.setattr(thresholds, "_CHOICES", (("onset_threshold", ((0.9, 0.9, 0.9),)),))
    monkeypatch.setattr(model_command, "CALIBRATION_SEGMENTS", 1)
    architecture, model = small
    recordings = tmp_path / "recordings"
    recordings.mkdir()
    soundfile.write(recordings / "a.wav", np.zeros(32_000), 16_000)
    write_midi(recordings / "a.mid", [NoteEvent(69, 0.5, 1.0, 64, 1.0)])
    run = a_run(tmp_path / "run", architecture, model)
    record_run(tmp_path, RunRecord("music", (), 3.5, (), {}, None, {}))
    (tmp_path / "run.json").rename(run / "run.json")
    convert_run(run, tmp_path / "out", recordings)
    manifest = read_manifest(tmp_path / "out" / "tiny.json")
    assert manifest.training == Training("small", model.count_params(), "two notes", 3.5, 7)
    assert set(manifest.figures) == {
        "rendered_onset_f1",
        "rendered_offset_f1",
        "rendered_onset_f1_float",
        "real_onset_f1",
        "real_offset_f1",
    }
    told = "".join(capsys.readouterr().err.split())
    assert f"itscard,{tmp_path / 'out' / 'tiny.md'},iswrittenbyhand:itisnotthereyet" in told
    ear = load_ear(tmp_path / "out" / "tiny.tflite")
    assert ear.lookahead_samples == manifest.lookahead_samples


def test_a_reference_is_not_made_into_an_ear(small, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    from training.graph import sequence_model

    reference = msgspec.structs.replace(small[0], family="conv3d_reference", channels=2)
    run = a_run(tmp_path / "run", reference, sequence_model(reference))
    with pytest.raises(InputError, match=r"conv3d_reference: .* no device runs it"):
        convert_run(run, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_run_learns_stops_in_time_and_goes_on_where_it_was(small, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    from training.train import Schedule, averaged_model, train

    architecture, _ = small
    (tmp_path / "shards").mkdir()
    store(tmp_path / "shards" / "001-00000.npz", shard_bytes(a_shard()))
    run = tmp_path / "run"
    short = Schedule(hours=0, steps=30, batch=2, frames=64, steps_per_epoch=10)
    train(architecture, tmp_path / "shards", run, short)
    first = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [line["steps"] for line in first] == [10, 20, 30]
    assert first[-1]["loss"] < first[0]["loss"]
    longer = Schedule(
        hours=(first[-1]["spent_s"] + 2) / 3600, batch=2, frames=64, steps_per_epoch=10
    )
    train(architecture, tmp_path / "shards", run, longer)
    last = json.loads((run / "log.jsonl").read_text().splitlines()[-1])
    assert last["steps"] > first[-1]["steps"]
    assert averaged_model(run).count_params() > 0


class Killed(BaseException):
    """The program ends here."""


def killed_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """End the program at its ``step``-th write, rename or removal; a write leaves half a file."""
    done = 0

    def killed(owner: object, name: str) -> None:
        whole = getattr(owner, name)

        def one_step(*values: object, **named: object) -> object:
            nonlocal done
            done += 1
            if done < step:
                return whole(*values, **named)
            path = values[0] if isinstance(values[0], Path) else values[1]
            if name not in ("rename", "replace", "rmdir"):
                with path.open("wb") as torn:
                    torn.write(b"half")
            raise Killed

        monkeypatch.setattr(owner, name, one_step)

    for name in ("rename", "replace", "rmdir", "write_text", "write_bytes"):
        killed(Path, name)
    killed(np, "savez")
    killed(keras.Model, "save")


# Three files are written, the folder is renamed, three files are moved, the folder is removed.
STEPS_OF_AN_EPOCH = 8


@pytest.mark.parametrize("first", [True, False], ids=["first epoch", "second epoch"])
@pytest.mark.parametrize("step", range(1, STEPS_OF_AN_EPOCH + 2))
def test_an_epoch_that_is_cut_off_anywhere_counts_whole_or_not_at_all(
    step: int, first: bool, tmp_path: Path
) -> None:
    from training.train import store_epoch, take_over

    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])

    def epoch(number: int) -> None:
        model.set_weights([np.full((1, 1), number), np.zeros(1)])
        store_epoch(tmp_path, model, [np.full(2, number)], {"steps": number})

    if not first:
        epoch(1)
    with pytest.MonkeyPatch.context() as monkeypatch:
        killed_at(step, monkeypatch)
        if step <= STEPS_OF_AN_EPOCH:
            with pytest.raises(Killed):
                epoch(2)
        else:
            epoch(2)
    take_over(tmp_path)
    expected = ([] if first else [1]) + ([2] if step > 4 else [])
    if not expected:
        assert not (tmp_path / "log.jsonl").exists()
        return
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["steps"] for line in lines] == expected
    assert keras.saving.load_model(tmp_path / "last.keras").get_weights()[0] == expected[-1]
    with np.load(tmp_path / "average.npz") as arrays:
        assert arrays["w000"].tolist() == [expected[-1]] * 2
    epoch(3)
    assert not list(tmp_path.glob("epoch*"))


@pytest.mark.slow
def test_a_run_killed_in_its_first_and_its_second_epoch_goes_on(  # type: ignore[no-untyped-def]
    small, tmp_path: Path
) -> None:
    from training.train import Schedule, averaged_model, train

    store(tmp_path / "shards" / "001-00000.npz", shard_bytes(a_shard()))
    run = tmp_path / "run"
    schedule = Schedule(hours=0, steps=6, batch=1, frames=64, steps_per_epoch=2)

    def goes_on() -> None:
        train(small[0], tmp_path / "shards", run, schedule)

    # Two steps more than `STEPS_OF_AN_EPOCH` write architecture.json. The second time these are
    # followed by an epoch and by one that is whole, but not all in its place.
    for step in (2 + 2, 2 + STEPS_OF_AN_EPOCH + 6):
        with pytest.MonkeyPatch.context() as monkeypatch, pytest.raises(Killed):
            killed_at(step, monkeypatch)
            goes_on()
    goes_on()
    finished = (run / "log.jsonl").read_text()
    assert [json.loads(line)["steps"] for line in finished.splitlines()] == [2, 4, 6]
    goes_on()  # nothing is left to do
    assert (run / "log.jsonl").read_text() == finished
    assert averaged_model(run).count_params() == small[1].count_params()


def test_a_run_does_not_go_on_with_another_architecture(small, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    from training.train import Schedule, train

    run = a_run(tmp_path / "run", *small)
    kept = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
    wider = msgspec.structs.replace(small[0], channels=10)
    with pytest.raises(InputError, match=r"another architecture: channels was 8 and is now 10;"):
        train(wider, run / "shards", run, Schedule(hours=1))
    with pytest.raises(InputError, match=r"has a log but no last\.keras: copy the whole run"):
        train(small[0], run / "shards", run, Schedule(hours=1))
    assert {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()} == kept


def test_thresholds_are_raised_above_a_false_alarm_of_the_model() -> None:
    """A model whose wrong peaks reach 0.33 and whose right ones reach 0.9."""
    activations = np.full((60, KEYS, 5), 0.01, np.float32)
    activations[..., 4] = 0.6
    for frame in (15, 30, 45):
        for step, height in ((-1, 0.5), (0, 0.9), (1, 0.5)):
            activations[frame + step, A4, 0] = height
        activations[frame, A4 + 7, 0] = 0.33
    truth = tuple(NoteEvent(69, 0.02 * f, 0.02 * f + 0.2, 64, 1.0) for f in (15, 30, 45))
    judged = [Judged(activations, truth, 0.02)]
    fitted = fit_thresholds(judged)
    assert judge(judged, SegmentationParameters()).f1 < 1.0
    assert judge(judged, fitted).f1 == 1.0


def test_the_schedule_warms_up_peaks_and_fades() -> None:
    from training.train import Schedule

    schedule = Schedule(hours=1, peak_rate=1e-3)
    rates = [schedule.rate(share) for share in (0.0, 0.03, 0.5, 1.0)]
    assert rates[1] == pytest.approx(1e-3)
    assert rates[0] < rates[3] * 10
    assert rates[1] > rates[2] > rates[3]


def test_a_run_says_what_it_is_made_of(tmp_path: Path, small) -> None:  # type: ignore[no-untyped-def]
    from training.architecture import Architecture

    architecture, _ = small
    stored = msgspec.json.decode(msgspec.json.encode(architecture), type=Architecture)
    assert stored == architecture
