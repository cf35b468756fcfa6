"""Melodies: one line, hummed, whistled or picked out with a finger, found among the scores.

A singer takes whatever pitch is comfortable, between the keys as a rule, drifts, makes small
intervals wide and large ones narrow, and keeps the rhythm better than the tempo. So nothing
absolute is compared. What is searched is the *top line* of every score: the highest note of the
right hand wherever no higher one is still held (the skyline of Uitdenbogerd and Zobel,
"Manipulation of music for melody matching", ACM Multimedia 1998).

First every top line is read through: subsequence time warping whose step from one pair of notes
to the next costs what the interval and the (logarithmic) time between them differ, in either line
a note may be passed over, and the passage's own mean pace is taken out. Intervals know no key, so
there is nothing to transpose. It is tried with narrow, true and wide intervals.

Then the best passages are looked at closely: on the warping path the singer's offset, drift and
stretch of intervals are fitted, and the tempo; what is left over, note by note, is the score. The
confidence weighs it against what other works reach, as for performances.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.errors import CatalogueError
from edge.matching.catalogue import Catalogue
from edge.matching.chords import chords_of_notes, outer_pitches
from edge.matching.match import Candidate, MatchState, PieceMatch
from edge.matching.pack import LEFT_HAND_BIT, TICKS_PER_QUARTER, Pack
from edge.matching.templates import pitch_template
from edge.note import NoteEvent

Floats = NDArray[np.float64]
Float32 = NDArray[np.float32]

MOST_PIECES = 10_000
"""Top lines are kept in memory, about 7 kB a piece, and all of them are read for every question."""

FEWEST_NOTES = 6
FEWEST_PITCHES = 3
"""Below this many notes, or different ones, every answer would be a guess."""
ENOUGH_NOTES = 24
"""From this many on, no match means that the catalogue does not hold the melody."""
MOST_NOTES = 40
"""Of a longer melody the first are asked about."""

CANDIDATES_NAMED = 5
PASSAGES_LOOKED_AT = 60
MATCHED_CONFIDENCE = 0.8

DURATION_STEPS_PER_QUARTER = 24
HIGHER_NOTES_LOOKED_BACK = 12
"""So many notes back a higher one that is still held is looked for."""

STRETCHES = (0.89, 1.0, 1.12)
"""Widths of intervals that are tried, as multiples of the written ones."""

SEMITONES_PER_OCTAVE_OF_TIME = 0.8
"""How much a step of time that is twice as long as written counts, in semitones off."""
WORST_TIME_OCTAVES = 2.0
"""A pause for breath counts no more than this."""
PASSED_OVER_SUNG = 1.6
PASSED_OVER_WRITTEN = 1.0
PASSED_OVER_BOTH = 1.8
"""Cost of a sung note that is not written, of a written one not sung, of one for the other."""

CHUNK_NOTES = 32_768
"""Notes of top lines that are read at a time: what a processor's cache holds."""


@dataclass(frozen=True, slots=True)
class Melody:
    """One line.

    Attributes
    ----------
    pitch_semitones : float64, shape (notes,)
        MIDI pitch with its fraction, as it was sung.
    onset_s : float64, shape (notes,)
        Rising.
    """

    pitch_semitones: Floats
    onset_s: Floats

    def __len__(self) -> int:
        return int(self.onset_s.size)

    def first(self, notes: int) -> Melody:
        """No more than its first notes."""
        return Melody(self.pitch_semitones[:notes], self.onset_s[:notes])


def melody_of_notes(notes: Sequence[NoteEvent]) -> Melody:
    """The highest of the notes that are struck together, as one finger or one hand plays them."""
    chords = chords_of_notes(notes)
    top = outer_pitches(chords.keys, 1)[:, 0].astype(np.float64)
    return Melody(top, chords.onset_s)


# --- the top lines of a catalogue -------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TopLines:
    """The top lines of all pieces, end to end.

    Attributes
    ----------
    pitch : float32, shape (notes,)
        MIDI pitch.
    quarters : float32, shape (notes,)
        Onset in quarters from the piece's beginning.
    chord : int32, shape (notes,)
        Chord of the piece.
    start : int64, shape (pieces + 1,)
        First note of each piece.
    """

    pitch: Float32
    quarters: Float32
    chord: NDArray[np.int32]
    start: NDArray[np.int64]

    def __len__(self) -> int:
        return int(self.pitch.size)

    @property
    def nbytes(self) -> int:
        """Memory that they take."""
        return sum(each.nbytes for each in (self.pitch, self.quarters, self.chord, self.start))


def top_lines(catalogue: Catalogue) -> TopLines:
    """The top line of every piece, from the notes of its packs.

    Raises
    ------
    CatalogueError
        More pieces than melodies are searched among.
    """
    if len(catalogue) > MOST_PIECES:
        raise CatalogueError(
            f"this catalogue holds {len(catalogue)} pieces; melodies are searched among at most "
            f"{MOST_PIECES}: give a smaller one with --catalog"
        )
    of_packs = [_top_lines_of_pack(pack) for pack in catalogue.packs]
    sizes = np.concatenate([np.diff(each.start) for each in of_packs])
    return TopLines(
        pitch=np.concatenate([each.pitch for each in of_packs]),
        quarters=np.concatenate([each.quarters for each in of_packs]),
        chord=np.concatenate([each.chord for each in of_packs]),
        start=np.concatenate(([0], np.cumsum(sizes))),
    )


def _top_lines_of_pack(pack: Pack) -> TopLines:
    arrays = pack.arrays
    size = arrays.chord_size.astype(np.int64)
    first_note = np.cumsum(size) - size
    key = np.asarray(arrays.note_key)
    right = np.where(key & LEFT_HAND_BIT, 0, key).astype(np.int64)
    # One number a note, so that the highest of a chord brings its length along.
    with_length = right * 256 + arrays.note_duration
    highest = np.maximum.reduceat(with_length, first_note)
    pitch = highest >> 8
    lasts = (highest & 255) * (TICKS_PER_QUARTER // DURATION_STEPS_PER_QUARTER)
    tick = np.cumsum(arrays.chord_delta, dtype=np.int64)
    chord_start = arrays.piece_chord_start.astype(np.int64)
    chords = np.diff(chord_start)
    piece = np.repeat(np.arange(chords.size), chords)
    tick -= np.repeat((tick - arrays.chord_delta)[chord_start[:-1]], chords)
    there = np.flatnonzero(pitch > 0)
    kept = there[~_under_a_held_note(pitch[there], tick[there], lasts[there], piece[there])]
    return TopLines(
        pitch=pitch[kept].astype(np.float32),
        quarters=(tick[kept] / TICKS_PER_QUARTER).astype(np.float32),
        chord=(kept - chord_start[piece[kept]]).astype(np.int32),
        start=np.searchsorted(piece[kept], np.arange(chords.size + 1)),
    )


def _under_a_held_note(
    pitch: NDArray[np.int64],
    tick: NDArray[np.int64],
    lasts: NDArray[np.int64],
    piece: NDArray[np.int64],
) -> NDArray[np.bool_]:
    """Which notes begin while a higher one before them is still held."""
    under = np.zeros(pitch.size, dtype=np.bool_)
    until = tick + lasts - TICKS_PER_QUARTER // 16
    for back in range(1, HIGHER_NOTES_LOOKED_BACK + 1):
        under[back:] |= (
            (pitch[:-back] > pitch[back:])
            & (until[:-back] > tick[back:])
            & (piece[:-back] == piece[back:])
        )
    return under


# --- reading through all top lines ------------------------------------------------------------

_STEPS = (
    (1, 1, 0.0),
    (1, 2, PASSED_OVER_WRITTEN),
    (2, 1, PASSED_OVER_SUNG),
    (2, 2, PASSED_OVER_BOTH),
)
"""Notes on in the melody, notes on in the score, and what that costs."""

_NOWHERE = np.float32(1e6)
_SHORTEST_QUARTERS = 1 / 48
_SHORTEST_S = 0.03


def _log_time(onset: Floats | Float32, back: int, shortest: float) -> Floats:
    """Octaves of time since the note ``back`` before; 0 where there is none."""
    octaves = np.zeros(onset.size)
    octaves[back:] = np.log2(np.maximum(onset[back:] - onset[:-back], shortest))
    return octaves


def _passage_costs(melody: Melody, lines: TopLines, stretch: float) -> Float32:
    """The cost of the cheapest path that ends on each note of the top lines; float32, (notes,)."""
    count = len(melody)
    found = np.full(len(lines), _NOWHERE, dtype=np.float32)
    margin = 2 * count
    for begin in range(0, len(lines), CHUNK_NOTES):
        first, last = max(begin - margin, 0), min(begin + CHUNK_NOTES, len(lines))
        part = slice(first, last)
        costs, _ = _warp(
            melody, lines.pitch[None, part], lines.quarters[None, part], stretch, with_path=False
        )
        found[begin:last] = costs[0, begin - first :]
    return found


def _warp(
    melody: Melody,
    pitch: Float32,
    quarters: Float32,
    stretch: float | Float32,
    with_path: bool,
) -> tuple[Float32, NDArray[np.int8]]:
    """Warp the melody onto rows of top lines.

    Parameters
    ----------
    melody : Melody
    pitch, quarters : float32, shape (rows, notes)
        Where time runs back, another piece begins.
    stretch : float, or float32 of shape (rows, 1)
        Written intervals are made so much wider.

    Returns
    -------
    costs : float32, shape (rows, notes)
        Of the cheapest path that ends on each note.
    steps : int8, shape (melody notes, rows, notes)
        Which of the steps led to each cell, -1 for a beginning; empty without ``with_path``.
    """
    count = len(melody)
    rows, notes = pitch.shape
    weight = np.float32(SEMITONES_PER_OCTAVE_OF_TIME)
    intervals, times = {}, {}
    for back in (1, 2):
        interval = np.full((rows, notes), _NOWHERE, dtype=np.float32)
        interval[:, back:] = (pitch[:, back:] - pitch[:, :-back]) * np.asarray(stretch, np.float32)
        elapsed = np.zeros((rows, notes), dtype=np.float32)
        elapsed[:, back:] = quarters[:, back:] - quarters[:, :-back]
        interval[elapsed <= 0] = _NOWHERE
        intervals[back] = interval
        times[back] = np.log2(np.maximum(elapsed, np.float32(_SHORTEST_QUARTERS))) * weight
    sung = melody.pitch_semitones
    sung_times = {
        back: _log_time(melody.onset_s, back, _SHORTEST_S) * float(weight) for back in (1, 2)
    }
    pace = _mean_over(times[1], count - 1) - np.float32(np.mean(sung_times[1][1:]))
    before: list[Float32] = []
    steps = np.full((count if with_path else 0, rows, notes), -1, dtype=np.int8)
    for row in range(count):
        if row == 0:
            best = np.zeros((rows, notes), dtype=np.float32)
        else:
            best = np.full((rows, notes), _NOWHERE, dtype=np.float32)
            here = _shifted_left(pace, count - 1 - row)
            for number, (on, along, price) in enumerate(_STEPS):
                if on > row:
                    continue
                cost = np.abs(intervals[along] - np.float32(sung[row] - sung[row - on]))
                off = times[along] - here
                off -= np.float32(sung_times[on][row])
                np.abs(off, out=off)
                np.minimum(off, weight * np.float32(WORST_TIME_OCTAVES), out=off)
                cost += off
                cost[:, along:] += before[-on][:, :-along]
                cost += np.float32(price)
                if with_path:
                    steps[row][cost < best] = number
                np.minimum(best, cost, out=best)
        before = [*before[-1:], best]
    return before[-1] / np.float32(max(count - 1, 1)), steps


def _mean_over(values: Float32, count: int) -> Float32:
    """Mean of each value and those before it, ``count`` in all."""
    total = np.cumsum(values, axis=1, dtype=np.float64)
    total[:, count:] -= total[:, :-count].copy()
    return (total / count).astype(np.float32)


def _shifted_left(values: Float32, by: int) -> Float32:
    """The values ``by`` places further on; the last one where there are none."""
    if by == 0:
        return values
    moved = np.empty_like(values)
    moved[:, :-by] = values[:, by:]
    moved[:, -by:] = values[:, -1:]
    return moved


# --- looking at passages closely --------------------------------------------------------------

PITCH_OFF_SEMITONES = 0.5
"""What is left of a sung note's pitch, after the fit, and counts half a semitone as usual."""
TIME_OFF_OCTAVES = 0.5
"""The same for a step of time."""
STRETCH_IS_WITHIN = 0.1
DRIFT_IS_WITHIN_SEMITONES = 0.7
"""How far singers usually go, one standard deviation: the fit is held to it."""
MISSED_NOTE_COST = 0.3
"""Cost of a written note that was not sung, in sung notes that fit; as in the time warping."""


@dataclass(frozen=True, slots=True)
class Sung:
    """A passage of a top line, and how it was sung.

    Attributes
    ----------
    piece : int
        Number in the catalogue.
    first_note, last_note : int
        Notes of all top lines.
    fit : float
        1 where every note fits, about 0 for another melody.
    offset_semitones : float
        How much higher than written it was sung, at the middle of the melody.
    drift_semitones : float
        How much it rose from its beginning to its end.
    stretch : float
        Sung intervals as a multiple of the written ones.
    quarters_per_s : float
        Tempo.
    """

    piece: int
    first_note: int
    last_note: int
    fit: float
    offset_semitones: float
    drift_semitones: float
    stretch: float
    quarters_per_s: float


def passages(melody: Melody, lines: TopLines, most: int = PASSAGES_LOOKED_AT) -> list[Sung]:
    """The passages that are sung like this, the best of each piece, best first.

    Parameters
    ----------
    melody : Melody
        At least two notes.
    lines : TopLines
    most : int
        How many pieces are looked at closely.
    """
    costs = np.stack([_passage_costs(melody, lines, stretch) for stretch in STRETCHES])
    stretch = np.argmin(costs, axis=0)
    cheapest = np.min(costs, axis=0)
    filled = np.flatnonzero(np.diff(lines.start) > 0)
    of_piece = np.minimum.reduceat(cheapest, lines.start[filled])
    likely = np.argsort(of_piece, kind="stable")[:most]
    likely = likely[of_piece[likely] < _NOWHERE / 2]
    ends = [
        int(lines.start[piece] + np.argmin(cheapest[lines.start[piece] : lines.start[piece + 1]]))
        for piece in filled[likely]
    ]
    return _looked_at(melody, lines, filled[likely], np.array(ends, np.int64), stretch)


def _looked_at(
    melody: Melody,
    lines: TopLines,
    pieces: NDArray[np.int64],
    ends: NDArray[np.int64],
    stretch: NDArray[np.int64],
) -> list[Sung]:
    if ends.size == 0:
        return []
    window = ends[:, None] + np.arange(-2 * len(melody), 1)
    window = np.maximum(window, lines.start[pieces][:, None])
    tried = np.array(STRETCHES, np.float32)[stretch[ends]][:, None]
    _, steps = _warp(melody, lines.pitch[window], lines.quarters[window], tried, with_path=True)
    found = []
    for row, piece in enumerate(pieces.tolist()):
        sung, at = _traced(steps[:, row])
        found.append(_fitted(melody, lines, piece, sung, window[row][at]))
    return sorted(found, key=lambda each: -each.fit)


def _traced(steps: NDArray[np.int8]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Walk back from the last cell: sung notes and the notes of the window they lie on, rising."""
    row, column = steps.shape[0] - 1, steps.shape[1] - 1
    path = [(row, column)]
    while row > 0:
        on, along, _ = _STEPS[steps[row, column]]
        row, column = row - on, column - along
        path.append((row, column))
    sung, at = np.array(path[::-1], dtype=np.int64).T
    return sung, at


def _fitted(
    melody: Melody, lines: TopLines, piece: int, sung: NDArray[np.int64], note: NDArray[np.int64]
) -> Sung:
    """Fit offset, drift, stretch and tempo to the pairs of sung and written notes."""
    pitch = melody.pitch_semitones[sung]
    written = lines.pitch[note].astype(np.float64)
    middle = float(np.mean(written))
    rise = (sung - sung.mean()) / max(len(melody) - 1, 1)
    # The prior as two more equations: no stretch, no drift.
    design = np.stack((np.ones(sung.size), written - middle, rise), axis=1)
    held = np.diag((0.0, 0.3 / STRETCH_IS_WITHIN, 0.3 / DRIFT_IS_WITHIN_SEMITONES))[1:]
    wanted = np.concatenate((pitch - written, (0.0, 0.0)))
    weight = np.ones(sung.size)
    off = np.zeros(sung.size)
    solution = np.zeros(3)
    for _ in range(4):
        scale = np.concatenate((weight, (1.0, 1.0)))
        solution = np.linalg.lstsq(
            np.vstack((design, held)) * scale[:, None], wanted * scale, rcond=None
        )[0]
        off = pitch - written - design @ solution
        weight = 1.0 / (1.0 + (off / PITCH_OFF_SEMITONES) ** 2)
    sung_time = np.log2(np.maximum(np.diff(melody.onset_s[sung]), _SHORTEST_S))
    quarters = lines.quarters[note].astype(np.float64)
    written_time = np.log2(np.maximum(np.diff(quarters), _SHORTEST_QUARTERS))
    pace = written_time - sung_time
    tempo = float(np.median(pace)) if pace.size else 0.0
    in_tune = np.exp(-0.5 * (off / PITCH_OFF_SEMITONES) ** 2)
    in_time = np.append(1.0, np.exp(-0.5 * ((pace - tempo) / TIME_OFF_OCTAVES) ** 2))
    missed = int(note[-1] - note[0] + 1 - note.size)
    credit = float(np.sum(in_tune * (1 + in_time) / 2)) - MISSED_NOTE_COST * missed
    return Sung(
        piece=piece,
        first_note=int(note[0]),
        last_note=int(note[-1]),
        fit=credit / len(melody),
        offset_semitones=float(solution[0]),
        drift_semitones=float(solution[2]),
        stretch=1.0 + float(solution[1]),
        quarters_per_s=2.0**tempo,
    )


# --- the answer -------------------------------------------------------------------------------

LOWEST_BACKGROUND = 0.25
"""What other works reach at the median: in a catalogue of a few pieces there may be none."""

CONFIDENCE_PER_FIT = 29.4
CONFIDENCE_PER_BACKGROUND = -19.9
CONFIDENCE_OFFSET = -12.6
"""The chance that the best candidate is what is sung: a logistic fit, as in
:mod:`edge.matching.fusion`, by ``python -m benchmarks.melodies --fit --of-each 30``. Its length
adds nothing: other passages fit a longer melody worse, and that is in the background."""


def identify_melody(
    melody: Melody,
    catalogue: Catalogue,
    lines: TopLines | None = None,
    without_works: Collection[str] = (),
) -> PieceMatch:
    """Name the piece that a melody is from.

    Parameters
    ----------
    melody : Melody
        From any place of a piece, in any key, at any tempo. Of more than :data:`MOST_NOTES`
        notes the first are asked about.
    catalogue : Catalogue
    lines : TopLines, optional
        Its top lines, for who asks more than once.
    without_works : collection of str
        Works that are not to be named, as if the catalogue did not hold them.

    Returns
    -------
    PieceMatch
        MATCHED, SEARCHING (too little to say) or NONE (enough, and nothing fits), with the
        best five candidates; none where there are fewer than :data:`FEWEST_NOTES` notes.

    Raises
    ------
    CatalogueError
        See :func:`top_lines`.
    """
    melody = melody.first(MOST_NOTES)
    if len(catalogue) == 0 or not says_enough(melody):
        return PieceMatch(MatchState.SEARCHING, ())
    lines = top_lines(catalogue) if lines is None else lines
    return answer(melody, passages(melody, lines), catalogue, lines, without_works)


def says_enough(melody: Melody) -> bool:
    """Whether there are notes enough, and different ones, to ask about.

    Who knocks on one key, or wavers about it, has sung no melody; the template takes out the
    singer's own tuning before pitches are told apart.
    """
    if len(melody) < FEWEST_NOTES:
        return False
    template = pitch_template(melody.pitch_semitones, melody.onset_s)
    return np.unique(template.semitones).size >= FEWEST_PITCHES


def answer(
    melody: Melody,
    found: Sequence[Sung],
    catalogue: Catalogue,
    lines: TopLines,
    without_works: Collection[str] = (),
) -> PieceMatch:
    """What the passages that were found, best first, amount to; see :func:`identify_melody`."""
    best: dict[str, Sung] = {}
    for each in found:
        work_id = catalogue.pieces[each.piece].work_id
        if work_id not in without_works:
            best.setdefault(work_id, each)
    ranked = list(best.values())
    if not ranked:
        return PieceMatch(MatchState.SEARCHING, ())
    others = [each.fit for each in ranked[1:]]
    background = max(float(np.median(others)), LOWEST_BACKGROUND) if others else LOWEST_BACKGROUND
    candidates = tuple(
        _candidate(each, melody, background, catalogue, lines) for each in ranked[:CANDIDATES_NAMED]
    )
    if candidates[0].confidence >= MATCHED_CONFIDENCE:
        return PieceMatch(MatchState.MATCHED, candidates)
    enough = len(melody) >= ENOUGH_NOTES
    return PieceMatch(MatchState.NONE if enough else MatchState.SEARCHING, candidates)


def _candidate(
    sung: Sung, melody: Melody, background: float, catalogue: Catalogue, lines: TopLines
) -> Candidate:
    piece = catalogue.pieces[sung.piece]
    score = catalogue.piece_chords(sung.piece)
    first, last = int(lines.chord[sung.first_note]), int(lines.chord[sung.last_note])
    score_s = float(score.onset_s[last] - score.onset_s[first])
    sung_s = float(melody.onset_s[-1] - melody.onset_s[0])
    return Candidate(
        piece_id=piece.piece_id,
        work_id=piece.work_id,
        title=piece.title,
        composer=piece.composer,
        confidence=confidence(sung.fit, background),
        start_s=float(score.onset_s[first]),
        bar=score.bar_at(float(score.onset_quarters[first])),
        tempo_ratio=score_s / max(sung_s, 1e-3),
        transposition=round(sung.offset_semitones),
        bars=piece.bars,
    )


def confidence(fit: float, background: float) -> float:
    """Chance that a passage that fits so well is what is sung, 0 to 1.

    ``background`` is the median fit of the best passages of other works.
    """
    evidence = CONFIDENCE_PER_FIT * fit + CONFIDENCE_PER_BACKGROUND * background + CONFIDENCE_OFFSET
    return 1.0 / (1.0 + math.exp(-evidence))
