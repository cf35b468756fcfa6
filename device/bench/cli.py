"""The options of `sostenuto-device bench`."""

from __future__ import annotations

from typing import Annotated

import typer

Seconds = Annotated[
    float,
    typer.Option("--seconds", min=1.0, max=3600.0, help="How long without a pause, to get warm."),
]
Models = Annotated[
    list[str] | None,
    typer.Option(
        "--model", metavar="NAME", help="Only this model; again for more.  [default: all]"
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Standard output is JSON and nothing else.")]


def bench(seconds: Seconds = 60.0, model: Models = None, json: Json = False) -> None:
    """Measure this very board: speed, delay, memory and warmth, and which model it can carry.

    Exit code 1 where it carries none with margin.
    """
    from device.bench.command import run

    raise typer.Exit(run(seconds=seconds, models=model or [], json=json))
