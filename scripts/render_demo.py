"""The demo's recording: the opening of Für Elise, from our own score, played as a person might.

A score played as it stands sounds like a clock. Four things make it a performance here:

- *Tempo* follows the phrase: it gathers speed towards the middle and gives it back at the end
  (the parabolic phrase arch of Todd, "The dynamics of dynamics", JASA 91, 1992), most of all
  at the last one.
- *Dynamics* follow the tempo, louder where it is faster, and a melody note is struck harder than
  what accompanies it.
- *The melody leads*: a note of the tune comes some 10 ms before its chord (Goebl, "Melody lead
  in piano performance", JASA 110, 2001), and no onset is where it was meant, by a few ms.
- *The pedal* goes down just after the first note of a bar that has a bass, and is lifted before
  the next.

Run again with ``python scripts/render_demo.py``: the same score, seed, fluidsynth and soundfont
give the same MIDI, and the same sound to within what the synthesizer's version changes. Needs
the extra ``scores`` and Debian's fluidsynth and fluid-soundfont-gm.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import soundfile

from edge.midi import write_midi
from edge.note import NoteEvent, PedalEvent

ROOT = Path(__file__).resolve().parent.parent
SCORE = ROOT / "scores" / "starter" / "fur_elise.krn"
OUT = ROOT / "models" / "demo"
SOUNDFONT = Path("/usr/share/sounds/sf2/FluidR3_GM.sf2")

SEED = 1810  # the year on Beethoven's manuscript
EIGHTH_S = 60 / 138  # poco moto: 138 eighths a minute at the middle of a phrase
BAR_EIGHTHS = 3
# Phrases from bar line to bar line, in bars from the first full one; the upbeat is bar -1/3.
# The music stops on the A minor of bar 22, before the middle section.
PHRASE_ENDS = (-1 / 3, 3 + 2 / 3, 7 + 2 / 3, 11 + 2 / 3, 14 + 2 / 3, 18 + 2 / 3, 21 + 1 / 3)
LAST_BAR = 21  # counted from 0
ARCH_SLOWING = 0.16  # a phrase's ends are this much slower than its middle
LAST_SLOWING = 0.55
SILENCE_BEFORE_S = 0.75
RINGING_AFTER_S = 2.5

MELODY_VELOCITY = 70
ACCOMPANIMENT_VELOCITY = 50
ARCH_VELOCITY = 16  # louder by this much at the middle of a phrase
UNEVENNESS_VELOCITY = 3.0  # standard deviation
MELODY_LEAD_S = 0.010
UNEVENNESS_S = 0.006  # standard deviation
LEGATO_OVERLAP_S = 0.03
RELEASE_BEFORE_RESTRIKE_S = 0.03
PEDAL_AFTER_S = 0.06
PEDAL_LENGTH_BARS = 0.9

RATE_HZ = 44_100
LOUDEST = 0.5  # of full scale: a piano at a little distance


def written_notes() -> np.ndarray:
    """The notes up to the end: onset and duration in bars, pitch, whether it is the tune."""
    import partitura

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        score = partitura.load_score(str(SCORE))
    notes = score.note_array(include_staff=True)
    bars = notes["onset_beat"] / BAR_EIGHTHS
    kept = bars < PHRASE_ENDS[-1] - 1e-6
    notes, bars = notes[kept], bars[kept]
    kind = [("bar", float), ("bars", float), ("pitch", int), ("tune", bool)]
    out = np.empty(len(notes), dtype=kind)
    out["bar"], out["bars"] = bars, notes["duration_beat"] / BAR_EIGHTHS
    out["pitch"] = notes["pitch"]
    out["tune"] = notes["staff"] == 1
    return np.sort(out, order=["bar", "pitch"])


def arch(bar: np.ndarray) -> np.ndarray:
    """0 at both ends of the phrase that holds ``bar``, 1 at its middle (Todd's parabola)."""
    ends = np.asarray(PHRASE_ENDS)
    phrase = np.clip(np.searchsorted(ends, bar + 1e-9, side="right") - 1, 0, len(ends) - 2)
    place = (bar - ends[phrase]) / (ends[phrase + 1] - ends[phrase])
    return 1 - (2 * np.clip(place, 0, 1) - 1) ** 2


def seconds_of(bar: np.ndarray) -> np.ndarray:
    """When a place in the score sounds: the tempo curve, summed up."""
    grid = np.linspace(PHRASE_ENDS[0], PHRASE_ENDS[-1] + 1, 8192)
    slowing = ARCH_SLOWING * (1 - arch(grid))
    last_bars = np.clip((grid - (PHRASE_ENDS[-1] - 1.5)) / 1.5, 0, 1)
    pace = EIGHTH_S * BAR_EIGHTHS * (1 + slowing + (LAST_SLOWING - ARCH_SLOWING) * last_bars**2)
    seconds = np.concatenate([[0], np.cumsum((pace[1:] + pace[:-1]) / 2 * np.diff(grid))])
    return SILENCE_BEFORE_S + np.interp(bar, grid, seconds)


def played(notes: np.ndarray, rng: np.random.Generator) -> list[NoteEvent]:
    """The written notes as hands play them."""
    swell = arch(notes["bar"])
    velocity = np.where(notes["tune"], MELODY_VELOCITY, ACCOMPANIMENT_VELOCITY)
    velocity = (
        velocity + ARCH_VELOCITY * (swell - 0.5) + rng.normal(0, UNEVENNESS_VELOCITY, len(notes))
    )
    down_s = seconds_of(notes["bar"]) + rng.normal(0, UNEVENNESS_S, len(notes))
    down_s -= MELODY_LEAD_S * notes["tune"]
    up_s = seconds_of(notes["bar"] + notes["bars"]) + LEGATO_OVERLAP_S
    struck = []
    for index, note in enumerate(notes):
        again = down_s[(notes["pitch"] == note["pitch"]) & (notes["bar"] > note["bar"] + 1e-6)]
        released_s = (
            min(up_s[index], again.min() - RELEASE_BEFORE_RESTRIKE_S) if len(again) else up_s[index]
        )
        hard = int(np.clip(round(velocity[index]), 20, 110))
        struck.append(
            NoteEvent(int(note["pitch"]), float(down_s[index]), float(released_s), hard, 1.0)
        )
    return struck


def pedalling(notes: np.ndarray) -> list[PedalEvent]:
    """One pedal for each bar with a bass, changed after its first note."""
    changes: list[PedalEvent] = []
    for bar in range(LAST_BAR + 1):
        low = notes[(notes["bar"] >= bar - 1e-6) & (notes["bar"] < bar + 0.99) & ~notes["tune"]]
        if len(low) and low["bar"].min() < bar + 0.01:
            down_s = float(seconds_of(np.asarray(bar))) + PEDAL_AFTER_S
            lifted_bar = bar + PEDAL_LENGTH_BARS if bar < LAST_BAR else PHRASE_ENDS[-1]
            up_s = float(seconds_of(np.asarray(lifted_bar)))
            up_s += RINGING_AFTER_S / 2 if bar == LAST_BAR else 0.0
            changes += [PedalEvent(down_s, True), PedalEvent(up_s, False)]
    return changes


def sound_of(midi: Path, until_s: float) -> np.ndarray:
    """The performance through fluidsynth, mono, cut and faded where the ringing ends."""
    with tempfile.TemporaryDirectory() as folder:
        wave = Path(folder) / "demo.wav"
        command = ["fluidsynth", "-ni", "-q", "-g", "0.6", "-r", str(RATE_HZ), "-T", "wav"]
        command += ["-O", "float", "-F", str(wave), str(SOUNDFONT), str(midi)]
        subprocess.run(command, check=True, capture_output=True)
        samples, rate_hz = soundfile.read(wave, dtype="float32", always_2d=True)
    assert rate_hz == RATE_HZ
    mono = samples.mean(axis=1)[: int(until_s * RATE_HZ)]
    fade = np.linspace(1, 0, int(0.5 * RATE_HZ), dtype=np.float32)
    mono[-len(fade) :] *= fade**2
    return mono * (LOUDEST / np.abs(mono).max())


def main() -> None:
    if not SOUNDFONT.exists():
        sys.exit(f"{SOUNDFONT} is not here: apt-get install fluidsynth fluid-soundfont-gm")
    notes = written_notes()
    struck = played(notes, np.random.default_rng(SEED))
    OUT.mkdir(parents=True, exist_ok=True)
    midi = OUT / "demo.mid"
    until_s = float(seconds_of(np.asarray(PHRASE_ENDS[-1]))) + RINGING_AFTER_S
    write_midi(midi, struck, pedalling(notes), end_s=until_s, title="Für Elise, bars 1 to 22")
    recording = OUT / "demo.flac"
    samples = sound_of(midi, until_s)
    soundfile.write(recording, samples, RATE_HZ, subtype="PCM_16")
    size = recording.stat().st_size
    print(f"{recording}: {len(struck)} notes, {len(samples) / RATE_HZ:.1f} s, {size} bytes")


if __name__ == "__main__":
    main()
