"""How well the labels of real recordings agree with the sound, and the ear with either.

A player piano strikes soft keys late and unevenly, so a label may lie off the sound that it stands
for. For notes that begin alone in their neighbourhood of keys, the sound's own beginning is
measured without any model: where the level at the first three partials has risen half-way, in
decibels. If the ear's distance from the label goes with the sound's (a correlation near 1), the ear
hears right and the label is off; no ear can place such a note within the 50 ms of the rules. Run::

    python -m benchmarks.label_timing
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import soundfile
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks import places
from edge.ear import DEFAULT_MODEL
from edge.note import NoteEvent, pitch_to_hz
from training.evaluation import ONSET_TOLERANCE_S
from training.hearing import hear

Float64 = NDArray[np.float64]

# An ear's note may lie so far from its label and still be taken for it here.
NEAR_S = 0.15
# Nothing else may begin so close in time on a key that shares partials.
ALONE_S = 0.35
SHARING_SEMITONES = (1, 2, 5, 7, 12, 19, 24)
LOOKED_AT_S = (-0.15, 0.2)
WINDOW_S = 0.05
LEAST_RISE_DB = 8.0
STEP_S = 0.005


@dataclass(frozen=True, slots=True)
class Timed:
    """Seconds after its label at which a note's sound rises, and at which the ear puts it."""

    velocity: int
    sound_s: float
    ear_s: float


def alone(played: tuple[NoteEvent, ...]) -> list[NoteEvent]:
    """The notes near which nothing begins that shares partials with them."""
    onset = np.array([note.onset_s for note in played])
    pitch = np.array([note.pitch_midi for note in played])
    found = []
    for i, note in enumerate(played):
        near = np.abs(onset - note.onset_s) < ALONE_S
        apart = np.abs(pitch - note.pitch_midi)
        near &= np.isin(apart, SHARING_SEMITONES) | (apart % 12 == 0)
        near[i] = False
        if not near.any():
            found.append(note)
    return found


def rise_s(samples: NDArray[np.float32], rate_hz: int, note: NoteEvent) -> float | None:
    """Seconds after the label at which the note's level has risen half-way; None if unclear."""
    first = round((note.onset_s + LOOKED_AT_S[0] - WINDOW_S) * rate_hz)
    count = round((LOOKED_AT_S[1] - LOOKED_AT_S[0] + 2 * WINDOW_S) * rate_hz)
    if first < 0 or first + count > len(samples):
        return None
    part, time_s = samples[first : first + count], np.arange(count) / rate_hz
    window = np.hanning(round(WINDOW_S * rate_hz))
    level = np.zeros(count)
    for partial in (1, 2, 3):
        turned = part * np.exp(-2j * np.pi * partial * pitch_to_hz(note.pitch_midi) * time_s)
        strength = np.abs(np.convolve(turned, window, "same"))
        level += strength / (strength.max() + 1e-9)
    at_s = np.arange(*LOOKED_AT_S, STEP_S)
    looked_at = ((at_s - LOOKED_AT_S[0] + WINDOW_S) * rate_hz).astype(int)
    level_db = 20 * np.log10(np.maximum(level[looked_at], 1e-3))
    loudest = int(np.argmax(level_db))
    before_db = float(np.median(level_db[:20]))
    if level_db[loudest] - before_db < LEAST_RISE_DB:
        return None
    below = np.flatnonzero(level_db[: loudest + 1] < (before_db + level_db[loudest]) / 2)
    return float(at_s[below[-1]]) if len(below) else None


def timed_notes(
    samples: NDArray[np.float32],
    rate_hz: int,
    played: tuple[NoteEvent, ...],
    heard: tuple[NoteEvent, ...],
) -> list[Timed]:
    """Every note that stands alone, was heard near its label, and rises clearly."""
    onset = np.array([note.onset_s for note in heard])
    pitch = np.array([note.pitch_midi for note in heard])
    found = []
    for note in alone(played):
        same = onset[pitch == note.pitch_midi] - note.onset_s
        sound_s = rise_s(samples, rate_hz, note)
        if sound_s is None or not len(same) or np.abs(same).min() > NEAR_S:
            continue
        found.append(Timed(note.velocity, sound_s, float(same[np.abs(same).argmin()])))
    return found


def main() -> None:
    """Print, per recording, how far sound and ear lie from the label, and whether together."""
    recordings = places.recordings()
    if not recordings:
        Console(stderr=True).print(f"left out: no recordings in {places.EVALUATION}")
        return
    table = Table(
        "ms; median ± half of the middle two thirds",
        "notes",
        "sound − label",
        "over 50",
        "ear − label",
        "over 50",
        "ear − sound",
        "correlation",
    )
    with Progress(console=Console(stderr=True)) as bar:
        for recording in bar.track(recordings, description="listening"):
            (hearing,) = hear(DEFAULT_MODEL, [recording])
            samples, rate_hz = soundfile.read(recording.audio, dtype="float32")
            found = timed_notes(samples, rate_hz, recording.played, hearing.heard)
            if len(found) < 30:
                continue
            sound = np.array([one.sound_s for one in found])
            ear = np.array([one.ear_s for one in found])
            table.add_row(
                recording.name,
                str(len(found)),
                _spread(sound),
                f"{np.mean(np.abs(sound) > ONSET_TOLERANCE_S):.0%}",
                _spread(ear),
                f"{np.mean(np.abs(ear) > ONSET_TOLERANCE_S):.0%}",
                _spread(ear - sound),
                f"{np.corrcoef(sound, ear)[0, 1]:.2f}",
            )
    Console(width=max(110, Console().width)).print(table)


def _spread(seconds: Float64) -> str:
    low, middle, high = 1000 * np.quantile(seconds, (0.16, 0.5, 0.84))
    return f"{middle:+.0f} ± {(high - low) / 2:.0f}"


if __name__ == "__main__":
    main()
