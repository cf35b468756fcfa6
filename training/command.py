"""``sostenuto-studio train``: from a folder of pianos to a trained ear.

``train`` renders what it needs (several processes, a progress bar), then trains for the hours it is
given and leaves a run: a folder that ``convert`` turns into a model, and that a later ``train`` of
the same folder continues.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from edge.ear import LONGEST_LOOKAHEAD_MS
from edge.errors import InputError, UsageError
from edge.features import FeatureParameters
from edge.manifest import lookahead_ms
from training.architecture import FAMILIES, LOOKAHEAD_FRAMES, SEPARABLE3D
from training.crew import RAY_HELP, MakeShard, begin_hands, make_shards
from training.preparation import SEGMENTS_PER_SHARD, prepare_shard, shard_path
from training.run_record import RunRecord, record_run, versions
from training.skipped import Skipped, report_count, report_skipped
from training.stream import ShardStream

SEGMENT_S = 12.0
# Seeds of the segments trained on, and of those that thresholds are fitted to: these are music
# alone, for there a hand goes from one key to the next and notes end as players end them.
TRAINING_SEED, JUDGING_SEED = 2, 9
JUDGING_HOURS = 0.2
MODELLED_PIANOS = 20
PEAK_RATE = 1.5e-3
FONT_FOLDER = Path("/usr/share/sounds/sf2")
# Soundfonts, two pianos each, and the Debian packages that hold them (MIT, both).
FONTS = {
    FONT_FOLDER / "FluidR3_GM.sf2": "fluid-soundfont-gm",
    FONT_FOLDER / "MuseScore_General_Full.sf2": "musescore-general-soundfont-lossless",
}

_to_people = Console(stderr=True)


@dataclass(frozen=True, slots=True)
class ShardFolder:
    """A folder of shards that a training run reads, and how much sound belongs into it."""

    folder: Path
    seed: int
    hours: float

    def paths(self) -> dict[tuple[int, int], Path]:
        """Where each shard lies, by seed and number."""
        shards = shards_of(self.hours)
        return {(self.seed, n): shard_path(self.folder, self.seed, n) for n in range(shards)}


def shards_of(hours: float) -> int:
    """How many shards so much sound is; one at least."""
    return max(1, round(hours * 3600 / (SEGMENTS_PER_SHARD * SEGMENT_S)))


def render_shards(
    folders: Sequence[ShardFolder],
    train_folder: Path,
    cache: Path,
    processes: int,
    ray_address: str | None = None,
    held_out: Sequence[str] = (),
) -> tuple[Skipped, ...]:
    """Render what is missing of some folders; shards already there are kept.

    Returns what of the training folder could not be used, and which soundfonts are not there; each
    is named on the way. Where nothing is missing, nothing is read.
    """
    paths = {shard: path for folder in folders for shard, path in folder.paths().items()}
    if all(path.exists() for path in paths.values()):
        return ()
    make, skipped = shard_maker(train_folder, cache, held_out)
    make_shards(make, paths, processes, ray_address, _to_people)
    return skipped


def shard_maker(
    train_folder: Path, cache: Path, held_out: Sequence[str] = ()
) -> tuple[MakeShard, tuple[Skipped, ...]]:
    """What renders shards from a training folder, and what is left out, named on the way."""
    from training.render.segment import load_sources, music
    from training.render.soundfont import SoundfontPreset

    fonts = [SoundfontPreset(f, program) for f in FONTS if f.exists() for program in (0, 1)]
    sources = load_sources(train_folder, cache, held_out, fonts, MODELLED_PIANOS)
    skipped = (*missing_fonts(), *sources.skipped)
    report_skipped(skipped, _to_people)
    make = partial(
        prepare_shard,
        sources,
        FeatureParameters(),
        SEGMENT_S,
        conditions={JUDGING_SEED: music(sources)},
    )
    return make, skipped


def missing_fonts() -> list[Skipped]:
    """The soundfonts that are not on this machine, each with the package to install."""
    return [
        Skipped(font.name, f"not in {font.parent}: apt install {package} gives two more pianos")
        for font, package in FONTS.items()
        if not font.exists()
    ]


def train_command(
    run: Annotated[Path, typer.Argument(help="Folder of the run; an unfinished one goes on.")],
    pianos: Annotated[
        Path,
        typer.Option(
            "--train-folder", help="Folder with pianos/ and performances/ to render from."
        ),
    ],
    hours: Annotated[
        float, typer.Option(help="Hours to train, not counting what is rendered before.")
    ] = 1.25,
    steps: Annotated[
        int, typer.Option(min=0, help="Train for so many steps instead, however long they take.")
    ] = 0,
    peak_rate: Annotated[
        float,
        typer.Option(help="Learning rate at its highest, after a warm-up; then it fades."),
    ] = PEAK_RATE,
    audio_hours: Annotated[float, typer.Option(help="Hours of sound to render.")] = 14.0,
    keep_hours: Annotated[
        float | None,
        typer.Option(
            help="Keep no more than so many hours of sound on disk (60 MB each): the rest is "
            "rendered while the model trains, and what it has heard is deleted."
        ),
    ] = None,
    family: Annotated[
        str, typer.Option(help="separable3d, compressed, or conv3d_reference to compare with.")
    ] = SEPARABLE3D,
    channels: Annotated[
        int | None, typer.Option(min=1, help="Width of the model; by default its family's.")
    ] = None,
    reach_patterns: Annotated[
        int,
        typer.Option(
            min=0,
            help="separable3d: kernels through which keys reach for one another; 0: one for each "
            "channel.",
        ),
    ] = 0,
    lookahead_frames: Annotated[
        int, typer.Option(min=0, help="Frames of 20 ms that a decision waits for.")
    ] = LOOKAHEAD_FRAMES,
    processes: Annotated[int, typer.Option(help="Processes that render.")] = os.cpu_count() or 1,
    ray: Annotated[str | None, typer.Option(metavar="ADDRESS", help=RAY_HELP)] = None,
    hold_out: Annotated[
        list[str] | None,
        typer.Option(help="An instrument that must not be heard in training; may be repeated."),
    ] = None,
    start_from: Annotated[
        Path | None,
        typer.Option(help="Run or checkpoint (.npz), no wider, whose weights this begins with."),
    ] = None,
) -> None:
    """Train a note model on rendered pianos.

    The run's folder holds shards/ (rendered spectra), judging/ (those kept apart), run.json (what
    it is made from), the averaged weights and log.jsonl. Stopped and started again, it goes on, if
    it is made from the same. Convert it with: sostenuto-studio convert RUN
    """
    if not (pianos / "pianos").is_dir():
        raise InputError(f"no folder {pianos / 'pianos'}: --train-folder must hold sampled pianos")
    kept_hours = audio_hours if keep_hours is None else keep_hours
    if min(hours, audio_hours, kept_hours, peak_rate) <= 0 or processes < 1:
        raise UsageError(
            f"--hours {hours}, --audio-hours {audio_hours}, --keep-hours {kept_hours}, "
            f"--peak-rate {peak_rate}, --processes {processes}: hours and rate must be more than "
            "0, and one process or more is needed"
        )
    from training.train import Schedule, train

    if family not in FAMILIES:
        raise UsageError(f"--family {family}: allowed are {', '.join(FAMILIES)}")
    shape = {"lookahead_frames": lookahead_frames}
    if channels is not None:
        shape["channels"] = channels
    if reach_patterns:
        if family != SEPARABLE3D:
            raise UsageError(
                f"--reach-patterns {reach_patterns}: only {SEPARABLE3D} has them, not {family}"
            )
        shape["reach_patterns"] = reach_patterns
    architecture = FAMILIES[family](**shape)
    late_ms = lookahead_ms(architecture.features, lookahead_frames)
    if late_ms > LONGEST_LOOKAHEAD_MS:
        raise UsageError(
            f"--lookahead-frames {lookahead_frames} makes an ear that waits {late_ms:.0f} ms: "
            f"a device waits {LONGEST_LOOKAHEAD_MS:.0f} ms at most"
        )

    schedule = Schedule(hours=hours, steps=steps, peak_rate=peak_rate)
    record_run(
        run,
        RunRecord(
            train_folder=pianos.resolve().name,
            held_out=tuple(sorted(set(hold_out or ()))),
            audio_hours=audio_hours,
            soundfonts=tuple(font.name for font in FONTS if font.exists()),
            schedule=asdict(schedule),
            start_from=None if start_from is None else start_from.resolve().name,
            versions=versions(),
        ),
    )
    judging = ShardFolder(run / "judging", JUDGING_SEED, JUDGING_HOURS)
    shards = ShardFolder(run / "shards", TRAINING_SEED, audio_hours)
    learn = partial(train, architecture, run / "shards", run, schedule, start_from=start_from)
    if kept_hours >= audio_hours:
        folders = (judging, shards)
        skipped = render_shards(folders, pianos, run / "cache", processes, ray, hold_out or ())
        learn()
    else:
        make, skipped = shard_maker(pianos, run / "cache", hold_out or ())
        make_shards(make, judging.paths(), processes, ray, _to_people)
        with begin_hands(make, processes, ray) as hands:
            kept = shards_of(kept_hours)
            learn(refill=ShardStream(hands, shards.paths(), kept, _to_people).move)
    report_count(skipped, _to_people)
