"""The catalogue: every piece that can be recognised, from one pack or from several.

A device may hold a pack for beginners, one of Chopin's first editions and one that its owner
built; they are opened together and searched as one. Pieces are numbered through all packs.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path

from edge.errors import CatalogueError
from edge.matching.pack import CATALOGUE_FILE, Pack, PieceChords, open_pack, pack_scores
from edge.matching.score import Piece, Score


@dataclass(frozen=True)
class Catalogue:
    """Packs, opened as one."""

    packs: tuple[Pack, ...]

    @classmethod
    def open(cls, path: str | Path) -> Catalogue:
        """Open a pack, or a folder of packs, by memory map.

        Raises
        ------
        CatalogueError
            There is no pack, or one is damaged or of another format.
        """
        folder = Path(path)
        if (folder / CATALOGUE_FILE).is_file():
            return cls((open_pack(folder),))
        found = sorted(each.parent for each in folder.glob(f"*/{CATALOGUE_FILE}"))
        if not found:
            raise CatalogueError(
                f"no catalogue at {folder}: neither it nor a folder in it holds "
                f"{CATALOGUE_FILE}; build one with `sostenuto-studio catalog build SCORES -o DIR`"
            )
        return cls(tuple(open_pack(each) for each in found))

    @classmethod
    def from_scores(cls, scores: Sequence[Score], version: str = "0") -> Catalogue:
        """A catalogue in memory."""
        return cls((pack_scores(scores, version),))

    def __len__(self) -> int:
        return sum(len(pack.pieces) for pack in self.packs)

    @cached_property
    def pieces(self) -> tuple[Piece, ...]:
        """All pieces, in the order of their numbers."""
        return tuple(piece for pack in self.packs for piece in pack.pieces)

    @cached_property
    def version(self) -> str:
        """The packs' versions, joined by ``+``."""
        return "+".join(pack.version for pack in self.packs)

    @cached_property
    def sha256(self) -> str:
        """The checksum of a single pack, or that of the packs' checksums."""
        if len(self.packs) == 1:
            return self.packs[0].sha256
        return hashlib.sha256("".join(pack.sha256 for pack in self.packs).encode()).hexdigest()

    @cached_property
    def first_piece(self) -> tuple[int, ...]:
        """The number of each pack's first piece."""
        return tuple(accumulate((len(pack.pieces) for pack in self.packs), initial=0))[:-1]

    def piece_chords(self, number: int) -> PieceChords:
        """The chords of the piece with this number."""
        pack = bisect_right(self.first_piece, number) - 1
        return self.packs[pack].piece_chords(number - self.first_piece[pack])
