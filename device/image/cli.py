"""``sostenuto-device image``: the options, and what is shown while it works."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

image = typer.Typer(no_args_is_help=True, help="Card images: the whole device as one file.")


@image.callback()
def about() -> None:
    """Card images: the whole device as one file."""


@image.command(short_help="A card image for a board, the same bytes from the same inputs.")
def build(
    board: Annotated[
        str, typer.Option("--board", help="generic (64-bit ARM with UEFI) or raspberrypi.")
    ] = "generic",
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Where the files go.")
    ] = Path("images"),
    lock: Annotated[
        Path | None,
        typer.Option(
            "--lock", metavar="FILE", help="The .lock of an earlier build: exactly its packages."
        ),
    ] = None,
    wheel: Annotated[
        Path | None,
        typer.Option("--wheel", metavar="FILE", help="Sostenuto itself.  [default: this clone]"),
    ] = None,
    keyring: Annotated[
        Path | None,
        typer.Option(
            "--keyring",
            metavar="PEM",
            help="Whose updates are accepted.  [default: a key for development, made here]",
        ),
    ] = None,
    more: Annotated[
        list[str] | None,
        typer.Option("--with", metavar="PACKAGE", help="A Debian package more; may be repeated."),
    ] = None,
    suite: Annotated[str, typer.Option("--suite", help="Debian's release.")] = "trixie",
    mirror: Annotated[
        str, typer.Option("--mirror", metavar="URL", help="Where Debian's packages are.")
    ] = "http://deb.debian.org/debian",
    security: Annotated[
        str, typer.Option("--security-mirror", metavar="URL", help="The same for its updates.")
    ] = "http://deb.debian.org/debian-security",
    cache: Annotated[
        Path, typer.Option("--cache", metavar="DIR", help="Packages, wheels, parts made before.")
    ] = Path(".cache/image"),
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Make every part again; fetched files stay.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Build a card image, its block map, lock list, bill of materials and sums.

    The first build takes what the mirror has and writes a lock list; a build with --lock takes
    exactly that, and comes to the same bytes.
    """
    from typing import get_args

    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    from device.image.build import Wishes
    from device.image.build import build as build_image
    from device.image.recipe import Board
    from edge.errors import UsageError

    if board not in get_args(Board):
        raise UsageError(f"board {board!r}: allowed are {', '.join(get_args(Board))}")
    wishes = Wishes(
        board=board,  # type: ignore[arg-type]  # one of its words, see above
        output=output,
        cache=cache.resolve(),
        suite=suite,
        mirror=mirror,
        security=security,
        lock=lock,
        wheel=wheel,
        keyring=keyring,
        more=tuple(more or ()),
        fresh=fresh,
    )
    screen = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Progress(*columns, TimeRemainingColumn(), console=screen, transient=True) as progress:

        def measure(what: str, total: int) -> object:
            task = progress.add_task(what, total=total)
            return lambda done: progress.advance(task, done)

        built = build_image(wishes, progress.console.print, measure)  # type: ignore[arg-type]
    if json:
        sys.stdout.write(built.as_json() + "\n")
        return
    out = Console()
    out.print(
        f"{built.name}: {built.packed_bytes / 1e6:.0f} MB packed, "
        f"{built.image_bytes / 1e6:.0f} MB on a card, root {built.root_bytes / 1e6:.0f} MB; "
        f"{built.packages} packages, {built.wheels} wheels; {built.seconds:.0f} s"
    )
    for file, sha256 in sorted(built.files.items()):
        out.print(f"{sha256}  {file}", soft_wrap=True, highlight=False)
