"""Is the piece named? Human performances against a catalogue of more than two thousand scores.

The catalogue holds every score of the project's data (two archives, 2,185 scores, versions of one
piece joined by ``works.csv``) and the score-like files of ``giantmidi_dev``. The queries are that
archive's human performances whose work is in the catalogue, each from its first note for 20 s. An
answer is right when the first candidate is a version of the work. Each query is asked a second
time with its work left out: whatever is called matched then is a false claim.

Beside them, to look further: 5 s and 10 s windows at random places (seeded) of those performances
and of the archive's transcriptions of recordings, which have the errors of a real ear.

The catalogue is built once and kept in ``.cache/``, which git ignores.
"""

from __future__ import annotations

import csv
import tarfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from benchmarks.places import EVALUATION, ROOT
from edge.errors import CatalogueError
from edge.matching import Catalogue, MatchState, identify
from edge.matching.chords import chords_of_notes
from edge.matching.search import places
from edge.matching.verification import verify
from edge.midi import read_midi
from edge.note import NoteEvent

QUERY_S = 20.0
WINDOWS_S = (5.0, 10.0, 20.0)
WINDOWS_A_PIECE = 3
FEWEST_ONSETS = 8
SEED = 1
CACHE = ROOT / ".cache" / "identification"
TRAINING = EVALUATION.parent / "train"
PERFORMANCES = EVALUATION / "performances"
INDEX = PERFORMANCES / "giantmidi_dev_index.csv"


def _unpacked() -> Path:
    """The archives, unpacked beside one another."""
    archives = {
        "scores": TRAINING / "scores_cc_by_midi.tar.xz",
        "scores_nc": EVALUATION / "scores_nc.tar.xz",
        "giantmidi_dev": PERFORMANCES / "giantmidi_dev.tar.xz",
    }
    for name, archive in archives.items():
        if not (CACHE / name / ".whole").exists():
            with tarfile.open(archive) as tar:
                tar.extractall(CACHE / name, filter="data")
            (CACHE / name / ".whole").touch()
    return CACHE


def _index() -> list[dict[str, str]]:
    with INDEX.open(newline="") as file:
        return [row for row in csv.DictReader(file) if row["work_id"]]


def _works_csv() -> Path:
    """``works.csv`` with the score-like files of ``giantmidi_dev`` added."""
    with (EVALUATION / "works.csv").open(newline="") as file:
        works = [(row["id"], row["work_id"]) for row in csv.DictReader(file)]
    works += [(Path(r["path"]).stem, r["work_id"]) for r in _index() if r["kind"] == "score"]
    joined = CACHE / "works.csv"
    with joined.open("w", newline="") as file:
        csv.writer(file).writerows([("id", "work_id"), *works])
    return joined


def catalogue() -> Catalogue:
    """The catalogue of the protocol; built by the project's own builder where it is missing."""
    from converters.catalogue import build_catalogue

    built = CACHE / "catalogue"
    try:
        return Catalogue.open(built)
    except CatalogueError:  # not there, or made by another version
        folder = _unpacked()
        scores = [folder / "giantmidi_dev" / r["path"] for r in _index() if r["kind"] == "score"]
        report = build_catalogue(
            [folder / "scores", folder / "scores_nc", *scores], built, _works_csv()
        )
        Console(stderr=True).print(f"{report.pieces} pieces, left out: {report.left_out}")
    return Catalogue.open(built)


Query = tuple[str, list[NoteEvent]]


def music(known_works: set[str], kind: str) -> list[Query]:
    """Work and notes of each performance or transcription whose work is known."""
    folder = _unpacked() / "giantmidi_dev"
    return [
        (row["work_id"], sorted(read_midi(folder / row["path"]).notes, key=lambda n: n.onset_s))
        for row in _index()
        if row["kind"] == kind and row["work_id"] in known_works
    ]


def window(notes: list[NoteEvent], start_s: float, seconds: float) -> list[NoteEvent]:
    """What is struck within ``seconds`` from ``start_s`` on."""
    return [note for note in notes if start_s <= note.onset_s < start_s + seconds]


def random_windows(played: list[Query], seconds: float) -> list[Query]:
    """Windows at random places, at least :data:`FEWEST_ONSETS` notes in each."""
    rng = np.random.default_rng(SEED)
    found = []
    for work_id, notes in played * WINDOWS_A_PIECE:
        last_s = max(notes[-1].onset_s - seconds, notes[0].onset_s)
        tries = (window(notes, rng.uniform(notes[0].onset_s, last_s), seconds) for _ in range(50))
        found.append((work_id, next(each for each in tries if len(each) >= FEWEST_ONSETS)))
    return found


def right_at_first(asked: list[Query], pieces: Catalogue) -> float:
    """Share of the queries whose first candidate is a version of their work."""
    firsts = [(work, identify(notes, pieces).candidates[:1]) for work, notes in asked]
    return sum(bool(best) and best[0].work_id == work for work, best in firsts) / len(asked)


def measure() -> dict[str, Any] | None:
    """Figures of the protocol; None where the data is not beside the project."""
    if not INDEX.exists():
        return None
    pieces = catalogue()
    works = {piece.work_id for piece in pieces.pieces}
    performances, transcriptions = music(works, "performance"), music(works, "transcription")
    asked = [(work, window(notes, notes[0].onset_s, QUERY_S)) for work, notes in performances]
    right = {"fused": 0, "direct": 0, "elastic": 0}
    matched_rightly = matched_wrongly = matched_unknown = 0
    taken_ms = []
    for work_id, notes in asked:
        began_s = time.perf_counter()
        answer = identify(notes, pieces)
        taken_ms.append((time.perf_counter() - began_s) * 1e3)
        best = answer.candidates[0].work_id if answer.candidates else ""
        right["fused"] += best == work_id
        matched = answer.state is MatchState.MATCHED
        matched_rightly += matched and best == work_id
        matched_wrongly += matched and best != work_id
        stranger = identify(notes, pieces, without_works={work_id})
        matched_unknown += stranger.state is MatchState.MATCHED
        chords = chords_of_notes(notes)
        verified = verify(chords, places(chords, pieces, 30), pieces.piece_chords)
        for way in ("direct", "elastic"):
            first = max(verified, key=lambda v: getattr(v, way), default=None)
            right[way] += first is not None and pieces.pieces[first.piece].work_id == work_id
    return {
        "pieces": len(pieces),
        "queries": len(asked),
        "right": right["fused"] / len(asked),
        "right_direct_alone": right["direct"] / len(asked),
        "right_dtw_alone": right["elastic"] / len(asked),
        "called_matched_rightly": matched_rightly / len(asked),
        "called_matched_wrongly": matched_wrongly / len(asked),
        "called_matched_though_unknown": matched_unknown / len(asked),
        "right_windows": {
            f"{kind}, {seconds:g} s": right_at_first(random_windows(played, seconds), pieces)
            for kind, played in (
                ("performances", performances),
                ("transcriptions", transcriptions),
            )
            for seconds in WINDOWS_S
        },
        "median_ms": float(np.median(taken_ms)),
        "p95_ms": float(np.percentile(taken_ms, 95)),
    }


if __name__ == "__main__":
    Console().print(measure() or f"identification left out: no {INDEX}")
