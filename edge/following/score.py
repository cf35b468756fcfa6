"""A score as it is followed: three strands, of both hands, of the right and of the left alone.

A pianist who practises plays one hand for a while. To whom expects both, half of what is
written is then missing, and the follower would rather believe in a jump. So each hand's own
chords are laid out as a strand beside the whole, as if they were another way through the
piece; where the score does not tell the hands apart, there is one strand. Repeat signs lead from
chord to chord of the same strand.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from edge.matching.catalogue import Catalogue
from edge.matching.chords import PITCHES, held_keys, pitch_keys
from edge.matching.pack import LEFT_HAND_BIT, Pack, pack_scores
from edge.matching.score import Score

LONGEST_STEP = 4
"""Chords from one that is heard to the next: as many as three may be missed between them."""

NEAR_CHORDS = 2
"""Notes of chords this far off come late or early: hands apart, voices that overlap, an arpeggio
whose end is overtaken."""

ORNAMENT_SEMITONES = 2
"""Trills, turns and appoggiaturas stay within a whole tone of what is written."""


BESIDE_QUARTERS, BESIDE_S = 0.01, 0.02
"""A chord this much before a repeat sign stands at it; a pack counts in ticks."""


@dataclass(frozen=True)
class FollowedScore:
    """The chords of all strands, end to end, with empty ones between the strands.

    Attributes
    ----------
    piece_id : str
        As the catalogue calls the piece.
    onset_s : float64, shape (chords,)
        At the score's own tempo; infinite for the empty chords.
    onset_quarters : float64, shape (chords,)
    keys : uint64, shape (chords, 2)
        See :class:`edge.matching.chords.Chords`.
    whole : int
        Chords of the first strand, which has both hands.
    bar_quarters, bar_beat_quarters : float64, bar_number : int64, shape (bars,)
    repeat_chord : int64, shape (passages, 2)
        Where the repeat signs lead, in every strand: the first chord that is left out, and the
        one that is played in its stead.
    repeat_s : float64, shape (passages, 2)
        From when to when that is, at the score's own tempo.
    """

    piece_id: str
    onset_s: NDArray[np.float64]
    onset_quarters: NDArray[np.float64]
    keys: NDArray[np.uint64]
    whole: int
    bar_quarters: NDArray[np.float64]
    bar_number: NDArray[np.int64]
    bar_beat_quarters: NDArray[np.float64]
    repeat_chord: NDArray[np.int64]
    repeat_s: NDArray[np.float64]

    @classmethod
    def of_score(cls, score: Score) -> FollowedScore:
        """A score, as a catalogue would hold it."""
        return cls.of_pack(pack_scores([score]), 0)

    @classmethod
    def of_catalogue(cls, catalogue: Catalogue, piece_id: str) -> FollowedScore:
        """A piece of a catalogue; KeyError where it is not there."""
        return cls.of_pack(*catalogue.find(piece_id))

    @classmethod
    def of_pack(cls, pack: Pack, number: int) -> FollowedScore:
        """The piece with this number in a pack."""
        piece = pack.piece_chords(number)
        arrays = pack.arrays
        notes = slice(*(int(each) for each in arrays.piece_note_start[number : number + 2]))
        chords = slice(*(int(each) for each in arrays.piece_chord_start[number : number + 2]))
        note_key = arrays.note_key[notes]
        chord = np.repeat(np.arange(piece.onset_s.size), arrays.chord_size[chords])
        left = note_key >= LEFT_HAND_BIT
        strands = [np.ones(left.size, dtype=np.bool_)]
        if left.any() and not left.all():
            strands += [~left, left]
        onset_s, quarters, keys, repeat_chord, repeat_s = [], [], [], [], []
        first = 0
        for strand in strands:
            which, starts = np.unique(chord[strand], return_index=True)
            pitch = (note_key[strand] & (LEFT_HAND_BIT - 1)).astype(np.int64)
            onset_s.append(np.append(piece.onset_s[which], np.full(LONGEST_STEP, np.inf)))
            quarters.append(np.append(piece.onset_quarters[which], np.zeros(LONGEST_STEP)))
            empty = np.zeros((LONGEST_STEP, 2), dtype=np.uint64)
            keys.append(np.concatenate((pitch_keys(pitch, starts), empty)))
            leads = np.searchsorted(
                piece.onset_quarters[which], piece.repeat_quarters - BESIDE_QUARTERS
            )
            inside = (leads[:, 0] > 0) & (leads[:, 1] < which.size)
            repeat_chord.append(first + leads[inside])
            repeat_s.append(piece.repeat_s[inside])
            first += which.size + LONGEST_STEP
        return cls(
            piece_id=pack.pieces[number].piece_id,
            onset_s=np.concatenate(onset_s),
            onset_quarters=np.concatenate(quarters),
            keys=np.concatenate(keys),
            whole=piece.onset_s.size,
            bar_quarters=piece.bar_quarters,
            bar_number=piece.bar_number,
            bar_beat_quarters=piece.bar_beat_quarters,
            repeat_chord=np.concatenate(repeat_chord),
            repeat_s=np.concatenate(repeat_s),
        )

    @cached_property
    def held(self) -> NDArray[np.bool_]:
        """Which pitches each chord holds; shape (chords, 128)."""
        return held_keys(self.keys)

    @cached_property
    def sizes(self) -> NDArray[np.int64]:
        """Notes of each chord; shape (chords,)."""
        sizes: NDArray[np.int64] = self.held.sum(axis=1)
        return sizes

    @cached_property
    def near(self) -> NDArray[np.bool_]:
        """Which pitches a slip, an ornament or an early or late note may bring; (chords, 128)."""
        near = self.held.copy()
        for away in range(1, NEAR_CHORDS + 1):
            near[away:] |= self.held[:-away]
            near[:-away] |= self.held[away:]
        for away in range(1, ORNAMENT_SEMITONES + 1):
            near[:, away:] |= self.held[:, :-away]
            near[:, :-away] |= self.held[:, away:]
        return near

    @cached_property
    def chords_of_pitch(self) -> tuple[NDArray[np.int64], ...]:
        """For each pitch, the chords that hold it."""
        return tuple(np.flatnonzero(self.held[:, pitch]) for pitch in range(PITCHES))

    @cached_property
    def begins_bar(self) -> NDArray[np.bool_]:
        """Whether each chord is the first of its bar in its strand; shape (chords,)."""
        bar = np.searchsorted(self.bar_quarters, self.onset_quarters + 1e-6, side="right")
        begins: NDArray[np.bool_] = np.diff(bar, prepend=-1) != 0
        return begins

    def by_sign_s(self, before: int, now: int, within_s: float) -> float:
        """Written seconds from one chord to another by way of a repeat sign; the least of them.

        Infinite where none leads to less than ``within_s`` before the second chord.
        """
        since_s = float(self.onset_s[now]) - self.repeat_s[:, 1]
        gone_s = self.repeat_s[:, 0] - float(self.onset_s[before]) + since_s
        gone_s = gone_s[(since_s > -BESIDE_S) & (since_s < within_s)]
        return float(gone_s[np.argmin(np.abs(gone_s))]) if gone_s.size else math.inf

    def quarters_at(self, at_s: float) -> float:
        """The place, in quarters, that a metronome at the score's tempo reaches at this second."""
        onset_s, quarters = self.onset_s[: self.whole], self.onset_quarters[: self.whole]
        if at_s <= onset_s[-1] or self.whole < 2:
            return float(np.interp(at_s, onset_s, quarters))
        return float(quarters[-1] + (at_s - onset_s[-1]) * self.quarters_per_s_at(at_s))

    def seconds_at(self, quarters: float) -> float:
        """The inverse of :meth:`quarters_at`, up to the last chord."""
        return float(
            np.interp(quarters, self.onset_quarters[: self.whole], self.onset_s[: self.whole])
        )

    def quarters_per_s_at(self, at_s: float) -> float:
        """Written tempo about this second; that of the last chords at the end."""
        onset_s, quarters = self.onset_s[: self.whole], self.onset_quarters[: self.whole]
        if self.whole < 2:
            return 1.0
        chord = int(np.clip(np.searchsorted(onset_s, at_s, side="right"), 1, self.whole - 1))
        before = max(chord - 8, 0)
        return float(
            (quarters[chord] - quarters[before]) / max(onset_s[chord] - onset_s[before], 1e-6)
        )

    def bar_and_beat(self, quarters: float) -> tuple[int, float, float]:
        """Printed bar, beat within it (the first is 1), and quarters of one beat."""
        if self.bar_quarters.size == 0:
            return 1, quarters + 1.0, 1.0
        index = self._bar_index(quarters)
        beat_quarters = float(self.bar_beat_quarters[index]) or 1.0
        beat = 1.0 + max(quarters - float(self.bar_quarters[index]), 0.0) / beat_quarters
        return int(self.bar_number[index]), beat, beat_quarters

    def beats_in_bar_at(self, quarters: float) -> float | None:
        """Beats of the bar that holds this place; None in the last one, whose end is not known."""
        index = self._bar_index(quarters)
        if index + 1 >= self.bar_quarters.size:
            return None
        beat_quarters = float(self.bar_beat_quarters[index]) or 1.0
        return float(self.bar_quarters[index + 1] - self.bar_quarters[index]) / beat_quarters

    def _bar_index(self, quarters: float) -> int:
        index = np.searchsorted(self.bar_quarters, quarters + 1e-6, side="right")
        return max(int(index) - 1, 0)
