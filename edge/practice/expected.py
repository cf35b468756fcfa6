"""What is written, note by note: the side of the comparison that the score gives.

A chord of the catalogue says which keys; here every note has its hand and its length as well,
because a player is told "the left hand, bar 12". Two voices that meet on one key at one
moment are one strike. A note without length is a grace note: it may be played or left out, and
no clock says when; it is a strike of its own though its main note has the same key.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from edge.matching.catalogue import Catalogue
from edge.matching.pack import DURATION_STEPS_PER_QUARTER, LEFT_HAND_BIT, Pack, pack_scores
from edge.matching.score import Hand, Piece, Score


@dataclass(frozen=True)
class ExpectedNotes:
    """The notes of one piece, in order of onset and pitch.

    Attributes
    ----------
    piece : Piece
    pitch_midi : int64, shape (notes,)
    onset_quarters, onset_s, duration_quarters : float64, shape (notes,)
        ``onset_s`` at the score's own tempo; grace notes have a duration of 0.
    hand : int64, shape (notes,)
        A :class:`Hand`; unknown throughout where the score does not tell the hands apart.
    bar : int64, shape (notes,)
        Which bar each stands in, counted from 0 as the bars are stored.
    bar_quarters : float64, bar_number : int64, bar_beat_quarters : float64, shape (bars,)
        At least one bar; see :class:`edge.matching.Score`.
    """

    piece: Piece
    pitch_midi: NDArray[np.int64]
    onset_quarters: NDArray[np.float64]
    onset_s: NDArray[np.float64]
    duration_quarters: NDArray[np.float64]
    hand: NDArray[np.int64]
    bar: NDArray[np.int64]
    bar_quarters: NDArray[np.float64]
    bar_number: NDArray[np.int64]
    bar_beat_quarters: NDArray[np.float64]

    @classmethod
    def of_score(cls, score: Score) -> ExpectedNotes:
        """A score, as a catalogue would hold it."""
        return cls.of_pack(pack_scores([score]), 0)

    @classmethod
    def of_catalogue(cls, catalogue: Catalogue, piece_id: str) -> ExpectedNotes:
        """A piece of a catalogue; KeyError where it is not there."""
        return cls.of_pack(*catalogue.find(piece_id))

    @classmethod
    def of_pack(cls, pack: Pack, number: int) -> ExpectedNotes:
        """The piece with this number in a pack."""
        chords, arrays = pack.piece_chords(number), pack.arrays
        in_notes = slice(*(int(each) for each in arrays.piece_note_start[number : number + 2]))
        in_chords = slice(*(int(each) for each in arrays.piece_chord_start[number : number + 2]))
        note_key = arrays.note_key[in_notes].astype(np.int64)
        pitch, left = note_key & (LEFT_HAND_BIT - 1), note_key >= LEFT_HAND_BIT
        length = arrays.note_duration[in_notes] / DURATION_STEPS_PER_QUARTER
        chord = np.repeat(np.arange(chords.onset_s.size), arrays.chord_size[in_chords])
        # The longest of those that meet on one key, and of equals the right hand's.
        grace = length <= 0
        order = np.lexsort((left, -length, grace, pitch, chord))
        strikes = np.stack((chord, pitch, grace))[:, order]
        first = np.append(True, (np.diff(strikes, axis=1) != 0).any(axis=0))
        kept = order[first]
        told_apart = bool(left.any() and not left.all())
        hand = np.where(left[kept], Hand.LEFT, Hand.RIGHT) if told_apart else Hand.UNKNOWN
        bar_quarters, bar_number = chords.bar_quarters, chords.bar_number
        beat_quarters = np.where(chords.bar_beat_quarters > 0, chords.bar_beat_quarters, 1.0)
        if bar_quarters.size == 0:
            bar_quarters, bar_number, beat_quarters = np.zeros(1), np.ones(1, np.int64), np.ones(1)
        quarters = chords.onset_quarters[chord[kept]]
        bar = np.searchsorted(bar_quarters, quarters + 1e-6, side="right") - 1
        return cls(
            piece=pack.pieces[number],
            pitch_midi=pitch[kept],
            onset_quarters=quarters,
            onset_s=chords.onset_s[chord[kept]],
            duration_quarters=length[kept],
            hand=np.broadcast_to(np.asarray(hand, dtype=np.int64), kept.shape).copy(),
            bar=np.maximum(bar, 0),
            bar_quarters=bar_quarters,
            bar_number=bar_number,
            bar_beat_quarters=beat_quarters,
        )

    @cached_property
    def grace(self) -> NDArray[np.bool_]:
        """Which notes are grace notes; shape (notes,)."""
        return self.duration_quarters <= 0

    @cached_property
    def bar_starts(self) -> NDArray[np.int64]:
        """The first note of each bar, and the count of all; shape (bars + 1,), rising."""
        return np.searchsorted(self.bar, np.arange(self.bar_quarters.size + 1))

    def beat(self, note: int) -> float:
        """The beat of its bar that a note stands on; the first is 1."""
        bar = int(self.bar[note])
        away = float(self.onset_quarters[note] - self.bar_quarters[bar])
        return 1.0 + max(away, 0.0) / float(self.bar_beat_quarters[bar])
