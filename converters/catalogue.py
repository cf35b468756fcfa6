"""Scores into a catalogue: read by several processes, indexed, and swapped in whole.

Every file is read in a process of its own accord and time limit, so that one that stops the
parser, or crashes it, costs that file alone. What could not be read is reported with its
reason. The same scores give the same bytes, in whatever order they were found, however many
processes read them, and however often the building was interrupted.

What has been read is kept beside the catalogue, in ``NAME.building``, as small packs of a few
hundred files each with a list of what became of them. Whoever is interrupted and begins again
reads on from there; at the end the small packs are joined to one.
"""

from __future__ import annotations

import csv
import difflib
import hashlib
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec
import numpy as np

from converters.in_time import Unfinished, in_time
from converters.joining import join_packs
from converters.kern_score import read_kern_score
from converters.midi_score import read_midi_score
from converters.notation_score import read_notation_score
from converters.swap import write_whole
from converters.titles import tidy_composer, tidy_title
from edge.errors import CatalogueError, InputError, SostenutoError, UsageError
from edge.matching.pack import (
    ARRAYS,
    CATALOGUE_FILE,
    LONGEST_REST_QUARTERS,
    Pack,
    PackedPiece,
    open_pack,
    pack_piece,
    pack_scores,
    verify_pack,
    write_pack,
)
from edge.matching.score import Piece, Score
from edge.matching.signature import SIGNATURE_FILE, sign

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

LONGEST_BAR_QUARTERS = 32.0
"""A score that lasts longer and has one bar, or none, has none."""

PART_FILES = 256
PART_S = 30.0
"""How much reading an interruption costs at most: this many files, or this many seconds."""

Progress = Callable[[int, int], None]
Task = tuple[Path, Piece]


@dataclass(frozen=True, slots=True)
class BuildReport:
    """What became of the files.

    Attributes
    ----------
    pieces, works : int
        Pieces in the catalogue, and how many works they are.
    sha256 : str
        Of the catalogue.
    left_out : tuple of (Path, str)
        Files that could not be read, and why.
    noticed : tuple of (Path, str)
        Files that were read, and what is wrong with them.
    replaced : tuple of str
        Pieces that took the place of ones with the same id.
    """

    pieces: int
    works: int
    sha256: str
    left_out: tuple[tuple[Path, str], ...] = ()
    noticed: tuple[tuple[Path, str], ...] = ()
    replaced: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Reading:
    """How scores are read.

    Attributes
    ----------
    processes : int or None
        All cores where it is not given.
    time_limit_s : float
        A file that takes longer to read is left out.
    progress : callable, optional
        Called with the files done and the files in all.
    """

    processes: int | None = None
    time_limit_s: float = TIME_LIMIT_S
    progress: Progress | None = None


def build_catalogue(
    paths: Sequence[Path],
    out: Path,
    works_csv: Path | None = None,
    processes: int | None = None,
    progress: Progress | None = None,
    version: str = "1",
    time_limit_s: float = TIME_LIMIT_S,
    secret_key: str | None = None,
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
    processes, progress, time_limit_s
        See :class:`Reading`.
    version : str
        The catalogue's own version.
    secret_key : str, optional
        Signs the catalogue.

    Raises
    ------
    InputError
        A path does not exist, or no file could be read.
    CatalogueError
        ``out`` holds something that is no catalogue.
    """
    _check_out(out)
    tasks = described_pieces(find_scores(paths), works_csv)
    scores = _read(tasks, paths, out, Reading(processes, time_limit_s, progress))
    pack = join_packs(scores.packs, version, scores.stale)
    return _finished(pack, out, secret_key, scores)


def add_to_catalogue(
    catalogue: Path,
    paths: Sequence[Path],
    works_csv: Path | None = None,
    work_id: str | None = None,
    reading: Reading | None = None,
    version: str | None = None,
    secret_key: str | None = None,
) -> BuildReport:
    """Read scores and add them to a catalogue; a piece with an id that is there replaces it.

    ``work_id``, where it is given, is the work that all of the scores are editions of. The
    catalogue keeps its version where ``version`` is None.
    """
    before = open_pack(catalogue)
    verify_pack(before, catalogue)
    tasks = described_pieces(find_scores(paths), works_csv)
    if work_id is not None:
        tasks = [(path, replace(piece, work_id=work_id)) for path, piece in tasks]
    scores = _read(tasks, paths, catalogue, reading or Reading())
    added = join_packs(scores.packs, "", scores.stale)
    pack = join_packs([before, added], version or before.version)
    known = {piece.piece_id for piece in before.pieces}
    replaced = tuple(each.piece_id for each in added.pieces if each.piece_id in known)
    return _finished(pack, catalogue, secret_key, scores, replaced)


def remove_from_catalogue(
    catalogue: Path,
    ids: Sequence[str],
    version: str | None = None,
    secret_key: str | None = None,
) -> BuildReport:
    """Take pieces out of a catalogue, by their ids or by the id of their work.

    Raises
    ------
    UsageError
        An id is neither a piece's nor a work's.
    CatalogueError
        There is no such catalogue, or nothing would be left of it.
    """
    before = open_pack(catalogue)
    verify_pack(before, catalogue)
    pieces = list(before.pieces)
    known = {each.piece_id for each in pieces} | {each.work_id for each in pieces}
    for each in ids:
        if each not in known:
            near = difflib.get_close_matches(each, known, n=1)
            meant = f"; did you mean {near[0]}?" if near else ""
            raise UsageError(f"{catalogue} holds no piece and no work {each!r}{meant}")
    gone = {each.piece_id for each in pieces if {each.piece_id, each.work_id} & set(ids)}
    pack = join_packs([before], version or before.version, gone)
    return _finished(pack, catalogue, secret_key)


def merge_catalogues(
    catalogues: Sequence[Path],
    out: Path,
    version: str = "1",
    secret_key: str | None = None,
    works_csv: Path | None = None,
) -> BuildReport:
    """Join catalogues to one; of two pieces with one id, that of the later one is kept.

    ``works_csv`` says which pieces are versions of one work, as in :func:`build_catalogue`; a
    piece that it does not name stays with its work.
    """
    _check_out(out)
    works = _work_ids(works_csv)
    packs = [open_pack(each) for each in catalogues]
    for pack, folder in zip(packs, catalogues, strict=True):
        verify_pack(pack, folder)
    held = Counter(piece.piece_id for pack in packs for piece in pack.pieces)
    replaced = tuple(sorted(piece_id for piece_id, count in held.items() if count > 1))
    joined = join_packs(packs, version, works=works)
    return _finished(joined, out, secret_key, replaced=replaced)


def _finished(
    pack: Pack,
    out: Path,
    secret_key: str | None,
    scores: _Scores | None = None,
    replaced: tuple[str, ...] = (),
) -> BuildReport:
    """Swap a catalogue in, and say what it holds."""

    def write(folder: Path) -> None:
        write_pack(pack, folder)
        if secret_key is not None:
            sign(folder / CATALOGUE_FILE, secret_key)
        for beside in out.iterdir() if out.is_dir() else ():
            if beside.name not in _PACK_FILES and beside.is_file():  # licences, attributions
                shutil.copy2(beside, folder)

    write_whole(out, write)
    shutil.rmtree(_kept_in(out), ignore_errors=True)
    works = {piece.work_id for piece in pack.pieces}
    left_out, noticed = (scores.left_out, scores.noticed) if scores else ((), ())
    return BuildReport(len(pack.pieces), len(works), pack.sha256, left_out, noticed, replaced)


_PACK_FILES = {CATALOGUE_FILE, SIGNATURE_FILE, *(f"{name}.npy" for name in ARRAYS)}


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


@dataclass(frozen=True, slots=True)
class _Found:
    """A file that was read: its share of the pack, and what is wrong with it, if anything."""

    packed: PackedPiece
    noticed: str


def read_packed(task: Task) -> _Found | str:
    """One file, packed; or the reason why not. Runs in a process of its own."""
    path, piece = task
    try:
        score = read_score(path, piece)
        _check_rests(path, score)
        return _Found(pack_piece(score), _noticed(path, score))
    except SostenutoError as error:
        return str(error)
    except Exception as error:  # noqa: BLE001 - one strange file must not cost the others
        return f"{path} cannot be read ({error!r:.120})"


def _check_rests(path: Path, score: Score) -> None:
    onsets = np.concatenate(([score.bar_quarters[:1].min(initial=0.0)], score.onset_quarters))
    rests = np.diff(onsets)
    longest = int(np.argmax(rests))
    if rests[longest] > LONGEST_REST_QUARTERS:
        bar = int(np.searchsorted(score.bar_quarters, onsets[longest] + 1e-6, side="right"))
        raise InputError(
            f"{path} is silent for {rests[longest]:.0f} quarters from bar {max(bar, 1)} on, more "
            f"than {LONGEST_REST_QUARTERS:.0f}: one part of several? give the piano's score"
        )


def _noticed(path: Path, score: Score) -> str:
    if score.bar_quarters.size <= 1 and score.onset_quarters[-1] > LONGEST_BAR_QUARTERS:
        return f"{path} has no bars: the piece will be known, but not the bar"
    return ""


# --- what has been read, kept ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Scores:
    """All that was read, in this run and before it was interrupted."""

    packs: tuple[Pack, ...]
    stale: frozenset[str]
    left_out: tuple[tuple[Path, str], ...]
    noticed: tuple[tuple[Path, str], ...]


class _FileDone(msgspec.Struct, frozen=True):
    """What became of a file; ``key`` changes with the file and with what was asked."""

    key: str
    piece_id: str = ""
    left_out: str = ""
    noticed: str = ""


_DONE_FILE = "done.json"
_PACK_FOLDER = "pack"


def _kept_in(out: Path) -> Path:
    return out.with_name(out.name + ".building")


def _read(tasks: Sequence[Task], paths: Sequence[Path], out: Path, reading: Reading) -> _Scores:
    """Read what has not been read before; part by part, each kept as soon as it is whole."""
    kept = _kept_in(out)
    done = _done_before(kept)
    keys = {task[0]: _key(task, reading.time_limit_s) for task in tasks}
    waiting = [task for task in tasks if keys[task[0]] not in done]
    for part in _parts(waiting, keys, reading, len(tasks) - len(waiting), len(tasks)):
        _keep(kept, part)
        done |= {each.key: each for each, _ in part}
    became = [(path, done[keys[path]]) for path, _ in tasks]
    left_out = tuple(sorted((path, each.left_out) for path, each in became if each.left_out))
    noticed = tuple(sorted((path, each.noticed) for path, each in became if each.noticed))
    wanted = {each.piece_id for _, each in became if not each.left_out}
    if not wanted:
        shutil.rmtree(kept, ignore_errors=True)
        raise InputError(_nothing_read(paths, left_out))
    packs = tuple(open_pack(each) for each in sorted(kept.glob(f"*/{_PACK_FOLDER}")))
    stale = frozenset(each.piece_id for pack in packs for each in pack.pieces) - wanted
    return _Scores(packs, stale, left_out, noticed)


_Part = list[tuple[_FileDone, PackedPiece | None]]


def _parts(
    tasks: Sequence[Task],
    keys: dict[Path, str],
    reading: Reading,
    before: int,
    total: int,
) -> Iterator[_Part]:
    part: _Part = []
    began_s = time.monotonic()
    results = in_time(read_packed, tasks, reading.processes, reading.time_limit_s)
    for count, ((path, piece), result) in enumerate(results, start=before + 1):
        if isinstance(result, _Found):
            done = _FileDone(keys[path], piece.piece_id, noticed=result.noticed)
            part.append((done, result.packed))
        else:
            reason = _why(path, result, reading.time_limit_s)
            part.append((_FileDone(keys[path], piece.piece_id, left_out=reason), None))
        if reading.progress is not None:
            reading.progress(count, total)
        if len(part) >= PART_FILES or time.monotonic() - began_s >= PART_S:
            yield part
            part, began_s = [], time.monotonic()
    if part:
        yield part


def _why(path: Path, result: str | Unfinished, time_limit_s: float) -> str:
    if result is Unfinished.TOO_SLOW:
        return f"{path} was given up: it was not read within {time_limit_s:g} s"
    if result is Unfinished.CRASHED:
        return f"{path} cannot be read (it crashed the parser)"
    return str(result)


def _key(task: Task, time_limit_s: float) -> str:
    path, piece = task
    state = path.stat()
    asked = (str(path.absolute()), state.st_size, state.st_mtime_ns, time_limit_s, piece)
    return hashlib.sha256(msgspec.json.encode(asked)).hexdigest()


def _keep(kept: Path, part: _Part) -> None:
    def write(folder: Path) -> None:
        folder.mkdir(parents=True)
        packed = [each for _, each in part if each is not None]
        if packed:
            write_pack(pack_scores(packed), folder / _PACK_FOLDER)
        (folder / _DONE_FILE).write_bytes(msgspec.json.encode([done for done, _ in part]))

    write_whole(kept / f"{len(list(kept.glob(f'*/{_DONE_FILE}'))):05d}", write)


def _done_before(kept: Path) -> dict[str, _FileDone]:
    """What was read before an interruption; nothing where another version read it."""
    for half in kept.glob("*.new"):
        shutil.rmtree(half)
    try:
        for each in kept.glob(f"*/{_PACK_FOLDER}"):
            open_pack(each)
        return {
            done.key: done
            for each in sorted(kept.glob(f"*/{_DONE_FILE}"))
            for done in msgspec.json.decode(each.read_bytes(), type=list[_FileDone])
        }
    except (CatalogueError, msgspec.DecodeError):
        shutil.rmtree(kept)
        return {}
