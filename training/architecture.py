"""The note models, described: factored 3D convolutions over time x pitch x harmonic.

A piano note looks alike wherever it is struck: an attack in time, a comb in frequency. A 3D
kernel over the harmonic cube (`edge.features`) sees exactly that, but costs too much and never
runs in 8 bits. Each kernel is therefore factored (after Xception, Chollet 2017, and P3D,
Qiu et al. 2017): depthwise along time, depthwise along pitch, and 1x1 across harmonics, which
from the second layer on are the channels.

Between every other pair of blocks the keys *reach* for one another: a few channels go through
dense kernels of 57 keys, two octaves and a third to either side, where the fundamentals lie whose
first five partials could be taken for this key's. Some dozens of such patterns serve all channels.

Here is only what fixes a graph; `training.graph` builds it.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import msgspec

from edge.errors import InputError
from edge.features import FeatureParameters

# Frames of the past, keys across, and whether the keys reach: the six blocks of either ear.
_BLOCKS = ((5, 5, True), (5, 3, False), (5, 5, True), (7, 3, False), (7, 5, True), (9, 3, False))
LOOKAHEAD_FRAMES = 6
SEPARABLE3D = "separable3d"
CONV3D_REFERENCE = "conv3d_reference"


class BlockShape(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A factored convolution: frames before and after, keys across, channels that reach.

    With ``expanded_channels`` it is an inverted residual: widened first, narrowed again after.
    What reaches is seen through ``reach_patterns`` kernels, or, where 0, one for each channel.
    """

    past_frames: int
    future_frames: int
    pitch_keys: int
    reach_channels: int = 0
    reach_patterns: int = 0
    expanded_channels: int = 0


class Architecture(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything that fixes a model's graph.

    Attributes
    ----------
    groups : int
        The 1x1 convolutions of the blocks are split into so many, and their channels shuffled.
    skips : bool
        Whether a block adds to what it was given.
    recurrent_units : int
        Channels per key that remember for as long as they learn to, after the last block.
    harmonic_stack : bool
        Whether a bin sees its partials, or its own frequency only.
    """

    family: str
    features: FeatureParameters
    stem_channels: int
    stem_past_frames: int
    stem_future_frames: int
    channels: int
    blocks: tuple[BlockShape, ...]
    groups: int = 1
    skips: bool = True
    recurrent_units: int = 0
    harmonic_stack: bool = True

    @property
    def lookahead_frames(self) -> int:
        return self.stem_future_frames + sum(block.future_frames for block in self.blocks)

    @property
    def past_frames(self) -> int:
        """Frames before the present one that the convolutions see."""
        return self.stem_past_frames + sum(block.past_frames for block in self.blocks)


def separable3d(
    channels: int = 96,
    lookahead_frames: int = LOOKAHEAD_FRAMES,
    features: FeatureParameters | None = None,
    reach_patterns: int = 0,
) -> Architecture:
    """The default ear: six blocks, 120 ms of look-ahead besides half a window and a frame."""
    return _ear(
        SEPARABLE3D,
        channels,
        lookahead_frames,
        stem_channels=24,
        reach=_Reach(channels=8, patterns=reach_patterns),
        features=features,
    )


def compressed(channels: int = 40, lookahead_frames: int = LOOKAHEAD_FRAMES) -> Architecture:
    """For the smallest boards: inverted residuals (Sandler et al. 2018)."""
    return _ear(
        "compressed",
        channels,
        lookahead_frames,
        stem_channels=16,
        reach=_Reach(channels=6),
        expanded_channels=96,
    )


def conv3d_reference(channels: int = 4, lookahead_frames: int = LOOKAHEAD_FRAMES) -> Architecture:
    """Plain 3D convolutions that see as far in time and pitch, in floats: for comparison only."""
    # Its keys reach with all their channels (`training.conv3d_reference`); 1 says that they do.
    return _ear(
        CONV3D_REFERENCE,
        channels,
        lookahead_frames,
        stem_channels=channels,
        reach=_Reach(channels=1),
    )


FAMILIES = {
    SEPARABLE3D: separable3d,
    "compressed": compressed,
    CONV3D_REFERENCE: conv3d_reference,
}


def read_architecture(path: Path) -> Architecture:
    """The description that a run, or a checkpoint, has beside its weights.

    Raises
    ------
    InputError
        It is missing, or not of this version.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=Architecture)
    except OSError as error:
        raise InputError(f"no {path} ({error.strerror}): train first") from None
    except msgspec.DecodeError as error:
        raise InputError(f"{path} describes no model of this version ({error})") from None


class _Reach(NamedTuple):
    """How keys reach for one another, in the blocks where they do."""

    channels: int
    patterns: int = 0


def _ear(
    family: str,
    channels: int,
    lookahead_frames: int,
    *,
    stem_channels: int,
    reach: _Reach,
    expanded_channels: int = 0,
    features: FeatureParameters | None = None,
) -> Architecture:
    in_stem = min(1, lookahead_frames)
    each, more = divmod(lookahead_frames - in_stem, len(_BLOCKS))
    blocks = tuple(
        BlockShape(
            past_frames=past,
            future_frames=each + (n < more),
            pitch_keys=keys,
            reach_channels=reach.channels if reaches else 0,
            reach_patterns=reach.patterns if reaches else 0,
            expanded_channels=expanded_channels,
        )
        for n, (past, keys, reaches) in enumerate(_BLOCKS)
    )
    return Architecture(
        family=family,
        features=features or FeatureParameters(),
        stem_channels=stem_channels,
        stem_past_frames=2,
        stem_future_frames=in_stem,
        channels=channels,
        blocks=blocks,
    )
