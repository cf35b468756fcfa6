"""The options of `sostenuto-device update …`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edge.errors import UsageError
from edge.resources import CATALOGUE, MODELS

update = typer.Typer(no_args_is_help=True, help="Change software, models or catalogue, or go back.")

KINDS = ("system", "software", MODELS, CATALOGUE)

Json = Annotated[bool, typer.Option("--json", help="Standard output is JSON and nothing else.")]


@update.command(short_help="Apply a signed bundle, from a file or the network.")
def apply(
    bundle: Annotated[str, typer.Argument(metavar="BUNDLE|URL", help="As `update pack` made it.")],
    allow_downgrade: Annotated[
        bool, typer.Option("--allow-downgrade", help="Take an older version too.")
    ] = False,
    json: Json = False,
) -> None:
    """Verify it, let it hear the known recording, put it in force; else the old one stays."""
    from device.update.command import run_apply

    raise typer.Exit(run_apply(bundle, allow_downgrade=allow_downgrade, json=json))


@update.command(short_help="What is in force, and how the last update ended.")
def status(json: Json = False) -> None:
    """The version of each kind, what is on trial, the version before, the last update."""
    from device.update.command import run_status

    run_status(json=json)


@update.command(short_help="Go back to the version before.")
def rollback(
    kind: Annotated[
        str | None,
        typer.Option("--kind", metavar="|".join(KINDS), help="[default: what was updated last]"),
    ] = None,
    json: Json = False,
) -> None:
    """Models and catalogue go back at once; software and system prove themselves first."""
    from device.update.command import run_rollback

    raise typer.Exit(run_rollback(None if kind is None else known_kind(kind), json=json))


@update.command(hidden=True)  # called by sostenuto-settle.service
def settle(json: Json = False) -> None:
    """Put in force what is on trial if the service is ready and hears, or go back."""
    from device.update.command import run_settle

    raise typer.Exit(run_settle(json=json))


@update.command(hidden=True)  # called by sostenuto-stick@.service
def stick(
    device: Annotated[Path, typer.Argument(metavar="DEVICE", help="Its partition, as /dev/sda1.")],
    json: Json = False,
) -> None:
    """Mount it, to be read only, and apply what fits; what does not is refused and told."""
    from device.update.command import run_stick

    raise typer.Exit(run_stick(device, json=json))


@update.command(short_help="Make the keys that a fleet of pianos believes.")
def key(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Where they are kept: nobody else.")
    ],
    name: Annotated[str, typer.Option("--name", help="Whose signing key it is.")] = "signing",
) -> None:
    """An authority, where DIR has none yet, and a key that it lets sign. They never expire."""
    from device.update.command import run_key

    run_key(folder, name)


@update.command(short_help="Make a bundle.")
def pack(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="DIR|IMAGE",
            help="Models; packs; wheels of the software and all it needs; a system's card image.",
        ),
    ],
    kind: Annotated[str, typer.Option("--kind", metavar="|".join(KINDS), help="What it is.")],
    version: Annotated[
        str, typer.Option("--version", help="As 0.2.0; of models that follow it, 0.2.0.1.")
    ],
    signing_key: Annotated[
        Path, typer.Option("--key", help="As `update key` made it; its .crt lies beside it.")
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="[default: KIND-VERSION.sostenuto]"),
    ] = None,
    needs: Annotated[str, typer.Option("--needs", help="Oldest software that can use it.")] = "0",
    board: Annotated[
        str | None,
        typer.Option("--board", help="Whom it fits.  [default: models and packs, all; else this]"),
    ] = None,
    keyring: Annotated[
        Path | None,
        typer.Option("--keyring", help="With software: keys to believe from then on, alone."),
    ] = None,
) -> None:
    """Sign models, packs, software or a system as one file that `update apply` takes."""
    from device.update.command import run_pack

    run_pack(
        known_kind(kind), version, source, signing_key, output, needs, board=board, keyring=keyring
    )


def known_kind(kind: str) -> str:
    """The kind, if it is one."""
    if kind not in KINDS:
        raise UsageError(f"--kind {kind!r}: {', '.join(KINDS)} are allowed")
    return kind
