"""What factoring costs: the same ear with whole 3D convolutions over time x pitch x harmonic.

Each factored block's two depthwise kernels and 1x1 become one kernel over frames, keys and three
neighbouring harmonics; where the keys reach, the kernel is dilated to the same two octaves and a
third to either side. No device runs this (a 3D convolution never becomes int8): it is trained
beside the factored ear to see what a whole kernel would hear more, and at what price.
"""

from __future__ import annotations

from typing import Any

from keras import layers

from training.architecture import Architecture, BlockShape
from training.graph import REACH_KEYS, STEM_BINS, heads

HARMONICS_ACROSS = 3
# Keys between the taps of a reaching kernel: 8 steps of 7 keys span the reach of 57.
REACH_STEP_KEYS = 7


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
    harmonics = x.shape[3] * x.shape[4]
    return heads(layers.Reshape((-1, x.shape[2], harmonics))(x))


def _whole(x: Any, block: BlockShape, channels: int, name: str) -> Any:
    frames = block.past_frames + block.future_frames + 1
    step = REACH_STEP_KEYS if block.reach_channels else 1
    keys = REACH_KEYS // step + 1 if block.reach_channels else block.pitch_keys
    beside = (keys - 1) * step // 2
    along = (HARMONICS_ACROSS - 1) // 2
    padding = ((block.past_frames, block.future_frames), (beside, beside), (along, along))
    return layers.Conv3D(
        channels,
        (frames, keys, HARMONICS_ACROSS),
        dilation_rate=(1, step, 1),
        activation="relu6",
        kernel_initializer="he_normal",
        name=f"{name}_mix",
    )(layers.ZeroPadding3D(padding)(x))
