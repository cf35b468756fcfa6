"""The note models: factored 3D convolutions over time x pitch x harmonic.

A piano note looks alike wherever it is struck: an attack in time, a comb in frequency. A 3D
kernel over the harmonic cube (`edge.features`) sees exactly that, but costs too much and never
runs in 8 bits. Each kernel is therefore factored (after Xception, Chollet 2017, and P3D,
Qiu et al. 2017): depthwise along time, depthwise along pitch, and 1x1 across harmonics, which
from the second layer on are the channels.

Between every other pair of blocks the keys *reach* for one another: a few channels go through one
dense kernel of 57 keys, two octaves and a third to either side, where the fundamentals lie whose
first five partials could be taken for this key's.

The same description builds two models that share every weight: one over whole sequences, for
training, and one that takes ``step_frames`` frames at a time and carries the past of every time
convolution as explicit state, for the device. A block's look-ahead delays its output instead of
reaching into the future; the skip connection is read from the same state, so it is delayed alike.
"""

from __future__ import annotations

from typing import Any

import keras
import msgspec
from keras import layers, ops

from edge.features import FeatureParameters

# Width of a reach in keys: 28 semitones, the fifth partial, to either side.
REACH_KEYS = 57

HEADS = ("onset", "sounding", "offset", "velocity", "held")
# Logits to begin the training with: about how rare each is.
HEADS_AT_REST = (-5.0, -3.0, -5.0, 0.0, -3.0)


class BlockShape(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A factored convolution: frames before and after, keys across, channels that reach.

    With ``expanded_channels`` it is an inverted residual: widened first, narrowed again after.
    """

    past_frames: int
    future_frames: int
    pitch_keys: int
    reach_channels: int = 0
    expanded_channels: int = 0


class Architecture(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything that fixes a model's graph."""

    family: str
    features: FeatureParameters
    stem_channels: int
    stem_past_frames: int
    stem_future_frames: int
    channels: int
    blocks: tuple[BlockShape, ...]

    @property
    def lookahead_frames(self) -> int:
        return self.stem_future_frames + sum(block.future_frames for block in self.blocks)

    @property
    def past_frames(self) -> int:
        """Frames before the present one that can reach a decision."""
        return self.stem_past_frames + sum(block.past_frames for block in self.blocks)


def separable3d(channels: int = 96, features: FeatureParameters | None = None) -> Architecture:
    """The default ear: six blocks, six frames (120 ms) of look-ahead besides half a window."""
    blocks = (
        BlockShape(5, 1, 5, reach_channels=8),
        BlockShape(5, 1, 3),
        BlockShape(5, 1, 5, reach_channels=8),
        BlockShape(7, 1, 3),
        BlockShape(7, 1, 5, reach_channels=8),
        BlockShape(9, 0, 3),
    )
    return Architecture(
        family="separable3d",
        features=features or FeatureParameters(),
        stem_channels=24,
        stem_past_frames=2,
        stem_future_frames=1,
        channels=channels,
        blocks=blocks,
    )


def compressed(channels: int = 40, expanded: int = 96) -> Architecture:
    """For the smallest boards: inverted residuals (Sandler et al. 2018), the same look-ahead."""
    shapes = ((5, 1, 5, 6), (5, 1, 3, 0), (5, 1, 5, 6), (7, 1, 3, 0), (7, 1, 5, 6), (9, 0, 3, 0))
    return Architecture(
        family="compressed",
        features=FeatureParameters(),
        stem_channels=16,
        stem_past_frames=2,
        stem_future_frames=1,
        channels=channels,
        blocks=tuple(BlockShape(*shape, expanded_channels=expanded) for shape in shapes),
    )


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


def _even(taps: int) -> Any:
    """Start values of a depthwise kernel that keep the level of what goes through."""
    return keras.initializers.RandomNormal(stddev=taps**-0.5)


class _Sequence:
    """Whole sequences: silence before and after, cut away where it would change the length."""

    def window(self, x: Any, past: int, future: int) -> tuple[Any, Any]:
        padded = layers.ZeroPadding2D(((past, future), (0, 0)))(x)
        return padded, x


class _Streaming:
    """A few frames at a time: the past comes in as a state and goes out as the next one."""

    def __init__(self, step_frames: int) -> None:
        self.step_frames = step_frames
        self.states: list[Any] = []
        self.next_states: list[Any] = []

    def window(self, x: Any, past: int, future: int) -> tuple[Any, Any]:
        kept = past + future
        state = keras.Input((kept, *x.shape[2:]), batch_size=1, name=f"state_{len(self.states)}")
        both = layers.Concatenate(axis=1)([state, x])
        self.states.append(state)
        self.next_states.append(both[:, self.step_frames :])
        return both, both[:, past : past + self.step_frames]


def _activated(x: Any, name: str) -> Any:
    return layers.ReLU(max_value=6.0, name=f"{name}_relu")(x)


def _pointwise(x: Any, channels: int, name: str) -> Any:
    x = layers.Conv2D(channels, 1, kernel_initializer="he_normal", name=f"{name}_mix")(x)
    return _activated(x, name)


def _inverted(x: Any, block: BlockShape, channels: int, name: str, mode: Any) -> tuple[Any, Any]:
    """Wide where it is depthwise, narrow where it is kept."""
    wide = _pointwise(x, block.expanded_channels, f"{name}_widen")
    window, _ = mode.window(wide, block.past_frames, block.future_frames)
    frames = block.past_frames + block.future_frames + 1
    h = layers.DepthwiseConv2D(
        (frames, 1), use_bias=False, depthwise_initializer=_even(frames), name=f"{name}_time"
    )(window)
    h = layers.DepthwiseConv2D(
        (1, block.pitch_keys),
        padding="same",
        depthwise_initializer=_even(block.pitch_keys),
        name=f"{name}_pitch",
    )(h)
    h = layers.Conv2D(channels, 1, name=f"{name}_narrow")(layers.ReLU(6.0, name=f"{name}_relu")(h))
    return h, mode.window(x, block.past_frames, block.future_frames)[1]


def _factored(
    x: Any, past: int, future: int, bins: int, channels: int, name: str, mode: Any
) -> tuple[Any, Any]:
    """Depthwise in time, depthwise in pitch, 1x1; also the input cut to the output's frames."""
    window, present = mode.window(x, past, future)
    frames = past + future + 1
    h = layers.DepthwiseConv2D(
        (frames, 1), use_bias=False, depthwise_initializer=_even(frames), name=f"{name}_time"
    )(window)
    h = layers.DepthwiseConv2D(
        (1, bins),
        padding="same",
        use_bias=False,
        depthwise_initializer=_even(bins),
        name=f"{name}_pitch",
    )(h)
    return _pointwise(h, channels, name), present


def _graph(cube: Any, a: Architecture, mode: Any) -> Any:
    x, _ = _factored(
        cube, a.stem_past_frames, a.stem_future_frames, 5, a.stem_channels, "stem", mode
    )
    b = a.features.bins_per_semitone
    x = layers.Conv2D(
        a.channels, (1, b), strides=(1, b), kernel_initializer="he_normal", name="to_keys_mix"
    )(x)
    x = _activated(x, "to_keys")
    for i, block in enumerate(a.blocks):
        name = f"block{i}"
        if block.expanded_channels:
            h, present = _inverted(x, block, a.channels, name, mode)
        else:
            h, present = _factored(
                x, block.past_frames, block.future_frames, block.pitch_keys, a.channels, name, mode
            )
        x = layers.Add(name=f"{name}_skip")([present, h])
        if block.reach_channels:
            few = _pointwise(x, block.reach_channels, f"{name}_few")
            reach = layers.Conv2D(
                a.channels,
                (1, REACH_KEYS),
                padding="same",
                kernel_initializer="he_normal",
                name=f"{name}_reach",
            )(few)
            x = layers.Add(name=f"{name}_reach_skip")([x, _activated(reach, f"{name}_reach")])
    rare = keras.initializers.Constant(HEADS_AT_REST)
    return layers.Conv2D(
        len(HEADS),
        1,
        kernel_initializer=keras.initializers.RandomNormal(stddev=0.02),
        bias_initializer=rare,
        dtype="float32",
        name="heads",
    )(x)


def sequence_model(a: Architecture) -> Any:
    """Keras model over whole sequences: spectrum (batch, time, bins) to logits (…, 88, 5)."""
    spectrum = keras.Input((None, a.features.bins), name="spectrum")
    cube = HarmonicStack(a.features.harmonic_shift_bins, a.features.pitch_bins, name="cube")(
        spectrum
    )
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
