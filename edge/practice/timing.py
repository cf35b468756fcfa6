"""Early and late, against the player's own tempo.

Nobody plays like a metronome, and nobody should. What is asked here
is whether a note leaves the flow that its neighbours make. Lines are laid through the chords
around it, when played against when written: through those before, through those after, and a
bent one through both. A note is out of time only where it lies off all of them, to the same
side; so a ritardando, a hesitation or a new tempo is nobody's fault: there one of them fits.

A chord stands where its middle note stands, and two notes where the one nearer to the flow
does (Goebl, "Melody lead in piano performance", JASA 2001: hands and melody lie some 30 ms
apart, and that is no fault either). What several notes agree on is the player's time: a chord
that comes late as a whole is an accent or a breath, and told only if it is far off. A chord
whose notes come one after another from the bass up is rolled.

The lines are fitted by least squares with Tukey's biweight, so that one late chord does not
draw its neighbours' line towards itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

OUT_OF_TIME_S = 0.08
"""From here on a note is early or late. Listeners notice displacements of 6 % of an interval
at best (Friberg & Sundberg, JASA 1995); hands lie 30 ms apart without meaning to. Chosen on
scores that may train: ``python -m benchmarks.feedback --perturbed``."""
APART_S = 0.06
"""The same among the notes of one chord, which need no line to be compared."""
TOGETHER_S = 0.04
AGREED_SHARE = 3.0
"""Notes struck this close together agree on a moment, and then that is the player's time: it is
out of the flow only when so many times further off it than a single note's may be."""
SPREADS = 1.5
"""Where the playing is uneven by itself, as many typical deviations as this are still in time."""
LEAST_SPREAD_S = 0.015
CHORDS_A_SIDE = 4
FEWEST_A_SIDE = 2
TUKEY, SPREAD_OF_MEDIAN, TURNS = 4.7, 1.4826, 4
"""Tukey's biweight: its usual width in deviations, their estimate from the median, and how often
it is weighed anew."""
ONE_SIDED = 0.35
"""A line through the chords of one side only reaches out: this share is asked of it."""
STRETCH_S = 4.0
"""Chords further away than this, as written, say nothing of the tempo here."""
ROLL_S = 0.04
MOST_OF_A_ROLL = 0.6
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
        members_s = played_s[chord]
        middle = members_s if rolled[number] else _middle(members_s)
        middle_s = float(middle[np.argmin(np.abs(middle - flow.due_s))])
        away_s = np.zeros(members_s.size) if rolled[number] else members_s - middle_s
        off_s, share = middle_s - flow.due_s, flow.share_of_allowed(middle_s)
        from_flow_s = off_s + away_s
        agreed = np.count_nonzero(np.abs(away_s) <= TOGETHER_S) > 1
        if agreed:
            share /= AGREED_SHARE
        if share == 0.0 or (agreed and share < 1.0):
            off_s = 0.0  # this is the player's time
        # The notes of a chord need no line to be compared with each other.
        surely = (np.abs(away_s) > APART_S) | (share > 1.0)
        out = surely & (np.abs(off_s + away_s) > APART_S)
        out_of_time[chord], delta_s[chord] = out, np.where(out, off_s + away_s, from_flow_s)
    return Timing(delta_s, out_of_time, slowness)


def _middle(members_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """The middle note of a chord, or the two of an even number."""
    half = (members_s.size - 1) // 2
    return np.sort(members_s)[half : members_s.size - half]


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
        if min(before.size, after.size) < FEWEST_A_SIDE:
            return cls((), float(struck_s[chord]), np.nan)
        both = np.concatenate((before, after))
        x, y = at_s - at_s[chord], struck_s
        lines = [_fitted(x[both], y[both], 2)]
        lines += [_fitted(x[side], y[side], 1) for side in (before, after) if side.size > 2]
        return cls(tuple(lines), lines[0].due_s, lines[0].slope)

    def share_of_allowed(self, played_s: float) -> float:
        """How far off the flow a moment is, as a share of what is still in time.

        0 where one line says late and another early: the flow turns here.
        """
        off_s = [played_s - line.due_s for line in self.lines]
        if not off_s or min(off_s) < 0 < max(off_s):
            return 0.0
        shares = [abs(off) / line.allowed_s for off, line in zip(off_s, self.lines, strict=True)]
        return min([shares[0], *(share / ONE_SIDED for share in shares[1:])])


def _fitted(x: NDArray[np.float64], y: NDArray[np.float64], degree: int) -> _Line:
    """The robust curve through ``(x, y)``, weighted towards ``x = 0``, where it is asked."""
    reach = np.abs(x).max()
    near = (1.0 - (np.abs(x) / (1.3 * reach)) ** 3) ** 3
    powers = (x[:, None] / reach) ** np.arange(degree + 1)
    slope = float(np.median(np.diff(y) / np.diff(x)))
    left_s = y - slope * x
    left_s -= np.median(left_s)
    for _ in range(TURNS):
        limit_s = TUKEY * max(SPREAD_OF_MEDIAN * float(np.median(np.abs(left_s))), LEAST_SPREAD_S)
        weight = near * np.clip(1.0 - (left_s / limit_s) ** 2, 1e-3, 1.0) ** 2
        inverse = np.linalg.inv((powers * weight[:, None]).T @ powers + 1e-9 * np.eye(degree + 1))
        curve = inverse @ (powers.T @ (weight * y))
        left_s = y - powers @ curve
    spread_s = max(SPREAD_OF_MEDIAN * float(np.median(np.abs(left_s))), LEAST_SPREAD_S)
    unsure = float(np.sqrt(1.0 + inverse[0, 0]))
    allowed_s = max(OUT_OF_TIME_S, SPREADS * spread_s * unsure)
    return _Line(float(curve[0]), float(curve[1]) / reach, allowed_s)
