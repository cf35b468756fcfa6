"""Packs into one pack: what adding to a catalogue, taking from it and merging have in common.

A piece is taken over as it lies in its pack, notes, bars and fingerprints, so that nothing has
to be read or indexed again; only the chord numbers in the posting lists move. Pieces are laid
in the order of their ids: the same pieces give the same bytes, whatever packs they came from.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.errors import CatalogueError
from edge.matching.pack import (
    PIECE_ARRAYS,
    Pack,
    PackArrays,
    index_entries,
    index_of,
    pack_of,
    piece_text,
    starts_of,
)

Kept = dict[str, tuple[int, int]]
"""Which pack, and which of its pieces, each piece of the joined one comes from."""


def join_packs(
    packs: Sequence[Pack],
    version: str,
    without: Collection[str] = (),
    works: Mapping[str, str] | None = None,
) -> Pack:
    """One pack with the pieces of several.

    Parameters
    ----------
    packs : sequence of Pack
        Of two pieces with one id, that of the later pack is kept.
    version : str
        Of the joined pack.
    without : collection of str
        Ids of pieces that are left out.
    works : mapping, optional
        The works that pieces are of from now on, by the pieces' ids.

    Raises
    ------
    CatalogueError
        Nothing would be left.
    """
    kept: Kept = {
        piece.piece_id: (source, number)
        for source, pack in enumerate(packs)
        for number, piece in enumerate(pack.pieces)
        if piece.piece_id not in without
    }
    if not kept:
        raise CatalogueError("no piece would be left: a catalogue needs one at least")
    order = [kept[piece_id] for piece_id in sorted(kept)]
    arrays: dict[str, Any] = {}
    for start, names in PIECE_ARRAYS.items():
        spans = [_span(getattr(packs[source].arrays, start), number) for source, number in order]
        arrays[start] = starts_of([span.stop - span.start for span in spans])
        for name in names:
            arrays[name] = np.concatenate(
                [
                    getattr(packs[source].arrays, name)[span]
                    for (source, _), span in zip(order, spans, strict=True)
                ]
            )
    if works:
        texts = [
            piece_text(replace(piece, work_id=works.get(piece.piece_id, piece.work_id)))
            for piece in (packs[source].pieces[number] for source, number in order)
        ]
        arrays["piece_text_start"] = starts_of([text.size for text in texts])
        arrays["piece_text"] = np.concatenate(texts)
    arrays |= index_of(_moved_entries(packs, order, arrays["piece_chord_start"]))
    return pack_of(PackArrays(**arrays), version)


def _moved_entries(
    packs: Sequence[Pack], order: Sequence[tuple[int, int]], chord_start: NDArray[np.uint32]
) -> NDArray[np.uint64]:
    """The index entries of the pieces that are kept, at their new chord numbers."""
    new_start = [np.full(len(pack.pieces), -1, dtype=np.int64) for pack in packs]
    for (source, number), start in zip(order, chord_start.tolist(), strict=False):
        new_start[source][number] = start
    moved = []
    for pack, starts in zip(packs, new_start, strict=True):
        arrays = pack.arrays
        piece = np.searchsorted(arrays.piece_chord_start, arrays.posting, side="right") - 1
        stays = starts[piece] >= 0
        codes = np.repeat(arrays.code, np.diff(arrays.code_start))[stays]
        shift = starts - arrays.piece_chord_start[:-1].astype(np.int64)
        moved.append(index_entries(codes, arrays.posting[stays] + shift[piece[stays]]))
    return np.concatenate(moved)


def _span(start: NDArray[np.uint32], number: int) -> slice:
    return slice(int(start[number]), int(start[number + 1]))
