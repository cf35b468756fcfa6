"""The catalogue: every piece that can be recognised, from one pack or from several.

A device may hold a pack for beginners, one of Chopin's first editions and one that its owner
built; they are opened together and searched as one. Pieces are numbered through all packs.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import overload

from edge.errors import CatalogueError
from edge.matching.pack import CATALOGUE_FILE, Pack, PieceChords, open_pack, pack_scores
from edge.matching.score import Piece, Score
from edge.matching.signature import trusted_keys_in


class _AllPieces(Sequence[Piece]):
    """The pieces of several packs, one after the other."""

    def __init__(self, packs: Sequence[Pack], first_piece: Sequence[int]) -> None:
        self._lists = [pack.pieces for pack in packs]
        self._first = first_piece

    def __len__(self) -> int:
        return sum(map(len, self._lists))

    @overload
    def __getitem__(self, number: int) -> Piece: ...
    @overload
    def __getitem__(self, number: slice) -> tuple[Piece, ...]: ...
    def __getitem__(self, number: int | slice) -> Piece | tuple[Piece, ...]:
        if isinstance(number, slice):
            return tuple(self[each] for each in range(*number.indices(len(self))))
        if not -len(self) <= number < len(self):
            raise IndexError(f"piece {number} of {len(self)}")
        number %= len(self)
        pack = bisect_right(self._first, number) - 1
        return self._lists[pack][number - self._first[pack]]

    def __iter__(self) -> Iterator[Piece]:
        return (piece for pieces in self._lists for piece in pieces)


@dataclass(frozen=True)
class Catalogue:
    """Packs, opened as one."""

    packs: tuple[Pack, ...]

    @classmethod
    def open(cls, path: str | Path) -> Catalogue:
        """Open a pack, or a folder of packs, by memory map.

        A file ``trusted.keys`` in the folder of packs names the keys with which every pack in
        it must be signed.

        Raises
        ------
        CatalogueError
            There is no pack, or one is damaged, of another format, or wrongly signed.
        """
        folder = Path(path)
        if (folder / CATALOGUE_FILE).is_file():
            return cls((open_pack(folder, trusted_keys_in(folder.parent)),))
        found = sorted(each.parent for each in folder.glob(f"*/{CATALOGUE_FILE}"))
        if not found:
            raise CatalogueError(
                f"no catalogue at {folder}: neither it nor a folder in it holds "
                f"{CATALOGUE_FILE}; build one with `sostenuto-studio catalog build SCORES -o DIR`"
            )
        trusted_keys = trusted_keys_in(folder)
        return cls(tuple(open_pack(each, trusted_keys) for each in found))

    @classmethod
    def from_scores(cls, scores: Sequence[Score], version: str = "0") -> Catalogue:
        """A catalogue in memory."""
        return cls((pack_scores(scores, version),))

    def __len__(self) -> int:
        return sum(len(pack.pieces) for pack in self.packs)

    @cached_property
    def pieces(self) -> Sequence[Piece]:
        """All pieces, in the order of their numbers; each is decoded when it is asked for."""
        return _AllPieces(self.packs, self.first_piece)

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

    def find(self, piece_id: str) -> tuple[Pack, int]:
        """The pack that holds this piece, and its number there; KeyError where none does."""
        for pack in self.packs:
            with suppress(KeyError):
                return pack, pack.pieces.number_of(piece_id)
        raise KeyError(piece_id)

    def piece_chords(self, number: int) -> PieceChords:
        """The chords of the piece with this number."""
        pack = bisect_right(self.first_piece, number) - 1
        return self.packs[pack].piece_chords(number - self.first_piece[pack])
