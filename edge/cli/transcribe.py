"""`sostenuto transcribe`: recordings to Standard MIDI Files, as fast as it goes."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge.audio.block import STREAM_RATE_HZ
from edge.audio.file import AUDIO_SUFFIXES, AudioFile
from edge.calibration import UNCALIBRATED, read_calibration
from edge.cli import console
from edge.cli.identify import is_midi
from edge.errors import InputError, SostenutoError, UsageError
from edge.midi import MidiWriter
from edge.note import NoteUpdate, PedalEvent
from edge.recogniser import Recogniser, load_recogniser

BLOCK_S = 1.0
"""Heard at once: bounds the memory, costs no speed."""


@dataclass(frozen=True, slots=True)
class Job:
    """One recording and where its notes go."""

    audio: Path
    midi: Path


@dataclass(frozen=True, slots=True)
class Written:
    """What came of a recording, as `--json` tells it. ``speed`` is seconds of music a second."""

    audio: str
    midi: str
    notes: int
    music_s: float
    work_s: float
    speed: float
    silent: bool
    not_numbers: int


@dataclass(frozen=True, slots=True)
class Refused:
    """A recording that could not be read."""

    audio: str
    error: str


def run(
    audio: Sequence[Path],
    *,
    midi: Path | None,
    midi_dir: Path | None,
    model: str | None,
    calibration: Path | None,
    json: bool,
) -> None:
    """Write ``audio`` down; raises the first recording's error when all have been tried."""
    work = jobs(audio, midi, midi_dir)
    known = read_calibration(calibration) if calibration else UNCALIBRATED
    recogniser = load_recogniser(model, calibration=known)
    written: list[Written] = []
    refused: list[Refused] = []
    first_error: SostenutoError | None = None
    for job in work:
        try:
            result = _with_progress(job, recogniser)
        except InputError as error:
            first_error = first_error or error
            refused.append(Refused(str(job.audio), str(error)))
            if len(work) > 1:
                console.err(f"sostenuto: {error}")
            continue
        written.append(result)
        if not json:
            console.out(_line(result))
    if json:
        console.out_json({"written": written, "refused": refused})
    if first_error is not None:
        if len(work) > 1:
            raise InputError(f"{len(refused)} of {len(work)} recordings could not be read")
        raise first_error


def jobs(audio: Sequence[Path], midi: Path | None, midi_dir: Path | None) -> list[Job]:
    """Pair every recording with the file that its notes go to.

    Raises
    ------
    UsageError
        Neither or both of ``midi`` and ``midi_dir``, or one file for several recordings.
    InputError
        A folder without recordings.
    """
    if (midi is None) == (midi_dir is None):
        raise UsageError(
            "say where the notes go: --midi OUT.mid for one recording, --midi-dir DIR for several"
        )
    found = [pair for path in audio for pair in _recordings(path)]
    if midi is not None:
        if len(found) != 1:
            raise UsageError(
                f"--midi {midi} takes one recording, {len(found)} were given; use --midi-dir DIR"
            )
        if midi.is_dir():
            raise UsageError(f"--midi {midi}: is a folder; name a file, or use --midi-dir {midi}")
        return [Job(found[0][0], midi)]
    assert midi_dir is not None
    targets = _distinct([name for _, name in found])
    work = [Job(path, midi_dir / name) for (path, _), name in zip(found, targets, strict=True)]
    for folder in {job.midi.parent for job in work}:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            reason = error.strerror or error
            raise UsageError(f"{folder}: cannot be made ({reason}); choose another DIR") from error
    return work


def _recordings(path: Path) -> list[tuple[Path, Path]]:
    """The recordings that ``path`` stands for, each with its place below the folder."""
    if not path.is_dir():
        return [(path, Path(path.name))]
    inside = sorted(
        p for p in path.rglob("*") if p.is_file() and p.suffix.lower() in AUDIO_SUFFIXES
    )
    if not inside:
        raise InputError(
            f"{path}: no recordings in this folder; looked for {', '.join(sorted(AUDIO_SUFFIXES))}"
        )
    return [(p, p.relative_to(path)) for p in inside]


def _distinct(names: Sequence[Path]) -> list[Path]:
    """A MIDI name for each recording; those of one stem keep their suffix, or get a number."""
    stems = [name.with_suffix("") for name in names]
    taken: set[Path] = set()
    targets: list[Path] = []
    for name, stem in zip(names, stems, strict=True):
        alone = stems.count(stem) == 1
        wished = stem.with_name(f"{stem.name}.mid" if alone else f"{name.name}.mid")
        target, number = wished, 2
        while target in taken:
            target, number = wished.with_stem(f"{wished.stem}-{number}"), number + 1
        taken.add(target)
        targets.append(target)
    return targets


def _with_progress(job: Job, recogniser: Recogniser) -> Written:
    if not sys.stderr.isatty():
        return write_down(job, recogniser)
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    ) as progress:
        task = progress.add_task(job.audio.name, total=1.0)
        return write_down(job, recogniser, lambda part: progress.update(task, completed=part))


def write_down(
    job: Job, recogniser: Recogniser, on_progress: Callable[[float], None] | None = None
) -> Written:
    """Hear one recording and write its notes; memory does not grow with its length.

    Raises
    ------
    InputError
        The recording cannot be read, or breaks off; then nothing is written.
    """
    if is_midi(job.audio):
        raise InputError(
            f"{job.audio}: is a MIDI file: its notes are written down already; "
            "`sostenuto identify` and `sostenuto listen --file` take it as it is"
        )
    began_s = time.monotonic()
    recogniser.reset()
    heard_samples = 0
    with AudioFile(job.audio) as recording:
        writer = MidiWriter(job.midi, title=job.audio.stem)
        try:
            for block in recording.blocks(BLOCK_S):
                for event in recogniser.push(block):
                    if isinstance(event, NoteUpdate | PedalEvent):
                        writer.push(event)
                heard_samples = block.end_sample
                writer.advance(heard_samples / STREAM_RATE_HZ)
                if on_progress is not None:
                    on_progress(heard_samples / STREAM_RATE_HZ / max(recording.duration_s, 1e-9))
            for event in recogniser.flush():
                if isinstance(event, NoteUpdate | PedalEvent):
                    writer.push(event)
        except BaseException:
            writer.abandon()
            raise
        music_s = heard_samples / STREAM_RATE_HZ
        writer.close(music_s)
    work_s = time.monotonic() - began_s
    return Written(
        audio=str(job.audio),
        midi=str(job.midi),
        notes=writer.notes,
        music_s=round(music_s, 3),
        work_s=round(work_s, 3),
        speed=round(music_s / max(work_s, 1e-6), 1),
        silent=writer.notes == 0,
        not_numbers=recording.not_numbers,
    )


def _line(result: Written) -> str:
    what = f"{result.notes} notes -> {result.midi}"
    if result.silent:
        what = f"no note heard (silence, or no piano); {result.midi} is empty"
    pace = (
        f"{result.music_s:.1f} s of music in {result.work_s:.1f} s, "
        f"{result.speed:.0f} times as fast as played"
    )
    odd = f"; {result.not_numbers} samples were no numbers" if result.not_numbers else ""
    return f"{result.audio}: {what}; {pace}{odd}"
