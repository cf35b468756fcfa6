"""The ear without learning: onsets with pitch templates alone.

Spectral flux says that something was struck, the pitch templates say which keys are louder than a
moment before, and the dynamic segmentation makes notes of both. It is the ground that a trained
note model has to rise above, and the ear of a device whose model is missing.

The salience of a key (`edge.pitch_templates`) is compared with the loudest of late, so that a
recording's level does not matter. Its rise over `RISE_FRAMES` is the onset activation, the salience
itself the sounding activation. Where no flux onset lies near, no note can start; one that starts
takes the flux onset's time, which its shorter window knows better.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from edge.features import FeatureParameters, FeatureStream
from edge.note import KEYS, LOWEST_PITCH_MIDI, Heard, NoteEvent, NoteState, NoteUpdate
from edge.onsets import Onset, OnsetParameters, OnsetStream
from edge.pitch_templates import (
    TUNING_BANDS_HZ,
    pitch_templates,
    rounded,
    salience,
    tuning_from_phasors,
    tuning_phasors,
)
from edge.segmentation import Segment, SegmentationParameters, SegmentationStream
from edge.tuning import CONCERT_PITCH, Tuning

Float32 = NDArray[np.float32]

# A key's onset activation is the rise of its salience from so many frames before: about the length
# of the window, so that the whole rise counts.
RISE_FRAMES = 5
# So many frames are waited for to know how loud the loudest is: otherwise whatever is louder than
# all before is at full activation as soon as it begins, and its peak lies too early.
LEVEL_FRAMES = 3
# Activation is (salience / loudest)^0.7.
ACTIVATION_POWER = 0.7
# A flux onset gates the starts within so many seconds of it: half a window.
GATE_S = 0.06
# The loudest salience fades by half in so long, and never below -60 dB of a full-scale sine, so
# that the noise of a silent room is not taken for music.
LOUDEST_HALF_LIFE_S = 20.0
LEAST_LOUDEST = 1e-3
# Nothing is at full activation that is weaker than the noise, averaged over about so long. The
# loudest key in steady noise has a twentieth of it, in rendered pieces 3 to 100 times as much.
NOISE_HALF_LIFE_S = 0.2
# Half-life of what the tuning is read from.
TUNING_HALF_LIFE_S = 30.0
# Velocity of a note as loud as the loudest, and MIDI steps per decibel below it: a straight line
# through the notes of the same rendered segments. It explains little (correlation 0.28).
LOUDEST_VELOCITY = 88.0
VELOCITY_PER_DB = 1.2

# No note is reported shorter.
SHORTEST_NOTE_S = 0.03

# Chosen one after the other on rendered segments. `training.worth`: onset F1 0.57, where a fixed
# step at its best (0.2) has 0.55.
TEMPLATE_SEGMENTATION = SegmentationParameters(
    onset_threshold=(0.15, 0.15, 0.15),
    level_fraction=0.3,
    level_reference=0.5,
    level_rate=0.05,
    noise_factor=4.0,
    register_keys=8.0,
    chord_fraction=0.45,
    restrike_fraction=0.2,
    support=0.0,
    flux_weight=1.0,
    sounding_threshold=0.02,
    course_half_life_frames=(100.0, 15.0),
)


class TemplateEar:
    """Samples in, note updates out; any split into blocks gives the same."""

    def __init__(
        self,
        parameters: FeatureParameters | None = None,
        onset_parameters: OnsetParameters | None = None,
        segmentation: SegmentationParameters = TEMPLATE_SEGMENTATION,
        tuning: Tuning = CONCERT_PITCH,
    ) -> None:
        self.parameters = parameters or FeatureParameters()
        self.sample_rate_hz = self.parameters.sample_rate_hz
        self.hop_samples = self.parameters.hop_samples
        # From a note's onset to the last sample that its report used: a rise over n frames peaks
        # n/2 frames after the onset and is confirmed one frame later.
        frames = RISE_FRAMES / 2 + 1 + LEVEL_FRAMES
        self.lookahead_samples = self.parameters.half_window_samples + round(
            frames * self.hop_samples
        )
        self._features = FeatureStream(self.parameters, tuning)
        self._onsets = OnsetStream(onset_parameters or OnsetParameters())
        self._segmentation = SegmentationStream(segmentation)
        self.reset()

    @property
    def tuning(self) -> Tuning:
        """What the piano's tuning is taken to be, beyond the one that is known."""
        return self._tuning

    def reset(self) -> None:
        self._features.reset()
        self._onsets.reset()
        self._segmentation.reset()
        self._tuning = Tuning()
        self._templates = pitch_templates(self.parameters, self._tuning)
        self._phasors = np.zeros(len(TUNING_BANDS_HZ) - 1, np.complex128)
        self._loudest = LEAST_LOUDEST
        self._noise = 0.0
        kept = RISE_FRAMES + LEVEL_FRAMES + 1
        self._salience: deque[Float32] = deque([np.zeros(KEYS, np.float32)] * kept, maxlen=kept)
        self._heard_frames = 0
        self._recent_onsets: deque[Onset] = deque()
        self._sounding: dict[int, tuple[int, NoteEvent]] = {}
        self._struck_sample = np.full(KEYS, -1, np.int64)
        self._next_id = 0

    def push(self, samples: Float32) -> list[Heard]:
        """Take float32 samples, shape (n,); give what has become sure. No pedal is heard."""
        updates: list[Heard] = []
        self._recent_onsets.extend(self._onsets.push(samples))
        for level in self._features.push(samples):
            updates += self._hear(level)
        return updates

    def flush(self) -> list[Heard]:
        """End the signal: everything still sounding is ended."""
        updates: list[Heard] = []
        self._recent_onsets.extend(self._onsets.flush())
        for level in self._features.flush():
            updates += self._hear(level)
        for _ in range(min(LEVEL_FRAMES, self._heard_frames)):
            self._salience.append(self._salience[-1])
            updates += self._segment()
        updates += self._note_updates(self._segmentation.flush())
        self.reset()
        return updates

    def _hear(self, level: Float32) -> list[NoteUpdate]:
        """One frame of the spectrum; the notes are those of `LEVEL_FRAMES` frames before."""
        self._follow_tuning(level)
        weight = salience(level, self._templates, self.parameters)
        keys, noises = weight[:KEYS], weight[KEYS:]
        self._salience.append(keys)
        fade = 0.5 ** (self.parameters.hop_s / LOUDEST_HALF_LIFE_S)
        self._loudest = max(self._loudest * fade, float(keys.max()), LEAST_LOUDEST)
        keep = 0.5 ** (self.parameters.hop_s / NOISE_HALF_LIFE_S)
        self._noise = keep * self._noise + (1 - keep) * float(noises.max())
        self._heard_frames += 1
        return self._segment() if self._heard_frames > LEVEL_FRAMES else []

    def _segment(self) -> list[NoteUpdate]:
        """The oldest frame that is not yet segmented."""
        earlier, now = self._salience[0], self._salience[RISE_FRAMES]
        sounding = self._activation(now)
        rise = np.maximum(sounding - self._activation(earlier), 0)
        near = self._nearest_onset(self._segmentation.now_frame)
        flux = np.array([0.0 if near is None else 1.0], np.float32)
        found = self._segmentation.push(
            rise[None], sounding[None], velocity=sounding[None], flux=flux
        )
        return self._note_updates(found)

    def _activation(self, weight: Float32) -> Float32:
        relative = np.minimum(weight / np.float32(max(self._loudest, self._noise)), 1)
        return np.asarray(relative ** np.float32(ACTIVATION_POWER), np.float32)

    def _nearest_onset(self, frame: float, within_s: float = GATE_S) -> Onset | None:
        """The flux onset that a rise peaking at this frame goes back to.

        All onsets it can be have been found by then, whatever the blocks: they need less sound
        after them (`OnsetStream`) than the frame's own half window.
        """
        struck = (frame - RISE_FRAMES / 2) * self.hop_samples
        while self._recent_onsets and self._recent_onsets[0].sample < struck - self.sample_rate_hz:
            self._recent_onsets.popleft()
        nearest = min(self._recent_onsets, key=lambda o: abs(o.sample - struck), default=None)
        if nearest is None or abs(nearest.sample - struck) > within_s * self.sample_rate_hz:
            return None
        return nearest

    def _follow_tuning(self, level: Float32) -> None:
        self._phasors *= 0.5 ** (self.parameters.hop_s / TUNING_HALF_LIFE_S)
        self._phasors += tuning_phasors(level, self.parameters)
        tuning = rounded(tuning_from_phasors(self._phasors))
        if tuning != self._tuning:
            self._tuning = tuning
            self._templates = pitch_templates(self.parameters, tuning)

    def _note_updates(self, segments: list[Segment]) -> list[NoteUpdate]:
        updates: list[NoteUpdate] = []
        for one in segments:
            update = self._start(one) if one.offset_frame is None else self._end(one)
            if update is not None:
                updates.append(update)
        return updates

    def _start(self, segment: Segment) -> NoteUpdate | None:
        """Confirm a note; nothing where its key already has the note of this strike."""
        # The gate looked at the frames on both sides of the peak as well.
        onset = self._nearest_onset(segment.onset_frame, GATE_S + 2 * self.parameters.hop_s)
        if onset is None or onset.sample == self._struck_sample[segment.key]:
            return None
        self._struck_sample[segment.key] = onset.sample
        note = NoteEvent(
            pitch_midi=segment.key + LOWEST_PITCH_MIDI,
            onset_s=onset.sample / self.sample_rate_hz,
            offset_s=None,
            velocity=_velocity(segment.velocity),
            confidence=segment.confidence,
        )
        self._sounding[segment.key] = (self._next_id, note)
        self._next_id += 1
        return NoteUpdate(self._next_id - 1, NoteState.CONFIRMED, note)

    def _end(self, segment: Segment) -> NoteUpdate | None:
        if segment.key not in self._sounding or segment.offset_frame is None:
            return None
        number, note = self._sounding.pop(segment.key)
        offset_s = max(segment.offset_frame * self.parameters.hop_s, note.onset_s + SHORTEST_NOTE_S)
        return NoteUpdate(number, NoteState.ENDED, replace(note, offset_s=offset_s))


def _velocity(activation: float) -> int:
    """MIDI velocity of a sounding activation, from its level below the loudest."""
    below_db = 20 / ACTIVATION_POWER * math.log10(max(activation, 1e-4))
    return int(np.clip(round(LOUDEST_VELOCITY + VELOCITY_PER_DB * below_db), 1, 127))
