"""``sostenuto-device``: from a blank card to a piano that listens, and its care afterwards."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from edge.errors import SostenutoError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="From a blank card to a piano that listens, and its care afterwards.",
)


@app.callback()
def device() -> None:
    """Each command says what it will do before it changes anything outside its own files."""


@app.command(short_help="Look whether everything works, and say what to do where it does not.")
def selftest(
    known_answer: Annotated[
        bool,
        typer.Option(
            "--known-answer",
            help="Only hashes, and a known recording with every model: notes, piece, bar.",
        ),
    ] = False,
    models: Annotated[
        Path | None,
        typer.Option("--models", metavar="DIR", help="Note models.  [default: the installed ones]"),
    ] = None,
    catalog: Annotated[
        Path | None,
        typer.Option(
            "--catalog", metavar="DIR", help="Catalogue's packs.  [default: the installed ones]"
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Look whether everything works; exit code 1 where something failed."""
    from device.selftest.command import run

    raise typer.Exit(run(known_answer=known_answer, models=models, catalog=catalog, json=json))


def main() -> None:
    """Run the command; an error that a person can mend is one line and an exit code."""
    try:
        app()
    except SostenutoError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(error.exit_code)
