"""Scores into a catalogue: read by several processes, indexed, and swapped in whole.

Every file is read in a process of its own accord and time limit, so that one that stops the
parser, or crashes it, costs that file alone. What could not be read is reported with its
reason. The same scores give the same bytes, in whatever order they were found and however
many processes read them.
"""

from __future__ import annotations

import csv
import multiprocessing
import shutil
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType

from converters.kern_score import read_kern_score
from converters.midi_score import read_midi_score
from converters.notation_score import read_notation_score
from converters.titles import tidy_composer, tidy_title
from edge.errors import CatalogueError, InputError, SostenutoError
from edge.matching.pack import CATALOGUE_FILE, PackedPiece, pack_piece, pack_scores, write_pack
from edge.matching.score import Piece, Score

READERS: dict[str, Callable[[Path, Piece], Score]] = {
    ".krn": read_kern_score,
    ".kern": read_kern_score,
    ".mid": read_midi_score,
    ".midi": read_midi_score,
    ".musicxml": read_notation_score,
    ".mxl": read_notation_score,
    ".xml": read_notation_score,
    ".mei": read_notation_score,
}

TIME_LIMIT_S = 60.0
"""A score of an hour's music is read in a few seconds; a parser that takes longer is stuck."""

TITLES_FILE = "catalogue.csv"

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class BuildReport:
    """What became of the files.

    Attributes
    ----------
    pieces : int
        Pieces in the catalogue.
    sha256 : str
        Of the catalogue.
    left_out : tuple of (Path, str)
        Files that could not be read, and why.
    """

    pieces: int
    sha256: str
    left_out: tuple[tuple[Path, str], ...]


def build_catalogue(
    paths: Sequence[Path],
    out: Path,
    works_csv: Path | None = None,
    processes: int | None = None,
    progress: Progress | None = None,
    version: str = "1",
    time_limit_s: float = TIME_LIMIT_S,
) -> BuildReport:
    """Read scores and write them as a catalogue.

    Parameters
    ----------
    paths : Paths
        Score files, and folders that are read through.
    out : Path
        Folder of the catalogue; one that holds a catalogue is replaced in one step.
    works_csv : Path, optional
        Columns ``id`` and ``work_id``: which pieces are versions of one work.
    processes : int, optional
        All cores where it is not given.
    progress : callable, optional
        Called with the files done and the files in all.
    version : str
        The catalogue's own version.
    time_limit_s : float
        A file that takes longer to read is left out.

    Raises
    ------
    InputError
        A path does not exist, or no file could be read.
    CatalogueError
        ``out`` holds something that is no catalogue.
    """
    _check_out(out)
    files = find_scores(paths)
    tasks = described_pieces(files, works_csv)
    packed: dict[Path, PackedPiece] = {}
    left_out: list[tuple[Path, str]] = []
    for path, result in _read_all(tasks, processes, time_limit_s):
        if isinstance(result, str):
            left_out.append((path, result))
        else:
            packed[path] = result
        if progress is not None:
            progress(len(packed) + len(left_out), len(tasks))
    if not packed:
        raise InputError(_nothing_read(paths, left_out))
    pieces = sorted(packed.values(), key=lambda each: each.piece.piece_id)
    pack = pack_scores(pieces, version)
    _swap_in(out, lambda folder: write_pack(pack, folder))
    return BuildReport(len(pieces), pack.sha256, tuple(sorted(left_out)))


def _nothing_read(paths: Sequence[Path], left_out: Sequence[tuple[Path, str]]) -> str:
    if left_out:
        return f"no score could be read; the first of {len(left_out)}: {left_out[0][1]}"
    return (
        f"no scores in {', '.join(map(str, paths))}: "
        f"files named *{', *'.join(READERS)} are looked for"
    )


def _check_out(out: Path) -> None:
    if out.is_file() or (
        out.is_dir() and any(out.iterdir()) and not (out / CATALOGUE_FILE).is_file()
    ):
        raise CatalogueError(f"{out} is there and is no catalogue: give a new or empty folder")


def _swap_in(out: Path, write: Callable[[Path], None]) -> None:
    """Write beside the old catalogue, then put the new one in its place."""
    new = out.with_name(out.name + ".new")
    old = out.with_name(out.name + ".old")
    for stale in (new, old):
        shutil.rmtree(stale, ignore_errors=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    write(new)
    if out.exists():
        out.rename(old)
    new.rename(out)
    shutil.rmtree(old, ignore_errors=True)


# --- which files, and whose work they are ---------------------------------------------------


def find_scores(paths: Sequence[Path]) -> list[Path]:
    """The score files among paths and in folders, each once, in order of their names.

    Raises
    ------
    InputError
        A path does not exist.
    """
    found: dict[Path, None] = {}
    for path in paths:
        if path.is_dir():
            inside = (each for each in path.rglob("*") if each.suffix.lower() in READERS)
            found.update(dict.fromkeys(sorted(each for each in inside if each.is_file())))
        elif path.exists():
            found[path] = None
        else:
            raise InputError(f"{path} does not exist; give score files or folders of them")
    return list(found)


@dataclass(frozen=True, slots=True)
class _Titles:
    """The rows of one catalogue.csv, by the names under which files may look for them."""

    by_tail: dict[tuple[str, str], dict[str, str]] = field(default_factory=dict)
    by_name: dict[str, dict[str, str]] = field(default_factory=dict)

    def row_of(self, path: Path) -> dict[str, str]:
        return (
            self.by_tail.get((path.parent.name, path.name))
            or self.by_name.get(path.name)
            or self.by_name.get(path.stem)
            or {}
        )


def described_pieces(
    files: Sequence[Path], works_csv: Path | None = None
) -> list[tuple[Path, Piece]]:
    """Each file with what is known of it before it is read.

    A file's ``catalogue.csv`` is the nearest one in the folders above it. Two files of one
    name are two pieces: the second one's id gets a number.
    """
    works = _work_ids(works_csv)
    titles: dict[Path, _Titles | None] = {}
    taken: dict[str, int] = {}
    described = []
    for path in files:
        row = _row_for(path, titles)
        piece_id = row.get("id") or path.stem
        taken[piece_id] = taken.get(piece_id, 0) + 1
        if taken[piece_id] > 1:
            piece_id = f"{piece_id}-{taken[piece_id]}"
        described.append((path, _piece(piece_id, row, works)))
    return described


def _piece(piece_id: str, row: dict[str, str], works: dict[str, str]) -> Piece:
    work_id = works.get(piece_id) or row.get("work_id") or row.get("dup_of") or piece_id
    return Piece(
        piece_id=piece_id,
        work_id=work_id,
        title=tidy_title(row.get("title", "")),
        composer=tidy_composer(row.get("composer", "")),
        source=row.get("source", ""),
        licence=row.get("licence", ""),
        attribution=row.get("attribution", ""),
    )


def _row_for(path: Path, titles: dict[Path, _Titles | None]) -> dict[str, str]:
    for folder in path.absolute().parents:
        if folder not in titles:
            titles[folder] = _titles_in(folder)
        found = titles[folder]
        row = found.row_of(path) if found is not None else {}
        if row:
            return row
    return {}


def _titles_in(folder: Path) -> _Titles | None:
    rows = _csv_rows(folder / TITLES_FILE)
    if rows is None:
        return None
    found = _Titles()
    for row in rows:
        if row.get("id"):
            found.by_name.setdefault(row["id"], row)
        for column, value in row.items():
            if value and column.startswith(("path", "file")):
                named = Path(value)
                found.by_tail.setdefault((named.parent.name, named.name), row)
                found.by_name.setdefault(named.name, row)
    return found


def _work_ids(works_csv: Path | None) -> dict[str, str]:
    if works_csv is None:
        return {}
    rows = _csv_rows(works_csv)
    if rows is None:
        raise InputError(f"{works_csv} does not exist; give a CSV file with id and work_id")
    if rows and not {"id", "work_id"} <= rows[0].keys():
        raise InputError(
            f"{works_csv} has the columns {', '.join(rows[0])}; it needs id and work_id"
        )
    return {row["id"]: row["work_id"] for row in rows if row["work_id"]}


def _csv_rows(path: Path) -> list[dict[str, str]] | None:
    """The rows of a CSV file, empty strings for what is missing; None where there is no file."""
    if not path.is_file():
        return None
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            return [
                {key: value or "" for key, value in row.items() if isinstance(key, str)}
                for row in csv.DictReader(lines)
            ]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as CSV in UTF-8 ({error})") from None


# --- reading --------------------------------------------------------------------------------


def read_score(path: Path, piece: Piece) -> Score:
    """Read a score of any kind that its name's ending says.

    Where nothing gives a title, the file's name does.
    """
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise InputError(f"{path} is no score: its name should end in one of {', '.join(READERS)}")
    score = reader(path, piece)
    named = replace(
        score.piece,
        title=tidy_title(score.piece.title) or tidy_title(path.stem),
        composer=tidy_composer(score.piece.composer),
    )
    return replace(score, piece=named)


class _TooSlow(BaseException):
    """Not an Exception, so that no parser swallows it."""


def _stop_reading(_signal: int, _frame: FrameType | None) -> None:
    raise _TooSlow


def _read_packed(path: Path, piece: Piece, time_limit_s: float) -> PackedPiece | str:
    """One file, packed; or the reason why not. Runs in a process of its own."""
    before = signal.signal(signal.SIGALRM, _stop_reading)
    signal.setitimer(signal.ITIMER_REAL, time_limit_s)
    try:
        return pack_piece(read_score(path, piece))
    except SostenutoError as error:
        return str(error)
    except _TooSlow:
        return f"{path} was given up: it was not read within {time_limit_s:g} s"
    except Exception as error:  # noqa: BLE001 - one strange file must not cost the others
        return f"{path} cannot be read ({error!r:.120})"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


Task = tuple[Path, Piece]


def _read_all(
    tasks: Sequence[Task], processes: int | None, time_limit_s: float
) -> Iterator[tuple[Path, PackedPiece | str]]:
    if processes == 1:
        for path, piece in tasks:
            yield path, _read_packed(path, piece, time_limit_s)
        return
    crashed: list[Task] = []
    for task, result in _in_processes(tasks, processes, time_limit_s):
        if result is None:
            crashed.append(task)
        else:
            yield task[0], result
    for task in crashed:  # whoever was read beside the one that crashed gets a second turn
        for (path, _), result in _in_processes([task], 1, time_limit_s):
            yield path, result or f"{path} cannot be read (it crashed the parser)"


def _in_processes(
    tasks: Iterable[Task], processes: int | None, time_limit_s: float
) -> Iterator[tuple[Task, PackedPiece | str | None]]:
    """Results as they come; None for what was underway when a process died."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        futures: dict[Future[PackedPiece | str], Task] = {
            pool.submit(_read_packed, *task, time_limit_s): task for task in tasks
        }
        for future in as_completed(futures):
            try:
                yield futures[future], future.result()
            except BrokenProcessPool:
                yield futures[future], None
