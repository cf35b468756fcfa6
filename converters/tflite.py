"""From a trained note model to what a device runs: an 8-bit TensorFlow Lite file and its manifest.

The streaming graph is frozen, calibrated on the states that real playing brings about, and
quantised. Concatenation and slicing keep one scale, so a state goes out on the scale on which it
comes in and nothing is lost by handing it on. What comes out is checked: an operator that only
runs in floating point, that TensorFlow Lite does not have, or that changes the scale half-way,
fails the conversion and names the layer that made it.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
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

# Operators that are never quantised, so a float file that holds one need not be calibrated: whole
# 3D convolutions, and branches and loops, whose inside TensorFlow leaves in floats or crashes on.
FORBIDDEN_OPERATORS = {"CONV_3D", "CONV_3D_TRANSPOSE", "IF", "WHILE"}
CHANGES_OF_FORMAT = {"QUANTIZE", "DEQUANTIZE"}
_ADVICE = "use convolutions, additions and concatenations that TensorFlow Lite quantises"


@dataclass(frozen=True, slots=True)
class Operator:
    """An operator of a model file.

    Attributes
    ----------
    name : str
        As TensorFlow Lite calls it: ``CONV_2D``.
    origin : str
        ``layer NAME`` of the Keras model, or the tensor's own name where no layer made it.
    floating : bool
        Whether it takes or gives floating-point numbers.
    """

    name: str
    origin: str
    floating: bool


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
        The graph holds an operator that 8 bits cannot carry, or TensorFlow Lite not at all; it is
        named with its layer.
    """
    import tensorflow as tf

    streaming = streaming_model(architecture, STEP_FRAMES)
    copy_weights(sequence, streaming)
    frozen, names = _frozen(streaming)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([frozen])
    layers = {layer.name for layer in streaming.layers}
    content = _run(converter, layers)
    operators = _operators(content, layers)
    if quantise:
        _refuse([op for op in operators if op.name in FORBIDDEN_OPERATORS], "cannot become int8")
        order = _input_order(content, names)
        converter = tf.lite.TFLiteConverter.from_concrete_functions([frozen])
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8
        converter.representative_dataset = lambda: _steps(streaming, architecture, spectra, order)
        content = _run(converter, layers)
        operators = _operators(content, layers)
        _refuse_leaving_int8(operators)
    return Converted(
        content,
        "int8" if quantise else "float32",
        dict(Counter(op.name for op in operators)),
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


def _run(converter: Any, layers: Collection[str]) -> bytes:
    """Convert; what TensorFlow Lite does not have is told in our own words."""
    from tensorflow.lite.python.convert_phase import ConverterError

    try:
        content: bytes = converter.convert()
    except ConverterError as error:
        faults = [fault for fault in error.errors if fault.operator.name]
        _refuse(
            [
                Operator(
                    fault.operator.name.removeprefix("tf."),
                    _origin([call.name for call in fault.location.call], layers),
                    floating=True,
                )
                for fault in faults
            ],
            "cannot be run by TensorFlow Lite",
        )
        told = str(error).splitlines()[0]
        raise ModelError(f"TensorFlow cannot convert this model ({told}): {_ADVICE}") from None
    return content


def _operators(content: bytes, layers: Collection[str]) -> list[Operator]:
    """Every operator of a file, in the order in which they run."""
    interpreter = _interpreter(content)
    tensors = {d["index"]: d for d in interpreter.get_tensor_details()}

    def operator(op: dict[str, Any]) -> Operator:
        seen = [tensors[int(i)] for i in (*op["outputs"], *op["inputs"]) if int(i) in tensors]
        floating = any(np.issubdtype(d["dtype"], np.floating) for d in seen)
        return Operator(op["op_name"], _origin([d["name"] for d in seen], layers), floating)

    return [operator(op) for op in interpreter._get_ops_details() if op["op_name"] != "DELEGATE"]


def _origin(names: Sequence[str], layers: Collection[str]) -> str:
    """Where the first of these tensors comes from that was given a path in the Keras model.

    Keras opens a layer's scope to build it and again to call it, and the second is numbered:
    ``model_1/stem_mix_1/convolution`` is the convolution of the layer ``stem_mix``.
    """
    path = next((name for name in names if "/" in name), "a tensor without a name").split(";")[0]
    for scope in path.split("/"):
        for layer in (re.sub(r"_\d+$", "", scope), scope):
            if layer in layers:
                return f"layer {layer}"
    return path


def _refuse_leaving_int8(operators: Sequence[Operator]) -> None:
    """Refuse what computes in floats between a DEQUANTIZE and a QUANTIZE, and a change of scale."""
    changes = [op for op in operators if op.name in CHANGES_OF_FORMAT]
    _refuse(
        [op for op in operators if op.floating and op not in changes],
        "would run in floating point",
    )
    _refuse(changes, "changes the scale half-way")


def _refuse(operators: Sequence[Operator], why: str) -> None:
    """Name each of these operators with its layer, once."""
    if operators:
        found = ", ".join(dict.fromkeys(f"{op.name} of {op.origin}" for op in operators))
        raise ModelError(f"{found} {why}: {_ADVICE}") from None


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
