"""``sostenuto-device``: from a blank card to a piano that listens, and its care afterwards."""

from __future__ import annotations

import sys

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


def main() -> None:
    """Run the command; an error that a person can mend is one line and an exit code."""
    try:
        app()
    except SostenutoError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(error.exit_code)
