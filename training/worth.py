"""What each part of the ear that is not learnt is worth, on rendered playing.

The onset detector is run whole and with each of its three refinements switched off; the template
ear and the note model with the dynamic threshold and with a fixed step, the model also with each of
the threshold's rules switched off. A variant whose scale differs gets the best of
a few thresholds, so that a part is not praised for another's tuning. Rerun it with::

    python -m training.worth ../shared/data/train

Real recordings play no part in it: the thresholds of `edge.onsets` and `edge.template_ear` were
chosen by this; the model's were fitted to other rendered playing (`training.thresholds`).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from edge.ear import DEFAULT_MODEL, find_manifest
from edge.errors import InputError, SostenutoError
from edge.features import log_frequency_spectrum
from edge.manifest import read_manifest, read_model_file
from edge.model import NoteModel
from edge.note import NoteEvent, NoteState, NoteUpdate
from edge.onsets import OnsetParameters, onset_strength, pick_onsets
from edge.segmentation import SegmentationParameters
from edge.template_ear import TEMPLATE_SEGMENTATION, TemplateEar
from training.evaluation import NoteScores, mean_scores, score_notes
from training.thresholds import Judged, judge

Float32 = NDArray[np.float32]

SEED = 7
SEGMENTS = 40
SEGMENT_S = 10.0
# Notes of a chord that begin within so long are one onset.
CHORD_S = 0.03
MEDIAN_FACTORS = (1.5, 2.0, 3.0)
LEAST_STRENGTHS = (0.00002, 0.0001, 0.0005, 0.001, 0.002, 0.003, 0.006)
FIXED_STEPS = (0.1, 0.15, 0.2, 0.25, 0.3)
MODEL_STEPS = (0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65)
WITHOUT_RULE: dict[str, dict[str, float]] = {
    "noise": {"noise_factor": 0.0},
    "shadow": {"shadow_fraction": 0.0},
    "own last peak": {"restrike_fraction": 0.0},
    "rise": {"rise_fraction": 0.0},
    "chord": {"chord_fraction": 0.0},
    "support": {"support": 0.0},
}
"""What switches off each rule of `edge.segmentation` by which a peak must be a strike."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """A segment of sound at 16 kHz and the notes that begin in it."""

    samples: Float32
    played: tuple[NoteEvent, ...]


@dataclass(frozen=True, slots=True)
class Worth:
    """Mean scores of one variant; ``bias_ms`` is the median of heard minus played onsets."""

    name: str
    precision: float
    recall: float
    f1: float
    bias_ms: float | None = None


def strikes_s(played: Sequence[NoteEvent]) -> NDArray[np.float64]:
    """Onsets in seconds, those of a chord counted once."""
    times: list[float] = []
    for onset_s in sorted(note.onset_s for note in played):
        if not times or onset_s - times[-1] > CHORD_S:
            times.append(onset_s)
    return np.array(times)


def score_onsets(segments: Sequence[Rendered], parameters: OnsetParameters, name: str) -> Worth:
    """Flux onsets against strikes, within 50 ms."""
    from mir_eval.onset import f_measure
    from mir_eval.util import match_events

    rows: list[tuple[float, float, float]] = []
    late_ms: list[float] = []
    for one in segments:
        played = strikes_s(one.played)
        onsets = pick_onsets(onset_strength(one.samples, parameters), parameters)
        heard = np.array([onset.sample for onset in onsets]) / parameters.sample_rate_hz
        if not len(onsets):
            rows.append((0.0, 0.0, 0.0))
            continue
        f1, precision, recall = f_measure(played, heard, window=0.05)
        rows.append((precision, recall, f1))
        late_ms += [1000 * (heard[j] - played[i]) for i, j in match_events(played, heard, 0.05)]
    precision, recall, f1 = np.mean(rows, axis=0)
    return Worth(name, precision, recall, f1, float(np.median(late_ms)) if late_ms else None)


def best_onsets(segments: Sequence[Rendered], parameters: OnsetParameters, name: str) -> Worth:
    """The same at the best of a few thresholds."""
    tried = [
        msgspec.structs.replace(parameters, median_factor=factor, least_strength=least)
        for factor, least in product(MEDIAN_FACTORS, LEAST_STRENGTHS)
    ]
    return max((score_onsets(segments, p, name) for p in tried), key=lambda worth: worth.f1)


def score_templates(
    segments: Sequence[Rendered], segmentation: SegmentationParameters, name: str
) -> Worth:
    """Notes of the template ear against those played."""
    scores: list[NoteScores] = []
    for one in segments:
        ear = TemplateEar(segmentation=segmentation)
        updates = ear.push(one.samples) + ear.flush()
        heard = [
            update.note
            for update in updates
            if isinstance(update, NoteUpdate) and update.state is NoteState.ENDED
        ]
        scores.append(score_notes(one.played, heard))
    mean = mean_scores(scores)
    return Worth(name, mean.precision, mean.recall, mean.f1)


def every_variant(segments: Sequence[Rendered]) -> Iterator[Worth]:
    """All rows of the table, one by one."""
    whole = OnsetParameters()
    yield score_onsets(segments, whole, "onsets")
    for switch in ("weighted", "scaled", "differenced"):
        without = msgspec.structs.replace(whole, **{switch: False})
        yield best_onsets(segments, without, f"onsets, not {switch}")
    yield score_templates(segments, TEMPLATE_SEGMENTATION, "templates, dynamic threshold")
    yield max((_fixed_step(segments, step) for step in FIXED_STEPS), key=lambda worth: worth.f1)
    yield from model_variants(*heard_by_model(segments))


def heard_by_model(
    segments: Sequence[Rendered],
) -> tuple[SegmentationParameters, list[Judged]]:
    """The default model's thresholds, and its activations for each segment."""
    path = find_manifest(DEFAULT_MODEL)
    manifest = read_manifest(path)
    content, features = read_model_file(manifest, path.parent), manifest.features
    judged = []
    for one in segments:
        model = NoteModel(manifest, content)
        spectrum = log_frequency_spectrum(one.samples, features)
        activations = np.concatenate([model.push(spectrum), model.flush()])
        judged.append(Judged(activations, one.played, features.hop_s))
    return manifest.segmentation, judged


def model_variants(shipped: SegmentationParameters, judged: Sequence[Judged]) -> Iterator[Worth]:
    """The model's rows: as it ships, with a fixed step, without each rule."""

    def best(name: str, **changed: object) -> Worth:
        steps = {(step, step, step) for step in MODEL_STEPS} | {shipped.onset_threshold}
        tried = [
            judge(judged, msgspec.structs.replace(shipped, onset_threshold=step, **changed))
            for step in sorted(steps)
        ]
        scores = max(tried, key=lambda one: one.f1)
        return Worth(name, scores.precision, scores.recall, scores.f1)

    yield best("model, dynamic threshold")
    yield best("model, fixed step", dynamic=False)
    for rule, off in WITHOUT_RULE.items():
        yield best(f"model, without {rule}", **off)


def _fixed_step(segments: Sequence[Rendered], step: float) -> Worth:
    segmentation = msgspec.structs.replace(
        TEMPLATE_SEGMENTATION, dynamic=False, onset_threshold=(step, step, step)
    )
    return score_templates(segments, segmentation, f"templates, fixed at {step}")


def render_segments(train_folder: Path) -> list[Rendered]:
    """The segments that are judged on, each from its own generator."""
    from training.render.segment import load_sources, render_segment, segment_rng

    if not train_folder.is_dir():
        raise InputError(f"{train_folder} is no folder: give the training data's, with pianos/")
    sources = load_sources(train_folder)
    segments = []
    for index in range(SEGMENTS):
        one = render_segment(segment_rng(SEED, index), sources, SEGMENT_S)
        if one.played:
            segments.append(Rendered(one.samples, one.played))
    return segments


def main(arguments: Sequence[str]) -> int:
    """Print the table; 0, or the exit code of what was wrong."""
    console = Console()
    if len(arguments) != 1:
        console.print("usage: python -m training.worth TRAINING_DATA")
        return 2
    table = Table("variant", "precision", "recall", "F1", "median late, ms")
    try:
        for row in every_variant(render_segments(Path(arguments[0]))):
            bias = "" if row.bias_ms is None else f"{row.bias_ms:.1f}"
            table.add_row(
                row.name, f"{row.precision:.3f}", f"{row.recall:.3f}", f"{row.f1:.3f}", bias
            )
    except SostenutoError as error:
        console.print(str(error))
        return error.exit_code
    console.print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
