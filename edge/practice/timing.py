"""Early and late, against the player's own tempo.

Nobody plays like a metronome, and nobody should. What is asked here is whether a note leaves
the flow that its neighbours make: a straight line is laid through the chords around it (when
played, against when written), once through those before, once through those after, once
through both, and the note is out of time only where it lies off all three, to the same side.
So a ritardando, a hesitation or a new tempo is nobody's fault: there one of the lines fits.

A chord stands where its middle note stands, and two notes where the one nearer to the flow
does (Goebl, "Melody lead in piano performance", JASA 2001: hands and melody lie some 30 ms
apart, and that is no fault either). A chord whose notes come one after another from the bass
up is rolled, and only as a whole early or late.

The lines are fitted by least squares with Tukey's biweight, so that one late chord does not
draw its neighbours' line towards itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

OUT_OF_TIME_S = 0.09
"""From here on a note is early or late. Listeners notice displacements of 6 % of an interval
at best (Friberg & Sundberg, JASA 1995); hands lie 30 ms apart without meaning to. Chosen on
scores that may train: ``python -m benchmarks.feedback --perturbed``."""
SPREADS = 2.5
"""Where the playing is uneven by itself, as many typical deviations as this are still in time."""
LEAST_SPREAD_S = 0.015
CHORDS_A_SIDE = 6
FEWEST_A_SIDE = 2
STRETCH_S = 4.0
"""Chords further away than this, as written, say nothing of the tempo here."""
ROLL_S = 0.04
MOST_OF_A_ROLL = 0.7
"""Rolled: spread by more than ``ROLL_S``, and no single step makes up more of it than this."""


@dataclass(frozen=True, slots=True)
class Timing:
    """How the notes of a passage lie in time.

    Attributes
    ----------
    delta_s : float64, shape (notes,)
        Played minus due, against the local tempo; late is above 0.
    out_of_time : bool, shape (notes,)
    slowness : float64, shape (notes,)
        Seconds played per second written about each note; NaN where nothing tells.
    """

    delta_s: NDArray[np.float64]
    out_of_time: NDArray[np.bool_]
    slowness: NDArray[np.float64]


def timing(
    written_s: NDArray[np.float64],
    played_s: NDArray[np.float64],
    pitch_midi: NDArray[np.int64],
    asked: NDArray[np.bool_],
) -> Timing:
    """Judge the time of the notes that are asked about, against all of a passage.

    Parameters
    ----------
    written_s : float64, shape (notes,)
        At the score's own tempo, rising; equal within a chord.
    played_s : float64, shape (notes,)
    pitch_midi : int64, shape (notes,)
    """
    count = written_s.size
    if count == 0:
        return Timing(np.zeros(0), np.zeros(0, dtype=np.bool_), np.zeros(0))
    starts = np.flatnonzero(np.diff(written_s, prepend=-np.inf) > 1e-6)
    chords = [slice(a, b) for a, b in zip(starts, [*starts[1:], count], strict=True)]
    at_s = written_s[starts]
    struck_s = np.array([float(np.median(played_s[chord])) for chord in chords])
    rolled = [_is_rolled(played_s[chord], pitch_midi[chord]) for chord in chords]
    delta_s, out_of_time = np.zeros(count), np.zeros(count, dtype=np.bool_)
    slowness = np.full(count, np.nan)
    for number, chord in enumerate(chords):
        if not asked[chord].any():
            continue
        flow = _Flow.about(number, at_s, struck_s)
        slowness[chord] = flow.slowness
        middle_s = struck_s[number]
        members_s = played_s[chord]
        if rolled[number] or members_s.size == 2:
            middle_s = float(members_s[np.argmin(np.abs(members_s - flow.due_s))])
        away_s = np.zeros(members_s.size) if rolled[number] else members_s - middle_s
        off_s, share = flow.deviation(middle_s)
        delta_s[chord] = off_s + away_s
        # The notes of a chord need no line to be compared with each other.
        surely = (np.abs(away_s) > OUT_OF_TIME_S) | (share > 1.0)
        out_of_time[chord] = surely & (np.abs(delta_s[chord]) > OUT_OF_TIME_S)
    return Timing(delta_s, out_of_time, slowness)


def _is_rolled(members_s: NDArray[np.float64], pitch_midi: NDArray[np.int64]) -> bool:
    if members_s.size < 3:
        return False
    steps_s = np.diff(members_s[np.argsort(pitch_midi)])
    spread_s = float(np.ptp(members_s))
    one_way = bool(np.all(steps_s >= 0) or np.all(steps_s <= 0))
    return one_way and spread_s > ROLL_S and np.abs(steps_s).max() <= MOST_OF_A_ROLL * spread_s


@dataclass(frozen=True, slots=True)
class _Line:
    """When a chord is due by one line, and how far off is still in time."""

    due_s: float
    slope: float
    allowed_s: float


@dataclass(frozen=True, slots=True)
class _Flow:
    """The lines through the chords around one."""

    lines: tuple[_Line, ...]
    due_s: float
    slowness: float

    @classmethod
    def about(cls, chord: int, at_s: NDArray[np.float64], struck_s: NDArray[np.float64]) -> _Flow:
        near = np.abs(at_s - at_s[chord]) <= STRETCH_S
        before = np.flatnonzero(near[:chord])[-CHORDS_A_SIDE:]
        after = chord + 1 + np.flatnonzero(near[chord + 1 :])[:CHORDS_A_SIDE]
        both = np.concatenate((before, after))
        if both.size < FEWEST_A_SIDE:
            return cls((), float(struck_s[chord]), np.nan)
        x, y = at_s - at_s[chord], struck_s
        lines = [_fitted(x[both], y[both])]
        lines += [
            _fitted(x[side], y[side]) for side in (before, after) if side.size > FEWEST_A_SIDE
        ]
        return cls(tuple(lines), lines[0].due_s, lines[0].slope)

    def deviation(self, played_s: float) -> tuple[float, float]:
        """Seconds off the line that it lies nearest to, and that as a share of what is allowed.

        0 where it lies between the lines: one of them is then late, another early.
        """
        if not self.lines:
            return 0.0, 0.0
        off = [(played_s - line.due_s, line.allowed_s) for line in self.lines]
        if min(each for each, _ in off) < 0 < max(each for each, _ in off):
            return 0.0, 0.0
        nearest = min(off, key=lambda each: abs(each[0]) / each[1])
        return nearest[0], abs(nearest[0]) / nearest[1]


def _fitted(x: NDArray[np.float64], y: NDArray[np.float64]) -> _Line:
    """The robust line through ``(x, y)``, weighted towards ``x = 0``, where it is asked."""
    near = (1.0 - (np.abs(x) / (1.3 * np.abs(x).max())) ** 3) ** 3
    slope = float(np.median(np.diff(y) / np.diff(x)))
    due_s = float(np.median(y - slope * x))
    weight = near
    for _ in range(4):
        left_s = y - due_s - slope * x
        spread_s = max(1.4826 * float(np.median(np.abs(left_s))), LEAST_SPREAD_S)
        weight = near * np.clip(1.0 - (left_s / (4.7 * spread_s)) ** 2, 0.0, 1.0) ** 2
        total = float(weight.sum())
        if np.count_nonzero(weight) < 2:
            break
        mean_x, mean_y = float(weight @ x) / total, float(weight @ y) / total
        square = float(weight @ (x - mean_x) ** 2)
        if square < 1e-9:
            break
        slope = float(weight @ ((x - mean_x) * (y - mean_y))) / square
        due_s = mean_y - slope * mean_x
    left_s = y - due_s - slope * x
    spread_s = max(1.4826 * float(np.median(np.abs(left_s))), LEAST_SPREAD_S)
    total = max(float(weight.sum()), 1e-9)
    mean_x = float(weight @ x) / total
    square = max(float(weight @ (x - mean_x) ** 2), 1e-9)
    reach = float(np.sqrt(1.0 + 1.0 / total + mean_x**2 / square))
    return _Line(due_s, slope, max(OUT_OF_TIME_S, SPREADS * spread_s * reach))
