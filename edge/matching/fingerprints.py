"""Fingerprints: three pitches from three chords that follow each other, and how they lie in time.

After Wang, "An industrial-strength audio search algorithm" (ISMIR 2003), who hashes pairs of
spectral peaks, and Arzt, Böck and Widmer, "Fast identification of piece and score position
via symbolic fingerprinting" (ISMIR 2012), who hash three notes and the ratio of the two
times between them, so that tempo falls out. Here the notes come from successive chords, with
one chord skipped now and then, because a wrong or missed note then costs a few fingerprints
only; and the ratio is coarse, because a pianist's time is not the score's.

All triples of a piece are some tens of thousands, and each says almost what its neighbours
say. So only those are kept whose hash falls below a bound: score and performance drop the
same ones without knowing of each other (Irber et al., "Lightweight compositional analysis of
metagenomes with FracMinHash", 2022, do this with genomes). The index shrinks by that factor,
the search gets faster by it, and enough fingerprints of ten seconds of music survive. The
bound is higher for the triples of the top line, which is all there is of a tune played with
one finger.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.matching.chords import Chords, outer_pitches

PITCHES_PER_CHORD = 2
"""The highest and the lowest: inner notes are heard least surely, and an index of the same
size finds more of the pieces without them."""

CHORD_STEPS = ((1, 1), (1, 2), (2, 1))
"""How many chords on the second and third note lie: one chord too many is stepped over."""

TOP_LINE_KEPT_ONE_IN = 2
OTHERS_KEPT_ONE_IN = 12
"""One triple in this many is kept: about 1,500 of a piece.

``python -m benchmarks.fingerprints`` sweeps these on the CC BY scores, perturbed. Among its
first thirty places the search then has 0.93 of 5 s windows with many mistakes and 0.90 of
10 s of the right hand alone; with one bound for all (1 in 6) it has 0.92 and 0.82, and with
four pitches of a chord 0.81 and 0.78.
"""

RATIO_EDGES_LOG2 = (-1.3, -0.5, 0.5, 1.3)
"""Bounds between the coarse time ratios, in octaves of (t3 - t2) / (t2 - t1): they lie between
1:3, 1:2, 1:1, 2:1 and 3:1, the ratios that notation makes."""

RATIO_MARGIN_LOG2 = 0.3
"""A played ratio this near to a bound is looked up on both of its sides."""

HASH_BITS = 32

SIGNATURE = (
    f"pitches {PITCHES_PER_CHORD}, steps {CHORD_STEPS}, "
    f"kept 1/{TOP_LINE_KEPT_ONE_IN} 1/{OTHERS_KEPT_ONE_IN}, ratios {RATIO_EDGES_LOG2}"
)
"""What a catalogue's fingerprints were made with: an index made otherwise finds nothing."""


@dataclass(frozen=True, slots=True)
class Fingerprints:
    """Fingerprints and the chord each begins at.

    Attributes
    ----------
    codes : uint32, shape (n,)
    chord : int64, shape (n,)
        Index of the first of the three chords.
    """

    codes: NDArray[np.uint32]
    chord: NDArray[np.int64]


def score_fingerprints(chords: Chords) -> Fingerprints:
    """What the catalogue keeps of a score: each triple under its one time ratio."""
    return _fingerprints(chords, margin_log2=0.0)


def query_fingerprints(chords: Chords) -> Fingerprints:
    """What is looked up of a performance: also under the next ratio where it is close."""
    return _fingerprints(chords, margin_log2=RATIO_MARGIN_LOG2)


def _fingerprints(chords: Chords, margin_log2: float) -> Fingerprints:
    triples = [np.zeros(0, dtype=np.uint64)]
    first = [np.zeros(0, dtype=np.int64)]
    ratios = [np.zeros(0)]
    pitches = outer_pitches(chords.keys, PITCHES_PER_CHORD)
    for second_step, third_step in CHORD_STEPS:
        span = second_step + third_step
        count = len(chords) - span
        if count <= 0:
            continue
        at = np.arange(count)
        kept, chord = _kept_triples(pitches, at, second_step, span)
        triples.append(kept)
        first.append(chord)
        ratios.append(_ratio_log2(chords.onset_s, at, second_step, span)[chord])
    offsets = (-margin_log2, margin_log2) if margin_log2 > 0 else (0.0,)
    ratio = np.add.outer(offsets, np.concatenate(ratios))
    bins = np.searchsorted(RATIO_EDGES_LOG2, ratio).astype(np.uint64)
    codes = _mixed(np.concatenate(triples) * np.uint64(8) + bins)
    return _without_repeats(codes.ravel(), np.tile(np.concatenate(first), len(offsets)))


def _kept_triples(
    pitches: NDArray[np.int64], at: NDArray[np.int64], second_step: int, span: int
) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """The sampled pitch triples as 21-bit numbers, and the chord each begins at."""
    one = pitches[at][:, :, None, None]
    two = pitches[at + second_step][:, None, :, None]
    three = pitches[at + span][:, None, None, :]
    triples = (one << 14) | (two << 7) | three
    there = (one >= 0) & (two >= 0) & (three >= 0)
    chord = np.broadcast_to(at[:, None, None, None], triples.shape)[there]
    numbers = triples[there].astype(np.uint64)
    bounds = np.full(triples.shape[1:], 2**HASH_BITS // OTHERS_KEPT_ONE_IN, dtype=np.uint32)
    bounds[0, 0, 0] = 2**HASH_BITS // TOP_LINE_KEPT_ONE_IN  # each chord's highest comes first
    kept = _mixed(numbers) < np.broadcast_to(bounds, triples.shape)[there]
    return numbers[kept], chord[kept]


def _ratio_log2(
    onset_s: NDArray[np.float64], at: NDArray[np.int64], second_step: int, span: int
) -> NDArray[np.float64]:
    before = onset_s[at + second_step] - onset_s[at]
    after = onset_s[at + span] - onset_s[at + second_step]
    ratio: NDArray[np.float64] = np.log2(np.maximum(after, 1e-6) / np.maximum(before, 1e-6))
    return ratio


def _mixed(numbers: NDArray[np.uint64]) -> NDArray[np.uint32]:
    """A well-stirred 32-bit hash (the finaliser of Steele's SplitMix64)."""
    with np.errstate(over="ignore"):
        z = numbers + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return (z & np.uint64(2**HASH_BITS - 1)).astype(np.uint32)


def _without_repeats(codes: NDArray[np.uint32], chord: NDArray[np.int64]) -> Fingerprints:
    both = np.unique((codes.astype(np.uint64) << np.uint64(32)) | chord.astype(np.uint64))
    return Fingerprints(
        codes=(both >> np.uint64(32)).astype(np.uint32),
        chord=(both & np.uint64(2**32 - 1)).astype(np.int64),
    )
