"""The catalogue that is asked, and the music that asks, each with the work it is of.

The catalogue holds every score of the project's data (two archives, 2,185 scores), the score-like
files of ``giantmidi_dev`` and the four excerpts of ``vienna4x22``. Versions of one piece are one
work, by ``works.csv`` and ``giantmidi_dev_index.csv``. It is built by the project's own builder
and kept in ``.cache/``, which git ignores.

The music is never of the catalogue's own files: human performances as MIDI (``asap_dev``,
``giantmidi_dev``, ``vienna4x22``), transcriptions of recordings with a real ear's errors
(``giantmidi_dev``), and the real recordings, heard by our own default model.
"""

from __future__ import annotations

import csv
import hashlib
import pickle
import tarfile
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import track

from benchmarks.places import EVALUATION, ROOT
from converters.catalogue import build_catalogue
from edge.audio.file import AudioFile
from edge.ear import DEFAULT_MODEL
from edge.errors import CatalogueError
from edge.matching import Catalogue
from edge.midi import read_midi
from edge.note import NoteEvent
from edge.recogniser import load_recogniser
from edge.resources import models_dir
from edge.transcription import finished_notes

TRAINING = EVALUATION.parent / "train"
PERFORMANCES = EVALUATION / "performances"
INDEX = PERFORMANCES / "giantmidi_dev_index.csv"
CACHE = ROOT / ".cache" / "works"
BLOCK_S = 1.0

VIENNA_WORKS = {
    "Chopin_op10_no3": "asap_Chopin_Etudes_op_10_3",
    "Chopin_op38": "chopinfe_038-1-BH",
    "Mozart_K331_1st-mov": "cpm_mz_331_1",
    "Schubert_D783_no15": "vienna_Schubert_D783_no15",
}
"""Whose the four excerpts are; the German dance is in no other archive."""


@dataclass(frozen=True, slots=True)
class Music:
    """Something played, and whose work it is.

    ``source`` is the collection it comes from, ``name`` its file; the notes rise by onset.
    """

    source: str
    name: str
    work_id: str
    notes: tuple[NoteEvent, ...]


def unpacked(name: str, archive: Path) -> Path:
    """An archive's folder under ``.cache/``, unpacked where it is not yet."""
    folder = CACHE / name
    if not (folder / ".whole").exists():
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")
        (folder / ".whole").touch()
    return folder


def catalogue() -> Catalogue:
    """The catalogue of the protocol; built where it is missing or of another format."""
    built = CACHE / "catalogue"
    try:
        return Catalogue.open(built)
    except CatalogueError:
        giantmidi = unpacked("giantmidi_dev", PERFORMANCES / "giantmidi_dev.tar.xz")
        scores = [
            unpacked("scores", TRAINING / "scores_cc_by_midi.tar.xz"),
            unpacked("scores_nc", EVALUATION / "scores_nc.tar.xz"),
            *(giantmidi / row["path"] for row in _rows(INDEX) if row["kind"] == "score"),
            *(_vienna() / "musicxml" / f"{name}.musicxml" for name in VIENNA_WORKS),
        ]
        report = build_catalogue(scores, built, _works_csv(), processes=1)
        Console(stderr=True).print(f"{report.pieces} pieces, left out: {report.left_out}")
    return Catalogue.open(built)


def _works_csv() -> Path:
    """``works.csv`` with the files of ``giantmidi_dev`` and ``vienna4x22`` added."""
    works = [(row["id"], row["work_id"]) for row in _rows(EVALUATION / "works.csv")]
    works += [
        (Path(row["path"]).stem, row["work_id"]) for row in _rows(INDEX) if row["kind"] == "score"
    ]
    works += VIENNA_WORKS.items()
    joined = CACHE / "works.csv"
    with joined.open("w", newline="") as file:
        csv.writer(file).writerows([("id", "work_id"), *works])
    return joined


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def _vienna() -> Path:
    return unpacked("vienna4x22", PERFORMANCES / "vienna4x22.tar.xz")


def performances(works: set[str]) -> list[Music]:
    """Human performances as MIDI, of these works."""
    work_of = {row["id"]: row["work_id"] for row in _rows(EVALUATION / "works.csv")}
    folder = unpacked("asap_dev", PERFORMANCES / "asap_dev.tar.xz") / "asap_dev"
    asap = [
        _read("asap_dev", folder / row["path"], work_of[row["score_id"]])
        for row in _rows(folder / "index.csv")
        if work_of[row["score_id"]] in works
    ]
    vienna = [
        _read("vienna4x22", _vienna() / "midi" / f"{path.stem}.mid", work_id)
        for name, work_id in VIENNA_WORKS.items()
        for path in sorted(_vienna().glob(f"match/{name}_p*.match"))
    ]
    return asap + _giantmidi("performance", works) + vienna


def transcriptions(works: set[str]) -> list[Music]:
    """What a large model heard in recordings, errors and all, of these works."""
    return _giantmidi("transcription", works)


def _giantmidi(kind: str, works: set[str]) -> list[Music]:
    folder = unpacked("giantmidi_dev", PERFORMANCES / "giantmidi_dev.tar.xz")
    return [
        _read("giantmidi_dev", folder / row["path"], row["work_id"])
        for row in _rows(INDEX)
        if row["kind"] == kind and row["work_id"] in works
    ]


def _read(source: str, path: Path, work_id: str) -> Music:
    notes = sorted(read_midi(path).notes, key=lambda note: note.onset_s)
    return Music(source, path.name, work_id, tuple(notes))


def recordings(works: set[str]) -> list[Music]:
    """The real recordings of these works as our default model hears them."""
    folder = EVALUATION / "recordings"
    rows = [row for row in _rows(folder / "index.csv") if row["work_id"] in works]
    console = Console(stderr=True)
    return [
        Music("recordings", row["file"], row["work_id"], _heard(folder / row["file"]))
        for row in track(rows, "hearing the recordings", console=console, transient=True)
    ]


def _heard(audio: Path) -> tuple[NoteEvent, ...]:
    """What the default model hears; kept until the model or its thresholds change."""
    model = models_dir() / DEFAULT_MODEL
    digest = hashlib.sha256()
    for suffix in (".tflite", ".json"):
        digest.update(model.with_suffix(suffix).read_bytes())
    kept = CACHE / "heard" / f"{audio.stem}-{digest.hexdigest()[:16]}.pickle"
    if not kept.exists():
        with AudioFile(audio) as file:
            found = finished_notes(load_recogniser(), file.blocks(BLOCK_S))
            notes = tuple(sorted(found, key=lambda note: note.onset_s))
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_bytes(pickle.dumps(notes))
    return tuple(pickle.loads(kept.read_bytes()))
