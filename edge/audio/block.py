"""A stretch of the stream: so many samples, and where in the stream they lie.

The sample index is the only clock inside Sostenuto. A block says where it starts, so a
stretch that was lost shows as a start that jumps, and nothing after it is dated wrongly.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.note import NoteUpdate, PedalEvent

STREAM_RATE_HZ = 16_000
"""Rate of every stream: what the front end of the note models hears."""

BLOCK_S = 0.01
"""Seconds of sound in one live block: what is provisional must not wait for the rest of it."""


@dataclass(frozen=True, slots=True)
class Block:
    """Sound.

    Attributes
    ----------
    start_sample : int
        Index of the first sample since the stream began, at ``STREAM_RATE_HZ``.
    samples : NDArray[np.float32], shape (n,)
        Mono, -1 to 1.
    """

    start_sample: int
    samples: NDArray[np.float32]

    @property
    def end_sample(self) -> int:
        """Index of the first sample after this block."""
        return self.start_sample + len(self.samples)


@dataclass(frozen=True, slots=True)
class MidiBlock:
    """What a keyboard said itself: no ear is needed.

    Attributes
    ----------
    start_sample : int
        How far the stream has come, in samples at ``STREAM_RATE_HZ``.
    events : tuple of NoteUpdate and PedalEvent
        A key that went down is a confirmed note, a key that came up (or the pedal that
        carried it) an ended one. Ids are unique and rise. May be empty: time goes on.
    """

    start_sample: int
    events: tuple[NoteUpdate | PedalEvent, ...]

    @property
    def end_sample(self) -> int:
        """The same as ``start_sample``: a keyboard speaks at an instant."""
        return self.start_sample
