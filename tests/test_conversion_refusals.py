"""A layer that 8 bits cannot carry is named by the conversion, on models of two or three layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from edge.errors import ModelError, UsageError
from edge.features import FeatureParameters
from edge.note import KEYS
from edge.resources import models_dir
from training.architecture import Architecture

keras = pytest.importorskip("keras", reason="conversion needs the extra `convert`")
tflite = pytest.importorskip("converters.tflite")

FEATURES = FeatureParameters()
TINY = Architecture("tiny", FEATURES, 4, 0, 0, 4, ())
FRAMES, CHANNELS = tflite.STEP_FRAMES, 4
ADVICE = "use convolutions, additions and concatenations that TensorFlow Lite quantises"


def tiny_model(between: Any) -> Any:
    """Bins to keys, what is to be converted, and the heads: a step of a model without a past."""
    shape = (FRAMES, FEATURES.pitch_bins, len(FEATURES.harmonics))
    cube = keras.Input(shape, batch_size=1, name="cube")
    bins = FEATURES.bins_per_semitone
    x = keras.layers.Conv2D(CHANNELS, (1, bins), strides=(1, bins), name="to_keys")(cube)
    heads = keras.layers.Conv2D(5, 1, activation="sigmoid", name="heads")(between(x))
    return keras.Model([cube], [heads], name="tiny")


def convert(model: Any, monkeypatch: pytest.MonkeyPatch, quantise: bool = True) -> Any:
    monkeypatch.setattr(tflite, "streaming_model", lambda _architecture, _step_frames: model)
    spectrum = np.random.default_rng(1).random((2 * FRAMES, FEATURES.bins)).astype(np.float32)
    return tflite.convert(model, TINY, [spectrum], quantise)


def layer(name: str, compute: Any) -> Any:
    return keras.layers.Lambda(compute, output_shape=lambda shape: shape, name=name)


def whole_kernel(x: Any) -> Any:
    """A 3D convolution between two reshapes, which stay in 8 bits."""
    x = keras.layers.Reshape((FRAMES, KEYS, CHANNELS, 1))(x)
    x = keras.layers.Conv3D(1, (1, 3, 3), padding="same", name="whole_kernel")(x)
    return keras.layers.Reshape((FRAMES, KEYS, CHANNELS))(x)


def island_of_two(x: Any) -> Any:
    x = layer("odd_one_out", lambda v: keras.ops.cumsum(v, axis=2))(x)
    return keras.layers.Activation("elu", name="soft_bend_2")(x)


def memory(x: Any) -> Any:
    """A recurrence whose loop TensorFlow keeps: its quantiser would crash on the inside."""
    x = keras.layers.Reshape((FRAMES * KEYS, CHANNELS))(x)
    x = keras.layers.GRU(CHANNELS, return_sequences=True, name="memory")(x)
    return keras.layers.Reshape((FRAMES, KEYS, CHANNELS))(x)


def two_without_an_operator(x: Any) -> Any:
    return layer("inverse", keras.ops.erfinv)(layer("bell", keras.ops.erf)(x))


def two_scales(x: Any) -> Any:
    wide = keras.layers.Activation("sigmoid", name="squeezed")(x)
    return keras.layers.Concatenate(name="both")([x, wide])


@pytest.mark.parametrize(
    ("between", "told"),
    [
        (whole_kernel, ["CONV_3D of layer whole_kernel cannot become int8"]),
        (memory, ["WHILE of layer memory cannot become int8"]),
        (
            island_of_two,
            ["CUMSUM of layer odd_one_out, ELU of layer soft_bend_2 would run in floating point"],
        ),
        (
            two_without_an_operator,
            ["Erf of layer bell", "Erfinv of layer inverse", "cannot be run by TensorFlow Lite"],
        ),
        (lambda x: keras.ops.erf(x), ["Erf of tiny_1/Erf cannot be run by TensorFlow Lite"]),
        (two_scales, ["QUANTIZE of layer squeezed changes the scale half-way"]),
    ],
    ids=["3D", "loop", "float island", "no operator", "outside a layer", "two scales"],
)
def test_a_layer_that_eight_bits_cannot_carry_is_named_with_its_operator(
    between: Any, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ModelError) as refused:
        convert(tiny_model(between), monkeypatch)
    message = str(refused.value)
    assert all(part in message for part in told)
    assert message.endswith(ADVICE)
    assert "QUANTIZE" not in message or between is two_scales
    assert "\n" not in message


def test_layers_that_eight_bits_carry_are_converted(monkeypatch: pytest.MonkeyPatch) -> None:
    converted = convert(tiny_model(keras.layers.ReLU(6.0)), monkeypatch)
    assert converted.operators == {"CONV_2D": 2, "LOGISTIC": 1}


def test_a_whole_kernel_may_stay_in_floats_to_compare_with(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    converted = convert(tiny_model(whole_kernel), monkeypatch, quantise=False)
    assert converted.quantisation == "float32"
    assert converted.operators["CONV_3D"] == 1


def test_a_model_is_not_replaced_unless_the_new_version_is_given(tmp_path: Path) -> None:
    from converters.model_command import convert_command

    (tmp_path / "architecture.json").write_bytes(msgspec.json.encode(TINY))
    there = (models_dir() / "compressed.json").read_bytes()
    (tmp_path / "tiny.json").write_bytes(there)
    version = msgspec.json.decode(there)["version"]
    with pytest.raises(UsageError, match=rf"tiny.json is there .* {version}: .* --version"):
        convert_command(tmp_path, tmp_path)
    assert (tmp_path / "tiny.json").read_bytes() == there
