"""Following: which chord of the score each note belongs to, and where the player is between notes.

Many ways through the score are kept at once, each with its own tempo; every note lengthens
them, and the likeliest tells the position. It is the forward half of Viterbi's search in a
hidden semi-Markov model whose states are chords, after Raphael ("Automatic segmentation of
acoustic musical signals using hidden Markov models", PAMI 1999) and Nakamura et al.
("Real-time audio-to-score alignment of music performances containing errors and arbitrary
repeats and skips", TASLP 2016), on notes in place of sound. A note either

* belongs to the chord that is sounding, and comes soon after its other notes;
* begins one of the next chords, at about the time that the tempo foretells;
* is a slip, an ornament or a latecomer, and changes nothing;
* or begins somewhere else altogether: a repeat, a jump, a fresh start.

Each has its price, in natural logarithms of its odds against a right note in time, so a jump
is believed once going on would have cost more. Where the score has a repeat sign, an ending or a
*da capo*, both ways on are expected; a repeat needs no sign, but is then a jump like another.

The tempo is a Kalman filter on the logarithm of seconds played per second written, one for
each way; a chord heard is a measurement, and long intervals tell more than short ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.following.position import Position
from edge.following.score import LONGEST_STEP, FollowedScore
from edge.note import NoteEvent

# Prices are in nats, against a right note in time. They, the spreads and the shares were set by
# reasoning and checked on scores that may train (``python -m benchmarks.practising``), not swept.
# Failures in ``asap_dev`` and ``vienna4x22`` showed which of them were wrong: figures on those
# two are not of unseen music.

WAYS_KEPT = 160
WORST_KEPT = 40.0
"""A way this much worse than the best does not come back."""

SLIP_COST = 5.0
NEAR_COST = 3.5
"""A note that is written nowhere near, and one that is an ornament or a latecomer."""
JUMP_COST = 27.0
JUMP_TO_BAR_COST = 24.0
"""Five or six notes that fit nowhere here prove a jump; players begin with a bar, mostly."""
SIGN_COST = 0.7
"""For going where a repeat sign leads, half as likely as straight on. From 0.7 to 2 nothing changes
(``python -m benchmarks.practising``); at 0 the straight way is left too easily, at 4 too late."""
SHORT_JUMP_COST = 7.0
SHORT_JUMP_S = 2.0
"""Losing one's place by a beat or two, or another hand coming in, is likelier than a jump."""
AWAY_FROM_START_COST = 3.0
FAR_FROM_START_COST = 8.0
"""For each quarter between the first note and where the player was thought to begin, or the
beginning of the piece; and the most, for a theme that comes back is easily taken for its twin."""
IN_THE_MIDDLE_COST = 2.5
"""Players begin at the beginning, mostly: it wins over a place that is written alike."""
SKIP_COST = 0.8
SKIPPED_NOTE_COST = 1.0
MOST_SKIP_COST = 4.0
"""For a chord of which nothing is heard: more for a fuller one, which is harder to miss."""
UNHURRIED_S = 0.12
HURRIED_SHARE = 0.3
"""Trills and runs, whose notes are written closer than this, cost less to miss."""
INCOMPLETE_COST = 1.0
"""For leaving a chord with none of its notes heard; less where some were."""
SPREAD_S = 0.06
SPREAD_COST = 3.0
"""A chord's next note costs 1 for each ``SPREAD_S`` after the one before, and no more than this."""
TIMING_COST = 4.0
"""The most that a chord out of time costs: less than a slip, or a fermata would be one."""
HAND_S = 0.03
HAND_SHARE = 0.12
"""How far a chord lies off its foretold time: the hands' own (Goebl's 30 ms), and a share of
the interval."""

TEMPO_UNKNOWN = 0.4
TEMPO_AFTER_JUMP = 0.04
TEMPO_DRIFT = 0.01
"""Variance of the logarithm of the tempo: at first, after a jump, and gained in a second."""
MEASURED_SHARE = 0.15
"""Deviation of one interval from the tempo, as a share, beside the hands' own."""
SLOWEST, FASTEST = math.log(3.5), -math.log(3.5)
"""Bounds of the logarithm of seconds played per second written."""

FIT_WEIGHT = 0.1
"""Of the newest note: the fit looks back over some ten."""
FIT_UNKNOWN = 0.4
FIT_AT_START = 0.8
FIT_AFTER_JUMP = 0.35
"""With how much trust a way begins: anywhere, where the player was expected, after a jump."""
FIT_LOST = 0.5
MARGIN_NATS = 2.0
"""Seven to one: odds over another place from which on the fit alone is the confidence."""
ELSEWHERE_S = 1.5
WAITED_S = 2.0
"""A step through the score longer than a short jump and this is no going on."""

NEVER_S = 1e9
LONGEST_REST_S = 8.0
"""The position goes on through a rest of the score, but not for longer than this."""


@dataclass(frozen=True, slots=True)
class _Ways:
    """Ways through the score, best first; every array has shape (ways,).

    ``chord`` is where each has come to, ``begun_s`` when that chord's first note was struck
    and ``last_s`` its last; ``slowness`` is the logarithm of seconds played per second written,
    and ``unsure`` its variance; ``low`` and ``high`` are the keys of the chord that have been
    heard; ``odds`` is the logarithm of how likely the way is, ``fit`` how well its last notes
    fitted (0 to 1).
    """

    chord: NDArray[np.int64]
    begun_s: NDArray[np.float64]
    last_s: NDArray[np.float64]
    slowness: NDArray[np.float64]
    unsure: NDArray[np.float64]
    low: NDArray[np.uint64]
    high: NDArray[np.uint64]
    odds: NDArray[np.float64]
    fit: NDArray[np.float64]

    def columns(self) -> tuple[NDArray[Any], ...]:
        return (
            self.chord,
            self.begun_s,
            self.last_s,
            self.slowness,
            self.unsure,
            self.low,
            self.high,
            self.odds,
            self.fit,
        )


@dataclass(frozen=True, slots=True)
class _SignedSteps:
    """The steps that repeat signs allow, by the chord that they lead from; shape (steps,) each.

    ``written_s`` is the time between the two chords on this way, ``cost`` its price, with that
    of the chords that are skipped before the sign and after it.
    """

    start: NDArray[np.int64]
    chord: NDArray[np.int64]
    written_s: NDArray[np.float64]
    cost: NDArray[np.float64]

    @classmethod
    def of_score(cls, score: FollowedScore, skipped: NDArray[np.float64]) -> _SignedSteps:
        """All of them; ``skipped`` are the prices of all chords before each."""
        before, after = np.nonzero(np.tri(LONGEST_STEP, dtype=np.bool_)[::-1])
        left, taken = score.repeat_chord[:, :1], score.repeat_chord[:, 1:]
        start, chord = (left - 1 - before).ravel(), (taken + after).ravel()
        inside = (start >= 0) & np.isfinite(score.onset_s[start] + score.onset_s[chord])
        order = np.flatnonzero(inside)[np.argsort(start[inside], kind="stable")]
        sign, start, chord = order // before.size, start[order], chord[order]
        left, taken = score.repeat_chord[sign].T
        until_s, from_s = score.repeat_s[sign].T
        return cls(
            start,
            chord,
            until_s - score.onset_s[start] + score.onset_s[chord] - from_s,
            SIGN_COST + skipped[left] - skipped[start + 1] + skipped[chord] - skipped[taken],
        )

    def of_chords(self, chord: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Which of these chords (by their place among them) may take which of the steps."""
        first = np.searchsorted(self.start, chord)
        count = np.searchsorted(self.start, chord, side="right") - first
        way = np.repeat(np.arange(chord.size), count)
        return way, np.arange(way.size) + np.repeat(first - np.cumsum(count) + count, count)


class Follower:
    """Follows one player through one piece.

    Parameters
    ----------
    score : FollowedScore
    start_quarters : float, optional
        Where the player is thought to begin (the identification's place); without it the
        whole piece is looked through.
    latency_s : float
        How long after it sounded a note is told: for so long the player may have been past a
        chord that has not been heard.
    """

    def __init__(
        self,
        score: FollowedScore,
        start_quarters: float | None = None,
        latency_s: float = 0.0,
    ) -> None:
        self._score = score
        self._start_quarters = start_quarters
        self._latency_s = latency_s
        self._steps = np.arange(1, LONGEST_STEP + 1)
        skipped = np.minimum(SKIP_COST + SKIPPED_NOTE_COST * score.sizes, MOST_SKIP_COST)
        written_s = np.minimum(score.onset_s, NEVER_S)  # the empty chords between strands
        wait_s = np.diff(written_s, append=NEVER_S)
        skipped *= np.clip(wait_s / UNHURRIED_S, HURRIED_SHARE, 1.0)
        self._skipped = np.concatenate(([0.0], np.cumsum(skipped)[:-1]))
        self._signed = _SignedSteps.of_score(score, self._skipped)
        self._last_of_state = np.zeros(score.onset_s.size, dtype=np.int64)
        self.reset()

    def reset(self) -> None:
        """Forget what was played."""
        self._ways: _Ways | None = None
        self._heard_s = 0.0
        self._settled = self._start_quarters is not None

    def push(self, note: NoteEvent) -> Position:
        """Take one confirmed note, in order of onset, and say where the player is.

        A note that comes out of order counts as played with the one before.
        """
        self._heard_s = max(self._heard_s, note.onset_s)
        if self._ways is None:
            found = self._anywhere(note.pitch_midi)
        else:
            found = self._onward(self._ways, note.pitch_midi)
        if found is not None:
            before, self._ways = self._ways, self._best_of_each_chord(found)
            self._settled = self._still_settled(before, self._ways)
        return self.position_at(self._heard_s)

    def position_at(self, t_s: float) -> Position:
        """Where the player is at a moment at or after the last note.

        Between notes the position goes on in tempo, but not past the next written chord:
        while that is not heard, though it would have been, the player has not come to it.
        """
        score, ways = self._score, self._ways
        if ways is None:
            return self._nowhere(t_s)
        chord, begun_s = int(ways.chord[0]), float(ways.begun_s[0])
        slowness = math.exp(float(ways.slowness[0]))
        at_s = float(score.onset_s[chord])
        wait_s = min(max(float(score.onset_s[chord + 1]) - at_s, 0.0), LONGEST_REST_S)
        until_s = begun_s + wait_s * slowness + self._latency_s
        at_s += max(min(t_s, until_s) - begun_s, 0.0) / slowness
        quarters = score.quarters_at(at_s)
        quarters_per_s = score.quarters_per_s_at(at_s) / slowness
        bar, beat, beat_quarters = score.bar_and_beat(quarters)
        confidence = float(ways.fit[0]) * (1.0 if self._settled else self._margin(ways))
        return Position(
            t_s=t_s,
            quarters=quarters,
            bar=bar,
            beat=beat,
            tempo_bpm=60.0 * quarters_per_s / beat_quarters,
            tempo_ratio=1 / slowness,
            confidence=confidence,
            lost=confidence < FIT_LOST,
            piece_id=score.piece_id,
            quarters_per_s=quarters_per_s,
            until_s=max(until_s, t_s),
            beats_in_bar=score.beats_in_bar_at(quarters),
        )

    def _nowhere(self, t_s: float) -> Position:
        """Before the first note: the beginning, and lost."""
        bar, beat, _ = self._score.bar_and_beat(0.0)
        return Position(
            t_s, 0.0, bar, beat, 0.0, 1.0, 0.0, True, self._score.piece_id, 0.0, t_s, None
        )

    def _still_settled(self, before: _Ways | None, now: _Ways) -> bool:
        """Whether the place is known: once surely found, it is kept until the best way leaves."""
        if self._settled and before is not None:
            onset_s = self._score.onset_s
            was, came = int(before.chord[0]), int(now.chord[0])
            straight_s = float(onset_s[came] - onset_s[was])
            by_sign_s = self._score.by_sign_s(was, came, SHORT_JUMP_S + WAITED_S)
            if any(-SHORT_JUMP_S < s < SHORT_JUMP_S + WAITED_S for s in (straight_s, by_sign_s)):
                return float(now.fit[0]) > FIT_AFTER_JUMP
        if before is None:
            return self._settled and float(now.fit[0]) > FIT_UNKNOWN
        return float(now.fit[0]) * self._margin(now) > FIT_LOST

    def _margin(self, ways: _Ways) -> float:
        """How much likelier the best way is than one that is elsewhere; 0 to 1."""
        at_s = self._score.onset_s[ways.chord]
        elsewhere = np.abs(at_s - at_s[0]) > ELSEWHERE_S
        if not elsewhere.any():
            return 1.0
        return min(1.0, float(ways.odds[0] - ways.odds[elsewhere].max()) / MARGIN_NATS)

    def _anywhere(self, pitch: int) -> _Ways | None:
        """Every chord with this note, as the first one."""
        chord = self._score.chords_of_pitch[pitch]
        if chord.size == 0:
            return None
        odds, fit = np.zeros(chord.size), FIT_UNKNOWN
        if self._start_quarters is not None:
            quarters = self._score.onset_quarters[chord]
            away = AWAY_FROM_START_COST * np.abs(quarters - self._start_quarters)
            away = np.minimum(away + IN_THE_MIDDLE_COST, AWAY_FROM_START_COST * quarters)
            odds -= np.minimum(away, FAR_FROM_START_COST)
            fit = FIT_AT_START if float(odds.max()) > -SHORT_JUMP_COST else FIT_UNKNOWN
        return self._begun(chord, pitch, odds, 0.0, TEMPO_UNKNOWN, fit)

    def _begun(
        self,
        chord: NDArray[np.int64],
        pitch: int,
        odds: NDArray[np.float64],
        slowness: float,
        unsure: float,
        fit: float,
    ) -> _Ways:
        low, high = _bits(pitch)
        return _Ways(
            chord,
            np.full(chord.size, self._heard_s),
            np.full(chord.size, self._heard_s),
            np.full(chord.size, slowness),
            np.full(chord.size, unsure),
            np.full(chord.size, low),
            np.full(chord.size, high),
            odds,
            np.full(chord.size, fit),
        )

    def _onward(self, ways: _Ways, pitch: int) -> _Ways:
        """All that the note may mean for every way."""
        parts = (
            self._same_chord(ways, pitch),
            self._next_chords(ways, pitch),
            self._elsewhere(ways, pitch),
        )
        columns = zip(*(part.columns() for part in parts), strict=True)
        return _Ways(*(np.concatenate(each) for each in columns))

    def _same_chord(self, ways: _Ways, pitch: int) -> _Ways:
        """The note belongs to the chord that sounds, or to nothing."""
        low, high = _bits(pitch)
        spread_s = self._heard_s - ways.last_s
        fresh = ((ways.low & low) | (ways.high & high)) == 0
        fresh &= self._score.held[ways.chord, pitch]
        belongs = np.where(fresh, -np.minimum(spread_s / SPREAD_S, SPREAD_COST), -np.inf)
        strange = np.where(self._score.near[ways.chord, pitch], -NEAR_COST, -SLIP_COST)
        right = belongs >= strange
        gain = np.where(right, belongs, strange)
        return _Ways(
            ways.chord,
            ways.begun_s,
            np.where(right, self._heard_s, ways.last_s),
            ways.slowness,
            ways.unsure,
            np.where(right, ways.low | low, ways.low),
            np.where(right, ways.high | high, ways.high),
            ways.odds + gain,
            _refitted(ways.fit, gain),
        )

    def _next_chords(self, ways: _Ways, pitch: int) -> _Ways:
        """The note begins one of the next chords, straight on or where a repeat sign leads."""
        score = self._score
        reached = ways.chord[:, None] + self._steps
        way, step = np.nonzero(score.held[reached, pitch])
        start, chord = ways.chord[way], reached[way, step]
        written_s = score.onset_s[chord] - score.onset_s[start]
        cost = self._skipped[chord] - self._skipped[start + 1]
        signed_way, signed = self._signed.of_chords(ways.chord)
        if signed.size:
            fits = score.held[self._signed.chord[signed], pitch]
            signed_way, signed = signed_way[fits], signed[fits]
            way = np.concatenate((way, signed_way))
            start = ways.chord[way]
            chord = np.concatenate((chord, self._signed.chord[signed]))
            written_s = np.concatenate((written_s, self._signed.written_s[signed]))
            cost = np.concatenate((cost, self._signed.cost[signed]))
        slowness, unsure = ways.slowness[way], ways.unsure[way]
        played_s = np.maximum(self._heard_s - ways.begun_s[way], 1e-3)
        foretold_s = written_s * np.exp(slowness)
        spread_s2 = HAND_S**2 + (HAND_SHARE**2 + unsure) * foretold_s**2
        off2 = (played_s - foretold_s) ** 2 / spread_s2
        gain = -np.minimum(1.5 * np.log1p(off2 / 4.0), TIMING_COST)
        gain -= cost
        heard = np.bitwise_count(ways.low[way]) + np.bitwise_count(ways.high[way])
        gain -= INCOMPLETE_COST * (1.0 - heard / score.sizes[start])
        # The tempo: a chord in time is a measurement, one far out of it is a fermata.
        measured = np.log(played_s / np.maximum(written_s, 1e-3)) - slowness
        noise = MEASURED_SHARE**2 + (HAND_S / np.maximum(foretold_s, 1e-3)) ** 2
        noise *= 1.0 + off2 / 4.0
        unsure = np.minimum(unsure + TEMPO_DRIFT * played_s, TEMPO_UNKNOWN)
        trust = unsure / (unsure + noise)
        low, high = _bits(pitch)
        return _Ways(
            chord,
            np.full(chord.size, self._heard_s),
            np.full(chord.size, self._heard_s),
            np.minimum(np.maximum(slowness + trust * measured, FASTEST), SLOWEST),
            unsure * (1.0 - trust),
            np.full(chord.size, low),
            np.full(chord.size, high),
            ways.odds[way] + gain,
            _refitted(ways.fit[way], gain),
        )

    def _elsewhere(self, ways: _Ways, pitch: int) -> _Ways:
        """The note begins anew at some other place."""
        score = self._score
        chord = score.chords_of_pitch[pitch]
        cost = np.where(score.begins_bar[chord], JUMP_TO_BAR_COST, JUMP_COST)
        gone_s = (self._heard_s - float(ways.begun_s[0])) / math.exp(float(ways.slowness[0]))
        near_s = float(score.onset_s[ways.chord[0]]) + min(gone_s, SHORT_JUMP_S)
        cost[np.abs(score.onset_s[chord] - near_s) < SHORT_JUMP_S] = SHORT_JUMP_COST
        unsure = max(float(ways.unsure[0]), TEMPO_AFTER_JUMP)
        slowness = float(ways.slowness[0])
        return self._begun(chord, pitch, ways.odds[0] - cost, slowness, unsure, FIT_AFTER_JUMP)

    def _best_of_each_chord(self, found: _Ways) -> _Ways:
        """Ways that have met go on as the better one; the best are kept, the best first."""
        worst = float(found.odds.max()) - WORST_KEPT
        order = np.flatnonzero(found.odds > worst)
        order = order[np.argsort(found.odds[order], kind="stable")]
        self._last_of_state[found.chord[order]] = order
        order = order[self._last_of_state[found.chord[order]] == order][::-1][:WAYS_KEPT]
        kept = _Ways(*(column[order] for column in found.columns()))
        return replace(kept, odds=kept.odds - kept.odds[0])


def _bits(pitch: int) -> tuple[np.uint64, np.uint64]:
    """A key as the bits of the two words of a chord."""
    bit, none = np.uint64(1 << (pitch % 64)), np.uint64(0)
    return (none, bit) if pitch >= 64 else (bit, none)


def _refitted(fit: NDArray[np.float64], gain: NDArray[np.float64]) -> NDArray[np.float64]:
    return fit + FIT_WEIGHT * (np.exp(gain / 3.0) - fit)


def follow(
    score: FollowedScore, notes: Sequence[NoteEvent], start_quarters: float | None = None
) -> list[Position]:
    """Where the player was at each note, known from it and those before.

    Parameters
    ----------
    score : FollowedScore
    notes : NoteEvents
        In any order.
    start_quarters : float, optional
        See :class:`Follower`.

    Returns
    -------
    list of Position
        One for each note, in order of onset and pitch.
    """
    follower = Follower(score, start_quarters)
    ordered = sorted(notes, key=lambda note: (note.onset_s, note.pitch_midi))
    return [follower.push(note) for note in ordered]
