"""``python -m benchmarks.hamming``: binary codes of note context against inverted lists by hash.

A code says which music follows a chord: the triples of the top line and of the bass line that
begin in the next :data:`CONTEXT` chords, as intervals and coarse time ratios, each hashed to
signs that are added up (Charikar's SimHash, STOC 2002). So neither tempo nor key enters it, and
like music has like codes. They lie in usearch's HNSW index under Hamming distance, one code for
every :data:`STRIDE` chords of a score; each chord played asks for its nearest codes, which vote
for places as the fingerprints do. Both searches are asked the same windows, as they are and three
semitones higher, in the same catalogue; the inverted lists are then asked in thirteen keys.

*found* is the share of windows whose work is among the first thirty places.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from usearch.index import Index

from benchmarks import scale, works
from benchmarks.identification import windows
from benchmarks.works import Music
from edge.matching import Catalogue
from edge.matching.chords import Chords, chords_of_notes, outer_pitches
from edge.matching.fingerprints import CHORD_STEPS, RATIO_EDGES_LOG2
from edge.matching.identification import FARTHEST_TRANSPOSITION
from edge.matching.search import DIAGONALS_PER_PLACE, Place, places

PIECES = 1000
BITS = (64, 256)
CONTEXT = 16
STRIDE = 4
NEAREST = 24
PLACES = 30
WINDOWS_S = (5.0, 10.0)
ASKED = 120
SEED = 1
HIGHER_SEMITONES = 3

Finder = Callable[[Chords], Sequence[Place]]


def context_codes(chords: Chords, bits: int) -> NDArray[np.uint8]:
    """The code of the music after each chord; uint8, shape (chords, bits / 8)."""
    signs = np.zeros((len(chords) + 1, bits), dtype=np.int32)
    outer = outer_pitches(chords.keys, 2)
    outer = np.where(outer < 0, outer[:, :1], outer)
    for second_step, third_step in CHORD_STEPS:
        count = len(chords) - second_step - third_step
        if count <= 0:
            continue
        one, two, three = (
            slice(at, at + count) for at in (0, second_step, second_step + third_step)
        )
        before = np.maximum(chords.onset_s[two] - chords.onset_s[one], 1e-6)
        after = np.maximum(chords.onset_s[three] - chords.onset_s[two], 1e-6)
        ratio = np.searchsorted(RATIO_EDGES_LOG2, np.log2(after / before))
        for line in (0, 1):
            up = outer[two, line] - outer[one, line] + 128
            on = outer[three, line] - outer[one, line] + 128
            number = ((up * 256 + on) * 8 + ratio) * 2 + line
            signs[1 : count + 1] += _signs(number.astype(np.uint64), bits)
    added = np.cumsum(signs, axis=0)
    end = np.minimum(np.arange(len(chords)) + CONTEXT, len(chords))
    return np.packbits(added[end] - added[:-1] > 0, axis=1)


def _signs(numbers: NDArray[np.uint64], bits: int) -> NDArray[np.int8]:
    """Each number's own ``bits`` signs, -1 or 1."""
    words = []
    for word in range(bits // 64):
        with np.errstate(over="ignore"):
            z = (numbers + np.uint64(word + 1)) * np.uint64(0x9E3779B97F4A7C15)
            z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        words.append(z ^ (z >> np.uint64(31)))
    stacked = np.ascontiguousarray(np.stack(words, axis=1))
    return np.unpackbits(stacked.view(np.uint8), axis=1).astype(np.int8) * 2 - 1


class HammingSearch:
    """A catalogue's codes in usearch; places by votes on diagonals."""

    def __init__(self, catalogue: Catalogue, bits: int) -> None:
        self._bits = bits
        self._start = catalogue.packs[0].arrays.piece_chord_start.astype(np.int64)
        self._index = Index(ndim=bits, metric="hamming", dtype="b1")
        for number in range(len(catalogue)):
            piece = catalogue.piece_chords(number)
            whole = Chords(piece.onset_s, piece.keys, piece.sizes, np.ones(piece.sizes.size))
            codes = context_codes(whole, bits)[::STRIDE]
            keys = self._start[number] + STRIDE * np.arange(len(codes))
            self._index.add(keys.astype(np.uint64), codes, threads=1)

    @property
    def size_bytes(self) -> int:
        """Of the index as a file."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "index"
            self._index.save(str(path))
            return path.stat().st_size

    def places(self, chords: Chords) -> list[Place]:
        """The places with most votes; a code votes by how much nearer it is than chance."""
        found = self._index.search(context_codes(chords, self._bits), NEAREST, threads=1)
        played = np.repeat(np.arange(len(chords)), NEAREST)
        chord = np.asarray(found.keys).astype(np.int64).ravel()
        vote = np.maximum(1.0 - 2.0 * np.asarray(found.distances).ravel() / self._bits, 0.0) ** 2
        place, voted = np.unique((chord - played) // DIAGONALS_PER_PLACE, return_inverse=True)
        votes = np.bincount(voted, weights=vote)
        best = np.argsort(-votes, kind="stable")[:PLACES]
        first = place[best] * DIAGONALS_PER_PLACE
        middle = np.clip(first + DIAGONALS_PER_PLACE // 2, 0, self._start[-1] - 1)
        piece = np.searchsorted(self._start, middle, side="right") - 1
        return [
            Place(int(p), int(f - self._start[p]), float(v))
            for p, f, v in zip(piece, first, votes[best], strict=True)
        ]


def in_every_key(chords: Chords, catalogue: Catalogue) -> list[Place]:
    """The inverted lists asked in thirteen keys."""
    keys = range(-FARTHEST_TRANSPOSITION, FARTHEST_TRANSPOSITION + 1)
    found = [place for by in keys for place in places(chords.transposed(by), catalogue, PLACES)]
    return sorted(found, key=lambda place: -place.votes)[:PLACES]


def _asked(
    find: Finder, asked: Sequence[Music], catalogue: Catalogue, semitones: int
) -> tuple[float, float]:
    """Share found, and the 95th percentile of the processor time of one search, in ms."""
    hits, taken_ms = 0, []
    for music in asked:
        chords = chords_of_notes(music.notes).transposed(semitones)
        began_s = time.thread_time()
        found = find(chords)
        taken_ms.append((time.thread_time() - began_s) * 1e3)
        hits += music.work_id in {catalogue.pieces[place.piece].work_id for place in found}
    return hits / len(asked), float(np.percentile(taken_ms, 95))


def main() -> None:
    """Print both searches side by side."""
    if not works.INDEX.exists():
        Console(stderr=True).print(f"left out: no {works.INDEX}")
        return
    everything = works.catalogue()
    known = {piece.work_id for piece in everything.pieces}
    one_each = {music.work_id: music for music in reversed(works.performances(known))}
    rng = np.random.default_rng(SEED)
    asked = {
        seconds: windows(list(one_each.values()), seconds, 1, rng)[:ASKED] for seconds in WINDOWS_S
    }
    works_asked = {music.work_id for each in asked.values() for music in each}
    catalogue = Catalogue.open(scale.catalogue_of(PIECES, works_asked))
    arrays = catalogue.packs[0].arrays
    lists_bytes = arrays.code.nbytes + arrays.code_start.nbytes + arrays.posting.nbytes
    finders: list[tuple[str, float, Finder]] = [
        ("inverted lists", lists_bytes, lambda chords: places(chords, catalogue, PLACES)),
        ("inverted lists, 13 keys", lists_bytes, lambda chords: in_every_key(chords, catalogue)),
    ]
    for bits in BITS:
        search = HammingSearch(catalogue, bits)
        finders.append((f"usearch, {bits} bits", search.size_bytes, search.places))
    columns = [
        f"{what}, {s:g} s{key}"
        for key in ("", " +3")
        for s in WINDOWS_S
        for what in ("found", "ms")
    ]
    table = Table("search", "bytes a piece", *columns)
    for name, size_bytes, find in finders:
        row = []
        for semitones in (0, HIGHER_SEMITONES):
            for seconds in WINDOWS_S:
                share, p95_ms = _asked(find, asked[seconds], catalogue, semitones)
                row += [f"{share:.3f}", f"{p95_ms:.1f}"]
        table.add_row(name, f"{size_bytes / len(catalogue):,.0f}", *row)
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
