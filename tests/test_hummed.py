"""A voice is heard as notes: between the keys, with vibrato and glides, low, high and whistled."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.singing import Singer, sound_of
from edge.audio.block import STREAM_RATE_HZ
from edge.matching.hummed import HOP_S, melody_of_voice, pitch_track, stairs
from edge.matching.melody import Melody
from edge.note import pitch_to_hz

PLAIN = Singer(
    offset_semitones=0.0,
    drift_semitones=0.0,
    stretch=1.0,
    tempo=1.0,
    unsure_semitones=0.0,
    uneven=0.0,
    glide_s=0.06,
    vibrato_semitones=0.4,
    vibrato_hz=5.5,
    breath=0.02,
    legato=0.5,
    voice="hum",
)
TUNE = np.array([0.0, 2.0, 4.0, 4.0, 5.0, 7.0, 4.0, 0.0])


def tone(pitch_midi: float, seconds: float = 0.5, level: float = 0.1) -> np.ndarray:
    t = np.arange(round(seconds * STREAM_RATE_HZ)) / STREAM_RATE_HZ
    hz = pitch_to_hz(pitch_midi)
    partials = [np.sin(2 * np.pi * h * hz * t) / h for h in range(1, 6) if h * hz < 7000]
    return (level * np.sum(partials, axis=0)).astype(np.float32)


@pytest.mark.parametrize("pitch_midi", [40.0, 45.3, 57.5, 69.25, 81.0, 88.5])
def test_pitch_is_told_to_a_twentieth_of_a_semitone(pitch_midi: float) -> None:
    pitch, _, voiced = pitch_track(tone(pitch_midi))
    inner = slice(5, -10)
    assert voiced[inner].all()
    assert np.abs(pitch[inner] - pitch_midi).max() < 0.05


def test_vibrato_is_one_note_and_a_step_of_a_semitone_is_two() -> None:
    t = np.arange(0.0, 0.6, HOP_S)
    wavering = 60.0 + 0.6 * np.sin(2 * np.pi * 5.5 * t)
    track = np.concatenate((wavering, wavering + 1.5))
    laid = stairs(track, np.ones(track.size, np.bool_))
    assert np.unique(laid).size == 2
    assert np.abs(laid - np.repeat([60.0, 61.5], t.size)).max() <= 0.3


@pytest.mark.parametrize(("voice", "middle"), [("hum", 48.4), ("da", 60.3), ("whistle", 70.7)])
def test_a_tune_is_heard_note_by_note(voice: str, middle: float) -> None:
    meant = Melody(middle + TUNE, np.arange(TUNE.size) * 0.35)
    singer = Singer(**{f: getattr(PLAIN, f) for f in PLAIN.__slots__} | {"voice": voice})
    heard = melody_of_voice(sound_of(meant, singer, np.random.default_rng(4)))
    assert len(heard) == TUNE.size  # the note that is sung twice is two
    octave = 12.0 if voice == "whistle" else 0.0
    assert np.abs(heard.pitch_semitones - octave - meant.pitch_semitones).max() < 0.35
    assert np.abs(heard.onset_s - 0.5 - meant.onset_s).max() < 0.08


def test_silence_noise_and_nothing_are_no_melody() -> None:
    rng = np.random.default_rng(1)
    assert len(melody_of_voice(np.zeros(0, np.float32))) == 0
    assert len(melody_of_voice(np.zeros(16_000, np.float32))) == 0
    hiss = (0.1 * rng.normal(size=32_000)).astype(np.float32)
    assert len(melody_of_voice(hiss)) == 0
