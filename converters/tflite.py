"""From a trained note model to what a device runs: an 8-bit TensorFlow Lite file and its manifest.

The streaming graph is frozen, calibrated on the states that real playing brings about, and
quantised. Concatenation and slicing keep one scale, so a state goes out on the scale on which it
comes in and nothing is lost by handing it on. What comes out is checked: an operator that only
runs in floating point, or a number format that changes half-way, fails the conversion and names
the layer that made it.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge.errors import ModelError
from edge.features import harmonic_cube
from edge.manifest import (
    AXIS_ORDER,
    FORMAT,
    HEADS,
    Manifest,
    StateTensor,
    Training,
    lookahead_ms,
)
from edge.note import LOWEST_PITCH_MIDI
from edge.segmentation import SegmentationParameters
from training.architecture import Architecture
from training.graph import copy_weights, streaming_model

Float32 = NDArray[np.float32]

# Frames of one run on the device: 40 ms of waiting at most, half the calls of single frames.
STEP_FRAMES = 2

# Operators that would leave the 8-bit path.
FORBIDDEN_OPERATORS = {"CONV_3D", "CONV_3D_TRANSPOSE"}
CHANGES_OF_FORMAT = {"QUANTIZE", "DEQUANTIZE"}


@dataclass(frozen=True, slots=True)
class Converted:
    """A model file, its quantisation, and how often it uses each operator."""

    content: bytes
    quantisation: str
    operators: dict[str, int]
    states: tuple[StateTensor, ...]


def convert(
    sequence: Any, architecture: Architecture, spectra: Sequence[Float32], quantise: bool = True
) -> Converted:
    """Convert a trained model to TensorFlow Lite.

    Parameters
    ----------
    sequence : keras.Model
        The trained model over whole sequences.
    architecture : Architecture
    spectra : sequence of float32, each (frames, bins)
        Playing to calibrate on; its states are the ones that the quantisation is fitted to.
    quantise : bool
        False gives the float model, for comparison.

    Raises
    ------
    ModelError
        The converted graph holds an operator that 8 bits cannot carry.
    """
    import tensorflow as tf

    streaming = streaming_model(architecture, STEP_FRAMES)
    copy_weights(sequence, streaming)
    frozen, names = _frozen(streaming)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([frozen])
    plain = converter.convert()
    if quantise:
        order = _input_order(plain, names)
        converter = tf.lite.TFLiteConverter.from_concrete_functions([frozen])
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8
        converter.representative_dataset = lambda: _steps(streaming, architecture, spectra, order)
    content = converter.convert() if quantise else plain
    operators = _operators(content)
    if quantise:
        _refuse_floating(operators)
    return Converted(
        content,
        "int8" if quantise else "float32",
        dict(Counter(name for name, _ in operators)),
        _states(content, names),
    )


def _frozen(streaming: Any) -> tuple[Any, list[str]]:
    """The step as a concrete function of constants, and its inputs' names in order."""
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import (
        convert_variables_to_constants_v2,
    )

    signature = [tf.TensorSpec(i.shape, tf.float32, name=i.name) for i in streaming.inputs]

    @tf.function(input_signature=signature)  # type: ignore[untyped-decorator]
    def step(*inputs: Any) -> Any:
        return streaming(list(inputs))

    frozen = convert_variables_to_constants_v2(step.get_concrete_function())
    return frozen, [i.name for i in streaming.inputs]


def _interpreter(content: bytes) -> Any:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    return interpreter


def _input_order(content: bytes, names: list[str]) -> list[int]:
    """For each input of the file, which input of the Keras model it is."""
    details = _interpreter(content).get_input_details()
    return [names.index(d["name"].split(":")[0]) for d in details]


def _states(content: bytes, names: list[str]) -> tuple[StateTensor, ...]:
    """Which input and output of the file belong together as a state."""
    order = _input_order(content, names)
    inputs = _interpreter(content).get_input_details()
    states = []
    for number in range(1, len(names)):
        index = order.index(number)
        shape = tuple(int(n) for n in inputs[index]["shape"])
        states.append(StateTensor(index, number, shape))
    return tuple(states)


def _steps(
    streaming: Any, architecture: Architecture, spectra: Sequence[Float32], order: list[int]
) -> Iterator[list[Float32]]:
    """Run the float model over real playing and give the inputs of every step, states and all."""
    import tensorflow as tf

    run = tf.function(lambda *inputs: streaming(list(inputs))[1:])
    for spectrum in spectra:
        cube = harmonic_cube(spectrum, architecture.features)
        states = [np.zeros(s.shape, np.float32) for s in streaming.inputs[1:]]
        for first in range(0, len(cube) - STEP_FRAMES + 1, STEP_FRAMES):
            inputs = [cube[None, first : first + STEP_FRAMES], *states]
            yield [inputs[i] for i in order]
            states = [np.asarray(s) for s in run(*inputs)]


def _operators(content: bytes) -> list[tuple[str, str]]:
    """Every operator of a file with the name of the tensor that it writes."""
    interpreter = _interpreter(content)
    details = {d["index"]: d["name"] for d in interpreter.get_tensor_details()}
    return [
        (op["op_name"], details.get(int(op["outputs"][0]), "?"))
        for op in interpreter._get_ops_details()
        if op["op_name"] != "DELEGATE"
    ]


def _refuse_floating(operators: list[tuple[str, str]]) -> None:
    for name, layer in operators:
        if name in FORBIDDEN_OPERATORS | CHANGES_OF_FORMAT or name.startswith("Flex"):
            raise ModelError(
                f"layer {layer} became {name}, which leaves the 8-bit path: "
                "use convolutions, additions and concatenations that TensorFlow Lite quantises"
            )


def manifest_of(
    converted: Converted, architecture: Architecture, name: str, version: str, training: Training
) -> Manifest:
    """What a device must know of a converted model; thresholds and figures are not fitted yet."""
    return Manifest(
        format=FORMAT,
        name=name,
        version=version,
        file=f"{name}.tflite",
        sha256=hashlib.sha256(converted.content).hexdigest(),
        licence="Apache-2.0",
        quantisation=converted.quantisation,
        features=architecture.features,
        axis_order=AXIS_ORDER,
        lowest_pitch_midi=LOWEST_PITCH_MIDI,
        heads=HEADS,
        step_frames=STEP_FRAMES,
        lookahead_frames=architecture.lookahead_frames,
        lookahead_ms=lookahead_ms(architecture.features, architecture.lookahead_frames),
        warm_up_frames=architecture.past_frames + architecture.lookahead_frames,
        states=converted.states,
        segmentation=SegmentationParameters(),
        training=training,
        figures={},
    )


def write_model(folder: Path, manifest: Manifest, content: bytes) -> None:
    """Write NAME.tflite and NAME.json; the card is written by hand beside them."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / manifest.file).write_bytes(content)
    document = msgspec.json.format(msgspec.json.encode(manifest), indent=2)
    (folder / manifest.file).with_suffix(".json").write_bytes(document + b"\n")
