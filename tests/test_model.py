"""The note model's file: the same activations for any split, and refusals that name the reason."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.ear import DEFAULT_MODEL, find_manifest, load_ear
from edge.errors import ModelError
from edge.manifest import Manifest, lookahead_ms, read_manifest, read_model_file
from edge.model import NoteModel, open_interpreter
from edge.note import KEYS
from edge.resources import models_dir


@pytest.fixture(scope="module")
def model() -> NoteModel:
    manifest = read_manifest(find_manifest(None))
    return NoteModel(manifest, read_model_file(manifest, models_dir()))


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A copy of the default model, to be damaged."""
    for suffix in (".tflite", ".json"):
        shutil.copy(models_dir() / f"{DEFAULT_MODEL}{suffix}", tmp_path / f"ear{suffix}")
    _change(tmp_path / "ear.json", file="ear.tflite")
    return tmp_path / "ear.tflite"


def _change(path: Path, **fields: object) -> None:
    manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
    path.write_bytes(msgspec.json.encode(msgspec.structs.replace(manifest, **fields)))


def _spectrum(model: NoteModel, frames: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.random((frames, model.manifest.features.bins)).astype(np.float32)


def _all(model: NoteModel, parts: list[np.ndarray]) -> np.ndarray:
    model.reset()
    return np.concatenate([*(model.push(part) for part in parts), model.flush()])


def test_every_frame_gets_one_answer(model: NoteModel) -> None:
    for frames in (0, 1, 2, 7, 31):
        assert _all(model, [_spectrum(model, frames)]).shape == (frames, KEYS, 5)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(0, 41), max_size=6))
def test_any_split_of_the_frames_gives_the_same_activations(
    model: NoteModel, cuts: list[int]
) -> None:
    spectrum = _spectrum(model, 41)
    whole = _all(model, [spectrum])
    np.testing.assert_array_equal(_all(model, np.split(spectrum, sorted(cuts))), whole)


def test_a_model_that_was_used_and_reset_answers_like_a_new_one(model: NoteModel) -> None:
    first = _all(model, [_spectrum(model, 20)])
    _all(model, [_spectrum(model, 33, seed=1)])
    np.testing.assert_array_equal(_all(model, [_spectrum(model, 20)]), first)


def test_silence_is_not_played(model: NoteModel) -> None:
    silence = np.zeros((60, model.manifest.features.bins), np.float32)
    onset = _all(model, [silence])[:, :, 0]
    assert onset.max() < min(model.manifest.segmentation.onset_threshold)


def test_the_answer_comes_after_the_manifests_lookahead(model: NoteModel) -> None:
    model.reset()
    step, late = model.manifest.step_frames, model.manifest.lookahead_frames
    given = sum(len(model.push(_spectrum(model, step))) for _ in range(20))
    assert given == 20 * step - late


@pytest.mark.parametrize(
    ("name", "most_parameters", "most_bytes"),
    [("separable3d", 1_000_000, 1_500_000), ("compressed", 300_000, 500_000)],
)
def test_every_shipped_model_stays_in_eight_bits_and_small(
    name: str, most_parameters: int, most_bytes: int
) -> None:
    manifest = read_manifest(find_manifest(name))
    content = read_model_file(manifest, models_dir())
    assert manifest.quantisation == "int8"
    assert manifest.training.parameters <= most_parameters
    assert len(content) <= most_bytes
    interpreter, _ = open_interpreter(content)
    operators = {op["op_name"] for op in interpreter._get_ops_details()}
    assert not operators & {"CONV_3D", "QUANTIZE", "DEQUANTIZE"}
    assert not any(name.startswith("Flex") for name in operators)


def test_the_lookahead_in_milliseconds_counts_frames_peak_and_half_a_window(
    model: NoteModel,
) -> None:
    m = model.manifest
    frames = m.lookahead_frames + 1
    by_hand = frames * m.features.hop_s * 1000 + 1024 / 16
    assert lookahead_ms(m.features, m.lookahead_frames) == pytest.approx(by_hand)
    assert m.lookahead_ms <= 260


def test_a_changed_model_file_is_refused_by_its_hash(installed: Path) -> None:
    installed.write_bytes(installed.read_bytes()[:-1] + b"\0")
    with pytest.raises(ModelError, match=r"sha256 .* its manifest says"):
        load_ear(installed)


def test_a_file_that_is_no_model_is_refused_even_with_a_matching_hash(installed: Path) -> None:
    installed.write_bytes(b"not a model at all")
    found = hashlib.sha256(b"not a model at all").hexdigest()
    _change(installed.with_suffix(".json"), sha256=found)
    with pytest.raises(ModelError, match="cannot run the model"):
        load_ear(installed)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"format": 99}, "format is 99"),
        ({"lookahead_ms": 10.0}, "lookahead_ms is 10.0"),
        ({"heads": ("onset",)}, "heads is"),
        ({"lookahead_frames": 9, "lookahead_ms": 264.0}, "264 ms ahead, this device waits 260 ms"),
        ({"step_frames": 3}, "install the model and its manifest together"),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused_with_its_value(
    installed: Path, fields: dict[str, object], told: str
) -> None:
    _change(installed.with_suffix(".json"), **fields)
    with pytest.raises(ModelError, match=told):
        load_ear(installed)


def test_a_manifest_with_an_unknown_field_is_refused(installed: Path) -> None:
    path = installed.with_suffix(".json")
    path.write_bytes(path.read_bytes().replace(b'{"format"', b'{"colour":"blue","format"', 1))
    with pytest.raises(ModelError, match="colour"):
        load_ear(installed)


def test_a_model_that_is_not_there_is_told_with_those_that_are() -> None:
    with pytest.raises(ModelError, match=f"installed are .*{DEFAULT_MODEL}"):
        load_ear("nocturne")
