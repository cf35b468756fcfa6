"""Pianos that nobody built: strings, hammers and a soundboard from a handful of numbers.

Seven recorded sets are few. A modelled piano is a sum of partials whose laws are those of
piano strings and whose constants are drawn at random: inharmonicity (Fletcher 1964), the
comb of the striking point, a hammer that softens high partials of soft notes, a prompt and
an after-sound (Weinreich 1977) with the beating of slightly mistuned unisons, and the knock
of hammer and soundboard at the attack. It is not meant to fool anyone: it is there so that
no recorded set's peculiarities are taken for what a piano is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from edge.note import HIGHEST_PITCH_MIDI, LOWEST_PITCH_MIDI, pitch_to_hz
from training.render.piano import (
    ONSET_MARGIN_SAMPLES,
    SAMPLE_RATE_HZ,
    PianoSample,
    SampledPiano,
    level_db,
    sampled_piano,
)

MODELLED_INSTRUMENT = "modelled"
KEY_STEP = 4
LAYER_TOPS = (50, 85, 127)
LAYER_VELOCITIES = (35, 68, 106)
HIGHEST_PARTIAL_HZ = 7_600.0
MOST_PARTIALS = 50
SINE_BLOCK = 256
SOUNDBOARD_HZ = 90.0
MODEL_SEED = 1709  # Cristofori's pianofortes were first described two years later


@dataclass(frozen=True, slots=True)
class PianoModel:
    """The constants of one instrument.

    Attributes
    ----------
    inharmonicity_a4 : float
        B of partial k at k * f0 * sqrt(1 + B k^2) for A4; it grows by 2^(1/9) a semitone
        upwards, and in the bass (wound strings) downwards.
    strike_point : float
        Where the hammer strikes, as a share of the string's length.
    tilt_db_per_octave : float
        How fast partials weaken for a loud note.
    softness_db_per_octave : float
        How much faster for the softest.
    decay_a4_s : float
        Time constant of the prompt sound's fundamental at A4.
    treble_damping : float
        How much faster high partials decay.
    after_db : float
        Level of the after-sound at the attack.
    unison_cents : float
        Mistuning between a key's strings.
    knock_db : float
        Attack noise relative to the note.
    """

    inharmonicity_a4: float
    strike_point: float
    tilt_db_per_octave: float
    softness_db_per_octave: float
    decay_a4_s: float
    treble_damping: float
    after_db: float
    unison_cents: float
    knock_db: float


def draw_model(rng: np.random.Generator) -> PianoModel:
    """Constants in the range of real instruments and somewhat beyond."""
    return PianoModel(
        inharmonicity_a4=float(np.exp(rng.uniform(np.log(3e-4), np.log(1.6e-3)))),
        strike_point=rng.uniform(0.09, 0.16),
        tilt_db_per_octave=rng.uniform(4.0, 10.0),
        softness_db_per_octave=rng.uniform(2.0, 7.0),
        decay_a4_s=float(np.exp(rng.uniform(np.log(0.35), np.log(1.4)))),
        treble_damping=rng.uniform(0.1, 0.5),
        after_db=rng.uniform(-24.0, -8.0),
        unison_cents=float(np.exp(rng.uniform(np.log(0.2), np.log(3.0)))),
        knock_db=rng.uniform(-32.0, -12.0),
    )


def inharmonicity(model: PianoModel, pitch_midi: int) -> float:
    """B of a key: rising through the treble, rising again in the wound bass."""
    above_bass = max(pitch_midi, 44) - 69
    wound = max(44 - pitch_midi, 0)
    return float(model.inharmonicity_a4 * 2.0 ** (above_bass / 9.0) * 2.0 ** (wound / 14.0))


def soundboard_gain(hz: float) -> float:
    """A soundboard hardly radiates below its first modes, about 90 Hz: 12 dB an octave."""
    return float(1.0 / (1.0 + (SOUNDBOARD_HZ / hz) ** 2))


def key_layers(
    rng: np.random.Generator, model: PianoModel, pitch_midi: int
) -> list[NDArray[np.float32]]:
    """One key at each layer's velocity, from the margin before its onset."""
    f0_hz = pitch_to_hz(pitch_midi)
    ring_s = float(np.clip(5.5 * 2.0 ** ((60 - pitch_midi) / 24.0), 1.5, 7.0))
    count = int(ring_s * SAMPLE_RATE_HZ)
    stiffness = inharmonicity(model, pitch_midi)
    base_decay_s = model.decay_a4_s * 2.0 ** ((69 - pitch_midi) / 21.0)
    layers = [np.zeros(count) for _ in LAYER_VELOCITIES]
    body_db = rng.normal(0.0, 4.0, MOST_PARTIALS + 1)
    for partial in range(1, MOST_PARTIALS + 1):
        stretched = np.sqrt((1 + stiffness * partial**2) / (1 + stiffness))
        hz = f0_hz * partial * stretched
        if hz > HIGHEST_PARTIAL_HZ:
            break
        decay_s = (
            base_decay_s / (1.0 + model.treble_damping * (partial - 1)) * rng.uniform(0.7, 1.4)
        )
        wave = _unison(rng, model, hz, decay_s, count)
        comb = soundboard_gain(hz) * abs(np.sin(np.pi * partial * model.strike_point)) + 0.03
        octave = np.log2(partial)
        for layer, velocity in zip(layers, LAYER_VELOCITIES, strict=True):
            softness = 1.0 - velocity / 127.0
            slope_db = model.tilt_db_per_octave + model.softness_db_per_octave * 2.0 * softness
            layer += wave * comb * 10.0 ** ((body_db[partial] - slope_db * octave) / 20.0)
    knock = _knock(rng, count, pitch_midi)
    return [_finished(layer, knock, model.knock_db) for layer in layers]


def decaying_sine(hz: float, decay_s: float, phase: float, count: int) -> NDArray[np.float32]:
    """sin(2 pi hz t + phase) exp(-t / decay_s), float32, shape (count,).

    As the outer product of a coarse and a fine complex exponential: two short vectors in
    place of one long one.
    """
    step = (-1.0 / decay_s + 2j * np.pi * hz) / SAMPLE_RATE_HZ
    coarse = np.exp(step * SINE_BLOCK * np.arange(-(-count // SINE_BLOCK)) + 1j * phase)
    fine = np.exp(step * np.arange(SINE_BLOCK))
    wave = np.outer(coarse.astype(np.complex64), fine.astype(np.complex64)).imag
    return np.asarray(wave.reshape(-1)[:count], dtype=np.float32)


def _unison(
    rng: np.random.Generator,
    model: PianoModel,
    hz: float,
    decay_s: float,
    count: int,
) -> NDArray[np.float32]:
    """A partial of two coupled strings: a prompt sound and a longer, mistuned after-sound."""
    after = 10.0 ** ((model.after_db + rng.normal(0.0, 3.0)) / 20.0)
    mistuned = hz * 2.0 ** (rng.normal(0.0, model.unison_cents) / 1200.0)
    prompt = decaying_sine(hz, decay_s, rng.uniform(-0.5, 0.5), count)
    later = decaying_sine(mistuned, 3.5 * decay_s, rng.uniform(-0.5, 0.5), count)
    return prompt + np.float32(after) * later


def _knock(rng: np.random.Generator, length: int, pitch_midi: int) -> NDArray[np.float64]:
    """Hammer and soundboard: a burst of noise of 10 to 40 ms, duller in the bass."""
    count = min(int(0.2 * SAMPLE_RATE_HZ), length)
    decay = rng.uniform(0.01, 0.04) * SAMPLE_RATE_HZ
    burst = rng.standard_normal(count) * np.exp(-np.arange(count) / decay)
    pole = 0.93 - 0.4 * (pitch_midi - LOWEST_PITCH_MIDI) / 87.0
    burst = lfilter([1.0 - pole], [1.0, -pole], burst)
    knock = np.zeros(length)
    knock[:count] = burst / (np.sqrt(np.mean(burst[:800] ** 2)) + 1e-12)
    return knock


def _finished(
    strings: NDArray[np.float64], knock: NDArray[np.float64], knock_db: float
) -> NDArray[np.float32]:
    """Strings and knock with the hammer's rise (1.5 ms) and a faded end, after the margin."""
    level = np.sqrt(np.mean(strings[:1600] ** 2)) + 1e-12
    sound = strings / level + knock * 10.0 ** (knock_db / 20.0)
    rise = int(0.0015 * SAMPLE_RATE_HZ)
    sound[:rise] *= np.linspace(0.0, 1.0, rise)
    fade = int(0.2 * SAMPLE_RATE_HZ)
    sound[-fade:] *= np.linspace(1.0, 0.0, fade)
    return np.concatenate([np.zeros(ONSET_MARGIN_SAMPLES), 0.1 * sound]).astype(np.float32)


def modelled_piano(number: int) -> SampledPiano:
    """The modelled piano of this number; the same every time.

    Parameters
    ----------
    number : int
        0 or more: part of the seed, and of the name.
    """
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([MODEL_SEED, number])))
    model = draw_model(rng)
    balance_db = rng.uniform(-6.0, 2.0)
    samples = []
    for key in range(LOWEST_PITCH_MIDI, HIGHEST_PITCH_MIDI + 1, KEY_STEP):
        lowest = 1
        key_gain = 10.0 ** (balance_db * (key - 64) / 44.0 / 20.0)
        for top, sound in zip(LAYER_TOPS, key_layers(rng, model, key), strict=True):
            scaled = (sound * np.float32(key_gain)).astype(np.float32)
            samples.append(
                PianoSample(
                    name=f"k{key:03d}_v{top:03d}",
                    samples=scaled,
                    pitch_midi=float(key),
                    lokey=key - KEY_STEP // 2,
                    hikey=key + KEY_STEP // 2 - 1,
                    lovel=lowest,
                    hivel=top,
                    level_db=level_db(scaled),
                )
            )
            lowest = top + 1
    return sampled_piano(f"modelled_{number:03d}", samples, instrument=MODELLED_INSTRUMENT)
