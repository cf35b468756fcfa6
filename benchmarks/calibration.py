"""``python -m benchmarks.calibration``: the weights and the confidence of the matching, fitted.

Perturbed CC BY scores are asked for twice, with their work in the catalogue and without, and
windows of POP909 once. Each time the best candidate is right or wrong. The weights of direct
matching and the five numbers of the confidence (``edge/matching/fusion.py``) are those that make
what happened likeliest. Nothing else is looked at.

Works that the archive itself does not join (two prints of one dance under two names) would be
taught as errors. So the pieces that hold the asked score's own notes, in a long stretch without
any mistake, count as the asked work.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from benchmarks.perturbed import (
    HEARD,
    PLAYER,
    performances,
    same_music,
    strangers,
    training_scores,
)
from edge.matching import Catalogue
from edge.matching.chords import Chords, chords_of_notes
from edge.matching.fusion import LOWEST_RIVAL, segmentation_sureness
from edge.matching.identification import FEWEST_CHORDS, MOST_CHORDS, places_verified
from edge.matching.search import places
from edge.matching.verification import PieceReader, Verified, verify
from edge.note import NoteEvent

SECONDS = (2.0, 3.0, 4.5, 6.5, 9.0, 13.0, 18.0, 25.0)
QUERIES = 90
SEED = 41
UNSURE_WEIGHTS = (0.0, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8)
SURE_WEIGHTS = (0.0, 0.05, 0.1, 0.2)


@dataclass(frozen=True, slots=True)
class Answer:
    """What was found for one query, and which pieces would be right."""

    verified: list[Verified]
    right: frozenset[int]
    chords: Chords


def main() -> None:
    scores = training_scores()
    catalogue = Catalogue.from_scores(scores)
    read_piece = lru_cache(maxsize=None)(catalogue.piece_chords)
    number = {piece.piece_id: index for index, piece in enumerate(catalogue.pieces)}
    versions = lru_cache(maxsize=None)(lambda piece: same_music(piece, catalogue, read_piece))
    rng = np.random.default_rng(SEED)
    answers: list[Answer] = []
    for seconds in SECONDS:
        for hands in (PLAYER, HEARD):
            for score, notes in performances(scores, QUERIES, seconds, hands, rng):
                same = versions(number[score.piece.piece_id])
                answers += _answer(notes, catalogue, read_piece, same, frozenset())
                answers += _answer(notes, catalogue, read_piece, frozenset(), same)
        for notes in strangers(QUERIES, seconds, rng):
            answers += _answer(notes, catalogue, read_piece, frozenset(), frozenset())
    right = sum(answer.verified[0].piece in answer.right for answer in answers)
    Console().print(f"{len(answers)} answers, {right} right")
    best = min(
        (_fit(answers, unsure, sure) for unsure in UNSURE_WEIGHTS for sure in SURE_WEIGHTS),
        key=lambda fit: fit[0],
    )
    loss, unsure, sure, weights = best
    Console().print(
        f"DIRECT_WEIGHT_UNSURE {unsure}, DIRECT_WEIGHT_SURE {sure}\n"
        f"CONFIDENCE: per fused {weights[0]:.1f}, per rival {weights[1]:.1f}, "
        f"per log distinct {weights[2]:.2f}, per log notes {weights[3]:.2f}, "
        f"offset {weights[4]:.1f} (log loss {loss:.1f})"
    )


def _answer(
    notes: list[NoteEvent],
    catalogue: Catalogue,
    read_piece: PieceReader,
    right: frozenset[int],
    left_out: frozenset[int],
) -> list[Answer]:
    """The answer where there is one; the pieces left out are not in the catalogue."""
    chords = chords_of_notes(notes).part(slice(0, MOST_CHORDS))
    if len(chords) < FEWEST_CHORDS:
        return []
    found = [
        place
        for place in places(chords, catalogue, places_verified(len(chords)))
        if place.piece not in left_out
    ]
    verified = verify(chords, found, read_piece)
    return [Answer(verified, right, chords)] if verified else []


def _fit(
    answers: list[Answer], unsure: float, sure: float
) -> tuple[float, float, float, NDArray[np.float64]]:
    rows, right = [], []
    for answer in answers:
        weight = unsure + (sure - unsure) * segmentation_sureness(answer.chords)
        fused = [weight * each.direct + (1 - weight) * each.elastic for each in answer.verified]
        best = answer.verified[int(np.argmax(fused))].piece
        # Versions of the work are no rivals of each other.
        same = answer.right if best in answer.right else {best}
        rivals = [
            value
            for value, each in zip(fused, answer.verified, strict=True)
            if each.piece not in same
        ]
        rival = max([LOWEST_RIVAL, *rivals])
        distinct = np.unique(answer.chords.keys, axis=0).shape[0]
        notes = answer.chords.sizes.sum()
        rows.append((max(fused), rival, np.log(distinct), np.log(notes), 1.0))
        right.append(best in answer.right)
    loss, weights = _logistic(np.array(rows), np.array(right, dtype=np.float64))
    return loss, unsure, sure, weights


def _logistic(
    features: NDArray[np.float64], right: NDArray[np.float64]
) -> tuple[float, NDArray[np.float64]]:
    """Newton's method; a ridge of 0.001 keeps it from running away."""
    weights = np.zeros(features.shape[1])
    ridge = 1e-3 * np.eye(features.shape[1])
    for _ in range(60):
        chance = 1.0 / (1.0 + np.exp(-np.clip(features @ weights, -40, 40)))
        slope = features.T @ (chance - right) + ridge @ weights
        curvature = features.T @ (features * (chance * (1 - chance))[:, None]) + ridge
        weights = weights - np.linalg.solve(curvature, slope)
    evidence = features @ weights
    return float(np.sum(np.logaddexp(0.0, evidence) - right * evidence)), weights


if __name__ == "__main__":
    main()
