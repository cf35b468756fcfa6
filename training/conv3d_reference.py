"""What factoring costs: the same ear with whole 3D convolutions over time x pitch x harmonic.

Each factored block's two depthwise kernels and 1x1 become one kernel over frames, keys and three
neighbouring harmonics; where the keys reach, a second one spans the same two octaves and a third to
either side. The harmonics stay an axis of their own to the end, so a channel is many times dearer
here, and there are few of them. No device runs this (a 3D convolution never becomes int8): it is
trained beside the factored ear to see what a whole kernel would hear more, and at what price.
"""

from __future__ import annotations

from typing import Any

from keras import layers

from training.architecture import Architecture, BlockShape
from training.graph import REACH_KEYS, STEM_BINS, heads

HARMONICS_ACROSS = 3


def reference_graph(cube: Any, a: Architecture) -> Any:
    """Logits (batch, time, 88, 5) of cubes (batch, time, bins, harmonics)."""
    x = layers.Reshape((-1, *cube.shape[2:], 1))(cube)
    stem = BlockShape(a.stem_past_frames, a.stem_future_frames, STEM_BINS)
    x = _whole(x, stem, a.stem_channels, "stem")
    b = a.features.bins_per_semitone
    x = layers.Conv3D(
        a.channels,
        (1, b, 1),
        strides=(1, b, 1),
        activation="relu6",
        kernel_initializer="he_normal",
        name="to_keys_mix",
    )(x)
    for i, block in enumerate(a.blocks):
        x = layers.Add(name=f"block{i}_skip")([x, _whole(x, block, a.channels, f"block{i}")])
        if block.reach_channels:
            reach = _whole(x, BlockShape(0, 0, REACH_KEYS), a.channels, f"block{i}_reach")
            x = layers.Add(name=f"block{i}_reach_skip")([x, reach])
    harmonics = x.shape[3] * x.shape[4]
    return heads(layers.Reshape((-1, x.shape[2], harmonics))(x))


def _whole(x: Any, block: BlockShape, channels: int, name: str) -> Any:
    frames = block.past_frames + block.future_frames + 1
    beside, along = block.pitch_keys // 2, HARMONICS_ACROSS // 2
    padding = ((block.past_frames, block.future_frames), (beside, beside), (along, along))
    return layers.Conv3D(
        channels,
        (frames, block.pitch_keys, HARMONICS_ACROSS),
        activation="relu6",
        kernel_initializer="he_normal",
        name=f"{name}_mix",
    )(layers.ZeroPadding3D(padding)(x))
