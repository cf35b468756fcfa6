"""``sostenuto-studio catalog``: catalogues of scores, from the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from converters.catalogue import TIME_LIMIT_S, build_catalogue

SHOWN_FAILURES = 20


def catalog_build_command(
    scores: Annotated[
        list[Path], typer.Argument(help="Score files, and folders to be read through.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the catalogue.")],
    works: Annotated[
        Path | None,
        typer.Option(help="CSV with id and work_id: which pieces are versions of one work."),
    ] = None,
    processes: Annotated[
        int | None, typer.Option(min=1, help="Processes that read; by default one a core.")
    ] = None,
    version: Annotated[str, typer.Option(help="The catalogue's own version.")] = "1",
    time_limit: Annotated[
        float, typer.Option(min=0.1, help="Seconds after which a file is given up.")
    ] = TIME_LIMIT_S,
) -> None:
    """Build a catalogue from scores: MusicXML (also compressed), MEI, Humdrum kern, MIDI.

    Titles, composers and ids come from a catalogue.csv in a score's folder or above it (columns
    id, title, composer, work_id, path...), else from the file itself. What cannot be read is
    named at the end, with the reason.
    """
    console = Console(stderr=True)
    columns = (
        TextColumn("reading scores"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=None)
        report = build_catalogue(
            scores,
            out,
            works,
            processes,
            lambda done, total: bar.update(task, completed=done, total=total),
            version,
            time_limit,
        )
    console.print(
        f"{report.pieces} pieces in {out} (sha256 {report.sha256[:12]}…)", highlight=False
    )
    if report.left_out:
        console.print(f"{len(report.left_out)} files were left out:", highlight=False)
    for _, reason in report.left_out[:SHOWN_FAILURES]:
        console.print(f"  {reason}", highlight=False, markup=False, soft_wrap=True)
    if len(report.left_out) > SHOWN_FAILURES:
        console.print(f"  … and {len(report.left_out) - SHOWN_FAILURES} more")
