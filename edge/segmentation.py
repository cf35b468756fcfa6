"""Where each note starts, ends and is struck again: activations of the 88 keys become notes.

A note model says, 50 times a second and for each key, how much it looks like a key being struck
(*onset*), like a note that lasts (*sounding*) and perhaps like a damper falling (*offset*). What
lasts is the key that is held, where a model hears that (a note ends with its key), else the string.
A fixed step in these (Hawthorne et al., "Onsets and frames", ISMIR 2018, takes 0.5) is too high for
a soft passage and too low for the trembling after a loud chord. Here the step adapts, key by key:

- to the *register's level*: heights of the onset peaks of late, within about an octave. A passage
  played softly lowers its own step, a loud one raises it;
- to the *register's noise*: what the onset activation shows when nothing is struck;
- to the *key's own last strike*: its peak casts a shadow that fades, and the activation must have
  dipped and risen again before the key can have been struck twice. So repeated notes under a held
  pedal split, and one note whose partials beat does not become three;
- to the *chord*: a peak far below the strongest of the same moment is likelier its overtone;
- to the *note's own course*: a note ends when its sounding falls below a part of its own level,
  which fades with time as a string does, faster in the treble;
- to the *hand*: under the pedal nobody hears a key come up. A hand that strikes the next key has
  mostly let go of the last one, so there a note ends unless it is surely held.

The threshold relative to a running level is the adaptive peak picking of Bello et al. ("A tutorial
on onset detection in music signals", IEEE TSAP 2005, section IV), here per key and only causal;
the peak is confirmed by its right neighbour, one frame late, and placed between frames by a
parabola through the three.

Everything counts frames: the thresholds belong to one model at one hop, and stand in its manifest.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Annotated

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge.note import KEYS

Float32 = NDArray[np.float32]

# Strikes so close to one another are one chord's: 60 ms.
CHORD_FRAMES = 3

Fraction = Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]
Positive = Annotated[float, msgspec.Meta(gt=0.0)]
Count = Annotated[int, msgspec.Meta(ge=1, le=1000)]


class SegmentationParameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True, dict=True):
    """The thresholds that turn activations into notes.

    Activations, and all that is compared with them, are 0 to 1; lengths are in frames. Where no
    other origin is given, a value is the rounded middle of what worked in tests on made
    activations; `training.thresholds` fits them for each model and writes them to its manifest.

    Attributes
    ----------
    dynamic : bool
        False leaves only ``onset_threshold``, ``sounding_threshold``, ``restrike_frames`` and
        ``end_frames``: the fixed step, to measure what the dynamic one is worth.
    onset_threshold : (bass, middle, treble)
        Onset activation that starts a note in a piece of ordinary level, at A0, F4 and C8;
        keys between are interpolated.
    level_fraction : float
        How far the step follows the register's level: 0 not at all, 1 in proportion.
    level_reference : float
        Height of an ordinary onset peak, where the step is ``onset_threshold``.
    level_rate : float
        How much one peak moves its register's level.
    level_half_life_frames : float
        How fast the level returns to the reference when nothing is struck.
    level_range : (least, most)
        Bounds of the factor by which the level may move the step.
    noise_factor : float
        By how many times the register's noise the step is raised.
    noise_rise_frames, noise_fall_frames : float
        How fast the noise estimate follows upwards (slow: a strike is not noise) and downwards.
    register_keys : float
        Standard deviation, in keys, of the register over which level and noise are shared.
    shadow_fraction : float
        A new peak must pass this part of the key's faded last peak.
    shadow_half_life_frames : float
        How fast that last peak fades.
    restrike_fraction : float
        While a key sounds, a new peak must reach this part of the peak that started its note.
    rise_fraction : float
        A new peak must stand above the lowest activation since the last strike by this part of
        its own height.
    chord_fraction : float
        A peak must reach this part of the highest onset activation of any key in the same three
        frames.
    restrike_frames : int
        Fewest frames between two strikes of a key. Origin: a grand's action repeats at most
        about 15 times a second: 3 frames of 20 ms.
    support : float
        Sounding activation that an onset needs at its peak or one frame later.
    flux_weight : float
        By how much the step is raised when the spectral flux shows no onset at all.
    sounding_threshold : float
        A note never sounds below this sounding activation.
    end_fraction : float
        A note ends when its sounding falls below this part of its own course.
    course_half_life_frames : (bass, treble)
        How fast the course forgets the note's loudest moment, at A0 and C8, geometric between.
    offset_weight : float
        How much a full offset activation takes from the sounding activation.
    least_frames : int
        No note is shorter, so that sounding has time to rise.
    end_frames : int
        The sounding must stay low for so long before the note is over; the note then ends where
        it fell.
    hand_keys : int
        When a key is struck, notes this many keys to either side are let go; 0 for none.
    hand_threshold : float
        But those whose sounding is at least this stay.
    """

    dynamic: bool = True
    onset_threshold: tuple[Fraction, Fraction, Fraction] = (0.3, 0.3, 0.3)
    level_fraction: Fraction = 0.5
    level_reference: Positive = 0.7
    level_rate: Fraction = 0.1
    level_half_life_frames: Positive = 250.0
    level_range: tuple[Positive, Positive] = (0.6, 1.3)
    noise_factor: Annotated[float, msgspec.Meta(ge=0.0)] = 2.0
    noise_rise_frames: Positive = 200.0
    noise_fall_frames: Positive = 25.0
    register_keys: Positive = 6.0
    shadow_fraction: Fraction = 0.5
    shadow_half_life_frames: Positive = 3.0
    restrike_fraction: Fraction = 0.4
    rise_fraction: Fraction = 0.3
    chord_fraction: Fraction = 0.1
    restrike_frames: Count = 3
    support: Fraction = 0.05
    flux_weight: Fraction = 0.0
    sounding_threshold: Fraction = 0.2
    end_fraction: Fraction = 0.4
    course_half_life_frames: tuple[Positive, Positive] = (300.0, 30.0)
    offset_weight: Fraction = 0.3
    least_frames: Count = 2
    end_frames: Count = 3
    hand_keys: Annotated[int, msgspec.Meta(ge=0, le=87)] = 0
    hand_threshold: Fraction = 0.9

    def __post_init__(self) -> None:
        least, most = self.level_range
        if least > most:
            raise ValueError(f"level_range is from {least} to {most}, the least must come first")

    @cached_property
    def _onset_threshold_of_key(self) -> Float32:
        keys = np.arange(KEYS)
        anchors = (0, KEYS // 2, KEYS - 1)
        return np.interp(keys, anchors, self.onset_threshold).astype(np.float32)

    @cached_property
    def _course_decay_of_key(self) -> Float32:
        bass, treble = np.log(self.course_half_life_frames)
        half_life = np.exp(np.linspace(bass, treble, KEYS))
        return np.asarray(0.5 ** (1.0 / half_life), np.float32)

    @cached_property
    def _register(self) -> Float32:
        """Nearness of keys, shape (88, 88), 1 on the diagonal."""
        distance = np.subtract.outer(np.arange(KEYS), np.arange(KEYS)) / self.register_keys
        return np.exp(-0.5 * distance**2).astype(np.float32)

    @cached_property
    def _register_mean(self) -> Float32:
        """Weights of the mean over a key's register, shape (88, 88), rows sum to 1."""
        mean: Float32 = self._register / self._register.sum(axis=1, keepdims=True)
        return mean

    @property
    def _least_onset(self) -> float:
        """Below this no peak can be an onset, whatever the context."""
        factor = self.level_range[0] if self.dynamic else 1.0
        return float(min(self.onset_threshold) * factor)


@dataclass(frozen=True, slots=True)
class Segment:
    """One note on the frame axis.

    Attributes
    ----------
    key : int
        0 for A0 to 87 for C8.
    onset_frame : float
        Between frames by parabolic interpolation.
    offset_frame : float | None
        None while the note still sounds.
    velocity : float
        0 to 1: the velocity activation at the onset's peak, or without one the onset activation.
    confidence : float
        0.5 when the peak just passes its threshold, 1 at full activation.
    """

    key: int
    onset_frame: float
    offset_frame: float | None
    velocity: float
    confidence: float


def segment(
    onset: Float32,
    sounding: Float32,
    offset: Float32 | None = None,
    velocity: Float32 | None = None,
    parameters: SegmentationParameters | None = None,
    flux: Float32 | None = None,
) -> list[Segment]:
    """Find the notes of a whole piece.

    Parameters
    ----------
    onset, sounding, offset, velocity : float32, shape (frames, 88), 0 to 1
        Activations; ``offset`` and ``velocity`` may be missing. ``sounding`` is what a note lasts
        by: that the key is held, or that the string sounds.
    flux : float32, shape (frames,), 0 to 1, optional
        How much the spectral flux shows an onset near the frame (`edge.onsets`).

    Returns
    -------
    list of Segment
        By onset; a note that still sounds in the last frame ends there.
    """
    stream = SegmentationStream(parameters or SegmentationParameters())
    found = stream.push(onset, sounding, offset, velocity, flux) + stream.flush()
    ended = [one for one in found if one.offset_frame is not None]
    return sorted(ended, key=lambda one: (one.onset_frame, one.key))


class SegmentationStream:
    """The same, frame by frame.

    ``push`` gives a `Segment` with ``offset_frame`` None when a note starts, one frame after its
    peak, and the same segment with its ``offset_frame`` when it is over. A key sounds one note at
    a time: its old note is ended before, in the same list, when it is struck again.
    """

    def __init__(self, parameters: SegmentationParameters) -> None:
        self.parameters = parameters
        self._shadow_decay = np.float32(0.5 ** (1 / parameters.shadow_half_life_frames))
        self._level_decay = np.float32(0.5 ** (1 / parameters.level_half_life_frames))
        self.reset()

    def reset(self) -> None:
        self._frame = 0
        self._before, self._at = _zeros(), _zeros()
        self._sounding_at, self._velocity_at = _zeros(), _zeros()
        self._flux_before = self._flux_at = 1.0
        self._highest_before = self._highest_at = 0.0
        self._valley, self._noise = _zeros(), _zeros()
        self._strike, self._shadow = _zeros(), _zeros()
        self._level = np.full(KEYS, self.parameters.level_reference, np.float32)
        self._active = np.zeros(KEYS, np.bool_)
        self._started_frame = np.full(KEYS, -self.parameters.restrike_frames, np.int64)
        self._onset_frame = np.zeros(KEYS, np.float64)
        self._velocity, self._confidence, self._course = _zeros(), _zeros(), _zeros()
        self._quiet_frames = np.zeros(KEYS, np.int64)
        self._fell_frame = np.zeros(KEYS, np.float64)

    @property
    def now_frame(self) -> int:
        """Frames taken since the beginning."""
        return self._frame

    def push(
        self,
        onset: Float32,
        sounding: Float32,
        offset: Float32 | None = None,
        velocity: Float32 | None = None,
        flux: Float32 | None = None,
    ) -> list[Segment]:
        """Take frames, each array (frames, 88) and ``flux`` (frames,); give what began or ended."""
        found: list[Segment] = []
        for row in range(len(onset)):
            found += self.step(
                np.asarray(onset[row], np.float32),
                np.asarray(sounding[row], np.float32),
                None if offset is None else offset[row],
                None if velocity is None else np.asarray(velocity[row], np.float32),
                1.0 if flux is None else float(flux[row]),
            )
        return found

    def flush(self) -> list[Segment]:
        """End the signal: what still sounds ends with its last frame."""
        silent = _zeros()
        last_frame = self._frame
        found = self._starts(silent, silent, 1.0)
        for key in np.flatnonzero(self._active):
            found.append(self._end(int(key), float(last_frame)))
        self.reset()
        return found

    def step(
        self,
        onset: Float32,
        sounding: Float32,
        offset: Float32 | None = None,
        velocity: Float32 | None = None,
        flux: float = 1.0,
    ) -> list[Segment]:
        """One frame, each array (88,): notes that began one frame ago, then notes that are over."""
        held = sounding
        if offset is not None:
            held = held * (1 - np.float32(self.parameters.offset_weight) * offset)
        found = self._starts(onset, held, flux)
        self._follow_onset(onset)
        if self._active.any():
            found += self._ends(held)
        self._before, self._at = self._at, onset
        self._sounding_at = held
        self._velocity_at = onset if velocity is None else velocity
        self._flux_before, self._flux_at = self._flux_at, flux
        self._highest_before, self._highest_at = self._highest_at, float(onset.max())
        self._frame += 1
        return found

    def _starts(self, onset: Float32, held: Float32, flux: float) -> list[Segment]:
        """Onset peaks of the previous frame that pass their key's threshold now."""
        p, at = self.parameters, self._at
        peaks = np.flatnonzero((at > self._before) & (at >= onset) & (at >= p._least_onset))
        if not len(peaks):
            return []
        flux_near = max(self._flux_before, self._flux_at, flux)
        threshold = self._threshold(peaks, float(onset.max()), flux_near)
        passes = at[peaks] >= threshold
        passes &= np.maximum(self._sounding_at[peaks], held[peaks]) >= p.support
        passes &= self._frame - 1 - self._started_frame[peaks] >= p.restrike_frames
        if p.dynamic:
            passes &= at[peaks] - self._valley[peaks] >= p.rise_fraction * at[peaks]
            self._follow_level(peaks)
        found: list[Segment] = []
        for key, step in zip(peaks[passes], threshold[passes], strict=True):
            found += self._start(int(key), float(step), float(onset[key]), float(held[key]))
        for key in peaks[passes]:
            found += self._let_go(int(key), held)
        return found

    def _let_go(self, struck: int, held: Float32) -> list[Segment]:
        """End what the hand that struck this key has likely left."""
        p = self.parameters
        if not p.dynamic or not p.hand_keys:
            return []
        near = slice(max(0, struck - p.hand_keys), struck + p.hand_keys + 1)
        earlier = self._frame - 1 - self._started_frame[near] > CHORD_FRAMES
        left = self._active[near] & earlier & (held[near] < p.hand_threshold)
        at_frame = float(self._onset_frame[struck])
        return [self._end(int(key) + near.start, at_frame) for key in np.flatnonzero(left)]

    def _threshold(self, keys: NDArray[np.intp], highest_now: float, flux: float) -> Float32:
        """The onset activation that starts a note on each of ``keys`` at the previous frame."""
        p = self.parameters
        threshold = p._onset_threshold_of_key[keys]
        if not p.dynamic:
            return threshold
        louder = 1 + p.level_fraction * (self._level[keys] / p.level_reference - 1)
        threshold = threshold * np.clip(louder, *p.level_range)
        threshold = threshold + p.noise_factor * (p._register_mean[keys] @ self._noise)
        threshold = threshold + p.flux_weight * (1 - flux)
        highest = max(self._highest_before, self._highest_at, highest_now)
        least = np.maximum(p.shadow_fraction * self._shadow[keys], p.chord_fraction * highest)
        own_strike = np.where(self._active[keys], self._strike[keys], 0.0)
        least = np.maximum(least, p.restrike_fraction * own_strike)
        needed: Float32 = np.maximum(threshold, least).astype(np.float32)
        return needed

    def _start(self, key: int, threshold: float, after: float, held: float) -> list[Segment]:
        frame, peak = self._frame - 1, float(self._at[key])
        onset_frame = max(0.0, frame + _parabola_top(float(self._before[key]), peak, after))
        found = [self._end(key, onset_frame)] if self._active[key] else []
        self._active[key] = True
        self._started_frame[key] = frame
        self._onset_frame[key] = onset_frame
        self._velocity[key] = self._velocity_at[key]
        self._confidence[key] = 0.5 + 0.5 * max(0.0, peak - threshold) / max(1 - threshold, 1e-6)
        self._course[key] = max(float(self._sounding_at[key]), held)
        self._quiet_frames[key] = 0
        self._valley[key] = peak
        self._shadow[key] = self._strike[key] = peak
        return [*found, self._segment(key, None)]

    def _end(self, key: int, at_latest: float) -> Segment:
        """End a key's note where its sounding fell, or at the given frame if it has not."""
        self._active[key] = False
        fell = float(self._fell_frame[key]) if self._quiet_frames[key] else at_latest
        least = float(self._onset_frame[key]) + self.parameters.least_frames
        return self._segment(key, min(max(fell, least), at_latest))

    def _ends(self, held: Float32) -> list[Segment]:
        """Notes whose sounding has stayed below their own threshold for long enough."""
        p = self.parameters
        if p.dynamic:
            np.maximum(self._course * p._course_decay_of_key, held, out=self._course)
            floor = np.maximum(p.end_fraction * self._course, p.sounding_threshold)
        else:
            floor = np.full(KEYS, p.sounding_threshold, np.float32)
        quiet = self._active & (held < floor)
        if not quiet.any():
            self._quiet_frames.fill(0)
            return []
        falling = np.flatnonzero(quiet & (self._quiet_frames == 0))
        if len(falling):
            drop = np.maximum(self._sounding_at[falling] - held[falling], 1e-6)
            part = np.clip((self._sounding_at[falling] - floor[falling]) / drop, 0.0, 1.0)
            self._fell_frame[falling] = self._frame - 1 + part
        self._quiet_frames = np.where(quiet, self._quiet_frames + 1, 0)
        age = self._frame - self._started_frame
        over = (self._quiet_frames >= p.end_frames) & (age > p.least_frames)
        return [self._end(int(key), float(self._frame)) for key in np.flatnonzero(over)]

    def _follow_onset(self, onset: Float32) -> None:
        """Let shadow, valley and noise follow this frame's onset activation."""
        p = self.parameters
        if not p.dynamic:
            return
        np.minimum(self._valley, onset, out=self._valley)
        self._shadow *= self._shadow_decay
        step = onset - self._noise
        rise, fall = np.float32(1 / p.noise_rise_frames), np.float32(1 / p.noise_fall_frames)
        self._noise += step * np.where(step > 0, rise, fall)
        rest = np.float32(p.level_reference)
        self._level = rest + self._level_decay * (self._level - rest)

    def _follow_level(self, peaks: NDArray[np.intp]) -> None:
        """Let the level of each peak's register move towards its height."""
        p = self.parameters
        for key in peaks:
            self._level += p.level_rate * p._register[key] * (self._at[key] - self._level)

    def _segment(self, key: int, offset_frame: float | None) -> Segment:
        return Segment(
            key=key,
            onset_frame=float(self._onset_frame[key]),
            offset_frame=offset_frame,
            velocity=float(self._velocity[key]),
            confidence=float(self._confidence[key]),
        )


def _zeros() -> Float32:
    return np.zeros(KEYS, np.float32)


def _parabola_top(before: float, peak: float, after: float) -> float:
    """Where, in frames from the middle one, a parabola through three levels has its top."""
    bend = before - 2 * peak + after
    return 0.0 if bend >= 0 else 0.5 * (before - after) / bend
