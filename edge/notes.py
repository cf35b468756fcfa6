"""From activations to notes with a name: the keeper of what sounds.

The segmentation says on which key and between which frames something was struck; here it becomes
a note with an id, seconds, a MIDI velocity and a history. A note is confirmed once the model's
look-ahead has passed, and ended when its key is let go.

Where somebody can say sooner what the model will probably find (`edge.provisional`), the note's
history begins earlier: it is provisional, and confirmed under the same id when the model finds a
note of this key within `SAME_STRIKE_S`. When every frame has been judged in which it could have
been found, and it was not, it is withdrawn.
"""

from __future__ import annotations

import copy
import math

import numpy as np
from numpy.typing import NDArray

from edge.note import LOWEST_PITCH_MIDI, NoteEvent, NoteState, NoteUpdate
from edge.segmentation import Segment, SegmentationParameters, SegmentationStream

Float32 = NDArray[np.float32]

# Two onsets of one key no further apart are one strike. A grand repeats at most 15 times a second
# (67 ms); a guess that is right lies within 5 ms of what is confirmed, 95 times in 100.
SAME_STRIKE_S = 0.06
# A peak is placed up to half a frame before the frame that it was found in, and the newest frame
# taken is not judged yet: it waits for its right neighbour.
_UNJUDGED_FRAMES = 1.5


def by_head(activations: Float32) -> Float32:
    """Activations, shape (frames, 88, heads), with the keys of a head side by side in memory."""
    return np.ascontiguousarray(activations.transpose(0, 2, 1))


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
        self._struck_s: dict[int, float] = {}
        self._provisional: list[NoteUpdate] = []

    @property
    def now_frame(self) -> int:
        """Frames taken since the beginning."""
        return self._segmentation.now_frame

    def push(self, activations: Float32) -> list[NoteUpdate]:
        """Take activations, shape (frames, 88, 5): onset, sounding, offset, velocity, held."""
        return [update for frame in by_head(activations) for update in self.step(frame)]

    def step(self, heads: Float32) -> list[NoteUpdate]:
        """Take one frame as `by_head` gives it, shape (5, 88)."""
        onset, _, offset, velocity, held = heads
        found = self._segmentation.step(onset, held, offset, velocity)
        updates = [self._update(segment) for segment in found]
        return updates + self._withdrawn() if self._provisional else updates

    def flush(self) -> list[NoteUpdate]:
        """End the stream: what still sounds ends now, what was provisional is withdrawn."""
        updates = [self._update(segment) for segment in self._segmentation.flush()]
        return updates + [_withdraw(update) for update in self._provisional]

    def guess(
        self, foreseen: Float32, struck_s: float, least_confidence: float
    ) -> list[NoteUpdate]:
        """The notes that would begin if these activations came next; nothing else is remembered.

        Parameters
        ----------
        foreseen : float32, shape (frames, 88, 5)
            What the next activations will probably be.
        struck_s : float
            When something was heard; only notes within `SAME_STRIKE_S` of it are meant.
        least_confidence : float
            Guesses that are less sure are not made.

        Returns
        -------
        list of NoteUpdate
            Provisional ones, each with an id of its own; none for a strike known already.
        """
        parameters = self._segmentation.parameters
        ahead = copy.deepcopy(self._segmentation, {id(parameters): parameters})
        made: list[NoteUpdate] = []
        onset, _, offset, velocity, held = np.moveaxis(foreseen, 2, 0)
        for segment in ahead.push(onset, held, offset, velocity):
            note = self._note(segment)
            if (
                segment.offset_frame is None
                and segment.confidence >= least_confidence
                and abs(note.onset_s - struck_s) <= SAME_STRIKE_S
                and not self._is_known(note)
            ):
                made.append(NoteUpdate(self._new_id(), NoteState.PROVISIONAL, note))
                self._provisional.append(made[-1])
        return made

    def _is_known(self, note: NoteEvent) -> bool:
        """Whether this strike has a note already, be it provisional or confirmed."""
        same_key = (u.note for u in self._provisional if u.note.pitch_midi == note.pitch_midi)
        times_s = [known.onset_s for known in same_key]
        times_s.append(self._struck_s.get(note.pitch_midi, -math.inf))
        return any(abs(note.onset_s - onset_s) <= SAME_STRIKE_S for onset_s in times_s)

    def _update(self, segment: Segment) -> NoteUpdate:
        note = self._note(segment)
        if segment.offset_frame is not None:
            return NoteUpdate(self._id_of_key[segment.key], NoteState.ENDED, note)
        self._id_of_key[segment.key] = self._take_guess(note)
        self._struck_s[note.pitch_midi] = note.onset_s
        return NoteUpdate(self._id_of_key[segment.key], NoteState.CONFIRMED, note)

    def _take_guess(self, note: NoteEvent) -> int:
        """The id of the provisional note that this one confirms, or else a new one."""
        near = [
            (abs(guess.note.onset_s - note.onset_s), guess.id)
            for guess in self._provisional
            if guess.note.pitch_midi == note.pitch_midi
        ]
        if not near or min(near)[0] > SAME_STRIKE_S:
            return self._new_id()
        number = min(near)[1]
        self._provisional = [guess for guess in self._provisional if guess.id != number]
        return number

    def _withdrawn(self) -> list[NoteUpdate]:
        """Provisional notes that can no longer be confirmed."""
        judged_s = (self.now_frame - _UNJUDGED_FRAMES) * self._hop_s
        gone = [u for u in self._provisional if u.note.onset_s + SAME_STRIKE_S < judged_s]
        self._provisional = [u for u in self._provisional if u not in gone]
        return [_withdraw(update) for update in gone]

    def _new_id(self) -> int:
        self._next_id += 1
        return self._next_id - 1

    def _note(self, segment: Segment) -> NoteEvent:
        offset = segment.offset_frame
        return NoteEvent(
            pitch_midi=segment.key + LOWEST_PITCH_MIDI,
            onset_s=segment.onset_frame * self._hop_s,
            offset_s=None if offset is None else offset * self._hop_s,
            velocity=min(max(round(segment.velocity * 127), 1), 127),
            confidence=segment.confidence,
        )


def _withdraw(update: NoteUpdate) -> NoteUpdate:
    return NoteUpdate(update.id, NoteState.WITHDRAWN, update.note)
