"""A singer who never was: melodies as a person hums, whistles or picks them out, as sound.

A voice is a pulse train through the formants of a hum or of "da": harmonics that fall by 12 dB an
octave, weighed by three resonances, with vibrato that sets in late, glides from note to note,
breath in the noise, and loudness that dips where a note is sung anew. The singer takes a pitch
between the keys, drifts, sings intervals too wide or too narrow, and is never quite in time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.audio.block import STREAM_RATE_HZ
from edge.matching.melody import Melody

Floats = NDArray[np.float64]

FORMANTS_HZ = {
    "hum": ((250.0, 90.0, 1.0), (1100.0, 200.0, 0.06), (2300.0, 300.0, 0.02)),
    "da": ((680.0, 110.0, 1.0), (1150.0, 140.0, 0.5), (2500.0, 220.0, 0.15)),
}
"""Frequency, bandwidth and weight of each resonance."""

CONTROL_S = 0.005


@dataclass(frozen=True, slots=True)
class Singer:
    """How somebody sings; drawn anew for every melody by `some_singer`.

    Attributes
    ----------
    offset_semitones, drift_semitones : float
        Above the written pitch at the beginning, and by how much more at the end.
    stretch : float
        Sung intervals as a multiple of the written ones.
    tempo : float
        As a multiple of 100 quarters a minute.
    unsure_semitones : float
        Standard deviation of a note's pitch.
    uneven : float
        Standard deviation of a step of time, as a share of it.
    glide_s : float
    vibrato_semitones, vibrato_hz : float
    breath : float
        Noise, as a share of the voice.
    legato : float
        Chance that a note of another pitch begins without a dip.
    voice : str
        ``hum``, ``da`` or ``whistle``.
    """

    offset_semitones: float
    drift_semitones: float
    stretch: float
    tempo: float
    unsure_semitones: float
    uneven: float
    glide_s: float
    vibrato_semitones: float
    vibrato_hz: float
    breath: float
    legato: float
    voice: str


def some_singer(rng: np.random.Generator) -> Singer:
    """Anybody."""
    return Singer(
        offset_semitones=rng.uniform(-6.0, 6.0),
        drift_semitones=rng.normal(0.0, 0.5),
        stretch=rng.uniform(0.85, 1.15),
        tempo=2.0 ** rng.uniform(-1.0, 1.0),
        unsure_semitones=rng.uniform(0.1, 0.35),
        uneven=rng.uniform(0.03, 0.15),
        glide_s=rng.uniform(0.03, 0.12),
        vibrato_semitones=rng.uniform(0.0, 0.5),
        vibrato_hz=rng.uniform(4.5, 6.5),
        breath=10.0 ** rng.uniform(-2.5, -1.3),
        legato=rng.uniform(0.0, 0.8),
        voice=str(rng.choice(["hum", "da", "whistle"], p=[0.5, 0.3, 0.2])),
    )


def sung_notes(pitch: Floats, quarters: Floats, singer: Singer, rng: np.random.Generator) -> Melody:
    """The notes as this singer means them, without sound.

    Parameters
    ----------
    pitch : float64, shape (notes,)
        Written MIDI pitches.
    quarters : float64, shape (notes,)
        Rising onsets.
    """
    middle = pitch.mean()
    progress = np.linspace(0.0, 1.0, pitch.size)
    meant = middle + (pitch - middle) * singer.stretch + singer.offset_semitones
    meant += singer.drift_semitones * progress
    meant += rng.normal(0.0, singer.unsure_semitones, pitch.size)
    steps_s = np.diff(quarters) * 0.6 / singer.tempo
    steps_s *= np.exp(rng.normal(0.0, singer.uneven, steps_s.size))
    return Melody(meant, np.concatenate(([0.0], np.cumsum(steps_s))))


def sound_of(melody: Melody, singer: Singer, rng: np.random.Generator) -> NDArray[np.float32]:
    """The melody as sound, at 16 kHz, with a moment of room before and after."""
    steps_s = np.diff(melody.onset_s)
    last_s = float(np.median(steps_s)) * 1.5 if steps_s.size else 0.6
    seconds = float(melody.onset_s[-1]) + last_s
    control = np.arange(0.0, seconds, CONTROL_S)
    number = np.searchsorted(melody.onset_s, control, side="right") - 1
    semitones = _glided(melody.pitch_semitones[number], singer.glide_s)
    since_s = control - melody.onset_s[number]
    vibrato = np.minimum(since_s / 0.4, 1.0) * singer.vibrato_semitones
    semitones = semitones + vibrato * np.sin(2 * np.pi * singer.vibrato_hz * control)
    semitones += _wandering(control.size, 0.08, rng)
    loudness = _loudness(melody, control, number, seconds, singer, rng)
    at = np.arange(round(seconds * STREAM_RATE_HZ)) / STREAM_RATE_HZ
    hz = 440.0 * 2.0 ** ((np.interp(at, control, semitones) - 69.0) / 12.0)
    level = np.interp(at, control, loudness)
    voice = _whistled(hz) if singer.voice == "whistle" else _voiced(hz, FORMANTS_HZ[singer.voice])
    voice = voice / np.sqrt(np.mean(voice**2))
    breath = rng.normal(0.0, 1.0, at.size)
    breath = np.convolve(breath, np.hanning(7) / np.hanning(7).sum(), mode="same")
    sung = level * (voice + singer.breath * 3.0 * breath / breath.std())
    room = 10.0 ** rng.uniform(-3.3, -2.3) * rng.normal(0.0, 1.0, at.size + STREAM_RATE_HZ)
    room[STREAM_RATE_HZ // 2 : STREAM_RATE_HZ // 2 + at.size] += 0.1 * sung
    return np.clip(room, -1.0, 1.0).astype(np.float32)


def _glided(semitones: Floats, glide_s: float) -> Floats:
    """Steps made into glides by a window that is twice as long as a half of the glide."""
    width = max(1, round(glide_s / CONTROL_S))
    window = np.hanning(width + 2)[1:-1]
    padded = np.pad(semitones, (width, width), mode="edge")
    smooth = np.convolve(padded, window / window.sum(), mode="same")
    return smooth[width:-width]


def _wandering(count: int, semitones: float, rng: np.random.Generator) -> Floats:
    slow = np.convolve(rng.normal(0.0, 1.0, count + 40), np.hanning(41), mode="valid")
    return semitones * slow / max(float(slow.std()), 1e-9)


def _loudness(
    melody: Melody,
    control: Floats,
    number: NDArray[np.int64],
    seconds: float,
    singer: Singer,
    rng: np.random.Generator,
) -> Floats:
    """Level over time: every note swells and fades, and most begin with a dip."""
    ends = np.append(melody.onset_s[1:], seconds)
    since_s, left_s = control - melody.onset_s[number], ends[number] - control
    same = np.append(True, np.abs(np.diff(melody.pitch_semitones)) < 0.7)
    dips = same | (rng.random(len(melody)) >= singer.legato)
    depth = np.where(dips, rng.uniform(0.05, 0.35, len(melody)), 1.0)
    begins = depth[number] + (1 - depth[number]) * np.minimum(since_s / 0.04, 1.0)
    next_depth = np.append(depth[1:], 0.05)
    ends_with = next_depth[number] + (1 - next_depth[number]) * np.minimum(left_s / 0.05, 1.0)
    swell = np.exp(rng.normal(0.0, 0.2, len(melody)))[number]
    return begins * ends_with * swell * np.exp(-0.4 * since_s)


def _voiced(hz: Floats, formants: tuple[tuple[float, float, float], ...]) -> Floats:
    phase = 2 * np.pi * np.cumsum(hz) / STREAM_RATE_HZ
    sound = np.zeros(hz.size)
    for harmonic in range(1, int(0.45 * STREAM_RATE_HZ / hz.min()) + 1):
        at_hz = harmonic * hz
        through = sum(
            weight / (1.0 + ((at_hz - centre_hz) / (band_hz)) ** 2)
            for centre_hz, band_hz, weight in formants
        )
        audible = at_hz < 0.45 * STREAM_RATE_HZ
        sound += audible * (through + 0.02) * harmonic**-0.8 * np.sin(harmonic * phase)
    return sound


def _whistled(hz: Floats) -> Floats:
    """An octave above where it would be sung, and nearly pure."""
    phase = 2 * np.pi * np.cumsum(2 * hz) / STREAM_RATE_HZ
    return np.sin(phase) + 0.03 * np.sin(2 * phase)
