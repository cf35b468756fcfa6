"""Between the strings and the file: a room, a microphone, a cheap amplifier, other sounds.

A room is the direct sound, early reflections of a shoebox (image sources up to third order,
after Allen and Berkley 1979) and a diffuse tail of noise that decays exponentially, faster
at high frequencies. Its response begins with the direct sound at sample 0, so that labels
stay where the sound is, and it is scaled so that the level of what it is applied to stays.

A microphone is a random smooth response, sometimes with the bass or the treble of a phone
missing; its amplifier sometimes clips. Then what else is heard: hiss, hum, voices, knocks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.signal import butter, fftconvolve, lfilter, sosfilt

from training.render.piano import SAMPLE_RATE_HZ

SPEED_OF_SOUND_M_S = 343.0
RT60_S = (0.2, 1.6)
DIRECT_TO_REVERBERANT_DB = (-10.0, 16.0)
"""From a microphone across the room (4 m, six times a living room's critical distance) to one
in the piano."""
IMAGE_ORDER = 3
TREBLE_RT60_RATIO = (0.3, 0.8)
"""How much faster a room's treble (above 2.5 kHz) dies than its middle: air and curtains."""


@dataclass(frozen=True, slots=True)
class Room:
    """A room's response and what it was made from.

    Attributes
    ----------
    response : float32, shape (n,)
        Direct sound at sample 0 with amplitude 1.
    rt60_s : float
    direct_to_reverberant_db : float
    """

    response: NDArray[np.float32]
    rt60_s: float
    direct_to_reverberant_db: float


def draw_room(rng: np.random.Generator) -> Room:
    """A room with RT60 between 0.2 and 1.6 s (log-uniform), near or far from the piano."""
    rt60_s = float(np.exp(rng.uniform(*np.log(RT60_S))))
    return room_of(rng, rt60_s, rng.uniform(*DIRECT_TO_REVERBERANT_DB))


def room_of(rng: np.random.Generator, rt60_s: float, ratio_db: float) -> Room:
    """A room of this RT60 and direct-to-reverberant ratio, else at random."""
    length = int(rt60_s * SAMPLE_RATE_HZ)
    later = np.zeros(length)
    early, mixing_sample = _early_reflections(rng, rt60_s, length)
    tail = _diffuse_tail(rng, rt60_s, length, mixing_sample)
    later += early / (np.sqrt(np.sum(early**2)) + 1e-9) * np.sqrt(rng.uniform(0.15, 0.7))
    later += tail / (np.sqrt(np.sum(tail**2)) + 1e-9) * np.sqrt(rng.uniform(0.3, 0.85))
    later *= 10.0 ** (-ratio_db / 20.0) / (np.sqrt(np.sum(later**2)) + 1e-9)
    later[0] = 1.0
    return Room(later.astype(np.float32), rt60_s, float(ratio_db))


def _early_reflections(
    rng: np.random.Generator, rt60_s: float, length: int
) -> tuple[NDArray[np.float64], int]:
    """Image sources of a random shoebox, relative to the direct sound, and its mixing time."""
    size_m = rng.uniform([2.5, 2.5, 2.2], [12.0, 9.0, 5.0])
    if rt60_s > 0.9:
        size_m *= 1.4
    source_m = rng.uniform(0.15, 0.85, 3) * size_m
    source_m[2] = min(source_m[2], rng.uniform(0.4, 1.2))
    ear_m = rng.uniform(0.1, 0.9, 3) * size_m
    volume = float(np.prod(size_m))
    surface = 2.0 * (size_m[0] * size_m[1] + size_m[1] * size_m[2] + size_m[0] * size_m[2])
    absorbed = np.clip(0.161 * volume / (surface * rt60_s), 0.02, 0.95)  # Sabine
    reflection = np.sqrt(1.0 - absorbed)
    count = np.arange(-IMAGE_ORDER, IMAGE_ORDER + 1)
    grid = np.stack(np.meshgrid(count, count, count, indexing="ij"), -1).reshape(-1, 3)
    grid = grid[(np.abs(grid).sum(1) <= IMAGE_ORDER) & (np.abs(grid).sum(1) > 0)]
    mirrored = np.where(grid % 2 == 0, source_m, size_m - source_m)
    distance_m = np.linalg.norm(grid * size_m + mirrored - ear_m, axis=1)
    direct_m = float(np.linalg.norm(source_m - ear_m))
    delay = np.round((distance_m - direct_m) / SPEED_OF_SOUND_M_S * SAMPLE_RATE_HZ).astype(int)
    amplitude = reflection ** np.abs(grid).sum(1) * direct_m / distance_m
    amplitude *= rng.choice([-1.0, 1.0], len(amplitude), p=[0.15, 0.85])
    early = np.zeros(length)
    inside = (delay >= 1) & (delay < length)
    np.add.at(early, delay[inside], amplitude[inside])
    mixing_sample = int(np.sqrt(volume) * 1e-3 * SAMPLE_RATE_HZ)  # sqrt(V) ms, after Polack
    return early, mixing_sample


def _diffuse_tail(
    rng: np.random.Generator, rt60_s: float, length: int, mixing_sample: int
) -> NDArray[np.float64]:
    """Exponentially decaying noise in two bands, growing in until the mixing time."""
    noise = rng.standard_normal(length)
    cut = butter(1, 2_500.0, fs=SAMPLE_RATE_HZ)
    low = lfilter(*cut, noise)
    time_s = np.arange(length) / SAMPLE_RATE_HZ
    treble_s = rt60_s * rng.uniform(*TREBLE_RT60_RATIO)
    tail = low * np.exp(-6.9 * time_s / rt60_s)
    tail += rng.uniform(0.2, 1.0) * (noise - low) * np.exp(-6.9 * time_s / treble_s)
    tail[:mixing_sample] *= np.linspace(0.0, 1.0, min(mixing_sample, length))
    result: NDArray[np.float64] = tail
    return result


def in_room(samples: NDArray[np.float32], room: Room) -> NDArray[np.float32]:
    """Samples heard in a room, direct sound unmoved, as loud as before (RMS)."""
    wet = fftconvolve(samples, room.response)[: len(samples)]
    before = float(np.sqrt(np.mean(np.square(samples))))
    after = float(np.sqrt(np.mean(np.square(wet)))) + 1e-12
    return np.asarray(wet * (before / after), dtype=np.float32)


def _peak_filter(centre_hz: float, gain_db: float, octaves: float) -> NDArray[np.float64]:
    """One peaking equaliser section (Bristow-Johnson's cookbook), as second-order section."""
    omega = 2.0 * np.pi * centre_hz / SAMPLE_RATE_HZ
    alpha = np.sin(omega) * np.sinh(0.5 * np.log(2.0) * octaves * omega / np.sin(omega))
    amplitude = 10.0 ** (gain_db / 40.0)
    numerator = np.array([1 + alpha * amplitude, -2 * np.cos(omega), 1 - alpha * amplitude])
    denominator = np.array([1 + alpha / amplitude, -2 * np.cos(omega), 1 - alpha / amplitude])
    section: NDArray[np.float64] = np.concatenate([numerator, denominator]) / denominator[0]
    return section


def draw_microphone(rng: np.random.Generator) -> NDArray[np.float64]:
    """A microphone's response as second-order sections.

    Two to five wide peaks or dips of up to 9 dB; a high-pass between 60 and 300 Hz two times
    in five, a low-pass between 3 and 7 kHz one time in five.
    """
    sections = []
    depth_db = rng.uniform(1.0, 9.0)
    for _ in range(int(rng.integers(2, 6))):
        centre_hz = np.exp(rng.uniform(np.log(60.0), np.log(6_500.0)))
        sections.append(
            _peak_filter(centre_hz, rng.uniform(-depth_db, depth_db), rng.uniform(0.7, 3.0))[None]
        )
    if rng.random() < 0.4:
        corner_hz = np.exp(rng.uniform(np.log(60.0), np.log(300.0)))
        order = int(rng.choice([1, 2]))
        sections.append(butter(order, corner_hz, "highpass", fs=SAMPLE_RATE_HZ, output="sos"))
    if rng.random() < 0.2:
        corner_hz = rng.uniform(3_000.0, 7_000.0)
        order = int(rng.choice([1, 2, 4]))
        sections.append(butter(order, corner_hz, fs=SAMPLE_RATE_HZ, output="sos"))
    return np.concatenate(sections)


def through_microphone(
    samples: NDArray[np.float32], sections: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Samples through second-order sections."""
    return np.asarray(sosfilt(sections, samples), dtype=np.float32)


def clipped(rng: np.random.Generator, samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """An amplifier driven 1 to 10 dB too far: softly (tanh) or hard."""
    ceiling = np.max(np.abs(samples), initial=1e-9) * 10.0 ** (-rng.uniform(1.0, 10.0) / 20.0)
    if rng.random() < 0.7:
        return np.asarray(ceiling * np.tanh(samples / ceiling), dtype=np.float32)
    return np.clip(samples, -ceiling, ceiling)


def levelled(rng: np.random.Generator, samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """A recorder's automatic gain: slowly towards an even level, up to 12 dB."""
    strength = rng.uniform(0.2, 0.7)
    pole = np.exp(-1.0 / (rng.uniform(0.3, 2.0) * SAMPLE_RATE_HZ))
    power = lfilter([1.0 - pole], [1.0, -pole], np.square(samples.astype(np.float64)))
    reference = float(np.mean(power)) + 1e-12
    gain = ((power + 0.05 * reference) / reference) ** (-0.5 * strength)
    return np.asarray(samples * np.clip(gain, 0.25, 4.0), dtype=np.float32)


def coloured_noise(rng: np.random.Generator, length: int) -> NDArray[np.float32]:
    """Noise of unit RMS between white and brown: power falls with f^0 to f^2."""
    exponent = rng.choice([0.0, 1.0, 2.0, rng.uniform(0.0, 2.0)])
    spectrum = np.fft.rfft(rng.standard_normal(length).astype(np.float32))
    hz = np.maximum(np.fft.rfftfreq(length, 1.0 / SAMPLE_RATE_HZ), 20.0)
    noise = np.fft.irfft(spectrum * hz ** (-exponent / 2.0), length)
    return np.asarray(noise / (np.sqrt(np.mean(noise**2)) + 1e-12), dtype=np.float32)


def mains_hum(rng: np.random.Generator, length: int) -> NDArray[np.float32]:
    """Hum at 50 or 60 Hz with up to nine harmonics, unit RMS."""
    hz = float(rng.choice([50.0, 60.0])) * rng.uniform(0.999, 1.001)
    phase = 2.0 * np.pi * hz / SAMPLE_RATE_HZ * np.arange(length)
    hum = np.zeros(length)
    for harmonic in range(1, int(rng.integers(2, 10)) + 1):
        strength = rng.random() / harmonic * (1.0 if harmonic % 2 == 0 else 0.7)
        hum += strength * np.sin(harmonic * phase + rng.uniform(0, 2 * np.pi))
    return np.asarray(hum / (np.sqrt(np.mean(hum**2)) + 1e-12), dtype=np.float32)


def babble(rng: np.random.Generator, length: int) -> NDArray[np.float32]:
    """One voice that says nothing: gliding pulses and breath through changing formants.

    Syllables of 100 to 300 ms, each with three formants of its own and its own glide of
    pitch, with pauses between; unit RMS over what is not a pause.
    """
    voice = np.zeros(length, np.float64)
    base_hz = rng.uniform(85.0, 260.0)
    at = int(rng.uniform(0.0, 1.0) * SAMPLE_RATE_HZ)
    while at < length:
        count = int(rng.uniform(0.1, 0.3) * SAMPLE_RATE_HZ)
        syllable = _syllable(rng, base_hz, count)[: length - at]
        voice[at : at + len(syllable)] += syllable
        pause_s = rng.exponential(0.8) if rng.random() < 0.15 else rng.uniform(-0.02, 0.06)
        at += max(count + int(pause_s * SAMPLE_RATE_HZ), 800)
    spoken = np.abs(voice) > 1e-6
    level = np.sqrt(np.mean(voice[spoken] ** 2)) if spoken.any() else 1.0
    return np.asarray(voice / level, dtype=np.float32)


def _syllable(rng: np.random.Generator, base_hz: float, count: int) -> NDArray[np.float64]:
    f0_hz = base_hz * np.exp(rng.normal(0.0, 0.12)) * np.linspace(1.0, rng.uniform(0.8, 1.2), count)
    cycle = np.cumsum(f0_hz) / SAMPLE_RATE_HZ
    pulses = np.diff(np.floor(cycle), prepend=0.0)
    voiced = rng.random() < 0.8
    excitation = pulses * 8.0 * voiced + rng.standard_normal(count) * (0.1 if voiced else 0.5)
    sound = excitation
    for low_hz, high_hz in ((250.0, 850.0), (800.0, 2_300.0), (2_200.0, 3_400.0)):
        hz, width_hz = rng.uniform(low_hz, high_hz), rng.uniform(50.0, 180.0)
        radius = np.exp(-np.pi * width_hz / SAMPLE_RATE_HZ)
        turn = 2.0 * radius * np.cos(2.0 * np.pi * hz / SAMPLE_RATE_HZ)
        sound = lfilter([1.0 - radius], [1.0, -turn, radius**2], sound)
    syllable: NDArray[np.float64] = sound * np.hanning(count) * rng.uniform(0.4, 1.0)
    return syllable


def thumps(rng: np.random.Generator, length: int) -> NDArray[np.float32]:
    """Knocks, steps, a pedal's thud: short bursts of filtered noise, peak 1."""
    sound = np.zeros(length, np.float32)
    for _ in range(1 + rng.poisson(length / SAMPLE_RATE_HZ * rng.uniform(0.05, 0.8))):
        decay_s = np.exp(rng.uniform(np.log(0.005), np.log(0.08)))
        count = int(7.0 * decay_s * SAMPLE_RATE_HZ)
        burst = rng.standard_normal(count) * np.exp(-np.arange(count) / decay_s / SAMPLE_RATE_HZ)
        corner_hz = np.exp(rng.uniform(np.log(60.0), np.log(3_000.0)))
        burst = lfilter(*butter(2, corner_hz, fs=SAMPLE_RATE_HZ), burst)
        burst *= rng.uniform(0.2, 1.0) / (np.max(np.abs(burst)) + 1e-9)
        at = int(rng.integers(0, length))
        sound[at : at + count] += burst[: length - at].astype(np.float32)
    return sound


def rms(samples: NDArray[np.float32]) -> float:
    """Root mean square."""
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))
