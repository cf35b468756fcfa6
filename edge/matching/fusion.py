"""Weighted fusion: what direct matching and time warping say together, and how far to trust it.

The two halves err differently. Time warping lives on chords, and suffers where the ear splits
or joins them; direct matching lives on rhythm, and suffers where the player does not keep
time. The weight between them therefore follows how sure the segmentation is: how confident
the notes are, and how densely they come.

The confidence that comes out is the chance that the best candidate is the work being played
at all, rather than the nearest neighbour of a work that the catalogue does not hold.
"""

from __future__ import annotations

import math

from edge.matching.chords import Chords

DENSE_CHORDS_PER_S = 12.0
"""Onsets come so fast that neighbouring ones are heard as one: the ear's note resolution."""

DIRECT_WEIGHT_SURE = 0.0
DIRECT_WEIGHT_UNSURE = 0.2
"""Weight of direct matching where the segmentation is quite sure and quite unsure.

Origin, as of the constants below: the fit of ``python -m benchmarks.calibration`` on the
CC BY scores, perturbed (with the work in the catalogue, and without), and on POP909 (never in
it). Nothing else was looked at.
"""

CONFIDENCE_PER_FUSED = 32.4
CONFIDENCE_PER_BACKGROUND = -23.5
CONFIDENCE_PER_LOG_CHORDS = 1.59
CONFIDENCE_OFFSET = -16.7
"""The logistic fit: a candidate is believed the more, the better it fits, the worse the other
works fit, and the more was played."""

LOWEST_BACKGROUND = 0.3
"""What other works reach at the median: in a catalogue of a few pieces, or where the search
found few places, there may be none to compare with."""


def segmentation_sureness(chords: Chords) -> float:
    """How sure it is where the chords lie, 0 to 1.

    The mean confidence of the notes, less the share of full density that the onsets reach.
    """
    if len(chords) < 2:
        return 0.0
    span_s = max(float(chords.onset_s[-1] - chords.onset_s[0]), 1e-3)
    density = min((len(chords) - 1) / span_s / DENSE_CHORDS_PER_S, 1.0)
    return float(chords.confidence.mean()) * (1.0 - density)


def fused_score(direct: float, elastic: float, sureness: float) -> float:
    """Weighted mean of the two matchings, at most 1.

    Parameters
    ----------
    direct : float
        Of :func:`edge.matching.direct.direct_match`.
    elastic : float
        Gain of :func:`edge.matching.dtw.align`.
    sureness : float
        Of :func:`segmentation_sureness`.
    """
    weight = DIRECT_WEIGHT_UNSURE + (DIRECT_WEIGHT_SURE - DIRECT_WEIGHT_UNSURE) * sureness
    return weight * direct + (1.0 - weight) * elastic


def confidence(fused: float, background: float, chords: int) -> float:
    """Chance that a candidate with this score is the work being played, 0 to 1.

    Scales and broken chords fit many pieces well, and a few chords fit some piece by chance:
    so the score is weighed against what the run of other works reaches with the same notes.

    Parameters
    ----------
    fused : float
        The candidate's score.
    background : float
        Median score of the other works that were matched in full.
    chords : int
        Chords played.
    """
    evidence = (
        CONFIDENCE_PER_FUSED * fused
        + CONFIDENCE_PER_BACKGROUND * max(background, LOWEST_BACKGROUND)
        + CONFIDENCE_PER_LOG_CHORDS * math.log(max(chords, 1))
        + CONFIDENCE_OFFSET
    )
    return 1.0 / (1.0 + math.exp(-evidence))
