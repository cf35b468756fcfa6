"""``sostenuto-studio train`` and ``evaluate``: from a folder of pianos to a measured ear.

``train`` renders what it needs (several processes, a progress bar), then trains for the hours it is
given and leaves a run: a folder that ``convert`` turns into a model, and that a later ``train`` of
the same folder continues.
"""

from __future__ import annotations

import json
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from edge.errors import InputError, UsageError
from edge.features import FeatureParameters
from training.evaluation import NoteScores, mean_scores, score_notes
from training.preparation import SEGMENTS_PER_SHARD, prepare_shards

SEGMENT_S = 12.0
# Seeds of the segments trained on, and of those that thresholds are fitted to.
TRAINING_SEED, JUDGING_SEED = 2, 9
MODELLED_PIANOS = 20
# Debian's fluid-soundfont-gm and musescore-general-soundfont-lossless, both MIT: two pianos each.
FONT_FOLDER = Path("/usr/share/sounds/sf2")
FONTS = (FONT_FOLDER / "FluidR3_GM.sf2", FONT_FOLDER / "MuseScore_General_Full.sf2")

_to_people = Console(stderr=True)


def _render_shard(folder: Path, train_folder: Path, cache: Path, seed: int, shard: int) -> int:
    """One shard; the pianos stay loaded in each process."""
    prepare_shards(
        folder, _sources(train_folder, cache), FeatureParameters(), seed, [shard], SEGMENT_S
    )
    return shard


_loaded: dict[Path, Any] = {}


def _sources(train_folder: Path, cache: Path) -> Any:
    from training.render.segment import load_sources
    from training.render.soundfont import SoundfontPreset

    if train_folder not in _loaded:
        fonts = [SoundfontPreset(f, program) for f in FONTS if f.exists() for program in (0, 1)]
        _loaded[train_folder] = load_sources(
            train_folder, cache, soundfonts=fonts, modelled=MODELLED_PIANOS
        )
    return _loaded[train_folder]


def render_shards(
    folder: Path, train_folder: Path, cache: Path, seed: int, hours: float, processes: int
) -> None:
    """Render so many hours into ``folder``; shards already there are kept."""
    count = max(1, round(hours * 3600 / (SEGMENTS_PER_SHARD * SEGMENT_S)))
    missing = [n for n in range(count) if not (folder / f"{seed:03}-{n:05}.npz").exists()]
    bar = Progress(
        TextColumn("rendering"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=_to_people,
    )
    spawn = multiprocessing.get_context("spawn")
    with bar, ProcessPoolExecutor(processes, mp_context=spawn) as pool:
        task = bar.add_task("rendering", total=count, completed=count - len(missing))
        jobs = [pool.submit(_render_shard, folder, train_folder, cache, seed, n) for n in missing]
        for done in as_completed(jobs):
            done.result()
            bar.advance(task)


def train_command(
    run: Annotated[Path, typer.Argument(help="Folder of the run; an unfinished one goes on.")],
    pianos: Annotated[
        Path,
        typer.Option(
            "--train-folder", help="Folder with pianos/ and performances/ to render from."
        ),
    ],
    hours: Annotated[float, typer.Option(help="Hours to train, rendering not counted.")] = 1.25,
    audio_hours: Annotated[float, typer.Option(help="Hours of sound to render.")] = 14.0,
    channels: Annotated[int, typer.Option(help="Width of the model.")] = 96,
    processes: Annotated[int, typer.Option(help="Processes that render.")] = os.cpu_count() or 1,
    start_from: Annotated[
        Path | None, typer.Option(help="Run whose averaged weights this one begins with.")
    ] = None,
) -> None:
    """Train a note model on rendered pianos.

    The run's folder holds shards/ (rendered spectra), judging/ (those kept apart), the averaged
    weights and log.jsonl. Convert it with: sostenuto-studio convert RUN
    """
    if not (pianos / "pianos").is_dir():
        raise InputError(f"no folder {pianos / 'pianos'}: --train-folder must hold sampled pianos")
    if hours <= 0 or audio_hours <= 0:
        raise UsageError(f"--hours {hours} and --audio-hours {audio_hours} must be more than 0")
    from training.architecture import separable3d
    from training.train import Schedule, train

    cache = run / "cache"
    render_shards(run / "shards", pianos, cache, TRAINING_SEED, audio_hours, processes)
    render_shards(run / "judging", pianos, cache, JUDGING_SEED, 0.2, 1)
    train(separable3d(channels), run / "shards", run, Schedule(hours=hours), start_from=start_from)


def evaluate_command(
    recordings: Annotated[
        Path | None, typer.Option(help="Folder of audio files with a MIDI of the same stem each.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Installed model, path to a .tflite, or 'templates'.")
    ] = None,
    reference: Annotated[Path | None, typer.Option(help="Folder of MIDI: what was played.")] = None,
    estimate: Annotated[Path | None, typer.Option(help="Folder of MIDI: what was heard.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Score an ear on recordings, or anyone's MIDI against a reference.

    Notes count as found within 50 ms of their onset; with offsets, within 50 ms or a fifth of
    their length (mir_eval). Figures are means over files.
    """
    if recordings is not None and reference is None and estimate is None:
        scores = scores_of_ear(recordings, model)
    elif reference is not None and estimate is not None and recordings is None:
        scores = _scores_of_midi(reference, estimate)
    else:
        raise UsageError("give --recordings DIR, or --reference DIR and --estimate DIR")
    if as_json:
        document = {
            "mean": asdict(mean_scores(list(scores.values()))),
            "files": {name: asdict(found) for name, found in scores.items()},
        }
        typer.echo(json.dumps(document, indent=1))
    else:
        Console().print(_table(scores))


def scores_of_ear(recordings: Path, model: str | None) -> dict[str, NoteScores]:
    """Scores of a model on every audio file of a folder that has a MIDI of the same stem."""
    import soundfile

    from edge.midi import read_midi
    from edge.transcription import transcribe

    audio = [
        path
        for path in sorted(recordings.glob("*"))
        if path.suffix.lower() in {".wav", ".flac", ".mp3", ".ogg"}
        and path.with_suffix(".mid").exists()
    ]
    if not audio:
        raise InputError(f"no audio file with a MIDI of the same name in {recordings}")
    scores = {}
    with Progress(console=_to_people) as bar:
        for path in bar.track(audio, description="listening"):
            samples, rate_hz = soundfile.read(path, dtype="float32")
            heard = transcribe(samples, rate_hz, model)
            scores[path.stem] = score_notes(read_midi(path.with_suffix(".mid")).notes, heard)
    return scores


def _scores_of_midi(reference: Path, estimate: Path) -> dict[str, NoteScores]:
    from edge.midi import read_midi

    played = sorted(reference.glob("*.mid"))
    if not played:
        raise InputError(f"no .mid in {reference}")
    scores = {}
    for path in played:
        if not (estimate / path.name).exists():
            raise InputError(f"{estimate} has no {path.name}: every reference needs its estimate")
        heard = read_midi(estimate / path.name).notes
        scores[path.stem] = score_notes(read_midi(path).notes, heard)
    return scores


def _table(scores: dict[str, NoteScores]) -> Table:
    table = Table("", "precision", "recall", "onset F1", "F1 with offsets")
    for name, found in scores.items():
        table.add_row(name, *_figures(found))
    table.add_section()
    table.add_row("mean", *_figures(mean_scores(list(scores.values()))))
    return table


def _figures(found: NoteScores) -> list[str]:
    return [f"{x:.3f}" for x in (found.precision, found.recall, found.f1, found.f1_with_offsets)]
