"""The note models, built: one description, two Keras models that share every weight.

One goes over whole sequences, for training; one takes ``step_frames`` frames at a time and carries
the past of every time convolution as explicit state, for the device. A block's look-ahead delays
its output instead of reaching into the future; the skip connection is read from the same state, so
it is delayed alike.

Nothing is normalised in between: the kernels begin at a scale that keeps the level of what goes
through (He et al. 2015), which trains as well here and takes half the time.
"""

from __future__ import annotations

from typing import Any, Protocol

import keras
from keras import layers, ops

from edge.manifest import HEADS
from training.architecture import CONV3D_REFERENCE, Architecture, BlockShape

# Width of a reach in keys: 28 semitones, the fifth partial, to either side.
REACH_KEYS = 57
# Width of the stem's kernel in bins of a third of a semitone.
STEM_BINS = 5
# Logits to begin the training with: about how rare each head's event is.
HEADS_AT_REST = (-5.0, -3.0, -5.0, 0.0, -3.0)


@keras.saving.register_keras_serializable("sostenuto")
class HarmonicStack(layers.Layer):
    """`edge.features.harmonic_cube` inside the graph: (…, bins) to (…, pitch, harmonic)."""

    def __init__(self, shifts: tuple[int, ...], pitch_bins: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.shifts = tuple(shifts)
        self.pitch_bins = pitch_bins

    def call(self, spectrum: Any) -> Any:
        bins = spectrum.shape[-1]
        first = self.shifts[0]
        needed = self.shifts[-1] - first + self.pitch_bins
        padded = ops.pad(spectrum, ((0, 0), (0, 0), (0, max(0, needed - bins))))
        copies = [padded[:, :, s - first : s - first + self.pitch_bins] for s in self.shifts]
        return ops.stack(copies, axis=-1)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "shifts": self.shifts, "pitch_bins": self.pitch_bins}


@keras.saving.register_keras_serializable("sostenuto")
class Remember(layers.Layer):
    """c(t) = f(t) c(t-1) + (1 - f(t)) x(t) along time (SRU, Lei et al. 2018), all frames at once.

    Each of ``DOUBLINGS`` passes joins stretches twice as long; what is further back is forgotten.
    """

    DOUBLINGS = 9

    def call(self, forget: Any, fresh: Any) -> Any:
        frames = ops.shape(fresh)[1]
        kept, total = forget, (1 - forget) * fresh
        for doubling in range(self.DOUBLINGS):
            later = ((0, 0), (2**doubling, 0), (0, 0), (0, 0))
            total = total + kept * ops.pad(total, later)[:, :frames]
            kept = kept * ops.pad(kept, later)[:, :frames]
        return total


class _Mode(Protocol):
    """How time goes by: all of it at once, or a step at a time."""

    def window(self, x: Any, past: int, future: int) -> tuple[Any, Any]: ...
    def remember(self, forget: Any, fresh: Any) -> Any: ...


class _Sequence:
    """Whole sequences: silence before and after, cut away where it would change the length."""

    def window(self, x: Any, past: int, future: int) -> tuple[Any, Any]:
        padded = layers.ZeroPadding2D(((past, future), (0, 0)))(x)
        return padded, x

    def remember(self, forget: Any, fresh: Any) -> Any:
        return Remember(dtype="float32")(forget, fresh)


class _Streaming:
    """A few frames at a time: the past comes in as a state and goes out as the next one."""

    def __init__(self, step_frames: int) -> None:
        self.step_frames = step_frames
        self.states: list[Any] = []
        self.next_states: list[Any] = []

    def window(self, x: Any, past: int, future: int) -> tuple[Any, Any]:
        both = layers.Concatenate(axis=1)([self._state(past + future, x), x])
        self.next_states.append(both[:, self.step_frames :])
        return both, both[:, past : past + self.step_frames]

    def remember(self, forget: Any, fresh: Any) -> Any:
        kept = self._state(1, fresh)
        frames = []
        for k in range(self.step_frames):
            f = forget[:, k : k + 1]
            kept = f * kept + (1 - f) * fresh[:, k : k + 1]
            frames.append(kept)
        self.next_states.append(kept)
        return layers.Concatenate(axis=1)(frames)

    def _state(self, frames: int, like: Any) -> Any:
        name = f"state_{len(self.states)}"
        self.states.append(keras.Input((frames, *like.shape[2:]), batch_size=1, name=name))
        return self.states[-1]


def _even(taps: int) -> Any:
    """Start values of a depthwise kernel that keep the level of what goes through."""
    return keras.initializers.RandomNormal(stddev=taps**-0.5)


def _pointwise(x: Any, channels: int, name: str, groups: int = 1) -> Any:
    """1x1 and the activation; in groups, whose channels are shuffled (Zhang et al. 2018)."""
    if groups == 1:
        x = layers.Conv2D(channels, 1, kernel_initializer="he_normal", name=f"{name}_mix")(x)
        return layers.ReLU(6.0, name=f"{name}_relu")(x)
    width = x.shape[-1] // groups
    parts = [
        layers.Conv2D(channels // groups, 1, kernel_initializer="he_normal", name=f"{name}_mix{g}")(
            x[..., g * width : (g + 1) * width]
        )
        for g in range(groups)
    ]
    return layers.ReLU(6.0, name=f"{name}_relu")(_shuffled(parts, channels))


def _shuffled(parts: list[Any], channels: int) -> Any:
    stacked = ops.stack(parts, axis=-1)
    return layers.Reshape((-1, stacked.shape[2], channels))(stacked)


def _depthwise(
    x: Any, block: BlockShape, name: str, mode: _Mode, biased: bool = False
) -> tuple[Any, Any]:
    """Depthwise in time, then in pitch; also the input cut to the output's frames."""
    window, present = mode.window(x, block.past_frames, block.future_frames)
    frames, keys = block.past_frames + block.future_frames + 1, block.pitch_keys
    along_time = layers.DepthwiseConv2D(
        (frames, 1), use_bias=False, depthwise_initializer=_even(frames), name=f"{name}_time"
    )
    along_pitch = layers.DepthwiseConv2D(
        (1, keys),
        padding="same",
        use_bias=biased,
        depthwise_initializer=_even(keys),
        name=f"{name}_pitch",
    )
    return along_pitch(along_time(window)), present


def _factored(x: Any, block: BlockShape, a: Architecture, name: str, mode: _Mode) -> Any:
    h, present = _depthwise(x, block, name, mode)
    h = _pointwise(h, a.channels, name, a.groups)
    return layers.Add(name=f"{name}_skip")([present, h]) if a.skips else h


def _inverted(x: Any, block: BlockShape, a: Architecture, name: str, mode: _Mode) -> Any:
    """Wide where it is depthwise, narrow where it is kept."""
    wide = _pointwise(x, block.expanded_channels, f"{name}_widen", a.groups)
    h, _ = _depthwise(wide, block, name, mode, biased=True)
    h = layers.ReLU(6.0, name=f"{name}_relu")(h)
    h = layers.Conv2D(a.channels, 1, name=f"{name}_narrow")(h)
    if not a.skips:
        return h
    present = mode.window(x, block.past_frames, block.future_frames)[1]
    return layers.Add(name=f"{name}_skip")([present, h])


def _reach(x: Any, block: BlockShape, a: Architecture, name: str) -> Any:
    seen = _pointwise(x, block.reach_channels, f"{name}_few")
    across = (1, REACH_KEYS)
    if block.reach_patterns:
        seen = layers.Conv2D(
            block.reach_patterns, across, padding="same", use_bias=False, name=f"{name}_patterns"
        )(seen)
        across = (1, 1)
    reach = layers.Conv2D(
        a.channels, across, padding="same", kernel_initializer="he_normal", name=f"{name}_reach"
    )(seen)
    reach = layers.ReLU(6.0, name=f"{name}_reach_relu")(reach)
    return layers.Add(name=f"{name}_reach_skip")([x, reach])


def _recurrent(x: Any, a: Architecture, mode: _Mode) -> Any:
    units = a.recurrent_units
    forget = layers.Conv2D(units, 1, activation="sigmoid", bias_initializer="ones", name="forget")
    fresh = layers.Conv2D(units, 1, activation="tanh", name="fresh")
    kept = mode.remember(forget(x), fresh(x))
    return layers.Concatenate(name="with_memory")([x, kept])


def _graph(cube: Any, a: Architecture, mode: _Mode) -> Any:
    if not a.harmonic_stack:
        own = a.features.harmonics.index(1)
        cube = cube[..., own : own + 1]
    stem = BlockShape(a.stem_past_frames, a.stem_future_frames, STEM_BINS)
    x, _ = _depthwise(cube, stem, "stem", mode)
    x = _pointwise(x, a.stem_channels, "stem")
    b = a.features.bins_per_semitone
    x = layers.Conv2D(
        a.channels, (1, b), strides=(1, b), kernel_initializer="he_normal", name="to_keys_mix"
    )(x)
    x = layers.ReLU(6.0, name="to_keys_relu")(x)
    for i, block in enumerate(a.blocks):
        kind = _inverted if block.expanded_channels else _factored
        x = kind(x, block, a, f"block{i}", mode)
        if block.reach_channels:
            x = _reach(x, block, a, f"block{i}")
    if a.recurrent_units:
        x = _recurrent(x, a, mode)
    return heads(x)


def heads(x: Any) -> Any:
    """Logits of every head, in 32 bits whatever the rest is computed in."""
    return layers.Conv2D(
        len(HEADS),
        1,
        kernel_initializer=keras.initializers.RandomNormal(stddev=0.02),
        bias_initializer=keras.initializers.Constant(HEADS_AT_REST),
        dtype="float32",
        name="heads",
    )(x)


def sequence_model(a: Architecture) -> Any:
    """Keras model over whole sequences: spectrum (batch, time, bins) to logits (…, 88, 5)."""
    spectrum = keras.Input((None, a.features.bins), name="spectrum")
    stack = HarmonicStack(a.features.harmonic_shift_bins, a.features.pitch_bins, name="cube")
    cube = stack(spectrum)
    if a.family == CONV3D_REFERENCE:
        from training.conv3d_reference import reference_graph

        return keras.Model(spectrum, reference_graph(cube, a), name=a.family)
    return keras.Model(spectrum, _graph(cube, a, _Sequence()), name=a.family)


def streaming_model(a: Architecture, step_frames: int) -> Any:
    """Keras model of one step on the device, float, with the weights still to be copied in.

    Inputs: cube (1, step_frames, pitch_bins, harmonics), then one state per time convolution.
    Outputs: activations (1, step_frames, 88, 5) in 0..1, delayed by the look-ahead, then the
    next states in the same order.
    """
    shape = (step_frames, a.features.pitch_bins, len(a.features.harmonics))
    cube = keras.Input(shape, batch_size=1, name="cube")
    mode = _Streaming(step_frames)
    activations = layers.Activation("sigmoid", name="activations")(_graph(cube, a, mode))
    return keras.Model([cube, *mode.states], [activations, *mode.next_states], name=a.family)


def copy_weights(source: Any, target: Any) -> None:
    """Copy by layer name; every weighted layer of ``target`` must be in ``source``."""
    for layer in target.layers:
        if layer.weights:
            layer.set_weights(source.get_layer(layer.name).get_weights())
