"""What the model should say at every frame and key, drawn from a list of notes.

Onsets and offsets are drawn as small triangles about their exact time, not as one frame set to
one: the model then learns *between* which frames a hammer struck, and the tracker reads the time
back by interpolating the peak (after Kong et al., "High-resolution piano transcription with
pedals by regressing onset and offset times", 2021).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge.features import FeatureParameters
from edge.manifest import HEADS
from edge.note import KEYS, LOWEST_PITCH_MIDI

# Half the base of an onset's triangle, in frames of 20 ms: wide enough that two frames always see
# it, narrow enough that notes repeated ten times a second (5 frames) stay apart.
ONSET_HALF_WIDTH_FRAMES = 2.0
# An offset is softer than an onset in the sound and in the scoring tolerance.
OFFSET_HALF_WIDTH_FRAMES = 3.0

# Channels of the target array: the model's heads in their order, and where the velocity is known.
ONSET, SOUNDING, OFFSET, VELOCITY, HELD = range(len(HEADS))
VELOCITY_KNOWN = len(HEADS)

# ``offset_s`` is where the key is let go, ``silence_s`` where the sound ends, the pedal included.
NOTE_DTYPE = np.dtype(
    [
        ("pitch", "u1"),
        ("velocity", "u1"),
        ("onset_s", "f4"),
        ("offset_s", "f4"),
        ("silence_s", "f4"),
    ]
)


def draw_targets(
    notes: NDArray[np.void], first_frame: int, frames: int, features: FeatureParameters
) -> NDArray[np.float32]:
    """Targets of the frames ``first_frame`` to ``first_frame + frames``.

    Parameters
    ----------
    notes : structured array of `NOTE_DTYPE`

    Returns
    -------
    float32, shape (frames, 88, 6)
        Onset, sounding, offset, velocity / 127, held, and 1 where that velocity counts.
    """
    targets = np.zeros((frames, KEYS, VELOCITY_KNOWN + 1), np.float32)
    order = np.argsort(notes["onset_s"], kind="stable")
    onset = notes["onset_s"][order] / features.hop_s - first_frame
    offset = notes["offset_s"][order] / features.hop_s - first_frame
    silence = notes["silence_s"][order] / features.hop_s - first_frame
    key = notes["pitch"][order].astype(int) - LOWEST_PITCH_MIDI
    velocity = notes["velocity"][order] / np.float32(127)
    for k, start, end, rest, loudness in zip(key, onset, offset, silence, velocity, strict=True):
        if rest < -OFFSET_HALF_WIDTH_FRAMES or start > frames + ONSET_HALF_WIDTH_FRAMES:
            continue
        first = max(0, round(start))
        for channel, until in ((SOUNDING, rest), (HELD, end)):
            targets[first : min(frames, max(round(until), round(start) + 1)), k, channel] = 1
        _draw_triangle(targets[:, k, OFFSET], end, OFFSET_HALF_WIDTH_FRAMES)
        near = _draw_triangle(targets[:, k, ONSET], start, ONSET_HALF_WIDTH_FRAMES)
        targets[near, k, VELOCITY] = loudness
        targets[near, k, VELOCITY_KNOWN] = 1
    return targets


def _draw_triangle(line: NDArray[np.float32], centre: float, half_width: float) -> slice:
    """Raise ``line`` to a triangle of height 1 about ``centre``; the frames that it touches."""
    first = max(0, int(np.ceil(centre - half_width)))
    last = min(len(line), int(np.floor(centre + half_width)) + 1)
    frames = np.arange(first, max(first, last))
    height = 1 - np.abs(frames - centre) / half_width
    line[frames] = np.maximum(line[frames], height)
    return slice(first, max(first, last))
