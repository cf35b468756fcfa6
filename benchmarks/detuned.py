"""What calibration is worth on a piano out of tune, and how well the tuning is read.

    python -m benchmarks.detuned [--ear NAME] [--train FOLDER] [--cache FOLDER] [--json]

Playing is rendered on the training pianos, a minute of each performance, with every key so many
cents off and a key's own error of 1.5 cents besides. The first half calibrates, the second is heard
with the calibration and without, and onset F1 is the mean over segments. Where the piano stands
half a semitone off or further, the calibration is told to the next quarter tone what to expect, as
`sostenuto calibrate --a4` does.

The error of the reading is the distance between what was added and what was read more than from the
same performance on the piano as it was recorded. The real recordings, where they lie beside the
project, are played faster or slower; they only measure.

Two more tables show what is left out, and why: laying out the spectrum by the stretch as well, and
raising the onset threshold where there is noise.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import soundfile
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks import places
from edge.audio.block import STREAM_RATE_HZ, Block
from edge.audio.resample import resample, to_mono
from edge.calibration import UNCALIBRATED, Calibration, calibrate
from edge.ear import ModelEar, find_manifest
from edge.errors import InputError
from edge.manifest import read_manifest, read_model_file
from edge.model import NoteModel
from edge.note import NoteEvent
from edge.recogniser import Recogniser
from edge.segmentation import SegmentationParameters
from edge.transcription import finished_notes
from edge.tuning import Tuning
from training.evaluation import score_notes
from training.hearing import Recording

Float32 = NDArray[np.float32]

SEED = 9100
SEGMENTS = 10
HALF_S = 30.0
FEWEST_NOTES = 20
"""A piece that is over before the second half is no use."""
KEY_ERROR_CENTS = 1.5
OFFSETS_CENTS = (-60, -50, -40, -30, -20, 0, 20, 30, 40, 50, 60)
STRETCHES_CENTS = (0, 3, 6)
READ_FROM_S = (5.0, 10.0, 30.0)
REAL_OFFSETS_CENTS = (-60, -50, -40, -20, 0, 20, 40, 50, 60)
PEAKS_DBFS = (-20, -40, -50, -60, -70)
NOISE_SNR_DB = (0, 10, 20)
THRESHOLD_STEPS = (-0.05, 0.0, 0.05, 0.1)

progress_console = Console(stderr=True)


@dataclass(frozen=True, slots=True)
class Playing:
    """Two stretches of one performance: one to calibrate by, one to hear."""

    first: Float32
    second: Float32
    played: tuple[NoteEvent, ...]


class Hearer:
    """An ear whose tuning, level and thresholds can be set for each recording."""

    def __init__(self, name: str | None) -> None:
        path = find_manifest(name)
        manifest = read_manifest(path)
        self.segmentation = manifest.segmentation
        self._model = NoteModel(manifest, read_model_file(manifest, path.parent))

    def f1(
        self,
        samples: Float32,
        played: Sequence[NoteEvent],
        tuning: Tuning,
        gain_db: float = 0.0,
        segmentation: SegmentationParameters | None = None,
    ) -> float:
        """Onset F1 of what is heard."""
        thresholds = segmentation or self.segmentation
        self._model.manifest = msgspec.structs.replace(
            self._model.manifest, segmentation=thresholds
        )
        recogniser = Recogniser(ModelEar(self._model, tuning), gain_db=gain_db)
        recogniser.reset()
        heard = finished_notes(recogniser, [Block(0, samples)])
        return score_notes(played, list(heard)).f1

    def both(self, one: Playing, expected_cents: float) -> tuple[float, float]:
        """Onset F1 without calibration and with it."""
        found = calibrate(one.first, expected_cents)
        plain, known = (
            self.f1(one.second, one.played, c.tuning, c.gain_db) for c in (UNCALIBRATED, found)
        )
        return plain, known


class Pianist:
    """Plays the same again on the same pianos, however they are tuned."""

    def __init__(self, train_folder: Path, cache_dir: Path | None) -> None:
        from training.render.segment import load_sources

        self._sources = load_sources(train_folder, cache_dir)

    def play(self, index: int, tuning: Tuning, noise_snr_db: float | None = None) -> Playing:
        """A minute; with noise so far below the playing, or none but the room's."""
        from training.render import room
        from training.render.segment import (
            LEAD_S,
            Conditions,
            draw_performance,
            heard,
            labels_of,
            segment_rng,
            shifted,
            to_level,
        )
        from training.render.synthesis import draw_touch, mix

        only_music = dict.fromkeys(
            ("chords", "scales", "repetitions", "single_keys", "soup", "silence"), 0.0
        )
        conditions = Conditions(**only_music, clip=0.0, voice=0.0, thumps=0.0)
        rng = segment_rng(SEED, index)
        piano = self._sources.pianos[index % len(self._sources.pianos)]
        keys = np.arange(128)
        cents = tuning.offset_cents + tuning.stretch_cents * (keys - 69) / 12
        touch = replace(
            draw_touch(rng), cents_of_key=cents + rng.normal(0.0, KEY_ERROR_CENTS, len(keys))
        )
        while True:
            _, performed = draw_performance(rng, self._sources, conditions, 2 * HALF_S + LEAD_S)
            performed = shifted(performed, -LEAD_S, 2 * HALF_S)
            if np.count_nonzero(performed.notes["onset_s"] >= HALF_S) >= FEWEST_NOTES:
                break
        strings = self._sources.string_responses[0]
        half = round(HALF_S * STREAM_RATE_HZ)
        dry = mix(rng, piano, performed, touch, 2 * half, strings)
        samples = heard(rng, dry, conditions, {}) if noise_snr_db is None else dry
        if noise_snr_db is not None:
            noise = room.coloured_noise(rng, len(dry))
            level = room.rms(dry) / room.rms(noise) * 10.0 ** (-noise_snr_db / 20)
            samples = dry + noise * np.float32(level)
        samples = to_level(samples, rng.uniform(-25.0, -3.0)).astype(np.float32)
        played = tuple(
            NoteEvent(int(n["pitch_midi"]), n["onset_s"] - HALF_S, n["offset_s"] - HALF_S, 64, 1.0)
            for n in labels_of(performed, 2 * HALF_S)
            if n["onset_s"] >= HALF_S
        )
        return Playing(samples[:half], samples[half:], played)


def expected_cents(offset_cents: float) -> float:
    """What a user knows who knows it to a quarter tone; nothing of a piano nearer to A 440."""
    return 0.0 if abs(offset_cents) < 50 else float(np.copysign(50, offset_cents))


def rendered_gain(hearer: Hearer, pianist: Pianist) -> list[dict[str, Any]]:
    """Onset F1 by offset, without calibration and with it."""
    rows = []
    for offset in track(OFFSETS_CENTS, "rendered", console=progress_console):
        found = [
            hearer.both(pianist.play(index, Tuning(offset)), expected_cents(offset))
            for index in range(SEGMENTS)
        ]
        rows.append(_row("cents", offset, found))
    return rows


def real_gain(hearer: Hearer) -> list[dict[str, Any]]:
    """The same on the real recordings, played faster or slower."""
    rows = []
    for offset in track(REAL_OFFSETS_CENTS, "real", console=progress_console):
        found = [
            hearer.both(at_speed(one, 2.0 ** (offset / 1200)), expected_cents(offset))
            for one in places.recordings()
        ]
        rows.append(_row("cents", offset, found))
    return rows


def at_speed(recording: Recording, speed: float) -> Playing:
    """The first minute of a recording, played at another speed and so at another pitch."""
    samples, rate_hz = soundfile.read(recording.audio, dtype="float32")
    minute = to_mono(samples)[: round(2 * HALF_S * rate_hz)]
    faster = resample(minute, round(rate_hz * speed))
    half = len(faster) // 2
    half_s = half / STREAM_RATE_HZ
    end_s = len(faster) / STREAM_RATE_HZ
    played = tuple(
        replace(
            note,
            onset_s=note.onset_s / speed - half_s,
            offset_s=(note.offset_s or note.onset_s) / speed - half_s,
        )
        for note in recording.played
        if half_s <= note.onset_s / speed < end_s
    )
    return Playing(faster[:half], faster[half:], played)


def level_gain(hearer: Hearer, pianist: Pianist) -> list[dict[str, Any]]:
    """Onset F1 by the peak of a recording of 16 bits."""
    playing = [pianist.play(index, Tuning()) for index in range(SEGMENTS)]
    return [
        _row("peak dBFS", peak, [hearer.both(_softer(one, peak), 0.0) for one in playing])
        for peak in track(PEAKS_DBFS, "level", console=progress_console)
    ]


def _softer(one: Playing, peak_dbfs: float) -> Playing:
    gain = 10.0 ** (peak_dbfs / 20) / max(np.abs(one.first).max(), np.abs(one.second).max())
    rng = np.random.default_rng(SEED)

    def recorded(samples: Float32) -> Float32:
        dither = rng.uniform(-0.5, 0.5, len(samples))
        steps: Float32 = np.round(samples * gain * 32_768 + dither).astype(np.float32)
        return steps / np.float32(32_768)

    return replace(one, first=recorded(one.first), second=recorded(one.second))


def reading_errors(pianist: Pianist) -> list[dict[str, Any]]:
    """How far the tuning is read off, by the length of playing."""
    rows = []
    tunings = [Tuning(o, s) for o in (-40, -15, 25, 45) for s in STRETCHES_CENTS]
    playing = {
        (index, tuning): pianist.play(index, tuning)
        for index in track(range(SEGMENTS), "reading", console=progress_console)
        for tuning in (Tuning(), *tunings)
    }

    def read(index: int, tuning: Tuning, seconds: float) -> Calibration | None:
        first = playing[index, tuning].first[: round(seconds * STREAM_RATE_HZ)]
        try:
            return calibrate(first, tuning.offset_cents)
        except InputError:
            return None

    for seconds in READ_FROM_S:
        offsets, stretches, refused = [], [], 0
        for index in range(SEGMENTS):
            before = read(index, Tuning(), seconds)
            for tuning in tunings:
                after = read(index, tuning, seconds)
                if before is None or after is None:
                    refused += 1
                    continue
                offsets.append(after.offset_cents - before.offset_cents - tuning.offset_cents)
                stretches.append(after.stretch_cents - before.stretch_cents - tuning.stretch_cents)
        rows.append(
            {
                "read from s": round(seconds),
                "offset: median": _quantile(offsets, 0.5),
                "95 %": _quantile(offsets, 0.95),
                "most": _quantile(offsets, 1.0),
                "stretch: median": _quantile(stretches, 0.5),
                "95 % ": _quantile(stretches, 0.95),
                "refused": refused,
            }
        )
    return rows


def stretch_gain(hearer: Hearer, pianist: Pianist) -> list[dict[str, Any]]:
    """Onset F1 with the spectrum laid out by the offset alone, and by the true stretch as well."""
    rows = []
    for stretch in track(STRETCHES_CENTS, "stretch", console=progress_console):
        playing = [pianist.play(index, Tuning(-30, stretch)) for index in range(SEGMENTS)]
        tried = {"offset alone": Tuning(-30), "and stretch": Tuning(-30, stretch)}
        rows.append(
            {"cents an octave": stretch}
            | {
                name: _mean(hearer.f1(one.second, one.played, tuning) for one in playing)
                for name, tuning in tried.items()
            }
        )
    return rows


def noise_gain(hearer: Hearer, pianist: Pianist) -> list[dict[str, Any]]:
    """Onset F1 in noise with other onset thresholds."""
    rows = []
    for snr_db in track(NOISE_SNR_DB, "noise", console=progress_console):
        playing = [pianist.play(index, Tuning(), snr_db) for index in range(SEGMENTS)]
        row: dict[str, Any] = {"noise below playing, dB": snr_db}
        for step in THRESHOLD_STEPS:
            raised = msgspec.structs.replace(
                hearer.segmentation,
                onset_threshold=tuple(t + step for t in hearer.segmentation.onset_threshold),
            )
            f1 = partial(hearer.f1, tuning=Tuning(), segmentation=raised)
            row[f"threshold {step:+.2f}"] = _mean(f1(one.second, one.played) for one in playing)
        rows.append(row)
    return rows


def _row(name: str, value: float, found: Sequence[tuple[float, float]]) -> dict[str, Any]:
    plain, known = zip(*found, strict=True)
    return {name: value, "uncalibrated": _mean(plain), "calibrated": _mean(known)}


def _mean(values: Any) -> float:
    return round(float(np.mean(list(values))), 3)


def _quantile(errors: Sequence[float], q: float) -> float:
    return round(float(np.quantile(np.abs(errors), q)), 1)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.detuned", description=__doc__)
    parser.add_argument("--ear", help="note model; the default one if left out")
    parser.add_argument("--train", type=Path, default=places.EVALUATION.parent / "train")
    parser.add_argument("--cache", type=Path, help="where parsed MIDI is remembered")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    hearer = Hearer(options.ear)
    parts: dict[str, Callable[[], list[dict[str, Any]]]] = {}
    if options.train.is_dir():
        pianist = Pianist(options.train, options.cache)
        parts = {
            "tuning, rendered: onset F1": lambda: rendered_gain(hearer, pianist),
            "error of the reading, cents": lambda: reading_errors(pianist),
            "level, rendered: onset F1": lambda: level_gain(hearer, pianist),
            "not used: stretch, onset F1": lambda: stretch_gain(hearer, pianist),
            "not used: noise, onset F1": lambda: noise_gain(hearer, pianist),
        }
    else:
        progress_console.print(f"{options.train} is not there: rendered playing is left out")
    if places.recordings():
        parts["tuning, real recordings: onset F1"] = lambda: real_gain(hearer)
    else:
        progress_console.print("no real recordings beside the project: they are left out")
    for title, measure in parts.items():
        rows = measure()
        if options.json:
            print(json.dumps({title: rows}), flush=True)
            continue
        table = Table(*rows[0], title=title)
        for row in rows:
            table.add_row(*(str(value) for value in row.values()))
        Console().print(table)


if __name__ == "__main__":
    main()
