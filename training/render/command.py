"""``sostenuto-studio render``: labelled sound in files, for whoever trains elsewhere.

Each segment becomes a FLAC, a JSON with its labels and recipe, and a MIDI file; 64 of them
make a shard, a folder of its own. A segment depends on the seed and its number alone, so any
number of processes give the same files, and a run that was stopped goes on with the shards
that are missing: a shard's folder gets its name only when it is complete.
"""

from __future__ import annotations

import json
import multiprocessing
import queue
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import mido
import soundfile as sf
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from edge.errors import InputError, UsageError
from training.render.performance import PEDAL_CONTROLLER
from training.render.piano import SAMPLE_RATE_HZ
from training.render.segment import (
    Conditions,
    Segment,
    Sources,
    load_sources,
    render_segment,
    segment_rng,
)
from training.render.soundfont import SoundfontPreset

SEGMENTS_PER_SHARD = 64
TICKS_PER_S = 960
SILENCE_BETWEEN_REPORTS_S = 5.0


@dataclass(frozen=True, slots=True)
class RenderPlan:
    """What to write where: everything a process needs beside the sources."""

    folder: Path
    seed: int
    segments: int
    duration_s: float
    conditions: Conditions

    @property
    def shards(self) -> int:
        return -(-self.segments // SEGMENTS_PER_SHARD)

    def shard_folder(self, shard: int) -> Path:
        return self.folder / f"shard_{self.seed:04d}_{shard:05d}"

    def segment_indices(self, shard: int) -> range:
        first = shard * SEGMENTS_PER_SHARD
        return range(first, min(first + SEGMENTS_PER_SHARD, self.segments))

    def missing_shards(self) -> list[int]:
        return [shard for shard in range(self.shards) if not self.shard_folder(shard).exists()]


def segment_midi(segment: Segment) -> mido.MidiFile:
    """The keys and the pedal of a segment; a note begun before it starts at 0."""
    timed: list[tuple[float, int, mido.Message]] = []
    for note in segment.notes:
        key, velocity = int(note["pitch_midi"]), int(note["velocity"])
        down = mido.Message("note_on", note=key, velocity=velocity)
        timed.append((max(float(note["onset_s"]), 0.0), 2, down))
        up = mido.Message("note_off", note=key, velocity=0)
        timed.append((max(float(note["key_offset_s"]), 0.0), 1, up))
    for down_s, up_s in segment.pedal:
        for time_s, value in ((down_s, 127), (up_s, 0)):
            change = mido.Message("control_change", control=PEDAL_CONTROLLER, value=value)
            timed.append((float(time_s), 0, change))
    track = mido.MidiTrack()
    before = 0
    for time_s, _, message in sorted(timed, key=lambda entry: entry[:2]):
        ticks = round(time_s * TICKS_PER_S)
        track.append(message.copy(time=ticks - before))
        before = ticks
    return mido.MidiFile(ticks_per_beat=480, tracks=[track])


def segment_labels(segment: Segment) -> dict[str, object]:
    """A segment's labels in plain values, times in seconds."""
    names = segment.notes.dtype.names or ()
    return {
        "piano": segment.piano,
        "sample_rate_hz": SAMPLE_RATE_HZ,
        "duration_s": len(segment.samples) / SAMPLE_RATE_HZ,
        "recipe": segment.recipe,
        "notes": [
            {name: round(value.item(), 5) for name, value in zip(names, note, strict=True)}
            for note in segment.notes
        ],
        "pedal": [[round(float(down), 5), round(float(up), 5)] for down, up in segment.pedal],
    }


def write_segment(segment: Segment, stem: Path) -> None:
    """``stem``.flac, .json and .mid."""
    sf.write(stem.with_suffix(".flac"), segment.samples, SAMPLE_RATE_HZ, subtype="PCM_16")
    labels = json.dumps(segment_labels(segment), separators=(",", ":"), allow_nan=False)
    stem.with_suffix(".json").write_text(labels + "\n", encoding="utf-8")
    segment_midi(segment).save(stem.with_suffix(".mid"))


def render_shard(plan: RenderPlan, sources: Sources, shard: int) -> None:
    """Write one shard; its folder appears under its name when every segment is there."""
    finished = plan.shard_folder(shard)
    unfinished = finished.with_name(finished.name + ".part")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    for index in plan.segment_indices(shard):
        rng = segment_rng(plan.seed, index)
        segment = render_segment(rng, sources, plan.duration_s, plan.conditions)
        write_segment(segment, unfinished / f"{index:07d}")
    unfinished.rename(finished)


def _render_shards(
    plan: RenderPlan,
    sources: Sources,
    shards: list[int],
    finished: multiprocessing.Queue[int],
) -> None:
    for shard in shards:
        render_shard(plan, sources, shard)
        finished.put(shard)


def render_plan(plan: RenderPlan, sources: Sources, processes: int, progress: Progress) -> None:
    """Render what is missing of a plan, in this many processes.

    The processes are forked, so that all share one copy of the pianos.

    Raises
    ------
    InputError
        A process died (the disk is full, or memory ran out).
    """
    shards = plan.missing_shards()
    done_before = plan.shards - len(shards)
    task = progress.add_task("rendering shards", total=plan.shards, completed=done_before)
    context = multiprocessing.get_context("fork")
    finished: multiprocessing.Queue[int] = context.Queue()
    workers = [
        context.Process(
            target=_render_shards,
            args=(plan, sources, shards[first::processes], finished),
            daemon=True,
        )
        for first in range(min(processes, len(shards)))
    ]
    for worker in workers:
        worker.start()
    left = len(shards)
    while left:
        try:
            finished.get(timeout=SILENCE_BETWEEN_REPORTS_S)
        except queue.Empty:
            dead = [worker.exitcode for worker in workers if worker.exitcode]
            if dead:
                for worker in workers:
                    worker.terminate()
                raise InputError(
                    f"a rendering process ended with code {dead[0]}; "
                    "the shards so far are whole: run the same command again"
                ) from None
        else:
            left -= 1
            progress.advance(task)
    for worker in workers:
        worker.join()


def report_skipped(sources: Sources, console: Console) -> None:
    """Name every recording that could not be used, and count them."""
    skipped = [(piano.name, reason) for piano in sources.pianos for reason in piano.skipped]
    for name, reason in skipped:
        console.print(f"skipped {name}/{reason}", highlight=False)
    if skipped:
        console.print(f"{len(skipped)} recordings skipped")


def render_command(
    train: Annotated[
        Path, typer.Argument(help="Training folder: pianos/ (regions.csv each), MIDI archives.")
    ],
    out: Annotated[Path, typer.Argument(help="Folder for the shards.")],
    hours: Annotated[float, typer.Option(help="How much sound to render.")] = 1.0,
    duration_s: Annotated[float, typer.Option(help="Length of a segment in seconds.")] = 12.0,
    seed: Annotated[int, typer.Option(help="The same seed gives the same files.")] = 0,
    processes: Annotated[int, typer.Option(help="Processes to render with.")] = 1,
    hold_out: Annotated[
        list[str] | None, typer.Option(help="An instrument that must not be heard; repeatable.")
    ] = None,
    soundfont: Annotated[
        list[str] | None, typer.Option(help="FONT.sf2[:PROGRAM] as one more piano; repeatable.")
    ] = None,
    modelled: Annotated[int, typer.Option(help="Number of modelled pianos to add.")] = 0,
    clean: Annotated[
        bool, typer.Option(help="Dry and without noise, as it leaves the piano.")
    ] = False,
    cache: Annotated[
        Path | None, typer.Option(help="Folder to remember parsed MIDI and played fonts in.")
    ] = None,
) -> None:
    """Render labelled piano sound: FLAC, JSON and MIDI, in shards.

    Stopped and started again, it goes on with what is missing.
    """
    console = Console(stderr=True)
    if hours <= 0 or duration_s < 0.5 or processes < 1:
        raise UsageError(
            f"hours {hours}, duration {duration_s} s, {processes} processes: "
            "hours above 0, segments of at least 0.5 s and one process or more are needed"
        )
    presets = [SoundfontPreset.parse(text) for text in soundfont or []]
    sources = load_sources(train, cache, hold_out or [], presets, modelled)
    report_skipped(sources, console)
    segments = max(1, round(hours * 3600.0 / duration_s))
    conditions = Conditions(clean=1.0) if clean else Conditions()
    plan = RenderPlan(out, seed, segments, duration_s, conditions)
    out.mkdir(parents=True, exist_ok=True)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
    ) as progress:
        render_plan(plan, sources, processes, progress)
    console.print(f"{segments} segments, {segments * duration_s / 3600.0:.2f} h, in {out}")
