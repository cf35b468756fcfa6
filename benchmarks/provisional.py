"""What comes before a note is sure, and how often it was right: strikes, guesses, the pedal.

    python -m benchmarks.provisional [--ear NAME] [--train FOLDER] [--real] [--sweep] [--json]

*Delay* counts from the true onset to the end of the 10 ms block with which the answer came, and
the time that the block took to be heard is added: what a subscriber beside the device would wait.
*Right* is a strike within 50 ms of a true one, and a provisional note that was confirmed. *Cost* is
CPU time of one thread, the same sound with and without.

Thresholds are chosen on rendered playing (``--sweep``); real recordings (``--real``) only measure.
The pedal is judged on activations drawn from the labels of the same rendered playing: as they are,
and with strings that are heard too long and keys that are let go too soon.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

import edge.provisional
from benchmarks import places
from edge.audio.block import BLOCK_S, STREAM_RATE_HZ
from edge.ear import load_ear
from edge.features import FeatureParameters
from edge.note import Heard, NoteEvent, NoteState, NoteUpdate, Strike
from edge.pedal import pedal_moves

if TYPE_CHECKING:
    from training.render.segment import Segment

Float32 = NDArray[np.float32]

SEED = 4711
SEGMENTS = 48
SEGMENT_S = 8.0
TOLERANCE_S = 0.05
PERCENTILES = (50, 95, 99)
SWEPT_ATTACK_S = (0.02, 0.03, 0.04)
SWEPT_CONFIDENCE = (0.5, 0.55, 0.6, 0.7)
# How the drawn activations are spoilt: strings heard too long by up to so much, and this share of
# the keys let go somewhere in the second half of their time.
LATE_SILENCE_S = 0.16
LET_GO_TOO_SOON = 1 / 6

progress_console = Console(stderr=True)


@dataclass(frozen=True, slots=True)
class Played:
    """Sound at the stream's rate and what was played; a rendered segment has both and more."""

    samples: Float32
    played: Sequence[NoteEvent]


@dataclass(slots=True)
class Tally:
    """Counts and delays over several recordings."""

    strikes: int = 0
    strikes_right: int = 0
    provisional: int = 0
    confirmed: int = 0
    both: int = 0
    strike_delays_s: list[float] = field(default_factory=list)
    note_delays_s: list[float] = field(default_factory=list)

    def figures(self) -> dict[str, Any]:
        return {
            "strikes": self.strikes,
            "strikes_right": self.strikes_right / max(1, self.strikes),
            "strike_delay_ms": _percentiles_ms(self.strike_delays_s),
            "provisional": self.provisional,
            "confirmed": self.confirmed,
            "provisional_confirmed": self.both / max(1, self.provisional),
            "confirmed_had_provisional": self.both / max(1, self.confirmed),
            "provisional_delay_ms": _percentiles_ms(self.note_delays_s),
        }


def _percentiles_ms(delays_s: list[float]) -> list[float]:
    return [round(1e3 * float(np.percentile(delays_s or [0.0], p)), 1) for p in PERCENTILES]


def hear(ear: Any, samples: Float32) -> list[tuple[Heard, float]]:
    """What is heard in blocks as a microphone gives them, each with the second at which it came."""
    step = round(BLOCK_S * STREAM_RATE_HZ)
    came: list[tuple[Heard, float]] = []
    for start in range(0, len(samples), step):
        block = samples[start : start + step]
        began_s = time.process_time()
        heard = ear.push(block)
        took_s = time.process_time() - began_s
        came += [(event, (start + len(block)) / STREAM_RATE_HZ + took_s) for event in heard]
    return came + [(event, len(samples) / STREAM_RATE_HZ) for event in ear.flush()]


def count(tally: Tally, came: Iterable[tuple[Heard, float]], played: Sequence[NoteEvent]) -> None:
    """Add what came of one recording."""
    onsets_s = np.array([note.onset_s for note in played])
    pitches = np.array([note.pitch_midi for note in played])
    guessed: set[int] = set()
    for event, at_s in came:
        if isinstance(event, Strike):
            tally.strikes += 1
            delay_s = _delay_s(event.onset_s, onsets_s, at_s)
            if delay_s is not None:
                tally.strikes_right += 1
                tally.strike_delays_s.append(delay_s)
        elif isinstance(event, NoteUpdate) and event.state is NoteState.PROVISIONAL:
            tally.provisional += 1
            guessed.add(event.id)
            same_key = onsets_s[pitches == event.note.pitch_midi]
            delay_s = _delay_s(event.note.onset_s, same_key, at_s)
            if delay_s is not None:
                tally.note_delays_s.append(delay_s)
        elif isinstance(event, NoteUpdate) and event.state is NoteState.CONFIRMED:
            tally.confirmed += 1
            tally.both += event.id in guessed


def _delay_s(heard_s: float, onsets_s: NDArray[np.float64], at_s: float) -> float | None:
    """From the true onset that is meant to the answer; None when there is none near."""
    if not len(onsets_s):
        return None
    nearest_s = float(onsets_s[np.argmin(np.abs(onsets_s - heard_s))])
    return at_s - nearest_s if abs(nearest_s - heard_s) <= TOLERANCE_S else None


def measure(name: str | None, recordings: Sequence[Played | Segment]) -> dict[str, Any]:
    """Delays, shares and cost on some recordings."""
    tally = Tally()
    costs = {}
    for provisional in (False, True):
        ear = load_ear(name, provisional=provisional)
        used_s = 0.0
        for one in track(recordings, f"provisional {provisional}", console=progress_console):
            began_s = time.process_time()
            came = hear(ear, one.samples)
            used_s += time.process_time() - began_s
            count(tally if provisional else Tally(), came, one.played)
        costs[provisional] = used_s / sum(len(one.samples) / STREAM_RATE_HZ for one in recordings)
    cost = {"cpu_s_per_s": costs[True], "cpu_s_per_s_without": costs[False]}
    return tally.figures() | cost


def sweep(name: str | None, recordings: Sequence[Played | Segment]) -> list[dict[str, Any]]:
    """The same for other values of the two thresholds of `edge.provisional`."""
    rows = []
    ear = load_ear(name, provisional=True)
    for attack_s in SWEPT_ATTACK_S:
        for confidence in SWEPT_CONFIDENCE:
            edge.provisional.ATTACK_S = attack_s
            edge.provisional.LEAST_CONFIDENCE = confidence
            tally = Tally()
            for one in track(recordings, f"{attack_s} {confidence}", console=progress_console):
                count(tally, hear(ear, one.samples), one.played)
            found = tally.figures()
            median_ms, p95_ms, _ = found["provisional_delay_ms"]
            rows.append(
                {
                    "attack s": attack_s,
                    "least confidence": confidence,
                    "confirmed": found["provisional_confirmed"],
                    "had provisional": found["confirmed_had_provisional"],
                    "median ms": median_ms,
                    "p95 ms": p95_ms,
                }
            )
    return rows


def pedal_figures(segments: Sequence[Segment]) -> dict[str, dict[str, float]]:
    """How well `edge.pedal` reads the pedal from activations drawn from labels."""
    rng = np.random.default_rng(SEED)
    drawn = [(one, *_drawn(one)) for one in segments]
    spoilt = [(one, *_spoilt(rng, *pair)) for one, *pair in drawn]
    return {"drawn": _agreement(drawn), "spoilt": _agreement(spoilt)}


def _drawn(one: Segment) -> tuple[Float32, Float32]:
    from training.preparation import notes_of
    from training.targets import HELD, SOUNDING, draw_targets

    features = FeatureParameters()
    frames = len(one.samples) // features.hop_samples
    targets = draw_targets(notes_of(one), 0, frames, features)
    return targets[:, :, SOUNDING], targets[:, :, HELD]


def _spoilt(rng: np.random.Generator, sounding: Float32, held: Float32) -> tuple[Float32, Float32]:
    """Strings heard too long, keys let go too soon: the ways in which a pedal could be made up."""
    sounding, held = sounding.copy(), held.copy()
    most_frames = round(LATE_SILENCE_S / FeatureParameters().hop_s)
    for key in range(held.shape[1]):
        for _, end in _stretches(sounding[:, key]):
            sounding[end : end + int(rng.integers(most_frames + 1)), key] = 1
        for start, end in _stretches(held[:, key]):
            if rng.random() < LET_GO_TOO_SOON:
                held[start + int((end - start) * rng.uniform(0.5, 1)) : end, key] = 0
    noise = rng.normal(0, 0.15, (2, *held.shape)).astype(np.float32)
    return np.clip(sounding + noise[0] * sounding, 0, 1), np.clip(held + noise[1] * held, 0, 1)


def _stretches(line: Float32) -> list[tuple[int, int]]:
    edges = np.diff(np.concatenate([[0], line > 0, [0]]).astype(int))
    return list(zip(np.flatnonzero(edges > 0), np.flatnonzero(edges < 0), strict=True))


def _agreement(cases: Sequence[tuple[Segment, Float32, Float32]]) -> dict[str, float]:
    """Share of the time that was said rightly and found, and pedals said where there was none."""
    hop_s = FeatureParameters().hop_s
    said_frames = true_frames = both_frames = said = made_up = 0
    for one, sounding, held in cases:
        true = np.zeros(len(held), np.bool_)
        for down_s, up_s in one.pedal:
            true[int(down_s / hop_s) : int(np.ceil(up_s / hop_s))] = True
        moves = pedal_moves(sounding, held, hop_s)
        heard = np.zeros(len(held), np.bool_)
        for down, up in zip(moves[::2], moves[1::2], strict=True):
            stretch = slice(round(down.t_s / hop_s), round(up.t_s / hop_s) + 1)
            heard[stretch] = True
            said += 1
            made_up += not true[stretch].any()
        said_frames += int(heard.sum())
        true_frames += int(true.sum())
        both_frames += int((heard & true).sum())
    return {
        "time_precision": both_frames / max(1, said_frames),
        "time_recall": both_frames / max(1, true_frames),
        "said": said,
        "made_up": made_up,
    }


def rendered(train_folder: Path, cache_dir: Path | None) -> list[Segment]:
    """Segments that any run of this seed renders alike."""
    from training.render.segment import load_sources, render_segment, segment_rng

    sources = load_sources(train_folder, cache_dir=cache_dir)
    return [
        render_segment(segment_rng(SEED, index), sources, SEGMENT_S)
        for index in track(range(SEGMENTS), "rendering", console=progress_console)
    ]


def real() -> list[Played]:
    """The real recordings of the evaluation data, whole."""
    import soundfile

    from edge.audio.resample import resample, to_mono

    found = []
    for recording in places.recordings():
        samples, rate_hz = soundfile.read(recording.audio, dtype="float32")
        found.append(Played(resample(to_mono(samples), rate_hz), recording.played))
    return found


def as_table(rows: Sequence[dict[str, Any]]) -> Table:
    made = Table(*rows[0])
    for row in rows:
        made.add_row(*(f"{v:.3f}" if isinstance(v, float) else str(v) for v in row.values()))
    return made


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.provisional", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--ear", metavar="NAME", help="default: the installed model")
    parser.add_argument("--train", type=Path, default=places.ROOT.parent / "shared/data/train")
    parser.add_argument("--cache", type=Path, help="where parsed MIDI is remembered")
    parser.add_argument("--real", action="store_true", help="measure on real recordings as well")
    parser.add_argument("--sweep", action="store_true", help="try other thresholds, rendered only")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    report: dict[str, Any] = {}
    if options.train.is_dir():
        segments = rendered(options.train, options.cache)
        report["pedal"] = pedal_figures(segments)
        if options.sweep:
            report["sweep"] = sweep(options.ear, segments)
        else:
            report["rendered"] = measure(options.ear, segments)
    else:
        progress_console.print(f"rendered playing left out: no {options.train}")
    if options.real:
        recordings = real()
        if recordings:
            report["real"] = measure(options.ear, recordings)
        else:
            progress_console.print(f"real recordings left out: none in {places.EVALUATION}")
    if options.json:
        print(json.dumps(report, indent=1))
        return
    console = Console()
    for name, found in report.items():
        console.print(name)
        if name == "sweep":
            console.print(as_table(found))
        else:
            console.print_json(json.dumps(found))


if __name__ == "__main__":
    main()
