"""The options of `sostenuto-device install` and `uninstall`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def install(
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
