"""The page on the starter catalogue: which pieces it holds, and what proof-reading them found.

``scores/starter`` holds one kern file a piece and three tables: ``catalogue.csv`` (title,
composer, source), ``versions.csv`` (which other version each piece was compared with, or how
else it was proof-read) and ``differences.csv`` (why a difference that remains is no wrong
note). The comparison itself is :mod:`converters.score_alignment`.

A version is named by its path below the data folder, ``archive:member`` where it lies in an
archive; the data stays where it is and none of it enters the page but the notes that differ.
"""

from __future__ import annotations

import csv
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Annotated

import typer

from converters.kern_score import read_kern_score
from converters.midi_score import read_midi_score
from converters.score_alignment import Alignment, Difference, Kind, ScoreNote, align, score_notes
from edge.errors import InputError, SostenutoError
from edge.matching.score import Hand, Piece, Score

_NOTE_NAMES = ("C", "C♯", "D", "E♭", "E", "F", "F♯", "G", "A♭", "A", "B♭", "B")
_NAMELESS = Piece("", "", "", "")


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of ``catalogue.csv``."""

    piece_id: str
    work_id: str
    title: str
    composer: str
    opus: str
    bars: int
    source: str
    arrangement: str


@dataclass(frozen=True, slots=True)
class Check:
    """One row of ``versions.csv``: what a piece was compared with.

    ``version_path`` is empty where the data has none; ``note`` then says how the piece was
    proof-read, and otherwise what kind of version it is.
    """

    piece_id: str
    version_path: str
    note: str

    @property
    def version(self) -> str:
        """The version's short name: the stem of its file."""
        return Path(self.version_path.rpartition(":")[2]).stem


@dataclass(frozen=True, slots=True)
class Explanation:
    """One row of ``differences.csv``: why differences in some bars are no wrong notes.

    ``bars`` is ``*``, a number or a range such as ``3-7``; ``kind`` a :class:`Kind` or ``*``.
    """

    piece_id: str
    version: str
    bars: str
    kind: str
    explanation: str

    def covers(self, difference: Difference) -> bool:
        if self.kind not in ("*", difference.kind.value):
            return False
        if self.bars == "*":
            return True
        first, _, last = self.bars.partition("-")
        return int(first) <= difference.bar <= int(last or first)


@dataclass(frozen=True, slots=True)
class Result:
    """One check, carried out; ``alignment`` is None where there was no version."""

    entry: Entry
    check: Check
    bars: int
    notes: int
    alignment: Alignment | None
    explanations: tuple[Explanation, ...]

    @property
    def unexplained(self) -> int:
        if self.alignment is None:
            return 0
        return sum(
            not any(each.covers(difference) for each in self.explanations)
            for difference in self.alignment.differences
        )


# --- tables and files -----------------------------------------------------------------------


def read_entries(folder: Path) -> dict[str, Entry]:
    """``catalogue.csv`` of the starter scores, by piece."""
    return {
        row["piece_id"]: Entry(
            piece_id=row["piece_id"],
            work_id=row["work_id"],
            title=row["title"],
            composer=row["composer"],
            opus=row["opus"],
            bars=int(row["bars"]),
            source=row["source"],
            arrangement=row["arrangement"],
        )
        for row in _rows(folder / "catalogue.csv")
    }


def read_checks(folder: Path) -> list[Check]:
    """``versions.csv`` of the starter scores."""
    return [
        Check(row["piece_id"], row["version_path"], row["note"])
        for row in _rows(folder / "versions.csv")
    ]


def read_explanations(folder: Path) -> list[Explanation]:
    """``differences.csv`` of the starter scores."""
    return [
        Explanation(row["piece_id"], row["version"], row["bars"], row["kind"], row["explanation"])
        for row in _rows(folder / "differences.csv")
    ]


def _rows(path: Path) -> Iterator[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            yield from csv.DictReader(file)
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror}); give the folder of the starter scores"
        ) from None


def read_score(path: Path) -> Score:
    """A kern or MIDI file as a score."""
    if path.suffix == ".krn":
        return read_kern_score(path, _NAMELESS)
    return read_midi_score(path, _NAMELESS)


def unpack_versions(version_paths: Sequence[str], data: Path, into: Path) -> dict[str, Path]:
    """Where each version lies as a file; those inside archives are unpacked into a folder.

    Raises
    ------
    InputError
        A version is no file below the data folder and no member of an archive there.
    """
    found: dict[str, Path] = {}
    for archive, paths in groupby(sorted(version_paths), key=lambda path: path.rpartition(":")[0]):
        for version_path in paths:
            member = version_path.rpartition(":")[2]
            found[version_path] = (into if archive else data) / member
        if archive:
            _unpack(data / archive, into)
    if missing := sorted(path for path, file in found.items() if not file.is_file()):
        raise InputError(f"{', '.join(missing)} is not below {data}; mend versions.csv")
    return found


def _unpack(archive: Path, into: Path) -> None:
    try:
        with tarfile.open(archive) as tar:
            tar.extractall(into, filter="data")
    except (OSError, tarfile.TarError) as error:
        raise InputError(f"{archive} cannot be unpacked ({error})") from None


# --- the comparison -------------------------------------------------------------------------


def proof_read(folder: Path, data: Path) -> list[Result]:
    """Carry out every check of ``versions.csv``."""
    entries = read_entries(folder)
    checks = sorted(read_checks(folder), key=lambda check: (check.piece_id, check.version))
    explanations = read_explanations(folder)
    with tempfile.TemporaryDirectory() as scratch:
        wanted = [check.version_path for check in checks if check.version_path]
        paths = unpack_versions(wanted, data, Path(scratch))
        return [
            _result(entries, check, folder, paths.get(check.version_path), explanations)
            for check in checks
        ]


def _result(
    entries: dict[str, Entry],
    check: Check,
    folder: Path,
    version: Path | None,
    explanations: list[Explanation],
) -> Result:
    if check.piece_id not in entries:
        raise InputError(f"versions.csv names {check.piece_id}, which catalogue.csv does not")
    score = read_score(folder / f"{check.piece_id}.krn")
    ours = score_notes(score)
    return Result(
        entry=entries[check.piece_id],
        check=check,
        bars=int((score.bar_number > 0).sum()),
        notes=len(ours),
        alignment=align(ours, score_notes(read_score(version))) if version else None,
        explanations=tuple(
            each
            for each in explanations
            if each.piece_id == check.piece_id and each.version == check.version
        ),
    )


# --- the page -------------------------------------------------------------------------------

_HEAD = """\
# The starter catalogue

Pieces that beginners play, written out by ourselves in Humdrum kern (`scores/starter`): all of
them in the public domain, both hands, ties and ornaments as signs, repeats as signs and not
unfolded. A wrong note in them is a defect, so each is compared, note by note, with another
version of the same piece where the data beside the project has one:

    python -m converters.score_alignment scores/starter ../shared/data -o docs/starter-catalogue.md

“Same” counts our notes that the version has at the same onset (to an eighth of a quarter) and
pitch. “Only there” counts the version's notes in passages that our score does not hold:
repeats written out, or the rest of a movement of which we have the beginning. What differs is
listed below, each with its reason.
"""


def page(results: Sequence[Result]) -> str:
    """``docs/starter-catalogue.md``."""
    lines = [_HEAD, "## Pieces", ""]
    lines += ["| piece | title | composer | bars | notes | text |", "|---|---|---|--:|--:|---|"]
    for _, group in groupby(results, key=lambda result: result.entry.piece_id):
        result = next(group)
        entry = result.entry
        opus = f", {entry.opus}" if entry.opus else ""
        lines.append(
            f"| `{entry.piece_id}` | {entry.title}{opus} | {entry.composer} | {result.bars} "
            f"| {result.notes} | {entry.arrangement}; {entry.source} |"
        )
    lines += ["", "## Compared with", ""]
    lines += [
        "| piece | version | compared | same | differing | only there |",
        "|---|---|--:|--:|--:|--:|",
    ]
    lines += [_compared_row(result) for result in results if result.alignment is not None]
    lines += ["", "No version in the data; proof-read otherwise:", ""]
    lines += [
        f"- `{result.entry.piece_id}`: {result.check.note}"
        for result in results
        if result.alignment is None
    ]
    lines += ["", "## What differs", ""]
    for result in results:
        lines += _differences(result)
    return "\n".join(lines).rstrip() + "\n"


def _compared_row(result: Result) -> str:
    alignment = result.alignment
    assert alignment is not None
    return (
        f"| `{result.entry.piece_id}` | `{result.check.version}`: {result.check.note} "
        f"| {alignment.notes} | {alignment.same} ({alignment.agreement:.1%}) "
        f"| {len(alignment.differences)} | {alignment.skipped_version_notes} |"
    )


def _differences(result: Result) -> list[str]:
    if result.alignment is None or not result.alignment.differences:
        return []
    lines = [f"### `{result.entry.piece_id}` and `{result.check.version}`", ""]
    for explanation in result.explanations:
        lines.append(
            f"- {_bars_named(explanation.bars)}, "
            f"{'any difference' if explanation.kind == '*' else explanation.kind}: "
            f"{explanation.explanation}"
        )
    if result.unexplained:
        lines.append(f"- **{result.unexplained} not explained**")
    lines += ["", "| bar | beat | what | ours | version |", "|--:|--:|---|---|---|"]
    for difference in result.alignment.differences:
        known = any(each.covers(difference) for each in result.explanations)
        lines.append(
            f"| {difference.bar} | {difference.beat:.4g} | {difference.kind.value}"
            f"{'' if known else ' (not explained)'} | {_named(difference.ours)} "
            f"| {_named(difference.version)} |"
        )
    return [*lines, ""]


def _bars_named(bars: str) -> str:
    if bars == "*":
        return "Throughout"
    return f"Bars {bars.replace('-', '–')}" if "-" in bars else f"Bar {bars}"


def _named(note: ScoreNote | None) -> str:
    if note is None:
        return "–"
    octave = note.pitch_midi // 12 - 1
    hand = {Hand.LEFT: ", left", Hand.RIGHT: ", right"}.get(note.hand, "")
    return f"{_NOTE_NAMES[note.pitch_midi % 12]}{octave} for {note.duration_quarters:.3g}{hand}"


# --- the command ----------------------------------------------------------------------------


def _command(
    scores: Annotated[Path, typer.Argument(help="Folder of the starter scores.")],
    data: Annotated[Path, typer.Argument(help="Data folder with the versions to compare with.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The page to write.")],
) -> None:
    """Compare every starter score with its versions, note by note, and write the page."""
    try:
        results = proof_read(scores, data)
    except SostenutoError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(error.exit_code) from None
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(page(results), encoding="utf-8")
    for result in results:
        typer.echo(_summary(result))


def _summary(result: Result) -> str:
    name = f"{result.entry.piece_id:32s}"
    if result.alignment is None:
        return f"{name} no version: {result.check.note}"
    told = dict.fromkeys(Kind, 0)
    for difference in result.alignment.differences:
        told[difference.kind] += 1
    kinds = ", ".join(f"{count} {kind.value}" for kind, count in told.items() if count)
    return (
        f"{name} {result.check.version:40s} {result.alignment.same}/{result.alignment.notes} same; "
        f"{kinds or 'nothing else'}; {result.unexplained} not explained"
    )


def main() -> None:
    """Run the command with the program's arguments."""
    typer.run(_command)
