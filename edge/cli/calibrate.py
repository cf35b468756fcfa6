"""`sostenuto calibrate`: learn how a piano is tuned and how it comes in, from a little playing."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge.audio.block import STREAM_RATE_HZ, Block
from edge.audio.file import AudioFile
from edge.audio.source import Source, SourceEvent
from edge.calibration import (
    Calibration,
    LoudestMinute,
    calibrate,
    default_calibration_file,
    in_words,
    read_calibration,
    write_calibration,
)
from edge.cli import console
from edge.errors import InputError, UsageError
from edge.note import A4_HZ

MICROPHONE_S = 30.0
"""The offset is as sure after ten seconds; the stretch and the noise floor gain by more."""

UNSURE_CENTS = 40.0
"""An offset so far from the expected one may as well be the one on its other side."""


def run(
    audio: Path | None,
    *,
    mic: str | None,
    seconds: float | None,
    a4_hz: float,
    out: Path | None,
    show: bool,
    json: bool,
) -> None:
    """Calibrate by a recording or a microphone, or show what was found before."""
    path = out or default_calibration_file()
    if show:
        if audio is not None or mic is not None or seconds is not None:
            raise UsageError("--show tells what is there; leave out AUDIO, --mic and --seconds")
        tell(read_calibration(path), path, as_json=json)
        return
    if audio is not None and mic is not None:
        raise UsageError(f"{audio} and --mic given; one source is allowed: choose one")
    expected_cents = 1200 * math.log2(a4_hz / A4_HZ)
    if audio is not None:
        found = of_file(audio, seconds, expected_cents)
    else:
        from edge.audio.microphone import MicrophoneSource

        found = of_source(MicrophoneSource(mic), seconds or MICROPHONE_S, expected_cents)
    found = keep(found, path)
    tell(found, path, as_json=json)
    if not json:
        for line in doubts(found, expected_cents):
            console.err(line)


def of_file(audio: Path, seconds: float | None, expected_cents: float) -> Calibration:
    """The calibration by a recording, its first ``seconds`` if given."""
    kept = LoudestMinute()
    with AudioFile(audio) as recording:
        for samples in _first(recording.blocks(1.0), seconds):
            kept.push(samples)
    try:
        return calibrate(kept.samples, expected_cents)
    except InputError as error:
        raise InputError(f"{audio}: {error}") from None


def of_source(source: Source, seconds: float, expected_cents: float) -> Calibration:
    """The calibration by what a microphone hears from now on."""
    kept = LoudestMinute()
    source.open()
    try:
        console.err(f"listening to {source.name} for {seconds:.0f} s: play, over all the keyboard")
        with _progress(seconds) as advance:
            for samples in _first(_sound(source.items()), seconds):
                kept.push(samples)
                advance(len(samples) / STREAM_RATE_HZ)
    finally:
        source.close()
    return calibrate(kept.samples, expected_cents)


def keep(calibration: Calibration, path: Path) -> Calibration:
    """Write a calibration, with today's date."""
    dated = msgspec.structs.replace(calibration, made_on=datetime.now(UTC).date())
    write_calibration(dated, path)
    return dated


def tell(calibration: Calibration, path: Path, *, as_json: bool) -> None:
    """A calibration and its file on standard output."""
    if as_json:
        console.out_json(
            {
                **msgspec.to_builtins(calibration),
                "a4_hz": round(calibration.a4_hz, 2),
                "gain_db": round(calibration.gain_db, 1),
                "file": str(path),
            }
        )
        return
    for line in in_words(calibration):
        console.out(line)
    made = f", made on {calibration.made_on}" if calibration.made_on else ""
    console.out(f"from {calibration.heard_s:.0f} s of playing; {path}{made}")


def doubts(calibration: Calibration, expected_cents: float) -> Iterator[str]:
    """What the user should know better."""
    away = calibration.offset_cents - expected_cents
    if abs(away) > UNSURE_CENTS:
        other_cents = calibration.offset_cents - math.copysign(100, away)
        other_hz = A4_HZ * 2 ** (other_cents / 1200)
        yield (
            f"sostenuto: semitones are all alike: if your piano stands {other_cents:+.0f} cents, "
            f"calibrate again with --a4 {other_hz:.0f}"
        )


def _first(blocks: Iterable[Block], seconds: float | None) -> Iterator[NDArray[np.float32]]:
    """The samples of the first ``seconds``, or of all."""
    left = math.inf if seconds is None else round(seconds * STREAM_RATE_HZ)
    for block in blocks:
        samples = block.samples[: int(min(left, len(block.samples)))]
        yield samples
        left -= len(samples)
        if left <= 0:
            return


def _sound(items: Iterable[object]) -> Iterator[Block]:
    """The blocks of a source; what befalls it is told."""
    for item in items:
        if isinstance(item, SourceEvent):
            console.err(f"sostenuto: {item.message}")
        elif isinstance(item, Block):
            yield item


@contextmanager
def _progress(seconds: float) -> Iterator[Callable[[float], None]]:
    """A bar of the seconds heard, on a terminal."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("listening"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("listening", total=seconds)
        yield lambda heard_s: progress.advance(task, heard_s)
