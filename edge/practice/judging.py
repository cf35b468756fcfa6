"""A passage as it was played, against what is written: the verdict on each note.

Beyond the bare comparison there is what players do and no teacher would call a mistake:

* a hand that practises alone leaves the other one silent: a hand of which nothing is heard in a
  whole bar rests, and misses nothing; a bar that is left out altogether likewise;
* a trill, a turn or a mordent brings notes that are not written: quick ones, a tone at most from
  a written note that sounds;
* the bass, or a melody, is doubled in octaves throughout;
* a grace note is played or not, and on no clock.

And there is what an ear does. It hears octaves that are not there, and loses soft inner notes
under loud ones: such findings are kept, with a low confidence, and not told as the player's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.matching.score import Hand
from edge.practice.alignment import NONE, SAME_NOTE_S, TimeMap, same_keys, slips, time_map
from edge.practice.doubt import doubted
from edge.practice.expected import ExpectedNotes
from edge.practice.timing import Timing, timing
from edge.practice.verdict import Finding, Verdict

TOGETHER_S = 0.06
"""Notes this close were struck together."""

RESTING_SHARE = 0.15
FEWEST_OF_A_HAND = 3
"""A hand rests in a bar where it answers at most this share of at least so many notes."""

ORNAMENT_SEMITONES = 2
ORNAMENT_STEP_S = 0.2
ORNAMENT_BEFORE_S = 0.25
FEWEST_OF_AN_ORNAMENT = 2
"""An ornament has two notes or more that are not written, this near in time and to its note."""

FEWEST_ELSEWHERE = 5
"""So many notes in a row that are not written here are no slips: the player was elsewhere."""

FEWEST_DOUBLINGS = 3
OCTAVE = 12

GRACE_BEFORE_S = 0.08
"""Grace notes are struck about so long before their note (Timmers et al., "Timing of grace
notes", Psychological Research 2002, find 60 to 120 ms)."""

GRACE_WITHIN_S = 3.0

ASKED_BEFORE_S = 0.15
"""What was due so shortly before the first note of a take is asked for as well."""


@dataclass(frozen=True, slots=True)
class Struck:
    """Played notes; float64 and int64, shape (notes,).

    ``onset_s`` in seconds of the stream, ``confidence`` 0 to 1, the ear's; a keyboard's notes
    have 1.
    """

    onset_s: NDArray[np.float64]
    pitch_midi: NDArray[np.int64]
    confidence: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Passage:
    """Written and played notes laid against each other.

    Attributes
    ----------
    first, last : int
        Written notes ``first`` to ``last - 1`` of the score are in it.
    answer : int64, shape (last - first,)
        The played note of each, right key; -1 for none.
    slip : int64, shape (last - first,)
        The played note of each, wrong key; -1 for none.
    map : TimeMap
    due_s : float64, shape (last - first,)
        When each was due.
    """

    first: int
    last: int
    answer: NDArray[np.int64]
    slip: NDArray[np.int64]
    map: TimeMap
    due_s: NDArray[np.float64]


def laid_out(
    expected: ExpectedNotes,
    struck: Struck,
    place: NDArray[np.int64],
    written: tuple[int, int],
    known: NDArray[np.int64] | None = None,
    spent: NDArray[np.bool_] | None = None,
) -> Passage:
    """Lay the played notes of a passage against the written ones.

    Parameters
    ----------
    expected : ExpectedNotes
    struck : Struck
    place : int64, shape (played,)
        The written note that each surely is, as the follower told; -1 where it did not.
    written : (int, int)
        First written note of the passage, and the one after its last.
    known : int64, shape (written,), optional
        Answers that were given before and stand: played notes, -1 for none yet.
    spent : bool, shape (played,), optional
        Played notes that were told before.
    """
    first, last = written
    due_at = expected.onset_s[first:last]
    known = np.full(last - first, NONE) if known is None else known
    free = np.ones(struck.onset_s.size, dtype=np.bool_) if spent is None else ~spent
    stands = np.flatnonzero(known != NONE)
    told = np.flatnonzero((place >= first) & (place < last) & free)
    heard = time_map(
        np.concatenate((due_at[stands], expected.onset_s[place[told]])),
        np.concatenate((struck.onset_s[known[stands]], struck.onset_s[told])),
    )
    answer, mapped, cost = _answers(expected, struck, written, known, free, heard)
    if cost >= 1.0:
        # In a row of like chords the follower may have been one ahead: an even flow tells.
        other = _answers(expected, struck, written, known, free, heard.evened())
        if other[2] < cost:
            answer, mapped, _ = other
    due_s = mapped.played_at(due_at)
    free = free.copy()
    free[answer[answer != NONE]] = False
    left_written = np.flatnonzero((answer == NONE) & ~expected.grace[first:last])
    left_played = np.flatnonzero(free)
    slip = np.full(last - first, NONE)
    if left_written.size and left_played.size:
        found = slips(
            due_s[left_written],
            expected.pitch_midi[first:last][left_written],
            struck.onset_s[left_played],
            struck.pitch_midi[left_played],
        )
        slip[left_written] = np.where(found == NONE, NONE, left_played[found])
    return Passage(first, last, answer, slip, mapped, due_s)


def _answers(
    expected: ExpectedNotes,
    struck: Struck,
    written: tuple[int, int],
    known: NDArray[np.int64],
    free: NDArray[np.bool_],
    mapped: TimeMap,
) -> tuple[NDArray[np.int64], TimeMap, float]:
    """The played note of each written one, the better map that they make, and what is left over.

    The last is counted in notes, and in `SAME_NOTE_S` that notes lie off the others of their chord.
    """
    here = slice(*written)
    due_at, pitch, grace = expected.onset_s[here], expected.pitch_midi[here], expected.grace[here]
    open_written, open_played = np.flatnonzero(known == NONE), np.flatnonzero(free)
    answer = known.copy()
    for _ in range(2):
        found = same_keys(
            (mapped.played_at(due_at) - GRACE_BEFORE_S * grace)[open_written],
            pitch[open_written],
            struck.onset_s[open_played],
            struck.pitch_midi[open_played],
        )
        answer[open_written] = np.where(found == NONE, NONE, open_played[found])
        paired = np.flatnonzero((answer != NONE) & ~grace)
        if paired.size:
            mapped = time_map(due_at[paired], struck.onset_s[answer[paired]])
    left_over = np.count_nonzero((answer == NONE) & ~grace) + open_played.size
    left_over -= np.count_nonzero(answer[open_written] != NONE)
    off_s = np.abs(struck.onset_s[answer[paired]] - mapped.played_at(due_at[paired]))
    return answer, mapped, float(left_over) + float(off_s.sum()) / SAME_NOTE_S


def verdicts(
    expected: ExpectedNotes,
    struck: Struck,
    passage: Passage,
    asked: NDArray[np.bool_],
    extra: NDArray[np.bool_],
) -> tuple[list[Finding], Timing]:
    """Say what became of each written note that is asked for, and of the played ones left over.

    Parameters
    ----------
    expected : ExpectedNotes
    struck : Struck
    passage : Passage
    asked : bool, shape (written notes of the passage,)
    extra : bool, shape (played,)
        Which played notes are told as extra if nothing is written for them.

    Returns
    -------
    list of Finding
        In order of time.
    Timing
        Of the written notes of the passage that were answered, in their order; NaN and 0 for
        the others.
    """
    first, last = passage.first, passage.last
    answered = np.flatnonzero(passage.answer != NONE)
    timed = answered[~expected.grace[first:last][answered]]
    measured = timing(
        expected.onset_s[first:last][timed],
        struck.onset_s[passage.answer[timed]],
        expected.pitch_midi[first:last][timed],
        asked[timed],
    )
    delta_s = np.zeros(last - first)
    out_of_time = np.zeros(last - first, dtype=np.bool_)
    slowness = np.full(last - first, np.nan)
    delta_s[timed], out_of_time[timed] = measured.delta_s, measured.out_of_time
    slowness[timed] = measured.slowness
    asked = asked & ~_resting(expected, passage)
    found = []
    for number in np.flatnonzero(asked):
        note = first + int(number)
        answer, slip = int(passage.answer[number]), int(passage.slip[number])
        if answer != NONE:
            late = delta_s[number] > 0
            in_time = Verdict.LATE if late else Verdict.EARLY
            verdict = in_time if out_of_time[number] else Verdict.RIGHT
            known = bool(np.isfinite(slowness[number]))
            found.append(
                _finding(
                    expected, note, verdict, struck, answer, delta_s[number] if known else None
                )
            )
        elif slip != NONE:
            off_s = float(struck.onset_s[slip] - passage.due_s[number])
            found.append(_finding(expected, note, Verdict.WRONG, struck, slip, off_s))
        elif not expected.grace[note]:
            due_s = float(passage.due_s[number])
            found.append(_finding(expected, note, Verdict.MISSED, struck, None, None, due_s))
    taken = np.concatenate((passage.answer, passage.slip))
    over = extra.copy()
    over[taken[taken != NONE]] = False
    over &= ~_elsewhere(passage, struck.onset_s.size)
    excused = _ornaments(expected, struck, passage, over) | _doublings(struck, passage, over)
    excused |= _graces(expected, struck, passage, over)
    for each in np.flatnonzero(over & ~excused):
        found.append(_extra(expected, struck, passage, int(each)))
    found.sort(key=lambda finding: (finding.t_s, finding.expected_pitch_midi or 0))
    if np.any(struck.confidence < 1.0):  # a keyboard is sure of every note, an ear of none
        sure = {
            (float(at_s), int(pitch)): float(each)
            for at_s, pitch, each in zip(
                struck.onset_s, struck.pitch_midi, struck.confidence, strict=True
            )
        }
        ear = [sure.get((each.t_s, each.played_pitch_midi or 0), 1.0) for each in found]
        found = doubted(found, ear)
    return found, Timing(delta_s, out_of_time, slowness)


def _finding(
    expected: ExpectedNotes,
    note: int,
    verdict: Verdict,
    struck: Struck,
    played: int | None,
    delta_s: float | None,
    due_s: float = 0.0,
) -> Finding:
    bar = int(expected.bar[note])
    return Finding(
        verdict=verdict,
        note=note,
        bar_index=bar,
        bar=int(expected.bar_number[bar]),
        beat=expected.beat(note),
        hand=Hand(int(expected.hand[note])),
        expected_pitch_midi=int(expected.pitch_midi[note]),
        played_pitch_midi=None if played is None else int(struck.pitch_midi[played]),
        t_s=due_s if played is None else float(struck.onset_s[played]),
        delta_s=None if delta_s is None else float(delta_s),
    )


def _extra(expected: ExpectedNotes, struck: Struck, passage: Passage, played: int) -> Finding:
    """A note that is not written: where it was struck, by the hand that plays nearest."""
    at_s, pitch = struck.onset_s[played], int(struck.pitch_midi[played])
    here = slice(passage.first, passage.last)
    away = np.abs(passage.due_s - at_s) * 6.0 + np.abs(expected.pitch_midi[here] - pitch)
    nearest = passage.first + int(np.argmin(away))
    written_s = float(passage.map.written_at(np.array([at_s]))[0])
    quarters = float(np.interp(written_s, expected.onset_s[here], expected.onset_quarters[here]))
    bar = int(np.searchsorted(expected.bar_quarters, quarters + 1e-6, side="right")) - 1
    bar = max(bar, 0)
    beat = max(quarters - float(expected.bar_quarters[bar]), 0.0)
    return Finding(
        verdict=Verdict.EXTRA,
        note=None,
        bar_index=bar,
        bar=int(expected.bar_number[bar]),
        beat=1.0 + beat / float(expected.bar_beat_quarters[bar]),
        hand=Hand(int(expected.hand[nearest])),
        expected_pitch_midi=None,
        played_pitch_midi=pitch,
        t_s=float(at_s),
        delta_s=None,
    )


def _resting(expected: ExpectedNotes, passage: Passage) -> NDArray[np.bool_]:
    """Which written notes of the passage are of a hand that rests in their bar."""
    here = slice(passage.first, passage.last)
    hand, bar = expected.hand[here], expected.bar[here]
    answered = (passage.answer != NONE) | (passage.slip != NONE)
    rests = np.zeros(hand.size, dtype=np.bool_)
    for number in np.unique(bar):
        of_bar = bar == number
        left_out = np.count_nonzero(of_bar) > 1 and not answered[of_bar].any()
        for which in np.unique(hand[of_bar]):
            of_hand = (hand == which) & of_bar
            rests[of_hand] = left_out or _rests(answered, hand == which, np.abs(bar - number))
    return rests


def _rests(
    answered: NDArray[np.bool_], of_hand: NDArray[np.bool_], bars_away: NDArray[np.int64]
) -> bool:
    """Whether a hand rests in a bar; where it has too few notes there, they are looked for around.

    ``answered``, ``of_hand`` and ``bars_away`` are of the written notes of a passage.
    """
    for reach in range(int(bars_away.max()) + 1):
        here = answered[of_hand & (bars_away <= reach)]
        if here.size >= FEWEST_OF_A_HAND:
            return bool(here.mean() <= RESTING_SHARE)
    return not answered[of_hand].any()


def _elsewhere(passage: Passage, played: int) -> NDArray[np.bool_]:
    """Which notes stand in a row of which none is written: something else was played there."""
    strange = np.ones(played, dtype=np.bool_)
    for taken in (passage.answer, passage.slip):
        strange[taken[taken != NONE]] = False
    edges = np.flatnonzero(np.diff(np.concatenate(([False], strange, [False]))))
    rows = np.zeros(played, dtype=np.bool_)
    for begin, end in edges.reshape(-1, 2):
        rows[begin:end] = end - begin >= FEWEST_ELSEWHERE
    return rows


def _ornaments(
    expected: ExpectedNotes, struck: Struck, passage: Passage, over: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Which notes left over belong to a trill, a turn or a mordent."""
    excused = np.zeros(over.size, dtype=np.bool_)
    left = np.flatnonzero(over)
    if left.size < FEWEST_OF_AN_ORNAMENT:
        return excused
    written = np.flatnonzero(passage.answer != NONE)
    at_s = struck.onset_s[passage.answer[written]]
    pitch = expected.pitch_midi[passage.first : passage.last][written]
    onset = expected.onset_s[passage.first : passage.last][written]
    slow = (
        float(np.median(np.diff(passage.map.played_s) / np.diff(passage.map.written_s)))
        if passage.map.played_s.size > 1
        else 1.0
    )
    following = np.searchsorted(onset, onset + 1e-6)
    length_s = np.where(following < onset.size, onset[np.minimum(following, onset.size - 1)], onset)
    ends_s = at_s + np.maximum((length_s - onset) * slow, ORNAMENT_BEFORE_S)
    for key, begins_s, end_s in zip(pitch, at_s, ends_s, strict=True):
        near = np.abs(struck.pitch_midi[left] - key) <= ORNAMENT_SEMITONES
        near &= struck.onset_s[left] >= begins_s - ORNAMENT_BEFORE_S
        near &= struck.onset_s[left] <= end_s
        group = left[near]
        if group.size >= FEWEST_OF_AN_ORNAMENT:
            times_s = np.sort(np.append(struck.onset_s[group], begins_s))
            if np.diff(times_s).max() <= ORNAMENT_STEP_S:
                excused[group] = True
    return excused


def _graces(
    expected: ExpectedNotes, struck: Struck, passage: Passage, over: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Which notes left over are grace notes that take their time, as in a slow arpeggio."""
    open_grace = (passage.answer == NONE) & expected.grace[passage.first : passage.last]
    pitch = expected.pitch_midi[passage.first : passage.last][open_grace]
    away_s = np.abs(struck.onset_s[:, None] - passage.due_s[open_grace])
    same = struck.pitch_midi[:, None] == pitch
    excused: NDArray[np.bool_] = over & (same & (away_s <= GRACE_WITHIN_S)).any(axis=1)
    return excused


def _doublings(struck: Struck, passage: Passage, over: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which notes left over double written ones in octaves, if that is done throughout."""
    answered = passage.answer[passage.answer != NONE]
    left = np.flatnonzero(over)
    together = np.abs(struck.onset_s[left, None] - struck.onset_s[answered]) <= TOGETHER_S
    apart = struck.pitch_midi[left, None] - struck.pitch_midi[answered]
    doubled = (together & (np.abs(apart) == OCTAVE)).any(axis=1)
    excused = np.zeros(over.size, dtype=np.bool_)
    if np.count_nonzero(doubled) >= FEWEST_DOUBLINGS:
        excused[left[doubled]] = True
    return excused
