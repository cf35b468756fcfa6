"""``sostenuto-studio render``: labelled sound in files, for whoever trains elsewhere.

Each segment becomes a FLAC, a JSON with its labels and recipe, and a MIDI file; 64 of them
make a shard, a folder of its own. A segment depends on the pianos, the seed and its number
alone, so any number of processes, on any number of machines, give the same files, and a run that
was stopped goes on with the shards that are missing: a shard's folder gets its name only when it
is complete.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated

import mido
import soundfile as sf
import typer
from rich.console import Console

from edge.errors import UsageError
from training.crew import RAY_HELP, make_shards
from training.render.performance import PEDAL_CONTROLLER
from training.render.piano import SAMPLE_RATE_HZ, instrument_of
from training.render.segment import (
    Conditions,
    Segment,
    Sources,
    load_sources,
    render_segment,
    segment_rng,
)
from training.render.soundfont import SoundfontPreset
from training.skipped import report_count, report_skipped

SEGMENTS_PER_FOLDER = 64
TICKS_PER_S = 960
PLAYING = ("pop", "score", "chords", "scales", "repetitions", "single_keys", "soup")
"""What `--playing` may choose: what `Conditions` weighs, silence left out."""


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
        return -(-self.segments // SEGMENTS_PER_FOLDER)

    def shard_folder(self, shard: int) -> Path:
        return self.folder / f"shard_{self.seed:04d}_{shard:05d}"

    def segment_indices(self, shard: int) -> range:
        first = shard * SEGMENTS_PER_FOLDER
        return range(first, min(first + SEGMENTS_PER_FOLDER, self.segments))

    def paths(self) -> dict[int, Path]:
        return {shard: self.shard_folder(shard) for shard in range(self.shards)}


def segment_midi(segment: Segment) -> mido.MidiFile:
    """The keys and the pedal of a segment; a note begun before it starts at 0."""
    timed: list[tuple[float, int, mido.Message]] = []
    for note in segment.notes:
        key, velocity = int(note["pitch_midi"]), int(note["velocity"])
        down = mido.Message("note_on", note=key, velocity=velocity)
        timed.append((max(float(note["onset_s"]), 0.0), 2, down))
        up = mido.Message("note_off", note=key, velocity=0)
        timed.append((max(float(note["offset_s"]), 0.0), 1, up))
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


def segment_files(segment: Segment) -> dict[str, bytes]:
    """A segment's sound, labels and keys as the contents of a .flac, a .json and a .mid."""
    sound = io.BytesIO()
    sf.write(sound, segment.samples, SAMPLE_RATE_HZ, subtype="PCM_16", format="FLAC")
    labels = json.dumps(segment_labels(segment), separators=(",", ":"), allow_nan=False)
    midi = io.BytesIO()
    segment_midi(segment).save(file=midi)
    return {
        ".flac": sound.getvalue(),
        ".json": (labels + "\n").encode(),
        ".mid": midi.getvalue(),
    }


def render_shard(plan: RenderPlan, sources: Sources, shard: int) -> dict[str, bytes]:
    """The files of one shard, by name."""
    files: dict[str, bytes] = {}
    for index in plan.segment_indices(shard):
        rng = segment_rng(plan.seed, index)
        segment = render_segment(rng, sources, plan.duration_s, plan.conditions)
        for suffix, content in segment_files(segment).items():
            files[f"{index:07d}{suffix}"] = content
    return files


def all_but(instrument: str, train: Path, presets: Sequence[SoundfontPreset] = ()) -> list[str]:
    """The other instruments of a training folder: what is held out for one to be heard alone.

    The one may also be a soundfont's.

    Raises
    ------
    UsageError
        There is no such instrument.
    """
    there = {instrument_of(path.parent.name) for path in train.glob("pianos/*/regions.csv")}
    there |= {preset.instrument for preset in presets}
    if instrument not in there:
        listed = ", ".join(sorted(there)) or "none"
        raise UsageError(f"--only {instrument!r}: no such instrument; there are: {listed}")
    return sorted(there - {instrument})


def conditions_of(
    clean: bool, playing: str | None, sources: Sources, octaves: float = 0.0
) -> Conditions:
    """The usual conditions, or only dry sound, or only one kind of playing; some in octaves.

    Raises
    ------
    UsageError
        There is no such kind of playing, or no pieces for it in the training folder.
    """
    conditions = replace(Conditions(clean=1.0) if clean else Conditions(), octaves=octaves)
    if playing is None:
        return conditions
    silent = {"pop": sources.performances is None, "score": sources.scores is None}
    possible = [kind for kind in PLAYING if not silent.get(kind)]
    if playing not in possible:
        raise UsageError(f"--playing {playing!r}: here it may be {', '.join(possible)}")
    weights = {kind: float(kind == playing) for kind in PLAYING}
    return replace(conditions, silence=0.0, **weights)


def render_command(
    train: Annotated[
        Path, typer.Argument(help="Training folder: pianos/ (regions.csv each), MIDI archives.")
    ],
    out: Annotated[Path, typer.Argument(help="Folder for the shards.")],
    hours: Annotated[float, typer.Option(help="How much sound to render.")] = 1.0,
    duration_s: Annotated[float, typer.Option(help="Length of a segment in seconds.")] = 12.0,
    seed: Annotated[int, typer.Option(help="The same seed gives the same files.")] = 0,
    processes: Annotated[int, typer.Option(help="Processes to render with.")] = 1,
    ray: Annotated[str | None, typer.Option(metavar="ADDRESS", help=RAY_HELP)] = None,
    hold_out: Annotated[
        list[str] | None, typer.Option(help="An instrument that must not be heard; repeatable.")
    ] = None,
    only: Annotated[
        str | None, typer.Option(help="The one instrument that is heard: to judge with.")
    ] = None,
    playing: Annotated[
        str | None, typer.Option(help="Only this is played: " + ", ".join(PLAYING) + ".")
    ] = None,
    soundfont: Annotated[
        list[str] | None, typer.Option(help="FONT.sf2[:PROGRAM] as one more piano; repeatable.")
    ] = None,
    modelled: Annotated[int, typer.Option(help="Number of modelled pianos to add.")] = 0,
    octaves: Annotated[
        float, typer.Option(min=0, max=1, help="Share of pieces with a hand doubled in octaves.")
    ] = 0.0,
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
    if only is not None and (hold_out or modelled):
        raise UsageError("--only names the one instrument: leave out --hold-out and --modelled")
    held_out = all_but(only, train, presets) if only is not None else hold_out or []
    sources = load_sources(train, cache, held_out, presets, modelled)
    report_skipped(sources.skipped, console)
    segments = max(1, round(hours * 3600.0 / duration_s))
    conditions = conditions_of(clean, playing, sources, octaves)
    plan = RenderPlan(out, seed, segments, duration_s, conditions)
    make_shards(partial(render_shard, plan, sources), plan.paths(), processes, ray, console)
    console.print(f"{segments} segments, {segments * duration_s / 3600.0:.2f} h, in {out}")
    report_count(sources.skipped, console)
