"""A pack: scores and their fingerprints as plain arrays that a device maps, never loads.

A pack is a folder with ``catalogue.json`` and one ``.npy`` file per array. Everything is laid
end to end, and ``*_start`` arrays say where each piece begins. Times are kept in ticks of a
480th of a quarter, the resolution that most scores are written at, so that a chord needs two
bytes, not eight; the posting list of a fingerprint is a list of chord numbers counted through
the whole pack, so that one number says both the piece and the place.

The format's version is :data:`FORMAT_VERSION`; ``fingerprints`` in the JSON says how the
index was made; ``sha256`` covers every array, in the order of :data:`ARRAYS`, and the pieces.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge.errors import CatalogueError
from edge.matching.chords import SCORE_CHORD_WINDOW_S, Chords, chord_starts, count_keys, pitch_keys
from edge.matching.fingerprints import SIGNATURE, score_fingerprints
from edge.matching.score import Piece, Score, quarters_to_s

FORMAT_VERSION = 1
TICKS_PER_QUARTER = 480
DURATION_STEPS_PER_QUARTER = 24
LEFT_HAND_BIT = 0x80
CHECKED_AT_OPENING_BYTES = 64 * 1024 * 1024
"""Packs up to this size are hashed when they are opened (a tenth of a second on a Pi 4's
card); larger ones are only measured, so that a large catalogue opens at once."""

CATALOGUE_FILE = "catalogue.json"


@dataclass(frozen=True, slots=True)
class PackArrays:
    """The arrays of a pack, in memory or mapped.

    Attributes
    ----------
    piece_note_start, piece_chord_start, piece_bar_start, piece_tempo_start : uint32, (pieces + 1,)
    note_key : uint8, shape (notes,)
        MIDI pitch, with bit 7 set for the left hand.
    note_duration : uint8, shape (notes,)
        24ths of a quarter, 255 for anything longer.
    chord_delta : uint16, shape (chords,)
        Ticks since the piece's chord before (the first: since ``first_tick`` of the piece).
    chord_size : uint8, shape (chords,)
        Notes of the chord, which lie end to end in ``note_key``.
    bar_tick : int32, bar_number : int16, bar_beat : uint16, shape (bars,)
        Start, printed number, and ticks of one beat.
    tempo_tick : int32, tempo_s : float32, shape (anchors,)
        The map from ticks to seconds.
    code : uint32, shape (codes,), rising
    code_start : uint32, shape (codes + 1,)
    posting : uint32, shape (postings,)
        Chord numbers at which each code begins, rising within a code.
    """

    piece_note_start: NDArray[np.uint32]
    piece_chord_start: NDArray[np.uint32]
    piece_bar_start: NDArray[np.uint32]
    piece_tempo_start: NDArray[np.uint32]
    note_key: NDArray[np.uint8]
    note_duration: NDArray[np.uint8]
    chord_delta: NDArray[np.uint16]
    chord_size: NDArray[np.uint8]
    bar_tick: NDArray[np.int32]
    bar_number: NDArray[np.int16]
    bar_beat: NDArray[np.uint16]
    tempo_tick: NDArray[np.int32]
    tempo_s: NDArray[np.float32]
    code: NDArray[np.uint32]
    code_start: NDArray[np.uint32]
    posting: NDArray[np.uint32]


ARRAYS = tuple(field.name for field in fields(PackArrays))


class _ArrayEntry(msgspec.Struct, frozen=True):
    dtype: str
    length: int


class _CatalogueFile(msgspec.Struct, frozen=True):
    format: int
    fingerprints: str
    version: str
    sha256: str
    arrays: dict[str, _ArrayEntry]
    pieces: list[Piece]


@dataclass(frozen=True, slots=True)
class PieceChords:
    """One piece of a pack, as the matching reads it.

    Attributes
    ----------
    onset_s, onset_quarters : float64, shape (chords,)
    keys : uint64, shape (chords, 2)
    sizes : int64, shape (chords,)
    bar_quarters : float64, bar_number : int64, bar_beat_quarters : float64, shape (bars,)
    """

    onset_s: NDArray[np.float64]
    onset_quarters: NDArray[np.float64]
    keys: NDArray[np.uint64]
    sizes: NDArray[np.int64]
    bar_quarters: NDArray[np.float64]
    bar_number: NDArray[np.int64]
    bar_beat_quarters: NDArray[np.float64]

    def bar_at(self, quarters: float) -> int:
        """Printed number of the bar that holds this moment; 1 where the score has no bars."""
        if self.bar_quarters.size == 0:
            return 1
        index = int(np.searchsorted(self.bar_quarters, quarters + 1e-6, side="right")) - 1
        return int(self.bar_number[max(index, 0)])


@dataclass(frozen=True, slots=True)
class Pack:
    """Pieces, their arrays, a version and the checksum of both."""

    version: str
    sha256: str
    pieces: tuple[Piece, ...]
    arrays: PackArrays

    def piece_chords(self, number: int) -> PieceChords:
        """The chords and bars of the piece with this number in the pack."""
        arrays = self.arrays
        notes = _span(arrays.piece_note_start, number)
        chords = _span(arrays.piece_chord_start, number)
        bars = _span(arrays.piece_bar_start, number)
        anchors = _span(arrays.piece_tempo_start, number)
        quarters = np.cumsum(arrays.chord_delta[chords], dtype=np.int64) / TICKS_PER_QUARTER
        size = arrays.chord_size[chords].astype(np.int64)
        pitch = (arrays.note_key[notes] & (LEFT_HAND_BIT - 1)).astype(np.int64)
        keys = pitch_keys(pitch, np.concatenate(([0], np.cumsum(size)[:-1])))
        bar_quarters = arrays.bar_tick[bars] / TICKS_PER_QUARTER
        tempo_quarters = arrays.tempo_tick[anchors] / TICKS_PER_QUARTER
        tempo_s = arrays.tempo_s[anchors].astype(np.float64)
        return PieceChords(
            onset_s=quarters_to_s(quarters, tempo_quarters, tempo_s),
            onset_quarters=quarters,
            keys=keys,
            sizes=count_keys(keys),
            bar_quarters=bar_quarters,
            bar_number=arrays.bar_number[bars].astype(np.int64),
            bar_beat_quarters=arrays.bar_beat[bars] / TICKS_PER_QUARTER,
        )


def _span(start: NDArray[np.uint32], number: int) -> slice:
    return slice(int(start[number]), int(start[number + 1]))


# --- scores to a pack ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PackedPiece:
    """One piece's share of each array, and its fingerprints."""

    piece: Piece
    arrays: dict[str, NDArray[np.generic]]
    codes: NDArray[np.uint32]
    code_chord: NDArray[np.int64]


def pack_piece(score: Score) -> PackedPiece:
    """One score's share of a pack; the expensive part of building, so it can run in parallel.

    Time starts at the score's first note or bar, whichever is earlier, so that no tick of a
    note is negative.
    """
    origin = min([0.0, *score.onset_quarters[:1].tolist(), *score.bar_quarters[:1].tolist()])
    order = np.lexsort((score.pitch_midi, score.onset_quarters))
    quarters = score.onset_quarters[order] - origin
    onset_s = score.onset_s[order]
    starts = _short_enough(chord_starts(onset_s, SCORE_CHORD_WINDOW_S), quarters.size)
    ticks = np.round(quarters[starts] * TICKS_PER_QUARTER).astype(np.int64)
    ticks = np.maximum.accumulate(ticks)
    pitch = score.pitch_midi[order]
    left = np.where(score.hand[order] == 2, LEFT_HAND_BIT, 0).astype(np.uint8)
    duration = np.round(score.duration_quarters[order] * DURATION_STEPS_PER_QUARTER)
    tempo_quarters, tempo_s = _thinned(score.tempo_quarters - origin, score.tempo_s)
    keys = pitch_keys(pitch, starts)
    chords = Chords(
        quarters_to_s(ticks / TICKS_PER_QUARTER, tempo_quarters, tempo_s),
        keys,
        count_keys(keys),
        np.ones(starts.size),
    )
    found = score_fingerprints(chords)
    delta = np.minimum(np.diff(ticks, prepend=0), np.iinfo(np.uint16).max)
    return PackedPiece(
        piece=replace(score.piece, bars=int(score.bar_quarters.size), notes=int(pitch.size)),
        arrays={
            "note_key": pitch | left,
            "note_duration": np.clip(duration, 0, 255).astype(np.uint8),
            "chord_delta": delta.astype(np.uint16),
            "chord_size": np.diff(np.append(starts, pitch.size)).astype(np.uint8),
            "bar_tick": np.round((score.bar_quarters - origin) * TICKS_PER_QUARTER).astype(
                np.int32
            ),
            "bar_number": np.clip(score.bar_number, -32768, 32767).astype(np.int16),
            "bar_beat": np.round(score.bar_beat_quarters * TICKS_PER_QUARTER).astype(np.uint16),
            "tempo_tick": np.round(tempo_quarters * TICKS_PER_QUARTER).astype(np.int32),
            "tempo_s": tempo_s.astype(np.float32),
        },
        codes=found.codes,
        code_chord=found.chord,
    )


def _short_enough(starts: NDArray[np.int64], notes: int) -> NDArray[np.int64]:
    """A chord's size is one byte: what is larger is no chord, and is cut."""
    sizes = np.diff(np.append(starts, notes))
    if sizes.size == 0 or sizes.max() < 256:
        return starts
    cut = [np.arange(start, start + size, 255) for start, size in zip(starts, sizes, strict=True)]
    return np.concatenate(cut)


def _thinned(
    quarters: NDArray[np.float64], seconds: NDArray[np.float64], tolerance_s: float = 0.01
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Leave out tempo anchors that a straight line between their neighbours gives anyway."""
    kept = [0]
    for index in range(1, quarters.size - 1):
        last = kept[-1]
        slope = (seconds[index + 1] - seconds[last]) / (quarters[index + 1] - quarters[last])
        between = slice(last + 1, index + 1)
        missed = seconds[last] + slope * (quarters[between] - quarters[last]) - seconds[between]
        if np.max(np.abs(missed)) > tolerance_s:
            kept.append(index)
    kept.append(quarters.size - 1)
    return quarters[kept], seconds[kept]


def pack_scores(scores: Iterable[Score | PackedPiece], version: str = "0") -> Pack:
    """Lay scores end to end and index their fingerprints."""
    packed = [each if isinstance(each, PackedPiece) else pack_piece(each) for each in scores]
    joined: dict[str, Any] = {
        name: np.concatenate([each.arrays[name] for each in packed]) for name in packed[0].arrays
    }
    chord_start = _starts(packed, "chord_size")
    code, code_start, posting = _index(packed, chord_start)
    arrays = PackArrays(
        piece_note_start=_starts(packed, "note_key"),
        piece_chord_start=chord_start,
        piece_bar_start=_starts(packed, "bar_tick"),
        piece_tempo_start=_starts(packed, "tempo_tick"),
        code=code,
        code_start=code_start,
        posting=posting,
        **joined,
    )
    pieces = tuple(each.piece for each in packed)
    return Pack(version, checksum(pieces, arrays), pieces, arrays)


def _starts(packed: Sequence[PackedPiece], name: str) -> NDArray[np.uint32]:
    lengths = [each.arrays[name].size for each in packed]
    return np.concatenate(([0], np.cumsum(lengths))).astype(np.uint32)


def _index(
    packed: Sequence[PackedPiece], chord_start: NDArray[np.uint32]
) -> tuple[NDArray[np.uint32], NDArray[np.uint32], NDArray[np.uint32]]:
    codes = np.concatenate([each.codes for each in packed]).astype(np.uint64)
    chords = np.concatenate(
        [each.code_chord + int(start) for each, start in zip(packed, chord_start, strict=False)]
    ).astype(np.uint64)
    ordered = np.sort((codes << np.uint64(32)) | chords)
    posting = (ordered & np.uint64(2**32 - 1)).astype(np.uint32)
    code, first = np.unique(ordered >> np.uint64(32), return_index=True)
    code_start = np.append(first, ordered.size).astype(np.uint32)
    return code.astype(np.uint32), code_start, posting


# --- a pack on disk --------------------------------------------------------------------------


def checksum(pieces: Sequence[Piece], arrays: PackArrays) -> str:
    """sha256, in hexadecimal, of the pieces and every array."""
    digest = hashlib.sha256(msgspec.json.encode(pieces))
    for name in ARRAYS:
        array = np.ascontiguousarray(getattr(arrays, name))
        digest.update(f"{name}:{array.dtype.str}:{array.size};".encode())
        digest.update(array.view(np.uint8).data)
    return digest.hexdigest()


def write_pack(pack: Pack, folder: Path) -> None:
    """Write a pack as a folder; the JSON last, so that half a pack is never taken for one."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ARRAYS:
        np.save(folder / f"{name}.npy", getattr(pack.arrays, name))
    entries = {
        name: _ArrayEntry(getattr(pack.arrays, name).dtype.str, getattr(pack.arrays, name).size)
        for name in ARRAYS
    }
    described = _CatalogueFile(
        FORMAT_VERSION, SIGNATURE, pack.version, pack.sha256, entries, list(pack.pieces)
    )
    text = msgspec.json.format(msgspec.json.encode(described), indent=1)
    (folder / CATALOGUE_FILE).write_bytes(text + b"\n")


def open_pack(folder: Path) -> Pack:
    """Map the arrays of a pack.

    Raises
    ------
    CatalogueError
        The folder holds no pack, one of another format, or one that is damaged.
    """
    described = _described(folder)
    arrays = PackArrays(**{name: _mapped(folder, name, described.arrays[name]) for name in ARRAYS})
    pack = Pack(described.version, described.sha256, tuple(described.pieces), arrays)
    size = sum(getattr(arrays, name).nbytes for name in ARRAYS)
    if size <= CHECKED_AT_OPENING_BYTES:
        verify_pack(pack, folder)
    return pack


def verify_pack(pack: Pack, folder: Path) -> None:
    """Hash the whole pack and compare; CatalogueError where it differs."""
    found = checksum(pack.pieces, pack.arrays)
    if found != pack.sha256:
        raise CatalogueError(
            f"catalogue {folder} is damaged: its sha256 is {found[:12]}…, "
            f"{CATALOGUE_FILE} says {pack.sha256[:12]}…; build or copy it again"
        )


def _described(folder: Path) -> _CatalogueFile:
    path = folder / CATALOGUE_FILE
    try:
        text = path.read_bytes()
    except OSError as error:
        raise CatalogueError(
            f"no catalogue at {folder}: {CATALOGUE_FILE} cannot be read ({error.strerror}); "
            "give a folder that `sostenuto-studio catalog build` has written"
        ) from None
    try:
        version = msgspec.json.decode(text, type=dict[str, msgspec.Raw]).get("format")
        if version is not None and bytes(version) != str(FORMAT_VERSION).encode():
            raise CatalogueError(
                f"catalogue {folder} has format {bytes(version).decode()}, this program reads "
                f"format {FORMAT_VERSION}: build it again with `sostenuto-studio catalog build`"
            )
        described = msgspec.json.decode(text, type=_CatalogueFile)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CatalogueError(
            f"{path} is no catalogue description ({error}); build or copy the catalogue again"
        ) from None
    if described.fingerprints != SIGNATURE:
        raise CatalogueError(
            f"catalogue {folder} was indexed by another version of this program: build it again "
            "with `sostenuto-studio catalog build`"
        )
    missing = [name for name in ARRAYS if name not in described.arrays]
    if missing:
        raise CatalogueError(
            f"{path} does not describe {', '.join(missing)}; build or copy the catalogue again"
        )
    return described


def _mapped(folder: Path, name: str, entry: _ArrayEntry) -> NDArray[Any]:
    path = folder / f"{name}.npy"
    try:
        # A plain view of the mapped file: slices of a memmap cost several times as much.
        mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise CatalogueError(
            f"catalogue {folder} is damaged: {path.name} cannot be read ({error}); "
            "build or copy it again"
        ) from None
    array: NDArray[Any] = mapped.view(np.ndarray)
    if array.ndim != 1 or array.dtype.str != entry.dtype or array.size != entry.length:
        raise CatalogueError(
            f"catalogue {folder} is damaged: {path.name} holds {array.size} × {array.dtype.str}, "
            f"{CATALOGUE_FILE} says {entry.length} × {entry.dtype}; build or copy it again"
        )
    return array
