"""What is told before it is sure: that something was struck, and which keys it probably was.

The note model waits for six frames after an onset before it speaks, because what follows makes it
sure. A lamp beside the piano cannot wait that long. So there are two earlier answers:

- the *strike*: spectral flux needs no pitch and comes within 60 ms (`edge.onsets`);
- the *provisional note*: as soon as `ATTACK_S` of the attack lies under the middle of the analysis
  window, the model is asked at once, with the newest frame held for the frames that are still to
  come, as if the sound went on as it is. A struck string nearly does. The tracker says what it
  would make of the answers, and both forget that they were asked.

The same model and the same thresholds speak both times, so most guesses are confirmed; what the
held frame made up is withdrawn (`edge.notes`). Templates of struck strings, matched to what rose at
the strike, were tried before: where four guesses in five were right they found under half of the
notes, this finds four fifths.
"""

from __future__ import annotations

import math
from collections import deque

import numpy as np
from numpy.typing import NDArray

from edge.ear import ModelEar
from edge.model import NoteModel
from edge.note import Heard, Strike
from edge.onsets import Onset, OnsetParameters, OnsetStream
from edge.tuning import CONCERT_PITCH, Tuning

Float32 = NDArray[np.float32]

# So much after a strike the middle of the last frame lies that a guess uses, or up to a hop later.
# With half a window of 64 ms behind it, this is what 150 ms allow, blocks of 10 ms included. And
# guesses that are less sure are not made: 0.5 is a peak that just passes its threshold.
# ``python -m benchmarks.provisional --sweep`` prints what other values are worth.
ATTACK_S = 0.03
LEAST_CONFIDENCE = 0.55
# Keys of a chord that sound so much after its strike are asked for as well. Answers for later ones
# would take more runs of the model, and what was not yet heard is not found.
CHORD_S = 0.02


class ForeseeingModel(NoteModel):
    """A note model that can be asked what it would say if the sound went on as it is."""

    def foresee(self, frame: Float32, answers: int) -> Float32:
        """The next answers, if only this frame came from now on; the model's state stays as it is.

        Parameters
        ----------
        frame : float32, shape (bins,)
            Of the spectrum.
        answers : int

        Returns
        -------
        float32, shape (m, 88, 5)
            At least ``answers`` activations, of the frames after the last that `push` has given.
        """
        states = [self._interpreter.get_tensor(taken.index) for taken, _ in self._states]
        pending, before_frames = self._pending, self._before_frames
        step = self.manifest.step_frames
        frames = -(-(answers + before_frames) // step) * step - len(pending)
        foreseen = self._run(np.repeat(frame[None], frames, axis=0))
        for (taken, _), state in zip(self._states, states, strict=True):
            self._interpreter.set_tensor(taken.index, state)
        self._pending, self._before_frames = pending, before_frames
        return foreseen


class ProvisionalEar(ModelEar):
    """The model's ear, with strikes and provisional notes besides."""

    def __init__(self, model: ForeseeingModel, tuning: Tuning = CONCERT_PITCH) -> None:
        super().__init__(model, tuning)
        self._foreseeing = model
        self._onsets = OnsetStream(OnsetParameters())
        self._untold: deque[Onset] = deque()
        self._unasked: deque[Onset] = deque()
        self._heard_frames = 0

    def push(self, samples: Float32) -> list[Heard]:
        """Take float32 samples, shape (n,); give what was heard, guessed and made sure."""
        self._untold.extend(self._onsets.push(samples))
        heard = self._hear(self._features.push(samples))
        return heard + self._strikes_known_at(math.inf)

    def flush(self) -> list[Heard]:
        """End the stream: what is left is judged at once, so that nothing need be guessed."""
        self._untold.extend(self._onsets.flush())
        strikes = self._strikes_known_at(math.inf)
        self._unasked.clear()
        return strikes + super().flush()

    def reset(self) -> None:
        super().reset()
        self._onsets.reset()
        self._untold.clear()
        self._unasked.clear()
        self._heard_frames = 0

    def _hear(self, spectrum: Float32) -> list[Heard]:
        """Frame by frame, since a guess is made in the midst; in the order of becoming known."""
        heard: list[Heard] = []
        features = self._features.parameters
        for frame in spectrum:
            centre_sample = self._heard_frames * self.hop_samples
            heard += self._strikes_known_at(centre_sample + features.half_window_samples)
            heard += self._follow(self._model.push(frame[None]))
            heard += self._guesses(frame, centre_sample - ATTACK_S * self.sample_rate_hz)
            self._heard_frames += 1
        return heard

    def _strikes_known_at(self, sample: float) -> list[Heard]:
        """The strikes that are sure once so many samples have been heard."""
        told: list[Heard] = []
        while self._untold and self._untold[0].known_sample <= sample:
            onset = self._untold.popleft()
            self._unasked.append(onset)
            told.append(Strike(onset.sample / self.sample_rate_hz, onset.strength))
        return told

    def _guesses(self, frame: Float32, struck_before_sample: float) -> list[Heard]:
        """What began with the strikes whose attack this frame shows far enough."""
        guesses: list[Heard] = []
        while self._unasked and self._unasked[0].sample <= struck_before_sample:
            struck_s = self._unasked.popleft().sample / self.sample_rate_hz
            # A peak is known by its right neighbour.
            last_frame = math.ceil((struck_s + CHORD_S) / self.manifest.features.hop_s) + 1
            answers = last_frame + 1 - self._tracker.now_frame
            if answers > 0:
                foreseen = self._foreseeing.foresee(frame, answers)
                guesses += self._tracker.guess(foreseen, struck_s, LEAST_CONFIDENCE)
        return guesses
