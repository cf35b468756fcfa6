"""Chords: the notes that a pianist means to sound together.

A score writes them on one stem; a hand strikes them a few hundredths of a second apart
(Goebl, "Melody lead in piano performance", JASA 2001, finds most chord notes within 30 ms,
the melody ahead), and an ear hears them a few more apart. Everything in the matching counts
time in chords first and in seconds second, because the order of chords survives any tempo.

A chord's keys are kept as the bits of two 64-bit words, so that what two chords share is
one bitwise *and* and one count of bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.note import NoteEvent

CHORD_WINDOW_S = 0.05
"""Notes that begin this close after a chord's first note belong to it: Goebl's 30 ms, and
the 10 to 20 ms that a note tracker adds."""

SCORE_CHORD_WINDOW_S = 0.025
"""The same for a score, whose notes are written together but whose grace notes and fast
runs must stay apart at the score's own tempo."""

PITCHES = 128


@dataclass(frozen=True, slots=True)
class Chords:
    """A run of chords in time.

    Attributes
    ----------
    onset_s : float64, shape (chords,)
        Onset of each chord's first note, rising.
    keys : uint64, shape (chords, 2)
        Bit ``pitch_midi % 64`` of word ``pitch_midi // 64`` is set for each note.
    sizes : int64, shape (chords,)
        Different pitches in each chord.
    confidence : float64, shape (chords,)
        Mean confidence of each chord's notes, 0 to 1.
    """

    onset_s: NDArray[np.float64]
    keys: NDArray[np.uint64]
    sizes: NDArray[np.int64]
    confidence: NDArray[np.float64]

    def __len__(self) -> int:
        return int(self.onset_s.size)

    def part(self, which: slice) -> Chords:
        """Some of the chords."""
        return Chords(
            self.onset_s[which], self.keys[which], self.sizes[which], self.confidence[which]
        )

    def transposed(self, semitones: int) -> Chords:
        """The same music, higher by some semitones; keys beyond 0..127 fall away."""
        if semitones == 0:
            return self
        keys = shifted_keys(self.keys, semitones)
        return Chords(self.onset_s, keys, count_keys(keys), self.confidence)


def chord_starts(onset_s: NDArray[np.float64], window_s: float) -> NDArray[np.int64]:
    """First note of each chord, for notes in order of onset.

    A chord takes the notes within ``window_s`` of its *first* note, so a trill or a run
    does not grow into one endless chord.

    Parameters
    ----------
    onset_s : float64, shape (notes,)
        Rising.
    window_s : float
        Greatest distance from the chord's first note.

    Returns
    -------
    int64, shape (chords,)
        Indices into ``onset_s``, rising, the first one 0.
    """
    if onset_s.size == 0:
        return np.zeros(0, dtype=np.int64)
    ends = np.searchsorted(onset_s, onset_s + window_s, side="right").tolist()
    starts = []
    first = 0
    while first < onset_s.size:
        starts.append(first)
        first = ends[first]
    return np.array(starts, dtype=np.int64)


def pitch_keys(pitch_midi: NDArray[np.integer], starts: NDArray[np.int64]) -> NDArray[np.uint64]:
    """The two 64-bit words of each chord.

    Parameters
    ----------
    pitch_midi : integers, shape (notes,)
        0 to 127, in the order of the chords.
    starts : int64, shape (chords,)
        First note of each chord.

    Returns
    -------
    uint64, shape (chords, 2)
    """
    keys = np.zeros((starts.size, 2), dtype=np.uint64)
    if starts.size == 0:
        return keys
    pitch = pitch_midi.astype(np.uint64)
    bit = np.uint64(1) << (pitch % np.uint64(64))
    for word in (0, 1):
        bits = np.where(pitch // np.uint64(64) == word, bit, np.uint64(0))
        keys[:, word] = np.bitwise_or.reduceat(bits, starts)
    return keys


def count_keys(keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    """How many keys each chord holds; shape (..., 2) in, shape (...) out."""
    bits = np.bitwise_count(keys)
    counts: NDArray[np.int64] = bits[..., 0] + bits[..., 1].astype(np.int64)
    return counts


def distinct_chords(chords: Chords) -> int:
    """How many chords there are, those with the same keys counted once."""
    return len(set(map(tuple, chords.keys.tolist())))


def shifted_keys(keys: NDArray[np.uint64], semitones: int) -> NDArray[np.uint64]:
    """Move every key up by 1 to 63 semitones, or down by as many; shape (chords, 2)."""
    low, high = keys[:, 0], keys[:, 1]
    by, rest = np.uint64(abs(semitones)), np.uint64(64 - abs(semitones))
    if semitones > 0:
        return np.stack((low << by, (high << by) | (low >> rest)), axis=1)
    return np.stack(((low >> by) | (high << rest), high >> by), axis=1)


def notes_of_chords(
    keys: NDArray[np.uint64], onset_s: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Pitch and onset of every note, chord by chord, low to high within one."""
    held = np.flatnonzero(held_keys(keys))
    return held % PITCHES, onset_s[held // PITCHES]


def held_keys(keys: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Which of the 128 pitches each chord holds; shape (chords, 128)."""
    bits = np.unpackbits(
        np.ascontiguousarray(keys.astype("<u8")).view(np.uint8), axis=1, bitorder="little"
    )
    return bits.view(np.bool_)


def chords_of_notes(notes: Sequence[NoteEvent], window_s: float = CHORD_WINDOW_S) -> Chords:
    """The chords of what was played, in any order of the notes.

    Parameters
    ----------
    notes : NoteEvents
    window_s : float
        See :data:`CHORD_WINDOW_S`.
    """
    ordered = sorted(notes, key=lambda note: (note.onset_s, note.pitch_midi))
    pitch = np.array([note.pitch_midi for note in ordered], dtype=np.int64)
    onset_s = np.array([note.onset_s for note in ordered], dtype=np.float64)
    confidence = np.array([note.confidence for note in ordered], dtype=np.float64)
    starts = chord_starts(onset_s, window_s)
    keys = pitch_keys(pitch, starts)
    if starts.size == 0:
        empty = np.zeros(0)
        return Chords(empty, keys, np.zeros(0, dtype=np.int64), empty)
    counts = np.diff(np.append(starts, onset_s.size))
    return Chords(
        onset_s=onset_s[starts],
        keys=keys,
        sizes=count_keys(keys),
        confidence=np.add.reduceat(confidence, starts) / counts,
    )


def outer_pitches(keys: NDArray[np.uint64], most: int) -> NDArray[np.int64]:
    """Up to ``most`` pitches of each chord, from the outside in: highest, lowest, next highest, ...

    The melody and the bass are what a listener, and a note model, gets right most often.

    Returns
    -------
    int64, shape (chords, most)
        -1 where a chord has fewer.
    """
    held = held_keys(keys)
    chosen = np.full((keys.shape[0], most), -1, dtype=np.int64)
    rows = np.arange(keys.shape[0])
    for place in range(most):
        if place % 2 == 0:
            pitch = PITCHES - 1 - np.argmax(held[:, ::-1], axis=1)
        else:
            pitch = np.argmax(held, axis=1)
        there = held[rows, pitch]
        chosen[there, place] = pitch[there]
        held[rows, pitch] = False
    return chosen
