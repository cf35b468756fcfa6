"""The note model at work: frames of the spectrum in, activations of the 88 keys out.

The model is a TensorFlow Lite file that takes a few frames at a time and carries its past in
explicit state tensors, so that a live stream costs no more than a file and blocks of any size give
the same activations. It answers late by its look-ahead; the answers are numbered here by the frame
they belong to, so nobody else need know.

LiteRT runs it; `tflite-runtime` serves where LiteRT cannot be had.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edge.errors import ModelError
from edge.features import harmonic_cube
from edge.manifest import HEADS, Manifest
from edge.note import KEYS

Float32 = NDArray[np.float32]


class _Interpreter(Protocol):
    def allocate_tensors(self) -> None: ...
    def get_input_details(self) -> list[dict[str, Any]]: ...
    def get_output_details(self) -> list[dict[str, Any]]: ...
    def set_tensor(self, index: int, value: NDArray[Any]) -> None: ...
    def get_tensor(self, index: int) -> NDArray[Any]: ...
    def tensor(self, tensor_index: int) -> Callable[[], NDArray[Any]]: ...
    def invoke(self) -> None: ...


def open_interpreter(content: bytes) -> tuple[_Interpreter, str]:
    """An interpreter on one thread, and the name of the runtime that brought it.

    Raises
    ------
    ModelError
        Neither runtime is installed, or the content is no model it can run.
    """
    try:
        from ai_edge_litert.interpreter import Interpreter

        runtime = "LiteRT"
    except ImportError:
        try:
            from tflite_runtime.interpreter import Interpreter

            runtime = "tflite-runtime"
        except ImportError:
            raise ModelError(
                "no TensorFlow Lite runtime: install ai-edge-litert (or tflite-runtime)"
            ) from None
    try:
        interpreter: _Interpreter = Interpreter(model_content=content, num_threads=1)
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise ModelError(f"{runtime} cannot run the model: {error}") from None
    return interpreter, runtime


class _Tensor:
    """One input or output and how its numbers stand for real ones."""

    def __init__(self, details: dict[str, Any]) -> None:
        self.index: int = details["index"]
        self.shape = tuple(int(n) for n in details["shape"])
        self.dtype = np.dtype(details["dtype"])
        self.scale, self.zero_point = details["quantization"]

    def is_alike(self, other: _Tensor) -> bool:
        """Whether the same steps stand for the same numbers."""
        return (self.dtype, self.scale, self.zero_point) == (
            other.dtype,
            other.scale,
            other.zero_point,
        )

    def quantised(self, values: Float32) -> NDArray[Any]:
        if self.dtype == np.float32:
            return values
        steps = np.rint(values * np.float32(1 / self.scale)) + self.zero_point
        limits = np.iinfo(self.dtype)
        held: NDArray[Any] = np.clip(steps, limits.min, limits.max).astype(self.dtype)
        return held

    def real(self, steps: NDArray[Any]) -> Float32:
        if self.dtype == np.float32:
            return steps
        return (steps.astype(np.float32) - np.float32(self.zero_point)) * np.float32(self.scale)


class NoteModel:
    """A streaming note model.

    Parameters
    ----------
    manifest : Manifest
    content : bytes
        The model file, its hash already checked.

    Raises
    ------
    ModelError
        The file's tensors are not the ones that the manifest describes.
    """

    def __init__(self, manifest: Manifest, content: bytes) -> None:
        self.manifest = manifest
        self._interpreter, self.runtime = open_interpreter(content)
        inputs = [_Tensor(d) for d in self._interpreter.get_input_details()]
        outputs = [_Tensor(d) for d in self._interpreter.get_output_details()]
        self._check(inputs, outputs)
        self._cube, self._activations = inputs[0], outputs[0]
        self._states = [(inputs[s.input_index], outputs[s.output_index]) for s in manifest.states]
        # A state that comes out on the scale on which it goes in is copied as it is.
        self._alike = [taken.is_alike(given) for taken, given in self._states]
        self._silence = self._settled_silence()
        self.reset()

    def _check(self, inputs: list[_Tensor], outputs: list[_Tensor]) -> None:
        m = self.manifest
        cube = (1, m.step_frames, m.features.pitch_bins, len(m.features.harmonics))
        answer = (1, m.step_frames, KEYS, len(HEADS))
        taken = {0: cube} | {s.input_index: s.shape for s in m.states}
        given = {0: answer} | {s.output_index: s.shape for s in m.states}
        numbers = ", ".join(sorted({tensor.dtype.name for tensor in (*inputs, *outputs)}))
        for verb, found, expected in (
            ("takes", dict(enumerate(t.shape for t in inputs)), taken),
            ("gives", dict(enumerate(t.shape for t in outputs)), given),
            ("counts in", numbers, m.quantisation),
        ):
            if found != expected:
                raise ModelError(
                    f"model {m.file} {verb} {found}, its manifest says {expected}: "
                    "install the model and its manifest together"
                )

    def _settled_silence(self) -> list[NDArray[Any]]:
        """The states after so much silence that they no longer change."""
        for taken, _ in self._states:
            zero = taken.quantised(np.zeros(taken.shape, np.float32))
            self._interpreter.set_tensor(taken.index, zero)
        silence = np.zeros(self._cube.shape[1:], np.float32)
        for _ in range(-(-self.manifest.warm_up_frames // self.manifest.step_frames)):
            self._step(self._cube.quantised(silence))
        return [self._interpreter.get_tensor(given.index) for _, given in self._states]

    def reset(self) -> None:
        """Begin a new stream, with endless silence before it."""
        for (taken, given), settled in zip(self._states, self._silence, strict=True):
            self._interpreter.set_tensor(taken.index, taken.quantised(given.real(settled)))
        self._pending = np.empty((0, self.manifest.features.bins), np.float32)
        self._owed_frames = 0
        # Answers still to come that belong to the silence before the stream.
        self._before_frames = self.manifest.lookahead_frames

    def push(self, spectrum: Float32) -> Float32:
        """Take frames of the spectrum, shape (n, bins); give (m, 88, 5) activations.

        The answers of all calls, laid end to end, belong to frames 0, 1, 2, … of the stream.
        """
        self._owed_frames += len(spectrum)
        answers = self._run(spectrum)
        self._owed_frames -= len(answers)
        return answers

    def flush(self) -> Float32:
        """End the stream: the activations of the frames still owed, after which comes silence."""
        silent_frames = self.manifest.lookahead_frames + self.manifest.step_frames
        silence = np.zeros((silent_frames, self.manifest.features.bins), np.float32)
        answers = self._run(silence)[: self._owed_frames]
        self.reset()
        return answers

    def _run(self, spectrum: Float32) -> Float32:
        self._pending = np.concatenate([self._pending, spectrum])
        step = self.manifest.step_frames
        whole = len(self._pending) // step * step
        levels = self._cube.quantised(self._pending[:whole])
        steps = harmonic_cube(levels, self.manifest.features, self._cube.zero_point)
        answers = [self._step(steps[k : k + step]) for k in range(0, whole, step)]
        self._pending = self._pending[whole:]
        none = np.empty((0, KEYS, len(HEADS)), self._activations.dtype)
        activations = self._activations.real(np.concatenate([none, *answers]))
        skipped = min(self._before_frames, len(activations))
        self._before_frames -= skipped
        return activations[skipped:]

    def _step(self, frames: NDArray[Any]) -> NDArray[Any]:
        """Run the model once, quantised cube to quantised answer, and hand each state on."""
        run = self._interpreter
        run.set_tensor(self._cube.index, frames[None])
        run.invoke()
        # Input and output tensors never share memory, so one may be copied after the other.
        for (taken, given), alike in zip(self._states, self._alike, strict=True):
            if alike:
                np.copyto(run.tensor(taken.index)(), run.tensor(given.index)())
            else:
                steps = run.get_tensor(given.index)
                run.set_tensor(taken.index, taken.quantised(given.real(steps)))
        answer: NDArray[Any] = run.get_tensor(self._activations.index)[0]
        return answer
