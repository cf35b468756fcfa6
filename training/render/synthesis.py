"""A performance made sound: samples placed at their onsets, damped, and mixed.

A key that comes up lets its damper fall (the sound decays within some tens of milliseconds,
slower in the bass; above about F6 there are no dampers) unless the pedal holds it. A key
struck again while it sounds loses its former sound under the new attack. While the pedal is
down, all other strings answer a little: the mix is convolved with the decaying partials of
every open string and added at a low level.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.signal import fftconvolve, lfilter

from training.render.performance import Performance
from training.render.piano import ONSET_MARGIN_SAMPLES, SAMPLE_RATE_HZ, SampledPiano

LOWEST_UNDAMPED_PITCH_MIDI = 90
"""F#6: from about here to the top, pianos have no dampers."""
RESTRIKE_DECAY_S = (0.006, 0.016)
"""Time constant with which a key's former sound goes when it is struck again: gone (-20 dB)
in 15 to 40 ms."""
DAMPER_BASS_S, DAMPER_TREBLE_S = 0.09, 0.03
"""Decay time constants of the damper at A0 and at F6; -60 dB takes 6.9 of them."""
DECAY_FLOOR = 6.9
STRING_RESPONSE_S = 1.5


@dataclass(frozen=True, slots=True)
class Touch:
    """How this instrument stands today and is mixed: drawn once per segment.

    Attributes
    ----------
    cents_of_key : float64, shape (128,)
        Tuning: offset, stretch and every key's own error.
    gain_db_of_key : float64, shape (128,)
        Regulation: keys that speak louder or softer than their neighbours.
    velocity_exponent : float
        Level is 20 * exponent * log10(velocity / 127).
    damper_factor : float
        Multiplies the dampers' decay times.
    resonance : float
        RMS of the sympathetic strings relative to the mix that excites them.
    release_noise_db : float
        Peak of the key's return, relative to a note at full velocity; -inf for none.
    layer_jitter : float
        Standard deviation, in velocity steps, of the choice of velocity layer.
    neighbour : int
        Every key sounds from the recording of the key this many semitones above.
    brightness_db : float
        Treble gained by hard, lost by soft hammers.
    ring_s : float
        An additional decay of every note, as of a piano that sings less; inf for none.
    """

    cents_of_key: NDArray[np.float64]
    gain_db_of_key: NDArray[np.float64]
    velocity_exponent: float
    damper_factor: float
    resonance: float
    release_noise_db: float
    layer_jitter: float
    neighbour: int = 0
    brightness_db: float = 0.0
    ring_s: float = np.inf


def draw_touch(rng: np.random.Generator) -> Touch:
    """An instrument's state: tuned within 40 cents of A 440, some of them long ago."""
    offset = rng.normal(0.0, 8.0) if rng.random() < 0.6 else rng.uniform(-40.0, 40.0)
    keys = (np.arange(128) - 69) / 39.0
    stretch = rng.uniform(-3.0, 6.0) * keys**3
    out_of_tune = rng.choice([0.5, 1.5, 4.0, 9.0], p=[0.4, 0.35, 0.17, 0.08])
    tilt = rng.uniform(-4.0, 4.0) * keys
    return Touch(
        cents_of_key=np.clip(offset, -40, 40) + stretch + rng.normal(0.0, out_of_tune, 128),
        gain_db_of_key=tilt + rng.normal(0.0, rng.uniform(0.3, 2.0), 128),
        velocity_exponent=rng.uniform(1.1, 2.0),
        damper_factor=float(np.exp(rng.uniform(np.log(0.6), np.log(2.0)))),
        resonance=float(rng.choice([0.0, 1.0], p=[0.2, 0.8]) * rng.uniform(0.02, 0.15)),
        release_noise_db=-np.inf if rng.random() < 0.3 else rng.uniform(-62.0, -40.0),
        layer_jitter=rng.uniform(0.0, 6.0),
        neighbour=int(rng.integers(-4, 5)) if rng.random() < 0.4 else 0,
        brightness_db=rng.normal(0.0, 2.5) if rng.random() < 0.5 else 0.0,
        ring_s=float(np.exp(rng.uniform(0.0, 2.0))) if rng.random() < 0.25 else np.inf,
    )


def sounding_end_s(performance: Performance) -> NDArray[np.float64]:
    """When each note's sound is stopped: the key's release, the pedal's, or the next strike.

    Returns
    -------
    float64, shape (n,)
        A note whose key comes up while the pedal is down sounds until the pedal comes up;
        a key struck again ends its former note there.
    """
    notes, pedal = performance.notes, performance.pedal
    end_s = notes["release_s"].astype(np.float64)
    if len(pedal):
        held_by = np.searchsorted(pedal[:, 0], end_s, side="right") - 1
        up_s = pedal[np.maximum(held_by, 0), 1]
        end_s = np.where((held_by >= 0) & (up_s > end_s), up_s, end_s)
    return np.minimum(end_s, _restruck_s(notes))


def damper_s(pitch_midi: int, factor: float) -> float:
    """Decay time constant of a key's damper."""
    place = np.clip((pitch_midi - 21) / (LOWEST_UNDAMPED_PITCH_MIDI - 21), 0.0, 1.0)
    return float(factor * DAMPER_BASS_S * (DAMPER_TREBLE_S / DAMPER_BASS_S) ** place)


def _restruck_s(notes: NDArray[np.void]) -> NDArray[np.float64]:
    """For each note when its key is struck again; infinity where it is not."""
    order = np.lexsort((notes["onset_s"], notes["pitch_midi"]))
    same_key = np.diff(notes["pitch_midi"][order]) == 0
    restruck_s = np.full(len(notes), np.inf)
    restruck_s[order[:-1][same_key]] = notes["onset_s"][order[1:][same_key]]
    return restruck_s


def _fade(
    note: NDArray[np.float32], from_sample: int, time_constant_s: float
) -> NDArray[np.float32]:
    """Let a note decay exponentially from a sample on; it ends where -60 dB are reached."""
    if from_sample >= len(note):
        return note
    from_sample = max(from_sample, 0)
    count = int(time_constant_s * DECAY_FLOOR * SAMPLE_RATE_HZ)
    note = note[: from_sample + count]
    tail = np.arange(len(note) - from_sample, dtype=np.float32)
    note[from_sample:] *= np.exp(tail * np.float32(-1.0 / (time_constant_s * SAMPLE_RATE_HZ)))
    return note


def mix(
    rng: np.random.Generator,
    piano: SampledPiano,
    performance: Performance,
    touch: Touch,
    length: int,
    string_response: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Render a performance dry.

    Parameters
    ----------
    performance : Performance
        Times in seconds of the result, from 0; notes may begin before 0 or end after it.
    length : int
        Samples of the result, at 16 kHz.
    string_response : float32, optional
        Impulse response of the open strings (`open_strings`).

    Returns
    -------
    float32, shape (length,)
        Full scale is not a limit here: a loud chord exceeds 1.
    """
    sound = np.zeros(length + ONSET_MARGIN_SAMPLES, np.float32)
    notes = performance.notes
    end_s = sounding_end_s(performance)
    restruck_s = _restruck_s(notes)
    choice_jitter = rng.normal(0.0, 1.0, len(notes)) * touch.layer_jitter
    gain_jitter_db = rng.normal(0.0, 0.7, len(notes))
    restrike_decay_s = rng.uniform(*RESTRIKE_DECAY_S)
    for index, note in enumerate(notes):
        pitch, velocity = int(note["pitch_midi"]), int(note["velocity"])
        begin = round(float(note["onset_s"]) * SAMPLE_RATE_HZ)  # in `sound`: margin before
        decay_s = damper_s(pitch, touch.damper_factor)
        undamped = pitch >= LOWEST_UNDAMPED_PITCH_MIDI
        longest = length - begin
        if not undamped:
            ring_s = end_s[index] - note["onset_s"] + DECAY_FLOOR * decay_s
            longest = min(longest, int(ring_s * SAMPLE_RATE_HZ))
        longest += ONSET_MARGIN_SAMPLES
        if longest <= ONSET_MARGIN_SAMPLES or begin + longest <= 0:
            continue
        gain_db = 20.0 * touch.velocity_exponent * np.log10(velocity / 127.0) - 12.0
        gain_db += touch.gain_db_of_key[pitch] + gain_jitter_db[index]
        strike = piano.strike(
            pitch,
            velocity,
            gain_db,
            touch.cents_of_key[pitch],
            longest,
            float(np.clip(velocity + choice_jitter[index], 1, 127)),
            touch.neighbour,
            touch.brightness_db,
        )
        if np.isfinite(touch.ring_s):
            strike = _fade(strike, ONSET_MARGIN_SAMPLES, touch.ring_s)
        if not undamped:
            damped = int((end_s[index] - note["onset_s"]) * SAMPLE_RATE_HZ) + ONSET_MARGIN_SAMPLES
            strike = _fade(strike, damped, decay_s)
        if np.isfinite(restruck_s[index]):
            again = int((restruck_s[index] - note["onset_s"]) * SAMPLE_RATE_HZ)
            strike = _fade(strike, again + ONSET_MARGIN_SAMPLES, restrike_decay_s)
        start = max(begin, 0)
        stop = min(begin + len(strike), len(sound))
        if stop > start:
            sound[start:stop] += strike[start - begin : stop - begin]
    if string_response is not None and touch.resonance > 0.0 and len(performance.pedal):
        sound += _answering_strings(sound, performance.pedal, string_response, touch.resonance)
    if np.isfinite(touch.release_noise_db):
        _add_release_noise(rng, sound, notes["release_s"], touch.release_noise_db)
    return sound[ONSET_MARGIN_SAMPLES:]


def open_strings(rng: np.random.Generator) -> NDArray[np.float32]:
    """Impulse response of all strings with the dampers lifted.

    Three partials of each key, each with its own decay (long in the bass) and phase; unit
    energy. Built in the frequency domain's stead as plain sums: it is made once per run.
    """
    time_s = np.arange(int(STRING_RESPONSE_S * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    response = np.zeros(len(time_s))
    for key in range(21, 109):
        for partial in (1, 2, 3):
            hz = partial * 440.0 * 2.0 ** ((key - 69 + rng.normal(0.0, 0.08)) / 12.0)
            if hz > 6_000.0:
                continue
            decay_s = 1.6 * 2.0 ** (-(key - 21) / 24.0) + 0.1
            wave = np.sin(2 * np.pi * hz * time_s + rng.uniform(0, 2 * np.pi))
            response += wave * np.exp(-time_s / decay_s) * rng.uniform(0.3, 1.0) / partial
    response *= 1.0 - np.exp(-time_s / 0.02)  # strings take time to answer
    return np.asarray(response / np.sqrt(np.sum(response**2)), dtype=np.float32)


def _pedal_gate(pedal: NDArray[np.float64], length: int) -> NDArray[np.float32]:
    """1 while the pedal is down, with the dampers' slopes of 20 ms and 80 ms."""
    gate = np.zeros(length, np.float32)
    for down_s, up_s in pedal:
        gate[max(int(down_s * SAMPLE_RATE_HZ), 0) : max(int(up_s * SAMPLE_RATE_HZ), 0)] = 1.0
    pole = np.float32(np.exp(-1.0 / (0.04 * SAMPLE_RATE_HZ)))
    smooth = lfilter(np.array([1 - pole], np.float32), np.array([1, -pole], np.float32), gate)
    return np.asarray(smooth, dtype=np.float32)


def _answering_strings(
    sound: NDArray[np.float32],
    pedal: NDArray[np.float64],
    string_response: NDArray[np.float32],
    resonance: float,
) -> NDArray[np.float32]:
    gate = _pedal_gate(pedal, len(sound))
    excitation = sound * gate
    answer = fftconvolve(excitation, string_response)[: len(sound)] * gate
    wanted = resonance * np.sqrt(np.mean(np.square(sound)))
    present = np.sqrt(np.mean(np.square(answer))) + 1e-9
    return np.asarray(answer * (wanted / present), dtype=np.float32)


def _add_release_noise(
    rng: np.random.Generator,
    sound: NDArray[np.float32],
    release_s: NDArray[np.float64],
    peak_db: float,
) -> None:
    """The knock of a returning key: 40 ms of dull noise at each release."""
    count = int(0.04 * SAMPLE_RATE_HZ)
    burst = rng.standard_normal(count) * np.exp(-np.arange(count) / (0.008 * SAMPLE_RATE_HZ))
    burst = lfilter([0.15], [1.0, -0.85], burst)
    burst = (burst / np.max(np.abs(burst))).astype(np.float32)
    for at_s in release_s:
        start = int(at_s * SAMPLE_RATE_HZ) + ONSET_MARGIN_SAMPLES
        if start < 0 or start + count > len(sound):
            continue
        gain = 10.0 ** ((peak_db + rng.normal(0.0, 4.0)) / 20.0)
        sound[start : start + count] += burst * np.float32(gain)
