"""A voice as a melody: from sound to sung notes with fractions of a semitone.

Pitch is measured every 10 ms with YIN (de Cheveigné and Kawahara, "YIN, a fundamental frequency
estimator for speech and music", JASA 2002): the first lag at which the sound repeats itself well.
It serves a bass and a whistle alike, and a finger on a piano's keys.

A voice glides, wavers and breathes. Its track is therefore laid on steps, so that what steps and
track differ, and a price for every step, are least together: vibrato about a note costs less than
two steps an oscillation would, and a glide goes to the nearer of its ends. The best of all such
stairs is found by dynamic programming (Viterbi), exactly. A note sung twice ("da da") is told by
the dip in loudness between, or by the breath.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from edge.audio.block import STREAM_RATE_HZ
from edge.matching.melody import Melody

Float32 = NDArray[np.float32]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

HOP_S = 0.01
WINDOW_SAMPLES = 640
"""40 ms that are compared: three periods of a low voice."""
LOWEST_HZ = 70.0
HIGHEST_HZ = 3200.0
"""From a bass to a whistle."""

DIFFERS_MOST = 0.2
"""Share of the sound that may differ from a period to the next: breath and noise have more."""
GOOD_DIP = 0.12
"""The first lag at which no more differs is the period, though a longer one may differ less."""
QUIETEST_DB = -30.0
"""Below the loudest tenth: no longer the voice."""
SILENCE_RMS = 1e-3
"""A recording that is never louder than this holds no voice."""

STEP_PRICE = 6.0
"""Of a new note, in semitones off times hops: a note of 60 ms has to be a semitone away."""
FARTHEST_OFF_SEMITONES = 2.0
"""A hop costs no more than this: a slip of an octave for a few hops is no note."""
LEVELS_PER_SEMITONE = 4

SHORTEST_NOTE_S = 0.07
BREATH_S = 0.04
"""A gap in the voice as long as this ends a note."""
DIP_DB = 5.0
DIP_WITHIN_S = 0.12
"""A dip as deep as this, between louder moments so near, separates a note from its repetition."""

_ANALYSED_HOPS = 1000


def melody_of_voice(samples: Float32) -> Melody:
    """The notes of one voice.

    Parameters
    ----------
    samples : float32, shape (n,)
        At 16 kHz, mono, -1 to 1.
    """
    if samples.size == 0:
        return Melody(np.zeros(0), np.zeros(0))
    pitch, level_db, voiced = pitch_track(samples)
    if not voiced.any():
        return Melody(np.zeros(0), np.zeros(0))
    return _notes(pitch, level_db, voiced)


def pitch_track(samples: Float32) -> tuple[Floats, Floats, Bools]:
    """Pitch, level and whether there is a voice, every `HOP_S`.

    Returns
    -------
    pitch_semitones : float64, shape (hops,)
        MIDI pitch with its fraction; the last one where there is no voice.
    level_db : float64, shape (hops,)
    voiced : bool, shape (hops,)
    """
    hop = round(HOP_S * STREAM_RATE_HZ)
    longest = int(STREAM_RATE_HZ / LOWEST_HZ) + 2
    padded = np.pad(samples.astype(np.float32), (0, WINDOW_SAMPLES + longest))
    frames = sliding_window_view(padded, WINDOW_SAMPLES + longest)[::hop]
    periods, differs, level_db = [], [], []
    for begin in range(0, len(frames), _ANALYSED_HOPS):
        part = frames[begin : begin + _ANALYSED_HOPS]
        period, difference = _periods(part, longest)
        periods.append(period)
        differs.append(difference)
        power = np.mean(part[:, :WINDOW_SAMPLES].astype(np.float64) ** 2, axis=1)
        level_db.append(10 * np.log10(power + 1e-12))
    level = np.concatenate(level_db)
    loud_db = float(np.quantile(level, 0.9))
    voiced = (np.concatenate(differs) < DIFFERS_MOST) & (level > loud_db + QUIETEST_DB)
    voiced &= loud_db > 20 * np.log10(SILENCE_RMS)
    pitch = 69.0 + 12.0 * np.log2(STREAM_RATE_HZ / np.concatenate(periods) / 440.0)
    return _held_through(pitch, voiced), level, voiced


def _periods(frames: Float32, longest: int) -> tuple[Floats, Floats]:
    """Period in samples and share of the sound that differs, of each frame.

    Parameters
    ----------
    frames : float32, shape (frames, WINDOW_SAMPLES + longest)
    """
    size = 1 << (frames.shape[1] - 1).bit_length()
    whole = np.fft.rfft(frames, size)
    window = np.fft.rfft(frames[:, :WINDOW_SAMPLES], size)
    product = np.fft.irfft(whole * window.conj(), size)[:, : longest + 1]
    energy = np.cumsum(np.pad(frames.astype(np.float64) ** 2, ((0, 0), (1, 0))), axis=1)
    of_lag = energy[:, WINDOW_SAMPLES : WINDOW_SAMPLES + longest + 1] - energy[:, : longest + 1]
    difference = np.maximum(of_lag[:, :1] + of_lag - 2 * product, 0.0)
    # YIN's step 3: each lag beside the mean of the shorter ones.
    lags = np.arange(1, longest + 1)
    mean = np.cumsum(difference[:, 1:], axis=1) / lags
    normal = np.ones_like(difference)
    normal[:, 1:] = difference[:, 1:] / np.maximum(mean, 1e-12)
    return _first_dip(normal)


def _first_dip(normal: Floats) -> tuple[Floats, Floats]:
    shortest = int(STREAM_RATE_HZ / HIGHEST_HZ)
    inner = normal[:, shortest:-1]
    dips = (inner <= normal[:, shortest - 1 : -2]) & (inner < normal[:, shortest + 1 :])
    good = dips & (inner < GOOD_DIP)
    depth = np.where(dips, inner, np.inf)
    lag = np.where(good.any(axis=1), np.argmax(good, axis=1), np.argmin(depth, axis=1)) + shortest
    rows = np.arange(len(normal))
    before, at, after = (normal[rows, lag + by] for by in (-1, 0, 1))
    bend = before - 2 * at + after
    beside = np.where(bend > 1e-9, 0.5 * (before - after) / np.where(bend > 1e-9, bend, 1.0), 0.0)
    return lag + np.clip(beside, -0.5, 0.5), at


def _held_through(pitch: Floats, voiced: Bools) -> Floats:
    """The pitch, with the last voiced one wherever there is no voice."""
    if not voiced.any():
        return pitch
    last = np.maximum.accumulate(np.where(voiced, np.arange(pitch.size), -1))
    first = int(np.argmax(voiced))
    return pitch[np.where(last < 0, first, last)]


def stairs(pitch: Floats, voiced: Bools) -> Floats:
    """The track laid on steps, exactly the cheapest way; semitones, shape (hops,)."""
    low, high = float(pitch[voiced].min()), float(pitch[voiced].max())
    levels = np.arange(low, high + 1.0, 1.0 / LEVELS_PER_SEMITONE)
    off = np.minimum(np.abs(pitch[:, None] - levels), FARTHEST_OFF_SEMITONES) * voiced[:, None]
    came_from = np.zeros((pitch.size, levels.size), dtype=np.int16)
    cost = off[0].copy()
    here = np.arange(levels.size)
    for hop in range(1, pitch.size):
        cheapest = int(np.argmin(cost))
        steps = cost[cheapest] + STEP_PRICE < cost
        came_from[hop] = np.where(steps, cheapest, here)
        cost = np.where(steps, cost[cheapest] + STEP_PRICE, cost) + off[hop]
    level = np.empty(pitch.size, dtype=np.int64)
    level[-1] = int(np.argmin(cost))
    for hop in range(pitch.size - 1, 0, -1):
        level[hop - 1] = came_from[hop, level[hop]]
    return levels[level]


def _notes(pitch: Floats, level_db: Floats, voiced: Bools) -> Melody:
    """Cut the stairs at their steps, at breaths and at dips of loudness."""
    laid = stairs(pitch, voiced)
    cut = np.zeros(pitch.size + 1, dtype=np.bool_)
    cut[1:-1] = np.diff(laid) != 0
    cut[:-1] |= _dips(level_db, voiced)
    cut[[0, -1]] = True
    pitches, onsets = [], []
    for begin, end in _sung_stretches(cut, voiced):
        if (end - begin) * HOP_S < SHORTEST_NOTE_S:
            continue
        inside = pitch[begin:end][voiced[begin:end]]
        core = inside[inside.size // 5 :] if inside.size >= 10 else inside
        pitches.append(float(np.median(core)))
        onsets.append(begin * HOP_S)
    return Melody(np.array(pitches), np.array(onsets))


def _sung_stretches(cut: Bools, voiced: Bools) -> list[tuple[int, int]]:
    """First hop of each note and the one after its last; a breath ends a note."""
    breath = round(BREATH_S / HOP_S)
    found = []
    edges = np.flatnonzero(cut)
    for begin, end in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        sung = np.flatnonzero(voiced[begin:end]) + begin
        if sung.size == 0:
            continue
        parts = np.split(sung, np.flatnonzero(np.diff(sung) > breath) + 1)
        found += [(int(part[0]), int(part[-1]) + 1) for part in parts]
    return found


def _dips(level_db: Floats, voiced: Bools) -> Bools:
    """Hops at the bottom of a dip in loudness."""
    reach = round(DIP_WITHIN_S / HOP_S)
    padded = np.pad(level_db, reach, mode="edge")
    around = sliding_window_view(padded, 2 * reach + 1)
    before, after = around[:, :reach].max(axis=1), around[:, reach + 1 :].max(axis=1)
    lowest = level_db == around.min(axis=1)
    deep = np.minimum(before, after) - level_db >= DIP_DB
    return np.asarray(lowest & deep & voiced, np.bool_)
