"""From activations to notes with a name: the keeper of what sounds.

The segmentation says on which key and between which frames something was struck; here it becomes
a note with an id, seconds, a MIDI velocity and a history. The history of a model's note is short:
it is confirmed once the look-ahead has passed, and ended when its sound has.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge.note import LOWEST_PITCH_MIDI, NoteEvent, NoteState, NoteUpdate
from edge.segmentation import Segment, SegmentationParameters, SegmentationStream

Float32 = NDArray[np.float32]


class NoteTracker:
    """Activations of the 88 keys, frame by frame, to note updates.

    Parameters
    ----------
    parameters : SegmentationParameters
    hop_s : float
        Seconds between frames; frame k lies at ``k * hop_s``.
    """

    def __init__(self, parameters: SegmentationParameters, hop_s: float) -> None:
        self._segmentation = SegmentationStream(parameters)
        self._hop_s = hop_s
        self.reset()

    def reset(self) -> None:
        self._segmentation.reset()
        self._next_id = 0
        self._id_of_key: dict[int, int] = {}

    def push(self, activations: Float32) -> list[NoteUpdate]:
        """Take activations, shape (frames, 88, 5): onset, sounding, offset, velocity, held."""
        onset, _, offset, velocity, held = np.moveaxis(activations, 2, 0)
        found = self._segmentation.push(onset, held, offset, velocity)
        return [self._update(segment) for segment in found]

    def flush(self) -> list[NoteUpdate]:
        """End the stream: what still sounds ends now."""
        return [self._update(segment) for segment in self._segmentation.flush()]

    def _update(self, segment: Segment) -> NoteUpdate:
        if segment.offset_frame is None:
            self._id_of_key[segment.key] = self._next_id
            self._next_id += 1
            state, offset_s = NoteState.CONFIRMED, None
        else:
            state, offset_s = NoteState.ENDED, segment.offset_frame * self._hop_s
        note = NoteEvent(
            pitch_midi=segment.key + LOWEST_PITCH_MIDI,
            onset_s=segment.onset_frame * self._hop_s,
            offset_s=offset_s,
            velocity=int(np.clip(round(segment.velocity * 127), 1, 127)),
            confidence=segment.confidence,
        )
        return NoteUpdate(self._id_of_key[segment.key], state, note)
