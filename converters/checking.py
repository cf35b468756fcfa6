"""A catalogue checked in full: every byte against its checksum, and the arrays against each other.

A checksum that fits proves that nothing changed since the pack was written; that the arrays
agree proves that it was written by a program that knew what it did.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge.errors import CatalogueError
from edge.matching.catalogue import Catalogue
from edge.matching.pack import CATALOGUE_FILE, PIECE_ARRAYS, Pack, verify_pack
from edge.matching.signature import SIGNATURE_FILE


@dataclass(frozen=True, slots=True)
class Checked:
    """A pack that is whole. ``signed_with`` is the maker's public key, or empty."""

    folder: Path
    version: str
    sha256: str
    pieces: int
    works: int
    size_bytes: int
    signed_with: str

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "catalogue": str(self.folder),
            "version": self.version,
            "sha256": self.sha256,
            "pieces": self.pieces,
            "works": self.works,
            "size_bytes": self.size_bytes,
            "signed_with": self.signed_with or None,
        }


def check_catalogue(path: Path) -> list[Checked]:
    """Check a pack, or every pack of a folder.

    Raises
    ------
    CatalogueError
        At the first thing that is wrong.
    """
    single = (path / CATALOGUE_FILE).is_file()
    folders = [path] if single else sorted(each.parent for each in path.glob(f"*/{CATALOGUE_FILE}"))
    packs = Catalogue.open(path).packs
    return [_checked(pack, folder) for pack, folder in zip(packs, folders, strict=True)]


def _checked(pack: Pack, folder: Path) -> Checked:
    verify_pack(pack, folder)
    wrong = _disagreement(pack)
    if wrong:
        raise CatalogueError(
            f"catalogue {folder} does not agree with itself: {wrong}; build it again"
        )
    return Checked(
        folder=folder,
        version=pack.version,
        sha256=pack.sha256,
        pieces=len(pack.pieces),
        works=len({piece.work_id for piece in pack.pieces}),
        size_bytes=sum(each.stat().st_size for each in folder.iterdir() if each.is_file()),
        signed_with=_signer(folder),
    )


def _disagreement(pack: Pack) -> str:
    arrays = pack.arrays
    for start, names in PIECE_ARRAYS.items():
        starts = getattr(arrays, start)
        for name in names:
            if starts.size != len(pack.pieces) + 1 or not _rises(
                starts, getattr(arrays, name).size
            ):
                return f"{start} does not count {name}"
    if int(arrays.chord_size.sum(dtype=np.int64)) != arrays.note_key.size:
        return "chord_size does not count the notes"
    if not _rises(arrays.code_start, arrays.posting.size) or not np.all(np.diff(arrays.code) > 0):
        return "code_start does not count the postings, or code does not rise"
    if arrays.posting.size and int(arrays.posting.max()) >= arrays.chord_size.size:
        return "posting names a chord that is not there"
    ids = [piece.piece_id for piece in pack.pieces]
    if len(set(ids)) != len(ids):
        return "two pieces have one id"
    return ""


def _rises(starts: NDArray[np.uint32], end: int) -> bool:
    return bool(starts[0] == 0 and starts[-1] == end and np.all(starts[1:] >= starts[:-1]))


def _signer(folder: Path) -> str:
    path = folder / SIGNATURE_FILE
    if not path.exists():
        return ""
    return str(msgspec.json.decode(path.read_bytes(), type=dict[str, str])["key"])
