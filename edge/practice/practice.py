"""Practice: notes and places go in while the player plays, verdicts come out bar by bar.

The follower says where each note was played; here the goes at the music are told apart (a jump,
a restart, a long pause begins another *take*), and a bar is judged once it is surely over: when
a few chords of what comes after it have been heard for a second. What depends on a later note
waits for it, so the answer does not depend on how the notes came in.

A jump is believed late by the follower, a few notes after it was made. Those notes are given to
the new place afterwards: the moment of the jump is where the old place fits the notes before it,
and the new one those after it, best.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edge.following.follower import follow
from edge.following.position import Position
from edge.following.score import FollowedScore
from edge.note import NoteEvent
from edge.practice.alignment import NONE
from edge.practice.expected import ExpectedNotes
from edge.practice.judging import ASKED_BEFORE_S, Passage, Struck, laid_out, verdicts
from edge.practice.timing import STRETCH_S
from edge.practice.verdict import BarFeedback, Finding

SURELY_OVER_CHORDS = 4
SURELY_OVER_S = 1.0
"""A bar is over when so many later chords were begun, and the first of them so long ago."""

PAUSE_S = 6.0
"""After a silence of this length a player begins anew, wherever that is."""

BACK_S = 0.4
FORWARD_S = 2.0
"""Going back this far as written is a restart; forward, more than the time allows, a jump."""

RAN_AHEAD_S = 2.0
STEADY_S, STEADY_SHARE = 0.1, 0.1
"""For so long the follower may be ahead; the true place is then this near to a steady tempo's."""

FEWEST_ELSEWHERE = 3
"""Notes that belong together somewhere else, and prove that the player is there."""

LOOK_BACK_NOTES = 24
"""So late, at most, is a jump found out."""
FITS_WITHIN_S = 0.4
FITS_SHARE = 0.2
"""A note fits a place that is reckoned back to, if it is written this near; less surely further
back."""

CONTEXT_S = STRETCH_S + 1.0
"""Played before a bar, and looked at to judge it."""


@dataclass(slots=True)
class _Take:
    """One go at the music: its notes, which written one each surely is, and what was told."""

    number: int
    notes: list[NoteEvent] = field(default_factory=list)
    place: list[int] = field(default_factory=list)
    spent: list[bool] = field(default_factory=list)
    known: dict[int, int] = field(default_factory=dict)
    anchors: list[int] = field(default_factory=list)
    """Notes with a place, in order."""
    bar: int = 0
    """The bar to be judged next."""

    def end_before(self, split: int) -> None:
        """The notes from ``split`` on belong to the next take."""
        del self.notes[split:], self.place[split:], self.spent[split:]
        self.anchors = [each for each in self.anchors if each < split]
        # Before it was found out, the first notes elsewhere may have met one further on here.
        while len(self.anchors) > 1 and self._skips_to_last():
            self.place[self.anchors.pop()] = NONE

    def _skips_to_last(self) -> bool:
        """Whether written notes lie between the last two places that were not played."""
        before, last = (self.place[each] for each in self.anchors[-2:])
        return any(note not in self.place for note in range(before + 1, last))


@dataclass(frozen=True, slots=True)
class _Elsewhere:
    """A note that the follower places where going on does not lead.

    ``at`` is the played note, ``place`` the written one there, ``here`` the written one that it
    would be where going on leads; -1 for none.
    """

    at: int
    place: int
    here: int


class Practice:
    """Compares one player with one piece.

    Parameters
    ----------
    expected : ExpectedNotes
    """

    def __init__(self, expected: ExpectedNotes) -> None:
        self._expected = expected
        onset = expected.onset_quarters
        starts = np.flatnonzero(np.diff(onset, prepend=-np.inf) > 0)
        self._chord_quarters = onset[starts]
        self._chord_starts = np.append(starts, onset.size)
        self.reset()

    def reset(self) -> None:
        """Forget what was played."""
        self._take: _Take | None = None
        self._takes = 0
        self._loose: list[NoteEvent] = []
        self._elsewhere: list[_Elsewhere] = []
        self._heard_s = -np.inf

    def push(self, note: NoteEvent, position: Position) -> list[BarFeedback]:
        """Take one confirmed note, in order of onset, and where the follower says it was played.

        Returns
        -------
        list of BarFeedback
            The bars that are over with it.
        """
        told = self.advance(note.onset_s)
        self._heard_s = max(self._heard_s, note.onset_s)
        place = self._surely(note, position)
        if self._take is None:
            self._loose.append(note)
            if place != NONE:
                told += self._begin_if_proved(len(self._loose) - 1, place, position)
            return told
        take = self._take
        take.notes.append(note)
        take.place.append(NONE)
        take.spent.append(False)
        if place == NONE:
            return told
        if self._goes_on(take, note, place, position):
            take.place[-1] = place
            take.anchors.append(len(take.notes) - 1)
            self._elsewhere.clear()
            return told + self._bars_over(take)
        return told + self._begin_if_proved(len(take.notes) - 1, place, position)

    def advance(self, now_s: float) -> list[BarFeedback]:
        """Time goes on to ``now_s``, seconds of the stream; after a long silence a take is over."""
        return self.flush() if now_s - self._heard_s > PAUSE_S else []

    def flush(self) -> list[BarFeedback]:
        """Nothing comes any more: judge what was played so far."""
        told = self._finish()
        self._loose, self._elsewhere = [], []
        return told

    # ---- where the player is

    def _surely(self, note: NoteEvent, position: Position) -> int:
        """The written note of the chord that the follower names with this key; -1 for none."""
        if position.lost:
            return NONE
        chord = int(np.searchsorted(self._chord_quarters, position.quarters + 1e-6)) - 1
        if chord < 0:
            return NONE
        start, end = self._chord_starts[chord : chord + 2]
        keys = np.flatnonzero(self._expected.pitch_midi[start:end] == note.pitch_midi)
        return int(start + keys[0]) if keys.size else NONE

    def _goes_on(self, take: _Take, note: NoteEvent, place: int, position: Position) -> bool:
        """Whether the place is one that going on leads to.

        The follower may have run ahead and come back: then it is the place that the anchors
        before tell, and those in between were none.
        """
        last_s = take.notes[take.anchors[-1]].onset_s
        for count in range(len(take.anchors), 0, -1):
            anchor = take.anchors[count - 1]
            ahead_s = self._written_s(place) - self._written_s(take.place[anchor])
            time_s = (note.onset_s - take.notes[anchor].onset_s) * position.tempo_ratio
            is_last = count == len(take.anchors)
            if is_last and -BACK_S < ahead_s < time_s + FORWARD_S:
                return True
            if last_s - take.notes[anchor].onset_s > RAN_AHEAD_S:
                return False
            if abs(ahead_s - time_s) < STEADY_S + STEADY_SHARE * time_s:
                for mistaken in take.anchors[count:]:
                    take.place[mistaken] = NONE
                del take.anchors[count:]
                return True
        return False

    def _written_s(self, note: int) -> float:
        return float(self._expected.onset_s[note])

    def _begin_if_proved(self, at: int, place: int, position: Position) -> list[BarFeedback]:
        """Take up a note that is elsewhere; a new take begins once enough of them prove it.

        What would be right here as well proves nothing: of two like bars, the follower may have
        taken the other.
        """
        notes = self._loose if self._take is None else self._take.notes
        if self._elsewhere:
            before = self._elsewhere[-1]
            ahead_s = self._written_s(place) - self._written_s(before.place)
            time_s = (notes[at].onset_s - notes[before.at].onset_s) * position.tempo_ratio
            if not -BACK_S < ahead_s < time_s + FORWARD_S:
                self._elsewhere.clear()
        here = NONE if self._take is None else self._right_here(self._take, at, position)
        self._elsewhere.append(_Elsewhere(at, place, here))
        if sum(each.here == NONE for each in self._elsewhere) < FEWEST_ELSEWHERE:
            return []
        elsewhere, self._elsewhere = self._elsewhere, []
        split, fitting = self._jumped_at(notes, elsewhere, position.tempo_ratio)
        begun = _Take(self._takes, notes[split:])
        begun.spent = [False] * len(begun.notes)
        begun.place = [fitting.get(number, NONE) for number in range(split, len(notes))]
        begun.anchors = [number for number, each in enumerate(begun.place) if each != NONE]
        told = []
        if self._take is not None:
            self._take.end_before(split)
            told = self._finish()
            begun.number = self._takes
        first = min(place for place in begun.place if place != NONE)
        begun.bar = int(self._expected.bar[first])
        self._take, self._loose = begun, []
        return told + self._bars_over(begun)

    def _right_here(self, take: _Take, at: int, position: Position) -> int:
        """The written note that a played one would be, had the player gone on; or -1."""
        known = [(take.anchors[-1], take.place[take.anchors[-1]])]
        known += [(each.at, each.here) for each in self._elsewhere if each.here != NONE]
        last, place = known[-1]
        ahead_s = (take.notes[at].onset_s - take.notes[last].onset_s) * position.tempo_ratio
        at_s = self._written_s(place) + ahead_s
        near_s = FITS_WITHIN_S + FITS_SHARE * ahead_s
        low, high = np.searchsorted(self._expected.onset_s, (at_s - near_s, at_s + near_s))
        pitch = take.notes[at].pitch_midi
        keys = low + np.flatnonzero(self._expected.pitch_midi[low:high] == pitch)
        off_s = np.abs(self._expected.onset_s[keys] - at_s)
        return int(keys[np.argmin(off_s)]) if keys.size else NONE

    def _jumped_at(
        self, notes: Sequence[NoteEvent], elsewhere: Sequence[_Elsewhere], tempo_ratio: float
    ) -> tuple[int, dict[int, int]]:
        """The first note at the new place; and the written notes that are surely played there."""
        take = self._take
        first, place = elsewhere[0].at, elsewhere[0].place
        fitting = {each.at: each.place for each in elsewhere}
        earliest = 0
        if take is not None:
            earliest = max(0, first - LOOK_BACK_NOTES)
            while earliest < first and any(take.spent[earliest:first]):
                earliest += 1
        gain, best_gain, split = 0.0, 0.0, first
        known = set() if take is None else set(take.anchors)
        found: dict[int, int] = {}
        from_s = notes[first].onset_s
        for number in range(first - 1, earliest - 1, -1):
            note, fit = self._reckoned(notes[number], from_s, place, tempo_ratio)
            old = 1.0 if number in known else 0.0 if take is not None else 0.5
            if note != NONE:
                found[number] = note
                from_s, place = notes[number].onset_s, note
            gain += fit - old
            if note != NONE and gain >= best_gain - 1e-6:
                best_gain, split = gain, number
        placed = {number: note for number, note in found.items() if number >= split}
        return split, placed | fitting

    def _reckoned(
        self, note: NoteEvent, from_s: float, place: int, tempo_ratio: float
    ) -> tuple[int, float]:
        """The written note with this key where the player was, going on to ``place``, and how well
        it fits in time, 0 to 1; -1 and 0 where there is none."""
        expected = self._expected
        back_s = (from_s - note.onset_s) * tempo_ratio
        at_s = self._written_s(place) - back_s
        near_s = FITS_WITHIN_S + FITS_SHARE * back_s
        low, high = np.searchsorted(expected.onset_s, (at_s - near_s, at_s + near_s))
        high = min(int(high), place + 1)
        keys = low + np.flatnonzero(expected.pitch_midi[low:high] == note.pitch_midi)
        if keys.size == 0:
            return NONE, 0.0
        off_s = np.abs(expected.onset_s[keys] - at_s)
        return int(keys[np.argmin(off_s)]), max(1.0 - float(off_s.min()) / near_s, 0.0)

    # ---- judging

    def _bars_over(self, take: _Take) -> list[BarFeedback]:
        told = []
        expected = self._expected
        while take.bar + 1 < expected.bar_quarters.size:
            end = int(expected.bar_starts[take.bar + 1])
            later = [each for each in take.anchors if take.place[each] >= end]
            if not later or later[0] + SURELY_OVER_CHORDS > len(take.notes):
                break
            chords = {self._written_s(take.place[each]) for each in later}
            since_s = self._heard_s - take.notes[later[0]].onset_s
            if len(chords) < SURELY_OVER_CHORDS or since_s < SURELY_OVER_S:
                break
            told += self._judge(take, end)
        return told

    def _finish(self) -> list[BarFeedback]:
        """Judge what is left of the take, up to the last note that is surely in its place."""
        take, self._take = self._take, None
        if take is None:
            return []
        self._takes += 1
        told = []
        if take.anchors:
            until_s = max(self._written_s(take.place[each]) for each in take.anchors)
            end = int(np.searchsorted(self._expected.onset_s, until_s + 1e-6))
            while take.bar <= int(self._expected.bar[end - 1]):
                bar_end = int(self._expected.bar_starts[take.bar + 1])
                told += self._judge(take, min(bar_end, end), over=bar_end >= end)
        return told

    def _judge(self, take: _Take, end: int, over: bool = False) -> list[BarFeedback]:
        """Judge the next bar, whose notes end before ``end``; ``over``: the take ends with it."""
        expected, bar = self._expected, take.bar
        take.bar += 1
        start = int(expected.bar_starts[bar])
        if start >= end:
            return []
        window = self._window(take, start)
        struck = Struck(
            np.array([note.onset_s for note in take.notes[window:]]),
            np.array([note.pitch_midi for note in take.notes[window:]], dtype=np.int64),
            np.array([note.confidence for note in take.notes[window:]]),
        )
        place = np.array(take.place[window:], dtype=np.int64)
        spent = np.array(take.spent[window:], dtype=np.bool_)
        ratio = self._pace(take, window)
        low = int(np.searchsorted(expected.onset_s, self._written_s(start) - CONTEXT_S * ratio))
        high = end
        if place.max() != NONE:
            latest_s = self._written_s(int(place.max()))
            high = max(end, int(np.searchsorted(expected.onset_s, latest_s + 1e-6)))
        known = np.array(
            [take.known.get(number, NONE) - window for number in range(low, high)], dtype=np.int64
        )
        known[known < 0] = NONE
        if not ((place >= low) & ~spent).any() and not (known != NONE).any():
            return []
        passage = laid_out(expected, struck, place, (low, high), known, spent)
        number = np.arange(low, high)
        asked = (number >= start) & (number < end)
        asked &= passage.due_s >= take.notes[0].onset_s - ASKED_BEFORE_S
        last_s = passage.due_s[end - low] if end < high else np.inf
        until_s = struck.onset_s[place != NONE].max() + SAME_TAKE_S if over else last_s - HELD_S
        extra = ~spent & (struck.onset_s < until_s)
        findings, timed = verdicts(expected, struck, passage, asked, extra)
        self._settle(take, passage, window, asked, extra)
        return self._told(take, bar, passage, asked, findings, timed.slowness)

    def _window(self, take: _Take, start: int) -> int:
        """The first played note that is looked at to judge from the written note ``start`` on."""
        inside = [each for each in take.anchors if take.place[each] >= start]
        begun = take.notes[inside[0]].onset_s if inside else take.notes[-1].onset_s
        at_s = np.array([note.onset_s for note in take.notes])
        return int(np.argmax(at_s >= begun - CONTEXT_S))

    def _pace(self, take: _Take, window: int) -> float:
        """Written seconds per second played, about the window."""
        inside = [each for each in take.anchors if each >= window] or take.anchors[-1:]
        first, last = inside[0], inside[-1]
        played_s = take.notes[last].onset_s - take.notes[first].onset_s
        written_s = self._written_s(take.place[last]) - self._written_s(take.place[first])
        return max(written_s / played_s, 0.2) if played_s > 0 else 1.0

    def _settle(
        self,
        take: _Take,
        passage: Passage,
        window: int,
        asked: NDArray[np.bool_],
        extra: NDArray[np.bool_],
    ) -> None:
        """What was told stands: its notes are not told again."""
        for number in np.flatnonzero(asked):
            for each in (passage.answer[number], passage.slip[number]):
                if each != NONE:
                    take.spent[window + int(each)] = True
            if passage.answer[number] != NONE:
                take.known[passage.first + int(number)] = window + int(passage.answer[number])
        promised = set(passage.answer[passage.answer != NONE].tolist())
        promised |= set(passage.slip[passage.slip != NONE].tolist())
        for each in np.flatnonzero(extra):
            if int(each) not in promised:
                take.spent[window + int(each)] = True

    def _told(
        self,
        take: _Take,
        bar: int,
        passage: Passage,
        asked: NDArray[np.bool_],
        findings: list[Finding],
        slowness: NDArray[np.float64],
    ) -> list[BarFeedback]:
        if not findings:
            return []
        expected = self._expected
        slow = slowness[asked & np.isfinite(slowness) & (slowness > 0)]
        tempo_bpm = None
        if slow.size:
            tempo_bpm = 60.0 * self._quarters_per_s(bar) / float(np.median(slow))
            tempo_bpm /= float(expected.bar_beat_quarters[bar])
        begun_s = float(passage.due_s[np.flatnonzero(asked)[0]]) if asked.any() else findings[0].t_s
        return [
            BarFeedback(
                piece_id=expected.piece.piece_id,
                take=take.number,
                bar_index=bar,
                bar=int(expected.bar_number[bar]),
                t_s=begun_s,
                findings=tuple(findings),
                tempo_bpm=tempo_bpm,
            )
        ]

    def _quarters_per_s(self, bar: int) -> float:
        """The written tempo of a bar and its neighbours."""
        expected = self._expected
        bars = expected.bar_starts.size - 1
        low = int(expected.bar_starts[max(bar - 1, 0)])
        high = int(expected.bar_starts[min(bar + 2, bars)]) - 1
        length_s = float(expected.onset_s[high] - expected.onset_s[low])
        quarters = float(expected.onset_quarters[high] - expected.onset_quarters[low])
        return quarters / length_s if length_s > 0 else 1.0


SAME_TAKE_S = 0.6
"""So soon after the last right note of a take, a strange one still belongs to it."""
HELD_S = 0.2
"""A strange note this shortly before the next bar may be an early one of that."""


def practised(
    expected: ExpectedNotes,
    score: FollowedScore,
    notes: Iterable[NoteEvent],
    start_quarters: float | None = None,
) -> list[BarFeedback]:
    """All that a performance has to be told: every bar of every take.

    Parameters
    ----------
    expected, score
        The same piece.
    notes : NoteEvents
        In any order.
    start_quarters : float, optional
        Where the player is thought to begin; without it the whole piece is looked through.
    """
    ordered = sorted(notes, key=lambda note: (note.onset_s, note.pitch_midi))
    practice = Practice(expected)
    told = []
    for note, position in zip(ordered, follow(score, ordered, start_quarters), strict=True):
        told += practice.push(note, position)
    return told + practice.flush()
