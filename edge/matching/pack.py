"""A pack: scores and their fingerprints as plain arrays that a device maps, never loads.

A pack is a folder with ``catalogue.json`` and one ``.npy`` file per array. Everything is laid
end to end, and ``*_start`` arrays say where each piece begins. Times are kept in ticks of a
480th of a quarter, the resolution that most scores are written at, so that a chord needs two
bytes, not eight; the posting list of a fingerprint is a list of chord numbers counted through
the whole pack, so that one number says both the piece and the place. Titles are an array like
the others, of JSON text: a piece's is read when it is named, so that a hundred thousand of
them cost nothing at opening.

The format's version is :data:`FORMAT_VERSION`; ``fingerprints`` in the JSON says how the
index was made; ``sha256`` covers every array, in the order of :data:`ARRAYS`. A signature, where
there is one (:mod:`edge.matching.signature`), is of the JSON, and so of the checksum in it.
"""

from __future__ import annotations

import hashlib
import mmap
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge.errors import CatalogueError
from edge.matching.chords import SCORE_CHORD_WINDOW_S, Chords, chord_starts, count_keys, pitch_keys
from edge.matching.fingerprints import SIGNATURE, score_fingerprints
from edge.matching.score import Piece, Score, quarters_to_s
from edge.matching.signature import check_signature

FORMAT_VERSION = 3
TICKS_PER_QUARTER = 480
LONGEST_REST_QUARTERS = 65535 / TICKS_PER_QUARTER
"""From one chord to the next; a longer one is cut to it."""
DURATION_STEPS_PER_QUARTER = 24
LEFT_HAND_BIT = 0x80
CHECKED_AT_OPENING_BYTES = 64 * 1024 * 1024
"""Packs up to this size are hashed when they are opened (a tenth of a second on a Pi 4's
card); larger ones are only measured, so that a large catalogue opens at once."""

LISTS_AT_A_TIME = 32
"""Posting lists of a large pack that are read before its pages are let go: each may map some
hundred kilobytes around it."""

CATALOGUE_FILE = "catalogue.json"


@dataclass(frozen=True, slots=True)
class PackArrays:
    """The arrays of a pack, in memory or mapped.

    Attributes
    ----------
    piece_text_start, piece_note_start, piece_chord_start, piece_bar_start, piece_tempo_start,
    piece_repeat_start
        uint32, shape (pieces + 1,)
    piece_text : uint8, shape (bytes,)
        A JSON list for each piece: the fields of :class:`edge.matching.score.Piece`.
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
    repeat_from, repeat_to : int32, shape (repeats,)
        Ticks between which the repeat signs let a player pass.
    code : uint32, shape (codes,), rising
    code_start : uint32, shape (codes + 1,)
    posting : uint32, shape (postings,)
        Chord numbers at which each code begins, rising within a code.
    """

    piece_text: NDArray[np.uint8]
    piece_text_start: NDArray[np.uint32]
    piece_note_start: NDArray[np.uint32]
    piece_chord_start: NDArray[np.uint32]
    piece_bar_start: NDArray[np.uint32]
    piece_tempo_start: NDArray[np.uint32]
    piece_repeat_start: NDArray[np.uint32]
    note_key: NDArray[np.uint8]
    note_duration: NDArray[np.uint8]
    chord_delta: NDArray[np.uint16]
    chord_size: NDArray[np.uint8]
    bar_tick: NDArray[np.int32]
    bar_number: NDArray[np.int16]
    bar_beat: NDArray[np.uint16]
    tempo_tick: NDArray[np.int32]
    tempo_s: NDArray[np.float32]
    repeat_from: NDArray[np.int32]
    repeat_to: NDArray[np.int32]
    code: NDArray[np.uint32]
    code_start: NDArray[np.uint32]
    posting: NDArray[np.uint32]


ARRAYS = tuple(field.name for field in fields(PackArrays))

PIECE_ARRAYS = {
    "piece_text_start": ("piece_text",),
    "piece_note_start": ("note_key", "note_duration"),
    "piece_chord_start": ("chord_delta", "chord_size"),
    "piece_bar_start": ("bar_tick", "bar_number", "bar_beat"),
    "piece_tempo_start": ("tempo_tick", "tempo_s"),
    "piece_repeat_start": ("repeat_from", "repeat_to"),
}
"""The arrays that are laid end to end, piece by piece, and where their starts are kept."""


class _ArrayEntry(msgspec.Struct, frozen=True):
    dtype: str
    length: int


class _CatalogueFile(msgspec.Struct, frozen=True):
    format: int
    fingerprints: str
    version: str
    pieces: int
    sha256: str
    arrays: dict[str, _ArrayEntry]


class PieceList(Sequence[Piece]):
    """What a pack says about its pieces; each is decoded when it is asked for."""

    def __init__(self, text: NDArray[np.uint8], start: NDArray[np.uint32]) -> None:
        self._text = text
        self._start = start

    def __len__(self) -> int:
        return int(self._start.size) - 1

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
        text = self._text[int(self._start[number]) : int(self._start[number + 1])]
        return Piece(*msgspec.json.decode(text.data))

    def __iter__(self) -> Iterator[Piece]:
        return (self[number] for number in range(len(self)))

    def number_of(self, piece_id: str) -> int:
        """The number of the piece with this id, found without decoding the others; or KeyError."""
        begins = b"[" + msgspec.json.encode(piece_id) + b","  # within a string, quotes are escaped
        at = self._text.tobytes().find(begins)
        if at < 0:
            raise KeyError(piece_id)
        return int(np.searchsorted(self._start, at))


_KEY = np.arange(256) & (LEFT_HAND_BIT - 1)
_KEY_BIT = np.uint64(1) << (_KEY % 64).astype(np.uint64)
_LOW_BIT = np.where(_KEY < 64, _KEY_BIT, np.uint64(0))
_HIGH_BIT = np.where(_KEY < 64, np.uint64(0), _KEY_BIT)
"""The bit that a byte of ``note_key`` sets in the low and in the high word of its chord."""


@dataclass(frozen=True)
class PieceChords:
    """One piece of a pack, as the matching reads it; each array is made when it is asked for.

    Attributes
    ----------
    onset_s, onset_quarters : float64, shape (chords,)
    keys : uint64, shape (chords, 2)
    sizes : int64, shape (chords,)
    bar_quarters : float64, bar_number : int64, bar_beat_quarters : float64, shape (bars,)
    repeat_quarters, repeat_s : float64, shape (repeats, 2)
        From where, and to where, the repeat signs lead.
    """

    _arrays: PackArrays
    _number: int

    @cached_property
    def onset_s(self) -> NDArray[np.float64]:
        return self._seconds(self.onset_quarters)

    @cached_property
    def onset_quarters(self) -> NDArray[np.float64]:
        chords = _span(self._arrays.piece_chord_start, self._number)
        ticks = np.cumsum(self._arrays.chord_delta[chords], dtype=np.int64)
        return ticks / TICKS_PER_QUARTER

    @property
    def count(self) -> int:
        """How many chords there are."""
        return _length(self._arrays.piece_chord_start, self._number)

    @cached_property
    def keys(self) -> NDArray[np.uint64]:
        return self.keys_of(slice(0, self.count))

    def keys_of(self, chords: slice) -> NDArray[np.uint64]:
        """The keys of some chords, ``start`` and ``stop`` within the piece; reads no others."""
        start, stop = chords.start, chords.stop
        if stop <= start:
            return np.zeros((0, 2), dtype=np.uint64)
        first_chord = int(self._arrays.piece_chord_start[self._number])
        end = np.cumsum(self._arrays.chord_size[first_chord : first_chord + stop], dtype=np.int64)
        first = np.append(0, end[:-1])[start:]
        first_note = int(self._arrays.piece_note_start[self._number])
        notes = slice(first_note + int(first[0]), first_note + int(end[-1]))
        note_key = self._arrays.note_key[notes]
        first -= first[0]
        words = [np.bitwise_or.reduceat(bit[note_key], first) for bit in (_LOW_BIT, _HIGH_BIT)]
        return np.stack(words, axis=1)

    @cached_property
    def sizes(self) -> NDArray[np.int64]:
        return count_keys(self.keys)

    @cached_property
    def bar_quarters(self) -> NDArray[np.float64]:
        return self._arrays.bar_tick[self._bars] / TICKS_PER_QUARTER

    @cached_property
    def bar_number(self) -> NDArray[np.int64]:
        return self._arrays.bar_number[self._bars].astype(np.int64)

    @cached_property
    def bar_beat_quarters(self) -> NDArray[np.float64]:
        return self._arrays.bar_beat[self._bars] / TICKS_PER_QUARTER

    @cached_property
    def repeat_quarters(self) -> NDArray[np.float64]:
        repeats = _span(self._arrays.piece_repeat_start, self._number)
        ticks = (self._arrays.repeat_from[repeats], self._arrays.repeat_to[repeats])
        return np.stack(ticks, axis=1) / TICKS_PER_QUARTER

    @cached_property
    def repeat_s(self) -> NDArray[np.float64]:
        return self._seconds(self.repeat_quarters)

    def _seconds(self, quarters: NDArray[np.float64]) -> NDArray[np.float64]:
        anchors = _span(self._arrays.piece_tempo_start, self._number)
        tempo_quarters = self._arrays.tempo_tick[anchors] / TICKS_PER_QUARTER
        tempo_s = self._arrays.tempo_s[anchors].astype(np.float64)
        return quarters_to_s(quarters, tempo_quarters, tempo_s)

    @property
    def _bars(self) -> slice:
        return _span(self._arrays.piece_bar_start, self._number)

    def bar_at(self, quarters: float) -> int:
        """Printed number of the bar that holds this moment; 1 where the score has no bars."""
        if self.bar_quarters.size == 0:
            return 1
        index = int(np.searchsorted(self.bar_quarters, quarters + 1e-6, side="right")) - 1
        return int(self.bar_number[max(index, 0)])


@dataclass(frozen=True, slots=True)
class Pack:
    """Pieces and their arrays, a version and the checksum; ``maps`` is empty in memory."""

    version: str
    sha256: str
    arrays: PackArrays
    maps: tuple[mmap.mmap, ...] = ()

    @property
    def pieces(self) -> PieceList:
        """What is said about each piece."""
        return PieceList(self.arrays.piece_text, self.arrays.piece_text_start)

    @property
    def size_bytes(self) -> int:
        """Bytes of all arrays."""
        return sum(getattr(self.arrays, name).nbytes for name in ARRAYS)

    def piece_chords(self, number: int) -> PieceChords:
        """The chords and bars of the piece with this number in the pack."""
        return PieceChords(self.arrays, number)

    def postings(self, start: NDArray[np.int64], count: NDArray[np.int64]) -> NDArray[np.uint32]:
        """Posting lists, given by their starts and lengths, end to end."""
        if not self._is_large:
            at = np.arange(int(count.sum())) + np.repeat(start - np.cumsum(count) + count, count)
            return self.arrays.posting[at]
        found = np.empty(int(count.sum()), dtype=np.uint32)
        end = 0
        for number, (first, length) in enumerate(zip(start.tolist(), count.tolist(), strict=True)):
            begin, end = end, end + length
            found[begin:end] = self.arrays.posting[first : first + length]
            if number % LISTS_AT_A_TIME == LISTS_AT_A_TIME - 1:
                self.let_go()
        return found

    @property
    def _is_large(self) -> bool:
        return self.size_bytes > CHECKED_AT_OPENING_BYTES

    def let_go(self) -> None:
        """Give the mapped pages of a large pack back to the system.

        Linux maps whole runs of pages around each byte that is read, and a few hundred searches
        would keep all of a large pack in memory. What is let go stays in the page cache as long
        as nobody else needs the room, and comes back at the next touch.
        """
        if self._is_large:
            for each in self.maps:
                each.madvise(mmap.MADV_DONTNEED)


def _length(start: NDArray[np.uint32], number: int) -> int:
    return int(start[number + 1]) - int(start[number])


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
    repeats = np.round((score.repeat_quarters - origin) * TICKS_PER_QUARTER).astype(np.int32)
    keys = pitch_keys(pitch, starts)
    chords = Chords(
        quarters_to_s(ticks / TICKS_PER_QUARTER, tempo_quarters, tempo_s),
        keys,
        count_keys(keys),
        np.ones(starts.size),
    )
    found = score_fingerprints(chords)
    delta = np.minimum(np.diff(ticks, prepend=0), np.iinfo(np.uint16).max)
    piece = replace(score.piece, bars=int(score.bar_quarters.size), notes=int(pitch.size))
    return PackedPiece(
        piece=piece,
        arrays={
            "piece_text": piece_text(piece),
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
            "repeat_from": repeats[:, 0],
            "repeat_to": repeats[:, 1],
        },
        codes=found.codes,
        code_chord=found.chord,
    )


def piece_text(piece: Piece) -> NDArray[np.uint8]:
    """What a pack keeps of a piece's description."""
    values = [getattr(piece, field.name) for field in fields(piece)]
    return np.frombuffer(msgspec.json.encode(values), dtype=np.uint8)


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
    starts: dict[str, Any] = {
        start: starts_of([each.arrays[names[0]].size for each in packed])
        for start, names in PIECE_ARRAYS.items()
    }
    chord_start = starts["piece_chord_start"]
    entries = [
        index_entries(each.codes, each.code_chord + int(start))
        for each, start in zip(packed, chord_start, strict=False)
    ]
    index: dict[str, Any] = index_of(np.concatenate(entries))
    return pack_of(PackArrays(**starts, **joined, **index), version)


def pack_of(arrays: PackArrays, version: str) -> Pack:
    """Arrays with their checksum."""
    return Pack(version, checksum(arrays), arrays)


def starts_of(lengths: Sequence[int] | NDArray[np.int64]) -> NDArray[np.uint32]:
    """Where each part begins that is laid end to end, and the end of all."""
    return np.concatenate(([0], np.cumsum(lengths))).astype(np.uint32)


def index_entries(
    codes: NDArray[np.uint32], chords: NDArray[np.integer[Any]]
) -> NDArray[np.uint64]:
    """Fingerprints and the chords of the pack they begin at, as one number each."""
    return (codes.astype(np.uint64) << np.uint64(32)) | chords.astype(np.uint64)


def index_of(entries: NDArray[np.uint64]) -> dict[str, NDArray[np.uint32]]:
    """The arrays of the index; ``entries`` are sorted in place."""
    entries.sort()
    codes = (entries >> np.uint64(32)).astype(np.uint32)
    first = np.flatnonzero(np.diff(codes, prepend=~codes[:1]))
    return {
        "code": codes[first],
        "code_start": np.append(first, codes.size).astype(np.uint32),
        "posting": entries.astype(np.uint32),
    }


# --- a pack on disk --------------------------------------------------------------------------


def checksum(arrays: PackArrays) -> str:
    """sha256, in hexadecimal, of every array."""
    digest = hashlib.sha256()
    for name in ARRAYS:
        array = np.ascontiguousarray(getattr(arrays, name))
        digest.update(f"{name}:{array.dtype.str}:{array.size};".encode())
        digest.update(array.view(np.uint8).data)
    return digest.hexdigest()


def write_pack(pack: Pack, folder: Path) -> None:
    """Write a pack as a folder; the JSON last, so that half a pack is never taken for one."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ARRAYS:
        with (folder / f"{name}.npy").open("wb") as file:
            np.save(file, getattr(pack.arrays, name))
            _to_disk(file)
    entries = {
        name: _ArrayEntry(getattr(pack.arrays, name).dtype.str, getattr(pack.arrays, name).size)
        for name in ARRAYS
    }
    described = _CatalogueFile(
        FORMAT_VERSION, SIGNATURE, pack.version, len(pack.pieces), pack.sha256, entries
    )
    with (folder / CATALOGUE_FILE).open("wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(described), indent=1) + b"\n")
        _to_disk(file)


def _to_disk(file: Any) -> None:
    """A pack must survive the plug being pulled right after it was swapped in."""
    file.flush()
    os.fsync(file.fileno())


def open_pack(folder: Path, trusted_keys: Sequence[str] = ()) -> Pack:
    """Map the arrays of a pack.

    Parameters
    ----------
    folder : Path
    trusted_keys : sequence of str
        Where any are given, the pack must be signed with one of them.

    Raises
    ------
    CatalogueError
        The folder holds no pack, one of another format, one that is damaged, or one whose
        signature is wrong.
    """
    described = _described(folder)
    check_signature(folder / CATALOGUE_FILE, trusted_keys)
    mapped = {name: _mapped(folder, name, described.arrays[name]) for name in ARRAYS}
    pack = Pack(
        described.version,
        described.sha256,
        PackArrays(**{name: array for name, (array, _) in mapped.items()}),
        tuple(each for _, each in mapped.values()),
    )
    if pack.size_bytes <= CHECKED_AT_OPENING_BYTES:
        verify_pack(pack, folder)
    return pack


def verify_pack(pack: Pack, folder: Path) -> None:
    """Hash the whole pack and compare; CatalogueError where it differs."""
    found = checksum(pack.arrays)
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
                f"format {FORMAT_VERSION} (with repeat signs): build it again from its scores "
                "with `sostenuto-studio catalog build`"
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


def _mapped(folder: Path, name: str, entry: _ArrayEntry) -> tuple[NDArray[Any], mmap.mmap]:
    path = folder / f"{name}.npy"
    try:
        with path.open("rb") as file:
            np.lib.format.read_magic(file)
            shape, _, dtype = np.lib.format.read_array_header_1_0(file)
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            array = np.frombuffer(mapped, dtype, int(np.prod(shape)), file.tell())
    except (OSError, ValueError) as error:
        raise CatalogueError(
            f"catalogue {folder} is damaged: {path.name} cannot be read ({error}); "
            "build or copy it again"
        ) from None
    if len(shape) != 1 or array.dtype.str != entry.dtype or array.size != entry.length:
        raise CatalogueError(
            f"catalogue {folder} is damaged: {path.name} holds {array.size} × {array.dtype.str}, "
            f"{CATALOGUE_FILE} says {entry.length} × {entry.dtype}; build or copy it again"
        )
    return array, mapped
