"""`sostenuto practice`: what went right and wrong, bar by bar, against the score."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import asdict
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from edge.audio.block import STREAM_RATE_HZ, Block
from edge.audio.file import AudioFile
from edge.calibration import UNCALIBRATED, read_calibration
from edge.cli import console
from edge.cli.common import open_catalogue
from edge.cli.identify import is_midi
from edge.display import named
from edge.errors import CatalogueError, UsageError
from edge.following import FollowedScore
from edge.matching import Catalogue, MatchState, identify
from edge.matching.score import Hand
from edge.midi import read_midi
from edge.note import NoteEvent
from edge.practice import BarFeedback, ExpectedNotes, Finding, practised
from edge.practice.picture import page
from edge.practice.summary import Summary, sentences, spelled, summed
from edge.recogniser import load_recogniser
from edge.transcription import finished_notes

BLOCK_S = 1.0
ASKED_S = 60.0
"""Of what is played, so much is asked about to name the piece."""


def run(
    source: Path,
    *,
    piece: str | None,
    bar: int | None,
    html: Path | None,
    catalog: Path | None,
    model: str | None,
    calibration: Path | None,
    json: bool,
) -> None:
    """Compare ``source`` with its score; print what to look at, and draw the bars."""
    catalogue = open_catalogue(catalog)
    if piece is not None:
        check_known(piece, catalogue)
    if is_midi(source):
        notes = list(read_midi(source).notes)
    else:
        notes = heard(source, model, calibration)
    piece_id = piece or recognised(notes, catalogue)
    expected = ExpectedNotes.of_catalogue(catalogue, piece_id)
    score = FollowedScore.of_catalogue(catalogue, piece_id)
    bars = practised(expected, score, notes, start_of(expected, bar))
    if html is not None:
        write_page(html, page(expected, bars))
    if json:
        console.out_json(document(expected, bars))
    else:
        _print(expected, bars, html)


def heard(source: Path, model: str | None, calibration: Path | None) -> list[NoteEvent]:
    """The notes of a recording."""
    known = read_calibration(calibration) if calibration else UNCALIBRATED
    recogniser = load_recogniser(model, calibration=known)
    with AudioFile(source) as recording:
        blocks = _with_progress(recording) if sys.stderr.isatty() else recording.blocks(BLOCK_S)
        return list(finished_notes(recogniser, blocks))


def _with_progress(recording: AudioFile) -> Iterator[Block]:
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("listening", total=max(recording.duration_s, 1e-9))
        for block in recording.blocks(BLOCK_S):
            yield block
            progress.update(task, completed=block.end_sample / STREAM_RATE_HZ)


def check_known(piece_id: str, catalogue: Catalogue) -> None:
    """CatalogueError where the catalogue has no piece of this name."""
    known = [piece.piece_id for piece in catalogue.pieces]
    if piece_id not in known:
        near = get_close_matches(piece_id, known, n=3, cutoff=0.4)
        meant = f"did you mean {', '.join(near)}?" if near else "take an id that `identify` prints"
        raise CatalogueError(f"no piece {piece_id!r} among the catalogue's {len(known)}: {meant}")


def recognised(notes: list[NoteEvent], catalogue: Catalogue) -> str:
    """The piece that these notes are.

    Raises
    ------
    CatalogueError
        They are none of the catalogue's, or too few to say.
    """
    first_s = min((note.onset_s for note in notes), default=0.0)
    match = identify([n for n in notes if n.onset_s < first_s + ASKED_S], catalogue)
    if match.state is not MatchState.MATCHED:
        raise CatalogueError(
            f"which piece this is cannot be told from its {len(notes)} notes: "
            "name it with --piece ID, an id that `sostenuto identify` prints"
        )
    return match.candidates[0].piece_id


def start_of(expected: ExpectedNotes, bar: int | None) -> float:
    """Where a player begins who says so; otherwise the first note.

    Raises
    ------
    UsageError
        The piece has no such bar.
    """
    if bar is None:
        return float(expected.onset_quarters[0])
    found = (expected.bar_number == bar).nonzero()[0]
    if found.size == 0:
        first, last = int(expected.bar_number.min()), int(expected.bar_number.max())
        raise UsageError(f"--bar {bar}: the score has bars {first} to {last}; name one of them")
    return float(expected.bar_quarters[found[0]])


def write_page(path: Path, text: str) -> None:
    """Write the picture.

    Raises
    ------
    UsageError
        It cannot be written there.
    """
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(
            f"--html {path}: cannot be written ({error.strerror or error}); choose another file"
        ) from error


def document(expected: ExpectedNotes, bars: list[BarFeedback]) -> dict[str, Any]:
    """What `--json` prints."""
    return {
        "piece_id": expected.piece.piece_id,
        "title": expected.piece.title,
        "composer": expected.piece.composer,
        "summary": _summary(summed(bars)),
        "hands": {
            hand.name.lower(): _summary(of)
            for hand in (Hand.RIGHT, Hand.LEFT)
            if (of := summed(bars, hand)).asked
        },
        "said": sentences(bars),
        "bars": [_bar(bar) for bar in bars],
    }


def _summary(of: Summary) -> dict[str, Any]:
    rounded = {
        name: round(value, 4) if isinstance(value, float) else value
        for name, value in asdict(of).items()
    }
    accuracy = of.accuracy
    return {"accuracy": None if accuracy is None else round(accuracy, 4), **rounded}


def _bar(bar: BarFeedback) -> dict[str, Any]:
    of = summed([bar])
    return {
        "take": bar.take,
        "bar": bar.bar,
        "t_s": round(bar.t_s, 3),
        "tempo_bpm": None if bar.tempo_bpm is None else round(bar.tempo_bpm, 1),
        "asked": of.asked,
        "right": of.right,
        "unsure": of.unsure,
        "evenness_ms": None if of.evenness_ms is None else round(of.evenness_ms, 1),
        "faults": [_fault(each) for each in bar.faults],
    }


def _fault(finding: Finding) -> dict[str, Any]:
    known = finding.hand is not Hand.UNKNOWN
    return {
        "verdict": finding.verdict,
        "beat": round(finding.beat, 3),
        "hand": finding.hand.name.lower() if known else None,
        "expected_pitch_midi": finding.expected_pitch_midi,
        "played_pitch_midi": finding.played_pitch_midi,
        "delta_ms": None if finding.delta_s is None else round(finding.delta_s * 1e3),
        "t_s": round(finding.t_s, 3),
        "confidence": round(finding.confidence, 3),
    }


def _print(expected: ExpectedNotes, bars: list[BarFeedback], html: Path | None) -> None:
    console.out(named(expected.piece.title, expected.piece.composer))
    for line in sentences(bars):
        console.out(f"  {line}")
    wrong = [bar for bar in bars if bar.faults]
    if wrong:
        console.out("")
    for bar in wrong:
        take = f"take {bar.take + 1}, " if bars[-1].take else ""
        console.out(f"  {bar.t_s:7.1f} s  {take}{spelled(bar)}")
    if html is not None:
        console.out(f"\n  the bars as a picture: {html}")
