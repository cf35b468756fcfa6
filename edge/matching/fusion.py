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

CONFIDENCE_PER_FUSED = 36.0
CONFIDENCE_PER_RIVAL = -18.0
CONFIDENCE_PER_LOG_DISTINCT = 6.2
CONFIDENCE_PER_LOG_NOTES = -4.05
CONFIDENCE_OFFSET = -17.8
"""The logistic fit: a candidate is believed the more, the better it fits, the worse the next
work fits, and the more chords were played that differ. Notes count against it: those that only
repeat say nothing new, and a broken chord that goes on for a page is in many pieces."""

LOWEST_RIVAL = 0.3
"""What some other work reaches anyway: in a catalogue of a few pieces, or where the search
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


def confidence(fused: float, rival: float, distinct_chords: int, notes: int) -> float:
    """Chance that a candidate with this score is the work being played, 0 to 1.

    Scales and broken chords fit many pieces well, and a few chords fit some piece by chance:
    so the score is weighed against what another work reaches with the same notes.

    Parameters
    ----------
    fused : float
        The candidate's score.
    rival : float
        Best score of another work that was matched in full.
    distinct_chords : int
        Chords played, those with the same keys counted once.
    notes : int
        Notes played.
    """
    evidence = (
        CONFIDENCE_PER_FUSED * fused
        + CONFIDENCE_PER_RIVAL * max(rival, LOWEST_RIVAL)
        + CONFIDENCE_PER_LOG_DISTINCT * math.log(max(distinct_chords, 1))
        + CONFIDENCE_PER_LOG_NOTES * math.log(max(notes, 1))
        + CONFIDENCE_OFFSET
    )
    return 1.0 / (1.0 + math.exp(-evidence))
