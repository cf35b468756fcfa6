"""``sostenuto-studio``: what needs more than a device has.

Catalogues from scores, sound from recorded pianos, note models and their conversion. Each
command imports what it needs when it runs, so that building a catalogue needs no TensorFlow,
and a command whose extra is missing says which one to install.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from converters.commands import (
    catalog_add_command,
    catalog_build_command,
    catalog_key_command,
    catalog_merge_command,
    catalog_remove_command,
    catalog_sign_command,
    catalog_verify_command,
)
from edge.errors import SostenutoError, UsageError

_LATER: dict[str, tuple[str, str, str, str]] = {
    "render": ("training.render.command", "render_command", "train", "Render labelled sound."),
    "train": ("training.command", "train_command", "train", "Train a note model."),
    "evaluate": ("training.evaluate_command", "evaluate_command", "train", "Judge an ear."),
    "convert": (
        "converters.model_command",
        "convert_command",
        "convert",
        "Convert a run to TFLite.",
    ),
}
"""Command: module, function, the extra it needs, and its line in the list of commands."""


class _Studio(TyperGroup):
    """Finds the commands that need an extra only when they are asked for."""

    _listing = False

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """The list of commands, from the table alone: loading Keras for it takes seconds."""
        self._listing = True
        super().format_help(ctx, formatter)
        self._listing = False

    def list_commands(self, ctx: Any) -> list[str]:
        return [*super().list_commands(ctx), *_LATER]

    def get_command(self, ctx: Any, name: str) -> Any:
        if name not in _LATER:
            return super().get_command(ctx, name)
        module, function, extra, help_text = _LATER[name]
        if self._listing:
            return TyperCommand(name, help=f"{help_text} Needs the extra `{extra}`.")
        try:
            run = getattr(importlib.import_module(module), function)
        except ImportError as error:
            return _missing(name, help_text, extra, error)
        single = typer.Typer(add_completion=False)
        single.command(name)(run)
        return typer.main.get_command(single)


def _missing(name: str, help_text: str, extra: str, error: ImportError) -> Any:
    """A command that says what to install when it is run, and shows in the help before."""
    single = typer.Typer(add_completion=False)

    @single.command(
        name,
        help=f"{help_text} Needs the extra `{extra}`.",
        context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    )
    def say() -> None:
        raise UsageError(
            f"`sostenuto-studio {name}` needs {error.name or error}: install the extra "
            f"`{extra}` (pip install 'sostenuto[{extra}]')"
        )

    return typer.main.get_command(single)


app = typer.Typer(
    cls=_Studio,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help=(
        "Makes what a device needs: catalogues from scores, labelled sound from recorded pianos, "
        "note models from that sound, and the files that a device runs."
    ),
)
catalog = typer.Typer(no_args_is_help=True, help="Catalogues of scores: build, change, check.")
catalog.command("build")(catalog_build_command)
catalog.command("add")(catalog_add_command)
catalog.command("remove")(catalog_remove_command)
catalog.command("merge")(catalog_merge_command)
catalog.command("verify")(catalog_verify_command)
catalog.command("sign")(catalog_sign_command)
catalog.command("key")(catalog_key_command)
app.add_typer(catalog, name="catalog")


def main() -> None:
    """Run the command; an error that a person can mend is one line and an exit code."""
    try:
        app()
    except SostenutoError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(error.exit_code)
