"""Performances that nobody gave: scores that may train, played on paper with all that goes wrong.

What is fitted in the matching is fitted to these and to POP909, never to the recordings and
performances that measure it. A stretch of one of the CC BY scores is played at half to nearly
double tempo, which then wanders; the hands are apart by 12 ms (a player) or 20 ms (a player
heard through a microphone), some chords are rolled, notes are missed, struck beside, or heard
an octave off.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from benchmarks.works import TRAINING, unpacked
from converters.catalogue import described_pieces, read_score
from edge.matching import Catalogue, Piece, Score
from edge.matching.chords import Chords
from edge.matching.identification import FEWEST_CHORDS, places_verified
from edge.matching.score import Hand
from edge.matching.search import places
from edge.matching.verification import PieceReader, verify
from edge.midi import read_midi
from edge.note import HIGHEST_PITCH_MIDI, LOWEST_PITCH_MIDI, NoteEvent

FEWEST_NOTES = 8
FEWEST_NOTES_OF_A_HAND = 20
STRETCHES = 4
STRETCH_CHORDS = 64
SAME_MUSIC_GAIN = 0.7
"""Gain of time warping from which a stretch played without a mistake is the same music."""


@dataclass(frozen=True, slots=True)
class Hands:
    """What goes wrong, as shares of the notes, and how far apart hands are, in seconds."""

    apart_s: float
    rolled: float
    missed: float
    added: float
    beside: float


ANY_TEMPO = (-0.8, 0.8)
"""Half to nearly double, as octaves above the score's tempo."""

PLAYER = Hands(apart_s=0.012, rolled=0.03, missed=0.03, added=0.03, beside=0.01)
HEARD = Hands(apart_s=0.02, rolled=0.06, missed=0.15, added=0.12, beside=0.03)


def training_scores() -> list[Score]:
    """The CC BY scores without those flagged as duplicates."""
    folder = unpacked("scores", TRAINING / "scores_cc_by_midi.tar.xz")
    with (folder / "catalogue.csv").open(encoding="utf-8", newline="") as lines:
        duplicates = {row["id"] for row in csv.DictReader(lines) if row["dup_of"]}
    files = sorted((folder / "midi").glob("*.mid"))
    described = [each for each in described_pieces(files) if each[1].piece_id not in duplicates]
    return [read_score(path, piece) for path, piece in described]


def signed_scores(count: int, notes: tuple[int, int], rng: np.random.Generator) -> list[Score]:
    """Random CC BY scores with repeat signs and so many notes; from kern, which has the signs."""
    midi = unpacked("scores", TRAINING / "scores_cc_by_midi.tar.xz")
    kern = unpacked("kern", TRAINING / "scores_cc_by_kern.tar.xz")
    with (midi / "catalogue.csv").open(encoding="utf-8", newline="") as lines:
        rows = [row for row in csv.DictReader(lines) if not row["dup_of"]]
    found: list[Score] = []
    for each in rng.permutation(len(rows)).tolist():
        row = rows[each]
        piece = Piece(row["id"], row["id"], row["title"], row["composer"])
        score = read_score(kern / row["path_score_in_tar"], piece)
        if len(score.repeat_quarters) and notes[0] < score.pitch_midi.size < notes[1]:
            found.append(score)
        if len(found) == count:
            break
    return found


def strangers(count: int, seconds: float, rng: np.random.Generator) -> list[list[NoteEvent]]:
    """Windows of POP909, which no catalogue of ours holds."""
    folder = unpacked("pop909", TRAINING / "performances" / "pop909.tar.xz")
    files = sorted(folder.glob("POP909/*/*.mid"))
    found: list[list[NoteEvent]] = []
    while len(found) < count:
        notes = read_midi(files[rng.integers(len(files))]).notes
        start_s = rng.uniform(notes[0].onset_s, max(notes[-1].onset_s - seconds, 1.0))
        inside = [note for note in notes if start_s <= note.onset_s < start_s + seconds]
        if len(inside) >= FEWEST_NOTES:
            found.append(inside)
    return found


def performances(
    scores: list[Score],
    count: int,
    seconds: float,
    hands: Hands,
    rng: np.random.Generator,
    octaves: tuple[float, float] = ANY_TEMPO,
) -> list[tuple[Score, list[NoteEvent]]]:
    """Random stretches of random scores, played; ``octaves`` are the bounds of the tempo."""
    found: list[tuple[Score, list[NoteEvent]]] = []
    while len(found) < count:
        score = scores[rng.integers(len(scores))]
        notes = _played(score, seconds, hands, rng, octaves)
        if len(notes) >= FEWEST_NOTES:
            found.append((score, notes))
    return found


def _played(
    score: Score,
    seconds: float,
    hands: Hands,
    rng: np.random.Generator,
    octaves: tuple[float, float],
) -> list[NoteEvent]:
    tempo = 2.0 ** rng.uniform(*octaves)
    onset_s = score.onset_s
    written_s = seconds * tempo
    start_s = rng.uniform(onset_s[0], max(onset_s[0], onset_s[-1] - written_s))
    inside = (onset_s >= start_s) & (onset_s < start_s + 1.3 * written_s)
    at_s = wandering(onset_s[inside] - start_s, rng) / tempo
    pitch = score.pitch_midi[inside].astype(np.int64)
    at_s, pitch = with_mistakes(at_s, pitch, hands, rng)
    kept = (at_s >= 0) & (at_s < seconds)
    kept &= (pitch >= LOWEST_PITCH_MIDI) & (pitch <= HIGHEST_PITCH_MIDI)
    order = np.argsort(at_s[kept], kind="stable")
    return [
        NoteEvent(int(key), float(moment), None, 64, 1.0)
        for key, moment in zip(pitch[kept][order], at_s[kept][order], strict=True)
    ]


def wandering(at_s: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """A tempo that walks at random, by 8 % a second."""
    if at_s.size == 0:
        return at_s
    grid = np.arange(0.0, at_s[-1] + 2.0)
    slowness = np.exp(np.cumsum(rng.normal(0.0, 0.08, grid.size)))
    slowness /= slowness.mean()
    warped = np.concatenate(([0.0], np.cumsum((slowness[1:] + slowness[:-1]) / 2)))
    return np.interp(at_s, grid, warped)


def one_hand(score: Score, hand: Hand) -> Score | None:
    """One hand alone, as a beginner practises it; None where it has next to nothing."""
    mine = score.hand == hand
    if mine.sum() < FEWEST_NOTES_OF_A_HAND:
        return None
    return replace(
        score,
        pitch_midi=score.pitch_midi[mine],
        onset_quarters=score.onset_quarters[mine],
        duration_quarters=score.duration_quarters[mine],
        hand=score.hand[mine],
    )


def with_mistakes(
    at_s: NDArray[np.float64],
    pitch: NDArray[np.int64],
    hands: Hands,
    rng: np.random.Generator,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    count = at_s.size
    at_s = at_s + rng.normal(0.0, hands.apart_s, count)
    rolled = rng.random(count) < hands.rolled
    at_s = at_s + np.where(rolled, rng.uniform(0.03, 0.12, count), 0.0)
    beside = rng.random(count) < hands.beside
    pitch = pitch + np.where(beside, rng.choice([-12, -2, -1, 1, 2, 12], count), 0)
    kept = rng.random(count) >= hands.missed
    at_s, pitch = at_s[kept], pitch[kept]
    if at_s.size == 0:
        return at_s, pitch
    added = rng.integers(0, at_s.size, rng.binomial(at_s.size, hands.added))
    late_s = np.where(
        rng.random(added.size) < 0.5,
        rng.normal(0.0, 0.02, added.size),
        rng.uniform(0.0, 0.4, added.size),
    )
    strange = pitch[added] + rng.choice([-12, -2, -1, 1, 2, 5, 7, 12, 19, 24], added.size)
    return np.concatenate((at_s, at_s[added] + late_s)), np.concatenate((pitch, strange))


def same_music(piece: int, catalogue: Catalogue, read_piece: PieceReader) -> frozenset[int]:
    """The pieces that hold this one's notes, itself included.

    The archive does not join all prints of one dance; what is played of one is no error of
    the other.
    """
    score = read_piece(piece)
    chords = Chords(score.onset_s, score.keys, score.sizes, np.ones(score.sizes.size))
    found = {piece}
    for start in np.linspace(0, max(len(chords) - STRETCH_CHORDS, 0), STRETCHES).astype(int):
        stretch = chords.part(slice(start, start + STRETCH_CHORDS))
        if len(stretch) >= FEWEST_CHORDS:
            verified = verify(
                stretch, places(stretch, catalogue, places_verified(len(stretch))), read_piece
            )
            found |= {each.piece for each in verified if each.elastic >= SAME_MUSIC_GAIN}
    return frozenset(found)
