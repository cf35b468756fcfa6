"""How search grows with the catalogue: from a thousand pieces to a hundred thousand.

    python -m benchmarks.scale [--sizes 1000 2228 ...] [--json] [--plot docs/images/scale.svg]

The catalogue of ``benchmarks/works.py`` is filled up with distractors
(``benchmarks/distractors.py``); the smallest sizes are cut from it, the works that are asked for
kept. Each size is opened and asked by a process of its own: windows of 10 s and 20 s of human
performances (one of each work) and of transcriptions with a real ear's errors.

*opens* is the wall time of ``Catalogue.open``. *memory* is what ``/proc/self/status`` calls
resident, pages of mapped files included, at its highest after any of the searches, less what was
resident before opening. *step* is one call of ``identify``: processor time of its one thread,
which other programs on the machine disturb least, and wall time beside it. *right* is the share
of the 10 s windows whose first candidate is a version of the work; *found* the share whose work
is among the places that the search hands on.

A hundred thousand pieces take half an hour to make, 4 GB of disk and 10 GB of memory; what was
made is kept in ``.cache/scale``.
"""

from __future__ import annotations

import argparse
import json
import pickle
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks import works
from benchmarks.curves import Curve, write_curves
from benchmarks.distractors import distractor
from benchmarks.identification import windows
from benchmarks.places import ROOT
from benchmarks.works import Music
from converters.catalogue import described_pieces, find_scores, read_score
from converters.joining import join_packs
from edge.errors import CatalogueError, InputError
from edge.matching import Catalogue, Score, identify
from edge.matching.chords import chords_of_notes
from edge.matching.identification import MOST_CHORDS, PLACES_VERIFIED
from edge.matching.pack import Pack, open_pack, pack_scores, write_pack
from edge.matching.search import places

SIZES = (1000, 2228, 5000, 10_000, 30_000, 100_000)
PART = 1000
SEED = 1
TIMED_S = (10.0, 20.0)
RIGHT_S = 10.0
TRANSCRIBED_WINDOWS = 3
CACHE = ROOT / ".cache" / "scale"

progress_console = Console(stderr=True)


def real_scores() -> list[Score]:
    """Every score of the data that has bars, to cut distractors from; kept once read."""
    kept = CACHE / "scores.pkl"
    if not kept.exists():
        folders = [
            works.unpacked("scores", works.TRAINING / "scores_cc_by_midi.tar.xz"),
            works.unpacked("scores_nc", works.EVALUATION / "scores_nc.tar.xz"),
        ]
        described = described_pieces(find_scores(folders))
        found = []
        for path, piece in track(described, "reading scores", console=progress_console):
            try:
                found.append(read_score(path, piece))
            except InputError as error:
                progress_console.print(f"left out: {error}")
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_bytes(pickle.dumps([score for score in found if score.bar_quarters.size]))
    return list(pickle.loads(kept.read_bytes()))


def distractors(count: int) -> list[Pack]:
    """Packs of a thousand distractors each, ``count`` or a few more in all."""
    folders = [CACHE / "parts" / f"{number:03d}" for number in range(-(-count // PART))]
    missing = [folder for folder in folders if not folder.exists()]
    scores = real_scores() if missing else []
    for folder in track(missing, "splicing", console=progress_console, disable=not missing):
        first = int(folder.name) * PART
        made = pack_scores(distractor(n, scores, SEED) for n in range(first, first + PART))
        write_pack(made, folder.with_suffix(".half"))
        folder.with_suffix(".half").rename(folder)
    return [open_pack(folder) for folder in folders]


def catalogue_of(size: int, asked: set[str]) -> Path:
    """The folder of a catalogue with this many pieces."""
    folder = CACHE / f"catalogue-{size}"
    try:
        Catalogue.open(folder)
    except CatalogueError:  # not there, or of another format
        real = works.catalogue().packs[0]
        if size < len(real.pieces):
            wanted_first = sorted(real.pieces, key=lambda piece: piece.work_id not in asked)
            surplus = {piece.piece_id for piece in wanted_first[size:]}
            pack = join_packs([real], "1", surplus)
        else:
            parts = distractors(size - len(real.pieces))
            last = [piece.piece_id for part in parts[-1:] for piece in part.pieces]
            surplus_count = len(real.pieces) + PART * len(parts) - size
            pack = join_packs([real, *parts], "1", set(last[len(last) - surplus_count :]))
        write_pack(pack, folder)
    return folder


def questions() -> dict[float, list[Music]]:
    """Windows by their length."""
    known = {piece.work_id for piece in works.catalogue().pieces}
    one_each = {music.work_id: music for music in reversed(works.performances(known))}
    heard = works.transcriptions(known)
    asked = {}
    for seconds in TIMED_S:
        rng = np.random.default_rng(SEED)
        asked[seconds] = windows(list(one_each.values()), seconds, 1, rng)
        asked[seconds] += windows(heard, seconds, TRANSCRIBED_WINDOWS, rng)
    return asked


def _resident_mb() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def measure(folder: Path, asked: dict[float, list[Music]]) -> dict[str, Any]:
    """Figures of one catalogue, in this process, which must be fresh."""
    before_mb = _resident_mb()
    began_s = time.perf_counter()
    catalogue = Catalogue.open(folder)
    opened_s = time.perf_counter() - began_s
    highest_mb = _resident_mb()
    step_ms: dict[float, list[float]] = {}
    wall_ms, search_ms = [], []
    right = found = 0
    for seconds, asked_windows in asked.items():
        step_ms[seconds] = []
        for music in asked_windows:
            began_s, began_thread_s = time.perf_counter(), time.thread_time()
            answer = identify(music.notes, catalogue)
            step_ms[seconds].append((time.thread_time() - began_thread_s) * 1e3)
            wall_ms.append((time.perf_counter() - began_s) * 1e3)
            highest_mb = max(highest_mb, _resident_mb())
            if seconds == RIGHT_S:
                right += bool(answer.candidates) and answer.candidates[0].work_id == music.work_id
                chords = chords_of_notes(music.notes).part(slice(0, MOST_CHORDS))
                began_thread_s = time.thread_time()
                handed_on = places(chords, catalogue, PLACES_VERIFIED)
                search_ms.append((time.thread_time() - began_thread_s) * 1e3)
                of_works = {catalogue.pieces[place.piece].work_id for place in handed_on}
                found += music.work_id in of_works
    all_ms = [each for times in step_ms.values() for each in times]
    return {
        "pieces": len(catalogue),
        "disk_mb": sum(file.stat().st_size for file in folder.iterdir()) / 1e6,
        "entries_a_piece": catalogue.packs[0].arrays.posting.size / len(catalogue),
        "opens_s": opened_s,
        "memory_mb": highest_mb - before_mb,
        "searches": len(all_ms) + len(search_ms),
        "step_median_ms": float(np.median(all_ms)),
        "step_p95_ms": float(np.percentile(all_ms, 95)),
        "step_p95_ms_by_length": {
            f"{seconds:g} s": float(np.percentile(times, 95)) for seconds, times in step_ms.items()
        },
        "wall_p95_ms": float(np.percentile(wall_ms, 95)),
        "search_median_ms": float(np.median(search_ms)),
        "search_p95_ms": float(np.percentile(search_ms, 95)),
        "right_10_s": right / len(asked[RIGHT_S]),
        "found_10_s": found / len(asked[RIGHT_S]),
        "windows": len(asked[RIGHT_S]),
    }


def grown(sizes: Sequence[int]) -> list[dict[str, Any]]:
    """Figures of a catalogue of each size, every one in a process of its own."""
    asked = questions()
    kept = CACHE / "questions.pkl"
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_bytes(pickle.dumps(asked))
    known = {music.work_id for each in asked.values() for music in each}
    return [_in_a_fresh_process(catalogue_of(size, known), kept) for size in sizes]


def _in_a_fresh_process(folder: Path, asked: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.scale", "--measure", str(folder), str(asked)]
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    return dict(json.loads(done.stdout))


def _table(rows: Sequence[dict[str, Any]]) -> Table:
    table = Table(
        "pieces", "opens, s", "memory, MB", "disk, MB", "step: median, ms", "p95, ms",
        "wall p95, ms", "search p95, ms", "right, 10 s", "found, 10 s",
    )  # fmt: skip
    for row in rows:
        table.add_row(
            f"{row['pieces']:,}",
            f"{row['opens_s']:.3f}",
            f"{row['memory_mb']:.0f}",
            f"{row['disk_mb']:.0f}",
            f"{row['step_median_ms']:.1f}",
            f"{row['step_p95_ms']:.1f}",
            f"{row['wall_p95_ms']:.1f}",
            f"{row['search_p95_ms']:.1f}",
            f"{row['right_10_s']:.3f}",
            f"{row['found_10_s']:.3f}",
        )
    return table


def _plot(rows: Sequence[dict[str, Any]], path: Path) -> None:
    pieces = [row["pieces"] for row in rows]
    write_curves(
        path,
        "pieces in the catalogue",
        {
            "one step, ms of processor time": [
                Curve("95th percentile", pieces, [row["step_p95_ms"] for row in rows]),
                Curve("median", pieces, [row["step_median_ms"] for row in rows]),
                Curve("of it the search, p95", pieces, [row["search_p95_ms"] for row in rows]),
            ],
            "share of 10 s windows": [
                Curve("among the places found", pieces, [row["found_10_s"] for row in rows]),
                Curve("right at first", pieces, [row["right_10_s"] for row in rows]),
            ],
        },
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--measure", type=Path, nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure is not None:
        folder, asked = options.measure
        print(json.dumps(measure(folder, pickle.loads(asked.read_bytes()))))
        return
    if not works.INDEX.exists():
        progress_console.print(f"scale left out: no {works.INDEX}")
        return
    rows = grown(options.sizes)
    if options.plot is not None:
        _plot(rows, options.plot)
    if options.json:
        print(json.dumps(rows, indent=1))
    else:
        Console().print(_table(rows))


if __name__ == "__main__":
    main()
