"""Pieces that nobody wrote: real scores cut up, spliced and altered, to fill a catalogue.

What a large catalogue makes hard is music that resembles other music. A distractor is made of
stretches of real scores, 4 to 16 bars each, until it is as long as some real score. Each stretch
is moved by up to six semitones, or not at all, played at its own score's tempo, and altered: of
its notes one in ten moves by a step or a third, and one in twenty is gone. What stays in its
key and bar is nearly the real passage, and must still not be taken for it.

Distractor ``number`` depends on its number and the seed alone, so that every size of a catalogue
holds the same first ones.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge.matching import Piece, Score

SHORTEST_BARS = 4
LONGEST_BARS = 16
FARTHEST_SEMITONES = 6
MOVED_ONE_IN = 10
GONE_ONE_IN = 20
MOVES = (-4, -3, -2, -1, 1, 2, 3, 4)
FEWEST_NOTES = 40


def distractor(number: int, scores: Sequence[Score], seed: int) -> Score:
    """A piece spliced from stretches of ``scores``, which must have bars."""
    rng = np.random.default_rng((seed, number))
    notes = max(scores[rng.integers(len(scores))].pitch_midi.size, FEWEST_NOTES)
    stretches: list[_Stretch] = []
    while sum(each.pitch.size for each in stretches) < notes:
        stretches.append(_Stretch(scores[rng.integers(len(scores))], rng))
    starts = np.concatenate(([0.0], np.cumsum([each.quarters for each in stretches])))
    seconds = np.concatenate(([0.0], np.cumsum([each.seconds for each in stretches])))
    bars = np.concatenate([each.bars + at for each, at in zip(stretches, starts, strict=False)])
    name = f"distractor-{number:06d}"
    return Score(
        piece=Piece(name, name, f"Spliced piece {number}", "Nobody"),
        pitch_midi=np.concatenate([each.pitch for each in stretches]),
        onset_quarters=np.concatenate(
            [each.onset + at for each, at in zip(stretches, starts, strict=False)]
        ),
        duration_quarters=np.concatenate([each.duration for each in stretches]),
        hand=np.concatenate([each.hand for each in stretches]),
        bar_quarters=bars,
        bar_number=np.arange(1, bars.size + 1, dtype=np.int32),
        bar_beat_quarters=np.concatenate([each.beat for each in stretches]),
        tempo_quarters=starts,
        tempo_s=seconds,
    )


class _Stretch:
    """Some bars of a score, altered; times in quarters since its first bar."""

    def __init__(self, score: Score, rng: np.random.Generator) -> None:
        count = int(rng.integers(SHORTEST_BARS, LONGEST_BARS + 1))
        first = int(rng.integers(max(score.bar_quarters.size - count, 1)))
        begin = float(score.bar_quarters[first])
        last = first + count
        written_to = float(score.onset_quarters[-1]) + 1.0
        end = float(score.bar_quarters[last]) if last < score.bar_quarters.size else written_to
        end = max(end, begin + 1.0)
        span = slice(*np.searchsorted(score.onset_quarters, (begin, end)))
        stays = rng.random(span.stop - span.start) >= 1 / GONE_ONE_IN
        self.quarters = end - begin
        self.seconds = self.quarters * _quarter_s(score, begin, end)
        self.pitch = _altered(score.pitch_midi[span][stays], rng)
        self.onset = score.onset_quarters[span][stays] - begin
        self.duration = score.duration_quarters[span][stays]
        self.hand = score.hand[span][stays]
        self.bars = score.bar_quarters[first:last] - begin
        self.beat = score.bar_beat_quarters[first:last]


def _altered(pitch: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Moved as a whole, and some notes by themselves; folded back onto the keyboard."""
    moved = pitch + rng.integers(-FARTHEST_SEMITONES, FARTHEST_SEMITONES + 1)
    beside = rng.random(pitch.size) < 1 / MOVED_ONE_IN
    moved = moved + np.where(beside, rng.choice(MOVES, pitch.size), 0)
    moved = np.where(moved < 21, moved + 12, np.where(moved > 108, moved - 12, moved))
    return moved.astype(np.uint8)


def _quarter_s(score: Score, begin: float, end: float) -> float:
    """Mean length of a quarter between two moments, in seconds."""
    between = np.interp((begin, end), score.tempo_quarters, score.tempo_s)
    mean = float(between[1] - between[0]) / (end - begin)
    return mean if mean > 0.05 else 0.5
