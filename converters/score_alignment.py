"""Proof-reading a score against another version of the same piece, note by note.

Two versions of one piece seldom begin on the same beat: one has the pickup in a full bar, one
counts in halves, one writes its repeats out, one a trill as notes. So the chords (notes of one
onset) are first laid side by side by a global alignment after Needleman and Wunsch (1970). A
gap costs its notes, but where only the other version has more, never more than a fixed price:
so a repeat written out is skipped, however long it is. Then the time between the versions is
fitted around each chord, and what still differs is told note by note: missing, extra, another
pitch, another onset, another duration.

Nothing is transposed: a note in another octave is a wrong note.

Run as a program it proof-reads the starter catalogue and writes its page::

    python -m converters.score_alignment scores/starter ../shared/data -o docs/starter-catalogue.md
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from edge.matching.score import Hand, Score

CHORD_QUARTERS = 1 / 24
"""Notes this close are one chord: less than the shortest written note of the catalogue (a
thirty-second, 1/8), more than what rounding to MIDI ticks moves."""

SKIP_PRICE = 6.0
"""What leaving out a passage of the other version costs at most, in the currency of
:func:`_likeness`, where a right note earns 2: three notes must be won by it."""

JUMP_QUARTERS = 2.5
"""A leap of this much between neighbouring chords is a passage left out, not extra notes."""

NEIGHBOURS = 4
"""Chords on either side that the time between the versions is fitted to: about a bar, so that
a fermata written out as time shifts what follows it and no more."""

ONSET_TOLERANCE_QUARTERS = 1 / 8
"""Onsets that differ by less are the same: half of a sixteenth, the finest step at which the
sequenced versions keep written time."""

SEARCH_QUARTERS = 1.0
"""How far away the same key may be struck and still be called the same note, played elsewhere."""

MARGIN_QUARTERS = 4.0
"""How far beyond the ends of a common passage the version is still searched for the partner of a
wrong note of ours: a bar of 4/4, the longest that a chord at the end may last."""

DURATION_RATIO = 2.0
"""Durations that differ by more than this factor are told. Sequenced versions play staccato at
half the written length and pedalled notes a little longer."""


class Kind(StrEnum):
    """How a note of the score and one of the version differ."""

    MISSING = "missing"
    EXTRA = "extra"
    PITCH = "other pitch"
    ONSET = "other onset"
    DURATION = "other duration"


@dataclass(frozen=True, slots=True)
class ScoreNote:
    """A written note: quarters from the score's start, MIDI pitch, and where the reader finds it.

    ``bar`` is the printed number, ``beat`` counts quarters from 1 within the bar. A grace note
    has a duration of 0.
    """

    onset_quarters: float
    duration_quarters: float
    pitch_midi: int
    bar: int = 0
    beat: float = 1.0
    hand: Hand = Hand.UNKNOWN

    @property
    def is_grace(self) -> bool:
        return self.duration_quarters == 0.0


@dataclass(frozen=True, slots=True)
class Difference:
    """One note that is not the same in both.

    Attributes
    ----------
    kind : Kind
        ``missing``: the version lacks our note. ``extra``: only the version has it.
    bar, beat : int, float
        Where in our score, whichever side the note is on.
    ours, version : ScoreNote or None
        The notes concerned; None on the side that has none.
    """

    kind: Kind
    bar: int
    beat: float
    ours: ScoreNote | None
    version: ScoreNote | None


@dataclass(frozen=True, slots=True)
class Alignment:
    """What comparing two versions found.

    Attributes
    ----------
    notes : int
        Our notes that were compared, grace notes left out.
    same : int
        Those with the same pitch at the same onset in the version.
    differences : tuple of Difference
        In the order of our score.
    skipped_version_notes : int
        Notes of the version in passages that our score does not have (repeats, other parts).
    covered_bars : frozenset of int
        Our bars of which at least one chord was found in the version.
    """

    notes: int
    same: int
    differences: tuple[Difference, ...]
    skipped_version_notes: int
    covered_bars: frozenset[int]

    @property
    def agreement(self) -> float:
        """Share of our notes that the version has too, 0 to 1."""
        return self.same / self.notes if self.notes else 0.0


def score_notes(score: Score) -> tuple[ScoreNote, ...]:
    """The notes of a score with their bars; a key struck twice at once counts once."""
    bars = np.searchsorted(score.bar_quarters, score.onset_quarters + 1e-6, side="right") - 1
    notes: dict[tuple[float, int, bool], ScoreNote] = {}
    for index in range(score.pitch_midi.size):
        onset = float(score.onset_quarters[index])
        duration = float(score.duration_quarters[index])
        bar = max(int(bars[index]), 0)
        key = (round(onset, 4), int(score.pitch_midi[index]), duration == 0.0)
        note = ScoreNote(
            onset_quarters=onset,
            duration_quarters=duration,
            pitch_midi=int(score.pitch_midi[index]),
            bar=int(score.bar_number[bar]),
            beat=onset - float(score.bar_quarters[bar]) + 1.0,
            hand=Hand(int(score.hand[index])),
        )
        if key not in notes or duration > notes[key].duration_quarters:
            notes[key] = note
    return tuple(sorted(notes.values(), key=lambda note: (note.onset_quarters, note.pitch_midi)))


def align(ours: Sequence[ScoreNote], version: Sequence[ScoreNote]) -> Alignment:
    """Compare a score with another version of the same piece, note by note.

    Parameters
    ----------
    ours, version : sequence of ScoreNote
        In any order. The version may begin elsewhere, count in other units, unfold repeats or
        hold more of the piece. Our grace notes are compared, but none need be in the version.
    """
    graces = [note for note in ours if note.is_grace]
    our_chords = _chords([note for note in ours if not note.is_grace])
    their_chords = _chords(version)
    pairs = _paired_chords(our_chords, their_chords)
    clock = _Clock.fitted(pairs, our_chords, their_chords)
    left_ours, left_theirs, kept, durations = _within_chords(pairs, our_chords, their_chords, clock)
    paired_theirs = {theirs for _, theirs in pairs}
    for index in sorted(clock.fitted_chords - paired_theirs):
        left_theirs.extend(clock.left(note, index) for note in their_chords[index])
    paired_ours = {mine for mine, _ in pairs}
    for index, chord in enumerate(our_chords):
        if index not in paired_ours:
            left_ours.extend(chord)
    found, differences, beyond = _told_apart(left_ours, left_theirs, graces, ours)
    every = sorted(
        (*durations, *differences), key=lambda each: (_position(each), each.kind, _pitch(each))
    )
    return Alignment(
        notes=sum(len(chord) for chord in our_chords),
        same=kept + found,
        differences=tuple(every),
        skipped_version_notes=beyond
        + sum(
            len(chord)
            for index, chord in enumerate(their_chords)
            if index not in clock.fitted_chords
        ),
        covered_bars=frozenset(note.bar for mine, _ in pairs for note in our_chords[mine]),
    )


# --- chords ---------------------------------------------------------------------------------

_Chord = tuple[ScoreNote, ...]


def _chords(notes: Iterable[ScoreNote]) -> list[_Chord]:
    """Notes of one onset, in time; each pitch once."""
    chords: list[dict[int, ScoreNote]] = []
    start = -np.inf
    for note in sorted(notes, key=lambda note: (note.onset_quarters, note.pitch_midi)):
        if note.onset_quarters - start > CHORD_QUARTERS:
            chords.append({})
            start = note.onset_quarters
        known = chords[-1].get(note.pitch_midi)
        if known is None or note.duration_quarters > known.duration_quarters:
            chords[-1][note.pitch_midi] = note
    return [tuple(chord.values()) for chord in chords]


def _onset(chord: _Chord) -> float:
    return chord[0].onset_quarters


def _likeness(ours: list[_Chord], theirs: list[_Chord]) -> NDArray[np.float32]:
    """What pairing two chords earns: 2 for a note both have, -1 for one that one lacks.

    Returns float32, shape (chords of ours, chords of theirs).
    """
    mine, other = _pitch_table(ours), _pitch_table(theirs)
    common = mine @ other.T
    earned: NDArray[np.float32] = 4 * common - mine.sum(1)[:, None] - other.sum(1)[None, :]
    return earned


def _pitch_table(chords: list[_Chord]) -> NDArray[np.float32]:
    table = np.zeros((len(chords), 128), dtype=np.float32)
    for row, chord in enumerate(chords):
        table[row, [note.pitch_midi for note in chord]] = 1.0
    return table


def _paired_chords(ours: list[_Chord], theirs: list[_Chord]) -> list[tuple[int, int]]:
    """The best order-keeping pairing: global in ours, any passage of theirs may be skipped.

    ``reached[i, j]`` is the most that the first i chords of ours can earn using the first j of
    theirs. A chord that has no partner costs its notes, but a passage of theirs never more than
    :data:`SKIP_PRICE`, and before the first and after the last pair nothing.
    """
    if not ours or not theirs:
        return []
    likeness = _likeness(ours, theirs)
    rows, columns = likeness.shape
    extra_notes = np.cumsum([0, *(len(chord) for chord in theirs)])
    reached = np.zeros(columns + 1)
    by_pair = np.zeros((rows + 1, columns + 1), dtype=bool)
    came_from = np.zeros((rows + 1, columns + 1), dtype=np.intp)
    for row in range(1, rows + 1):
        paired = np.full(columns + 1, -np.inf)
        paired[1:] = reached[:-1] + likeness[row - 1]
        unpaired = reached - len(ours[row - 1])
        by_pair[row] = paired > unpaired
        here = np.maximum(paired, unpaired)
        extra, extra_from = _best_before(here + extra_notes)
        skipped, skipped_from = _best_before(here)
        skips = skipped - SKIP_PRICE > extra - extra_notes
        came_from[row] = np.where(skips, skipped_from, extra_from)
        reached = np.where(skips, skipped - SKIP_PRICE, extra - extra_notes)
    pairs = []
    column = int(np.argmax(reached))
    for row in range(rows, 0, -1):
        column = int(came_from[row, column])
        if by_pair[row, column]:
            if likeness[row - 1, column - 1] > -len(ours[row - 1]):
                pairs.append((row - 1, column - 1))
            column -= 1
    return pairs[::-1]


@dataclass(frozen=True, slots=True)
class _Left:
    """A note of the version without a partner yet, at our quarters; ``beyond`` in a margin."""

    note: ScoreNote
    at_quarters: float
    beyond: bool


def _best_before(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """The largest value up to each place, and the last place that has it."""
    best = np.maximum.accumulate(values)
    places = np.where(values == best, np.arange(values.size), 0)
    return best, np.maximum.accumulate(places)


# --- time -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Clock:
    """Which of our quarters each chord of the version falls on.

    ``our_onset`` : float64, shape (chords of theirs,), NaN where a passage was skipped.
    ``margins`` : chords just beyond the ends of a run of pairs. Without them a wrong chord at
    the end of a run could not be told from a missing one.
    """

    our_onset: NDArray[np.float64]
    margins: frozenset[int]

    @classmethod
    def fitted(
        cls, pairs: list[tuple[int, int]], ours: list[_Chord], theirs: list[_Chord]
    ) -> _Clock:
        """One ratio for the whole piece; the offset follows the neighbouring pairs."""
        our_onset = np.full(len(theirs), np.nan)
        mine = np.array([_onset(ours[index]) for index, _ in pairs])
        other = np.array([_onset(theirs[index]) for _, index in pairs])
        ratio = _ratio(mine, other)
        margins: set[int] = set()
        for first, last in _runs(mine, other, ratio):
            offset = mine[first:last] - other[first:last] / ratio
            partner = {pairs[at][1]: at - first for at in range(first, last)}
            reach = _with_margins(pairs, first, last, theirs, ratio)
            margins.update(set(reach) - set(range(pairs[first][1], pairs[last - 1][1] + 1)))
            for index in reach:
                onset = _onset(theirs[index])
                if index in partner:
                    shift = _shift_of_pair(offset, partner[index])
                else:
                    at = int(np.searchsorted(other[first:last], onset))
                    before, after = _neighbours(offset, at, at)
                    shift = before if before is not None else after or 0.0
                our_onset[index] = onset / ratio + shift
        return cls(our_onset, frozenset(margins))

    @property
    def fitted_chords(self) -> set[int]:
        return set(np.flatnonzero(~np.isnan(self.our_onset)).tolist())

    def our_quarters(self, index: int) -> float:
        return float(self.our_onset[index])

    def left(self, note: ScoreNote, index: int) -> _Left:
        return _Left(note, self.our_quarters(index), index in self.margins)


def _shift_of_pair(offset: NDArray[np.float64], at: int) -> float:
    """The shift its neighbours have, those before or those after: whichever suits it better.

    A pause written out divides the two; a chord that is late by itself suits neither.
    """
    sides = [side for side in _neighbours(offset, at, at + 1) if side is not None]
    return min(sides, key=lambda side: abs(side - offset[at]), default=float(offset[at]))


def _neighbours(
    offset: NDArray[np.float64], end: int, start: int
) -> tuple[float | None, float | None]:
    """Median shift of the chords before ``end`` and of those from ``start``."""
    before = offset[max(end - NEIGHBOURS, 0) : end]
    after = offset[start : start + NEIGHBOURS]
    return (
        float(np.median(before)) if before.size else None,
        float(np.median(after)) if after.size else None,
    )


def _ratio(mine: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Quarters of the version to one of ours; 1 if there is too little to tell."""
    step = np.diff(mine)
    moved = step > CHORD_QUARTERS
    if not moved.any():
        return 1.0
    return float(np.median(np.diff(other)[moved] / step[moved])) or 1.0


def _runs(
    mine: NDArray[np.float64], other: NDArray[np.float64], ratio: float
) -> list[tuple[int, int]]:
    """Stretches of pairs without a leap, as half-open ranges."""
    if not mine.size:
        return []
    leaps = np.abs(np.diff(mine) - np.diff(other) / ratio) > JUMP_QUARTERS
    edges = [0, *(np.flatnonzero(leaps) + 1).tolist(), mine.size]
    return list(pairwise(edges))


def _with_margins(
    pairs: list[tuple[int, int]], first: int, last: int, theirs: list[_Chord], ratio: float
) -> range:
    """A run's chords in the version, and those up to :data:`MARGIN_QUARTERS` beyond its ends."""
    floor = pairs[first - 1][1] + 1 if first > 0 else 0
    ceiling = pairs[last][1] - 1 if last < len(pairs) else len(theirs) - 1
    start, end = pairs[first][1], pairs[last - 1][1]
    reach = (MARGIN_QUARTERS + ONSET_TOLERANCE_QUARTERS) * ratio
    first_onset, last_onset = _onset(theirs[start]), _onset(theirs[end])
    while start > floor and first_onset - _onset(theirs[start - 1]) <= reach:
        start -= 1
    while end < ceiling and _onset(theirs[end + 1]) - last_onset <= reach:
        end += 1
    return range(start, end + 1)


# --- notes ----------------------------------------------------------------------------------


def _within_chords(
    pairs: list[tuple[int, int]], ours: list[_Chord], theirs: list[_Chord], clock: _Clock
) -> tuple[list[ScoreNote], list[_Left], int, list[Difference]]:
    """Notes of paired chords: what only one side has, how many agree, whose length does not."""
    left_ours: list[ScoreNote] = []
    left_theirs: list[_Left] = []
    same, differences = 0, []
    for mine, other in pairs:
        late = abs(clock.our_quarters(other) - _onset(ours[mine]))
        partners = {note.pitch_midi: note for note in theirs[other]}
        for note in ours[mine]:
            partner = partners.get(note.pitch_midi)
            if partner is None or late > ONSET_TOLERANCE_QUARTERS:
                left_ours.append(note)
                continue
            del partners[note.pitch_midi]
            same += 1
            if _other_duration(note, partner):
                differences.append(Difference(Kind.DURATION, note.bar, note.beat, note, partner))
        left_theirs.extend(clock.left(note, other) for note in partners.values())
    return left_ours, left_theirs, same, differences


def _other_duration(ours: ScoreNote, version: ScoreNote) -> bool:
    longer = max(ours.duration_quarters, version.duration_quarters)
    shorter = min(ours.duration_quarters, version.duration_quarters)
    return longer > DURATION_RATIO * shorter + ONSET_TOLERANCE_QUARTERS


def _told_apart(
    left_ours: list[ScoreNote],
    left_theirs: list[_Left],
    graces: list[ScoreNote],
    score: Sequence[ScoreNote],
) -> tuple[int, list[Difference], int]:
    """Pair what is left: same key close by, then another key at the same time, then alone.

    Returns the notes that agree after all, the differences, and how many of the version's notes
    lie beyond what our score has.
    """
    differences: list[Difference] = []
    found = 0
    waiting = list(left_theirs)
    alone: list[ScoreNote] = []
    for note in left_ours:
        taken = _nearest(note, waiting, SEARCH_QUARTERS, same_pitch=True)
        if taken is None:
            alone.append(note)
            continue
        partner = waiting.pop(taken)
        if abs(partner.at_quarters - note.onset_quarters) <= ONSET_TOLERANCE_QUARTERS:
            found += 1
        else:
            differences.append(Difference(Kind.ONSET, note.bar, note.beat, note, partner.note))
    for note in graces:
        taken = _nearest(note, waiting, SEARCH_QUARTERS, same_pitch=True)
        if taken is not None:
            waiting.pop(taken)
    for note in alone:
        taken = _nearest(note, waiting, ONSET_TOLERANCE_QUARTERS, same_pitch=False)
        partner_note = None if taken is None else waiting.pop(taken).note
        kind = Kind.MISSING if partner_note is None else Kind.PITCH
        differences.append(Difference(kind, note.bar, note.beat, note, partner_note))
    extra = [left for left in waiting if not left.beyond]
    for left in extra:
        bar, beat = _place(left.at_quarters, score)
        differences.append(Difference(Kind.EXTRA, bar, beat, None, left.note))
    return found, differences, len(waiting) - len(extra)


def _nearest(
    note: ScoreNote, waiting: list[_Left], reach: float, *, same_pitch: bool
) -> int | None:
    """Index of the closest candidate within reach: in time, then in pitch."""
    candidates = [
        (
            abs(left.at_quarters - note.onset_quarters),
            abs(left.note.pitch_midi - note.pitch_midi),
            index,
        )
        for index, left in enumerate(waiting)
        if abs(left.at_quarters - note.onset_quarters) <= reach
        and (not same_pitch or left.note.pitch_midi == note.pitch_midi)
    ]
    return min(candidates)[2] if candidates else None


def _place(onset_quarters: float, score: Sequence[ScoreNote]) -> tuple[int, float]:
    """Bar and beat of a moment, counted from the last of our notes that is not later."""
    before = [note for note in score if note.onset_quarters <= onset_quarters + CHORD_QUARTERS]
    if not before:
        first = min(score, key=lambda note: note.onset_quarters)
        return first.bar, first.beat + onset_quarters - first.onset_quarters
    last = max(before, key=lambda note: note.onset_quarters)
    return last.bar, last.beat + onset_quarters - last.onset_quarters


def _position(difference: Difference) -> tuple[int, float]:
    return difference.bar, round(difference.beat, 3)


def _pitch(difference: Difference) -> int:
    note = difference.ours or difference.version
    return note.pitch_midi if note else 0


if __name__ == "__main__":
    from converters.starter_catalogue import main

    main()
