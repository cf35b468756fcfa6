"""The options of `sostenuto-device firstboot`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer


def firstboot(
    report: Annotated[
        bool,
        typer.Option("--report", help="Only tell how the piano is: on the card, and to the ear."),
    ] = False,
    root: Annotated[
        Path, typer.Option(metavar="DIR", help="Where the device's / lies.", show_default=False)
    ] = Path("/"),
) -> None:
    """Take over what the card says, make the keys, write status.txt; run at every start."""
    from device.firstboot.boot import first_boot
    from device.firstboot.radio import set_country
    from device.firstboot.report import tell
    from device.service.install import STATE
    from device.service.place import Place
    from edge.errors import UsageError

    place = Place(root)
    if not (place.live or place.at(STATE).is_dir()):
        raise UsageError(f"root {str(root)!r}: no piano is installed there ({STATE} is missing)")
    if not report:
        start = first_boot(place)
        if place.live and start.country is not None:
            try:
                set_country(start.country)
            except OSError as error:
                sys.stderr.write(f"Wi-Fi keeps to what every country allows: {error.strerror}\n")
    for line in tell(place):
        sys.stderr.write(f"{line}\n")
