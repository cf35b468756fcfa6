"""A score as the matching needs it: notes in quarters, bars, a tempo, and whose work it is.

Musical time is counted in quarters (crotchets) from the first written beat; seconds are what
a metronome at the score's own tempo would make of them. Repeats are not unfolded: their signs
say from where to where a player may go on.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray


def no_repeats() -> NDArray[np.float64]:
    """Of a score without repeat signs; float64, shape (0, 2)."""
    return np.zeros((0, 2))


class Hand(IntEnum):
    """Which hand a note is written for (by staff or track)."""

    UNKNOWN = 0
    RIGHT = 1
    LEFT = 2


@dataclass(frozen=True, slots=True)
class Piece:
    """What a catalogue says about one score.

    ``piece_id`` names this score, ``work_id`` the work: several editions share it. ``bars``
    and ``notes`` are counts. ``source``, ``licence`` and ``attribution`` travel with it.
    """

    piece_id: str
    work_id: str
    title: str
    composer: str
    bars: int = 0
    notes: int = 0
    source: str = ""
    licence: str = ""
    attribution: str = ""


@dataclass(frozen=True, slots=True)
class Score:
    """One piece with its notes.

    Attributes
    ----------
    pitch_midi : uint8, shape (notes,)
    onset_quarters, duration_quarters : float64, shape (notes,)
        Rising onsets; ties joined, grace notes with a duration of 0.
    hand : uint8, shape (notes,)
        A :class:`Hand`.
    bar_quarters : float64, shape (bars,)
        Where each bar begins; a pickup bar begins before the first full one.
    bar_number : int32, shape (bars,)
        As printed: 0 for a pickup bar, 1 for the first full bar.
    bar_beat_quarters : float64, shape (bars,)
        Length of one beat of each bar: 1 in 3/4, 1.5 in 6/8.
    tempo_quarters, tempo_s : float64, shape (anchors,)
        Anchors of the map from quarters to seconds, straight between them and beyond; at
        least two.
    repeat_quarters : float64, shape (repeats, 2)
        What the repeat signs allow beside going straight on: from where, and to where. A
        repeat leads back; the second ending is reached from where the first begins; da capo,
        dal segno and the way to the coda are such pairs too.
    """

    piece: Piece
    pitch_midi: NDArray[np.uint8]
    onset_quarters: NDArray[np.float64]
    duration_quarters: NDArray[np.float64]
    hand: NDArray[np.uint8]
    bar_quarters: NDArray[np.float64]
    bar_number: NDArray[np.int32]
    bar_beat_quarters: NDArray[np.float64]
    tempo_quarters: NDArray[np.float64]
    tempo_s: NDArray[np.float64]
    repeat_quarters: NDArray[np.float64] = field(default_factory=no_repeats)

    @property
    def onset_s(self) -> NDArray[np.float64]:
        """Onsets in seconds at the score's own tempo; float64, shape (notes,)."""
        return quarters_to_s(self.onset_quarters, self.tempo_quarters, self.tempo_s)


def quarters_to_s(
    quarters: NDArray[np.float64],
    tempo_quarters: NDArray[np.float64],
    tempo_s: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Seconds at the score's tempo; the last tempo goes on beyond the last anchor."""
    segment = np.clip(
        np.searchsorted(tempo_quarters, quarters, side="right") - 1, 0, tempo_quarters.size - 2
    )
    slope = (np.diff(tempo_s) / np.diff(tempo_quarters))[segment]
    seconds: NDArray[np.float64] = tempo_s[segment] + slope * (quarters - tempo_quarters[segment])
    return seconds
