"""A manifest that cannot be served is refused at load: its name, the value, what is allowed."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.ear import DEFAULT_MODEL, load_ear
from edge.errors import ModelError
from edge.features import FeatureParameters, FeatureStream, harmonic_cube, log_frequency_spectrum
from edge.manifest import lookahead_ms, read_manifest
from edge.note import KEYS, LOWEST_PITCH_MIDI, pitch_to_hz
from edge.resources import models_dir


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The manifest of a copy of the default model, to be changed."""
    for suffix in (".tflite", ".json"):
        shutil.copy(
            models_dir() / f"{DEFAULT_MODEL}{suffix}", tmp_path / f"{DEFAULT_MODEL}{suffix}"
        )
    return tmp_path / f"{DEFAULT_MODEL}.json"


def change(path: Path, place: str, value: object) -> None:
    """Set one value of a manifest; ``place`` is its path: ``features.hop_samples``."""
    manifest = json.loads(path.read_text())
    *above, field = (int(part) if part.isdigit() else part for part in place.split("."))
    part: Any = manifest
    for step in above:
        part = part[step]
    part[field] = value
    path.write_text(json.dumps(manifest))


@pytest.mark.parametrize("name", ["compressed", "separable3d"])
def test_the_shipped_models_are_served(name: str) -> None:
    assert (
        load_ear(name).sample_rate_hz
        == read_manifest(models_dir() / f"{name}.json").features.sample_rate_hz
    )


@pytest.mark.parametrize(
    ("place", "value", "told"),
    [
        ("features.sample_rate_hz", 0, "features.sample_rate_hz is 0, must be `int` >= 1"),
        ("features.sample_rate_hz", "high", "is 'high', must be `int`, got `str`"),
        ("features.window_samples", 0, "features.window_samples is 0, must be `int` >= 2"),
        ("features.hop_samples", 0, "features.hop_samples is 0, must be `int` >= 1"),
        ("features.hop_samples", -320, "features.hop_samples is -320, must be `int` >= 1"),
        ("features.hop_samples", 2049, "hop_samples is 2049, must be at most window_samples, 2048"),
        ("features.bins_per_semitone", 0, "features.bins_per_semitone is 0, must be `int` >= 1"),
        ("features.floor_db", 0, "features.floor_db is 0, must be `float` <= -1.0"),
        ("features.floor_db", 40, "features.floor_db is 40, must be `float` <= -1.0"),
        ("features.harmonics", [], "harmonics are [], must ascend, above 0 and up to 100"),
        ("features.harmonics", [1, 0.5, 2, 3, 4, 5, 6, 7], "harmonics are [1.0, 0.5, 2.0"),
        ("features.harmonics", [0, 1, 2, 3, 4, 5, 6, 7], "harmonics are [0.0, 1.0"),
        ("features.harmonics", [-1, 1, 2, 3, 4, 5, 6, 7], "harmonics are [-1.0, 1.0"),
        ("features.harmonics", [0.5, 1, 2, 3, 4, 5, 6, 1e300], "and up to 100"),
        ("lowest_pitch_midi", 33, "lowest_pitch_midi is 33, this version of Sostenuto runs 21"),
        ("step_frames", 0, "step_frames is 0, must be `int` >= 1"),
        ("lookahead_frames", -3, "lookahead_frames is -3, must be `int` >= 0"),
        ("lookahead_frames", 5, "lookahead_ms is 204.0, its frames, hop and window make 184.000"),
        ("warm_up_frames", -5, "warm_up_frames is -5, must be `int` >= 0"),
        ("warm_up_frames", 0, "warm_up_frames is 0, a model with"),
        ("warm_up_frames", 10**12, "must be `int` <= 10000"),
        ("segmentation.restrike_frames", 10**30, "segmentation.restrike_frames is 1"),
        ("segmentation.level_range", [1.3, 0.6], "level_range is from 1.3 to 0.6"),
    ],
)
def test_a_value_that_cannot_be_served_is_refused_with_the_manifests_name(
    installed: Path, place: str, value: object, told: str
) -> None:
    change(installed, place, value)
    with pytest.raises(ModelError, match=re.escape(told)) as refused:
        load_ear(installed)
    assert str(installed) in str(refused.value)


@pytest.mark.parametrize(
    ("place", "value", "told"),
    [
        ("states.0.output_index", 99, r"separable3d.tflite gives .*manifest says .*99: "),
        ("states.0.output_index", -1, r"separable3d.tflite gives .*manifest says .*-1: "),
        ("states.0.output_index", 2, r"separable3d.tflite gives .*manifest says"),
        ("states.0.input_index", 99, r"separable3d.tflite takes .*manifest says .*99: "),
        ("states.0.shape", [1, 1, 1, 1], r"takes .*manifest says .*1: \(1, 1, 1, 1\)"),
        ("quantisation", "float32", "counts in int8, its manifest says float32"),
        ("features.bins_per_semitone", 4, r"takes .*264.*manifest says .*352"),
        ("features.harmonics", [1, 2, 3], r"takes .*264, 8\).*manifest says .*264, 3\)"),
    ],
)
def test_a_manifest_that_describes_another_file_is_refused_with_both_their_values(
    installed: Path, place: str, value: object, told: str
) -> None:
    change(installed, place, value)
    with pytest.raises(ModelError, match=told) as refused:
        load_ear(installed)
    assert "install the model and its manifest together" in str(refused.value)


@pytest.mark.parametrize(
    ("place", "value", "told"),
    [
        ("features.sample_rate_hz", 44_100, "hears 44100 Hz, this device streams 16000 Hz"),
        ("features.window_samples", 8192, "looks 396 ms ahead, this device waits 260 ms"),
        ("lookahead_frames", 12, "looks 324 ms ahead, this device waits 260 ms"),
    ],
)
def test_what_this_device_does_not_do_is_refused_with_both_their_values(
    installed: Path, place: str, value: object, told: str
) -> None:
    change(installed, place, value)
    described = json.loads(installed.read_text())
    features = FeatureParameters(**described["features"])
    change(installed, "lookahead_ms", lookahead_ms(features, described["lookahead_frames"]))
    with pytest.raises(ModelError, match=told):
        load_ear(installed)


def test_an_odd_window_hears_a_key_where_it_is_in_blocks_of_any_size() -> None:
    """Such a window is half a sample off its frame's middle, and nothing else."""
    odd = FeatureParameters(window_samples=2047)
    t = np.arange(8000) / odd.sample_rate_hz
    samples = (0.5 * np.sin(2 * np.pi * pitch_to_hz(69) * t)).astype(np.float32)
    whole = log_frequency_spectrum(samples, odd)
    cube = harmonic_cube(whole, odd)[12, :, odd.harmonics.index(1)]
    assert cube.reshape(KEYS, -1).max(axis=1).argmax() == 69 - LOWEST_PITCH_MIDI
    np.testing.assert_allclose(
        whole, log_frequency_spectrum(samples, FeatureParameters()), atol=0.02
    )
    stream = FeatureStream(odd)
    parts = [stream.push(block) for block in np.split(samples, [1, 700, 4001])]
    np.testing.assert_array_equal(np.concatenate([*parts, stream.flush()]), whole)
