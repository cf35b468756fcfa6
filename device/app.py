"""``sostenuto-device``: from a blank card to a piano that listens, and its care afterwards."""

from __future__ import annotations

import errno
import sys

import typer

from device.bench.cli import bench
from device.firstboot.cli import firstboot
from device.flash.cli import flash
from device.image.cli import image
from device.selftest.cli import selftest
from device.service.cli import install, uninstall
from device.update.cli import update
from edge.errors import DeviceError, SostenutoError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="From a blank card to a piano that listens, and its care afterwards.",
    epilog=(
        "Exit codes: 0 done, 1 a test failed or an update went back, 2 usage, 3 input, "
        "4 model or catalogue, 5 device or broker."
    ),
)


@app.callback()
def device() -> None:
    """Each command says what it will do before it changes anything outside its own files."""


app.command(short_help="Install on this machine, or into a root file system.")(install)
app.command(short_help="Take away what `install` brought.")(uninstall)
app.add_typer(image, name="image", short_help="Make a card image.")
app.command(short_help="Write a card: image, name, networks.")(flash)
app.command(hidden=True)(firstboot)  # called by the card's own units, at every start
app.command(short_help="Look whether everything works.")(selftest)
app.command(short_help="Which model this board can carry.")(bench)
app.add_typer(update, name="update")


def main() -> None:
    """Run the command; an error that a person can mend is one line and an exit code."""
    try:
        app()
    except SostenutoError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(error.exit_code)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        where = f"{error.filename}: " if error.filename else ""
        sys.stderr.write(f"{where}the disk is full; make room, or use a larger one\n")
        sys.exit(DeviceError.exit_code)
