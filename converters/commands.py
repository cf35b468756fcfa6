"""``sostenuto-studio catalog``: catalogues of scores, from the command line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from converters.catalogue import (
    TIME_LIMIT_S,
    BuildReport,
    Reading,
    add_to_catalogue,
    build_catalogue,
    merge_catalogues,
    remove_from_catalogue,
)
from converters.checking import check_catalogue
from edge.errors import UsageError
from edge.matching.pack import CATALOGUE_FILE, open_pack, verify_pack
from edge.matching.signature import new_key, public_key, sign

SHOWN_FAILURES = 20

Scores = Annotated[list[Path], typer.Argument(help="Score files, and folders to be read through.")]
Pack = Annotated[Path, typer.Argument(metavar="CATALOGUE", help="Folder of the catalogue.")]
Out = Annotated[Path, typer.Option("--out", "-o", help="Folder of the catalogue.")]
Works = Annotated[
    Path | None,
    typer.Option(help="CSV with id and work_id: which pieces are versions of one work."),
]
Processes = Annotated[
    int | None, typer.Option(min=1, help="Processes that read; by default one a core.")
]
TimeLimit = Annotated[float, typer.Option(min=0.1, help="Seconds after which a file is given up.")]
Version = Annotated[str | None, typer.Option(help="The catalogue's own version.")]
Key = Annotated[Path | None, typer.Option("--sign", help="File with the key to sign it with.")]
Json = Annotated[bool, typer.Option("--json", help="The report as JSON on standard output.")]


def catalog_build_command(
    scores: Scores,
    out: Out,
    works: Works = None,
    processes: Processes = None,
    version: Version = None,
    time_limit: TimeLimit = TIME_LIMIT_S,
    key: Key = None,
    as_json: Json = False,
) -> None:
    """Build a catalogue from scores: MusicXML (also compressed), MEI, Humdrum kern, MIDI.

    Titles, composers and ids come from a catalogue.csv in a score's folder or above it (columns
    id, title, composer, work_id, path...), else from the file itself. What cannot be read is
    named at the end, with the reason. If it is interrupted, the same command goes on from there.
    """
    secret = _secret(key)
    with _reading(processes, time_limit) as reading:
        report = build_catalogue(
            scores,
            out,
            works,
            reading.processes,
            reading.progress,
            version or "1",
            reading.time_limit_s,
            secret,
        )
    _tell(report, out, as_json)


def catalog_add_command(
    catalogue: Pack,
    scores: Scores,
    works: Works = None,
    work: Annotated[
        str | None, typer.Option(help="The work that all of these scores are editions of.")
    ] = None,
    processes: Processes = None,
    version: Version = None,
    time_limit: TimeLimit = TIME_LIMIT_S,
    key: Key = None,
    as_json: Json = False,
) -> None:
    """Add scores to a catalogue; a piece with an id that is there already replaces it."""
    secret = _secret(key)
    with _reading(processes, time_limit) as reading:
        report = add_to_catalogue(catalogue, scores, works, work, reading, version, secret)
    _tell(report, catalogue, as_json)


def catalog_remove_command(
    catalogue: Pack,
    ids: Annotated[
        list[str], typer.Argument(help="Ids of pieces, or of works with all their editions.")
    ],
    version: Version = None,
    key: Key = None,
    as_json: Json = False,
) -> None:
    """Take pieces or works out of a catalogue."""
    _tell(remove_from_catalogue(catalogue, ids, version, _secret(key)), catalogue, as_json)


def catalog_merge_command(
    catalogues: Annotated[list[Path], typer.Argument(help="Folders of catalogues.")],
    out: Out,
    works: Works = None,
    version: Version = None,
    key: Key = None,
    as_json: Json = False,
) -> None:
    """Join catalogues to one; of two pieces with one id, that of the later one is kept."""
    report = merge_catalogues(catalogues, out, version or "1", _secret(key), works)
    _tell(report, out, as_json)


def catalog_verify_command(
    catalogue: Annotated[Path, typer.Argument(help="A catalogue, or a folder of some.")],
    as_json: Json = False,
) -> None:
    """Check a catalogue in full: its signature, every byte, and whether the arrays agree."""
    found = check_catalogue(catalogue)
    if as_json:
        typer.echo(json.dumps([each.as_dict() for each in found], ensure_ascii=False))
        return
    for each in found:
        signer = f"signed with {each.signed_with}" if each.signed_with else "not signed"
        _console().print(
            f"{each.folder} is whole: {each.pieces} pieces, {each.works} works, "
            f"version {each.version}, {each.size_bytes / 1e6:.1f} MB, {signer} "
            f"(sha256 {each.sha256[:12]}…)",
            highlight=False,
            soft_wrap=True,
        )


def catalog_key_command(
    file: Annotated[Path, typer.Argument(help="File for the secret key; must not be there.")],
) -> None:
    """Make a key to sign catalogues with, and print the one to trust."""
    if file.exists():
        raise UsageError(f"{file} is there already: a key that is overwritten is lost")
    secret = new_key()
    file.touch(mode=0o600)
    file.write_text(secret + "\n")
    typer.echo(public_key(secret))


def catalog_sign_command(
    catalogue: Pack,
    key: Annotated[Path, typer.Option("--key", help="File with the secret key.")],
) -> None:
    """Sign a catalogue as it is, after checking every byte of it."""
    secret = _secret(key)
    assert secret is not None
    verify_pack(open_pack(catalogue), catalogue)
    sign(catalogue / CATALOGUE_FILE, secret)


def _secret(key: Path | None) -> str | None:
    if key is None:
        return None
    try:
        secret = key.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"the key {key} cannot be read ({error}); `sostenuto-studio catalog key` makes one"
        ) from None
    public_key(secret)
    return secret


def _console() -> Console:
    return Console(stderr=True)


@contextmanager
def _reading(processes: int | None, time_limit_s: float) -> Iterator[Reading]:
    """How to read, with a bar that shows how far it is."""
    columns = (
        TextColumn("reading scores"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=_console(), transient=True) as bar:
        task = bar.add_task("", total=None)
        yield Reading(
            processes,
            time_limit_s,
            lambda done, total: bar.update(task, completed=done, total=total),
        )


def _tell(report: BuildReport, out: Path, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(_as_dict(report, out), ensure_ascii=False))
        return
    console = _console()
    console.print(
        f"{report.pieces} pieces, {report.works} works in {out} (sha256 {report.sha256[:12]}…)",
        highlight=False,
        soft_wrap=True,
    )
    if report.replaced:
        console.print(
            f"{len(report.replaced)} replaced: {', '.join(report.replaced[:SHOWN_FAILURES])}",
            highlight=False,
            markup=False,
        )
    for title, lines in (
        ("files were read, but:", report.noticed),
        ("files were left out:", report.left_out),
    ):
        if lines:
            console.print(f"{len(lines)} {title}", highlight=False)
        for _, reason in lines[:SHOWN_FAILURES]:
            console.print(f"  {reason}", highlight=False, markup=False, soft_wrap=True)
        if len(lines) > SHOWN_FAILURES:
            console.print(f"  … and {len(lines) - SHOWN_FAILURES} more (--json lists them)")


def _as_dict(report: BuildReport, out: Path) -> dict[str, object]:
    def listed(lines: tuple[tuple[Path, str], ...]) -> list[dict[str, str]]:
        return [{"path": str(path), "reason": reason} for path, reason in lines]

    return {
        "catalogue": str(out),
        "pieces": report.pieces,
        "works": report.works,
        "sha256": report.sha256,
        "left_out": listed(report.left_out),
        "noticed": listed(report.noticed),
        "replaced": list(report.replaced),
    }
