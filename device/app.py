"""``sostenuto-device``: from a blank card to a piano that listens, and its care afterwards."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from device.bench.cli import bench
from device.firstboot.cli import firstboot
from device.flash.cli import flash
from device.image.cli import image
from device.selftest.cli import selftest
from device.update.cli import update
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


app.command(short_help="Look whether everything works.")(selftest)
app.command(short_help="Which model this board can carry.")(bench)


app.add_typer(image, name="image", short_help="Make a card image.")


app.command(short_help="Write a card: image, name, networks.")(flash)
app.command(short_help="At every start: what the card says, keys, status.txt.")(firstboot)


app.add_typer(update, name="update")


@app.command("install", short_help="Install on this machine, or into a root file system.")
def install_here(
    wheel: Annotated[
        Path | None,
        typer.Option("--wheel", help="Wheel of Sostenuto.  [default: built from this clone]"),
    ] = None,
    wheels: Annotated[
        Path | None,
        typer.Option(
            "--wheels", metavar="DIR", help="Wheels of all it depends on: needs no network then."
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option("--device", help="Name of the piano.  [default: by the hardware]")
    ] = None,
    broker: Annotated[
        str | None,
        typer.Option(
            "--broker", metavar="URL", help="A broker that is there.  [default: mosquitto, here]"
        ),
    ] = None,
    mic: Annotated[
        str | None, typer.Option("--mic", help="Microphone, by a part of its name.")
    ] = None,
    root: Annotated[
        Path, typer.Option("--root", metavar="DIR", help="Root file system to install into.")
    ] = Path("/"),
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be changed, and change nothing.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Install software, service, broker and names; again and again with the same result."""
    from device.service.command import run_install
    from device.service.install import Wish

    run_install(Wish(wheel, wheels, name, broker, mic), root, dry_run=dry_run, json=json)


@app.command(short_help="Take away what `install` brought.")
def uninstall(
    keep_data: Annotated[
        bool, typer.Option("--keep-data", help="Keep settings, record and accounts.")
    ] = False,
    root: Annotated[
        Path, typer.Option("--root", metavar="DIR", help="Root file system to take it out of.")
    ] = Path("/"),
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be taken away, and leave it.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Take away everything, the record of what was played too, unless it is to be kept."""
    from device.service.command import run_uninstall

    run_uninstall(root, keep_data=keep_data, dry_run=dry_run, yes=yes, json=json)


def main() -> None:
    """Run the command; an error that a person can mend is one line and an exit code."""
    try:
        app()
    except SostenutoError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(error.exit_code)
