"""A soundfont's piano as one more sampled piano.

Every third key is struck once at each of five velocities by fluidsynth (its reverb and
chorus off), and the recordings become the layers of a `SampledPiano`: so a soundfont goes
through the same mixer, damping and tuning as recorded sets, and its notes are labelled the
same way. Fluidsynth runs once for a font and program; what it played is remembered.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import mido
import numpy as np
import soundfile as sf
from numpy.typing import NDArray

from edge.errors import InputError
from edge.note import HIGHEST_PITCH_MIDI, LOWEST_PITCH_MIDI
from training.render.piano import (
    SAMPLE_RATE_HZ,
    SILENT_PEAK,
    PianoSample,
    SampledPiano,
    acoustic_onset,
    cut_at_onset,
    level_db,
    sampled_piano,
)

KEY_STEP = 3
LAYER_TOPS = (35, 60, 85, 108, 127)
"""Highest velocity of each layer; it is struck at the middle of its range."""
STRIKE_VELOCITIES = (24, 48, 73, 97, 118)
PERIOD_S = 8.0
HELD_S = 7.0
LEAD_S = 0.5
CACHE_VERSION = 1
FLUIDSYNTH_GAIN = 4.0
"""Far above its usual 0.2, so that soft layers stay above its dither; the file is float."""
TICKS_PER_S = 960  # at mido's default tempo of 120 beats a minute, 480 ticks a beat

INSTRUMENT_OF_FONT = {
    "MuseScore_General": "grand_steinway_splendid",
    "MuseScore_General_Full": "grand_steinway_splendid",
}
"""Fonts whose piano is one of the recorded sets in another form (here by its own licence
note); any other font is an instrument of its own, whatever the preset."""


@dataclass(frozen=True, slots=True)
class SoundfontPreset:
    """A preset of a font: General MIDI has acoustic pianos at programs 0 to 3."""

    font: Path
    program: int = 0
    bank: int = 0

    @property
    def name(self) -> str:
        return f"{self.font.stem}_{self.bank:03d}_{self.program:03d}"

    @property
    def instrument(self) -> str:
        """What is held out together: a font's presets are mostly made of the same strings."""
        return INSTRUMENT_OF_FONT.get(self.font.stem, self.font.stem)

    @classmethod
    def parse(cls, text: str) -> SoundfontPreset:
        """``FONT.sf2`` or ``FONT.sf2:PROGRAM``.

        Raises
        ------
        InputError
            The program is not a number from 0 to 127.
        """
        path, colon, program = text.rpartition(":")
        if not colon:
            return cls(Path(text))
        if not program.isdecimal() or int(program) > 127:
            raise InputError(f"{text!r}: a program is 0 to 127, as in FluidR3_GM.sf2:0")
        return cls(Path(path), int(program))


def _keys() -> range:
    return range(LOWEST_PITCH_MIDI, HIGHEST_PITCH_MIDI + 1, KEY_STEP)


def _strikes_midi(preset: SoundfontPreset, velocity: int) -> mido.MidiFile:
    """One key after another, one every ``PERIOD_S``."""
    track = mido.MidiTrack()
    track.append(mido.Message("control_change", control=0, value=preset.bank, time=0))
    track.append(mido.Message("program_change", program=preset.program, time=0))
    rest_s = LEAD_S
    for key in _keys():
        wait = round(rest_s * TICKS_PER_S)
        held = round(HELD_S * TICKS_PER_S)
        track.append(mido.Message("note_on", note=key, velocity=velocity, time=wait))
        track.append(mido.Message("note_off", note=key, velocity=0, time=held))
        rest_s = PERIOD_S - HELD_S
    return mido.MidiFile(ticks_per_beat=480, tracks=[track])


def _played_by_fluidsynth(preset: SoundfontPreset, velocity: int) -> NDArray[np.float32]:
    with tempfile.TemporaryDirectory() as scratch:
        midi_path, wav_path = Path(scratch) / "strikes.mid", Path(scratch) / "strikes.wav"
        _strikes_midi(preset, velocity).save(midi_path)
        command = ["fluidsynth", "-ni", "-q", "-R", "0", "-C", "0", "-r", str(SAMPLE_RATE_HZ)]
        command += ["-g", str(FLUIDSYNTH_GAIN), "-O", "float", "-T", "wav", "-F", str(wav_path)]
        command += [str(preset.font), str(midi_path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0 or not wav_path.is_file():
            reason = done.stderr.strip().splitlines()[-1:] or ["no message"]
            raise InputError(f"fluidsynth could not play {preset.font}: {reason[0]}")
        samples, _ = sf.read(wav_path, dtype="float32", always_2d=True)
    return np.asarray(samples.mean(axis=1), dtype=np.float32)


def _cut_strikes(sound: NDArray[np.float32], layer: int) -> list[PianoSample]:
    samples = []
    lowest_velocity = 1 if layer == 0 else LAYER_TOPS[layer - 1] + 1
    for index, key in enumerate(_keys()):
        begin = int((LEAD_S + index * PERIOD_S) * SAMPLE_RATE_HZ)
        strike = sound[begin - 160 : begin + int(HELD_S * SAMPLE_RATE_HZ)]
        if np.max(np.abs(strike), initial=0.0) < SILENT_PEAK:
            continue
        cut = cut_at_onset(strike, acoustic_onset(strike, 160))
        samples.append(
            PianoSample(
                name=f"k{key:03d}_v{LAYER_TOPS[layer]:03d}",
                samples=cut,
                pitch_midi=float(key),
                lokey=key - 1,
                hikey=key + 1,
                lovel=lowest_velocity,
                hivel=LAYER_TOPS[layer],
                level_db=level_db(cut),
            )
        )
    return samples


def load_soundfont(preset: SoundfontPreset, cache_dir: Path | None = None) -> SampledPiano:
    """The preset as a sampled piano; played by fluidsynth unless it is remembered.

    Raises
    ------
    InputError
        The font is missing, fluidsynth is not installed, or the preset is silent.
    """
    if not preset.font.is_file():
        raise InputError(f"{preset.font} does not exist: give a .sf2 or .sf3 soundfont")
    cache = cache_dir / f"{preset.name}.v{CACHE_VERSION}.npz" if cache_dir is not None else None
    if cache is not None and cache.is_file():
        with np.load(cache) as stored:
            sounds = [stored[f"layer_{layer}"] for layer in range(len(LAYER_TOPS))]
    else:
        if shutil.which("fluidsynth") is None:
            raise InputError("a soundfont needs fluidsynth: apt install fluidsynth")
        sounds = [_played_by_fluidsynth(preset, velocity) for velocity in STRIKE_VELOCITIES]
        if cache is not None:
            cache.parent.mkdir(parents=True, exist_ok=True)
            unfinished = cache.with_suffix(".part.npz")
            np.savez(unfinished, **{f"layer_{layer}": sound for layer, sound in enumerate(sounds)})
            unfinished.replace(cache)
    samples = [s for layer, sound in enumerate(sounds) for s in _cut_strikes(sound, layer)]
    return sampled_piano(preset.name, samples, instrument=preset.instrument)
