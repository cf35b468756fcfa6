"""``python -m benchmarks.liberties``: what a player may do to a piece and still be known.

Ten seconds of perturbed CC BY scores at half and at double tempo, in another key, one hand alone,
with every third note heard twice, and with three mistakes in ten notes. For each: how often the
right work (or one that holds the same notes) comes first, and is called matched.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.perturbed import (
    ANY_TEMPO,
    HEARD,
    PLAYER,
    Hands,
    one_hand,
    performances,
    same_music,
    strangers,
    training_scores,
)
from edge.matching import Catalogue, MatchState, Score, identify
from edge.matching.identification import FARTHEST_TRANSPOSITION
from edge.matching.score import Hand
from edge.note import NoteEvent

SECONDS = 10.0
WINDOWS = 60
SEED = 31
NERVOUS = Hands(apart_s=0.02, rolled=0.06, missed=0.12, added=0.12, beside=0.06)

Asked = list[tuple[Score, list[NoteEvent]]]


def in_another_key(asked: Asked, rng: np.random.Generator) -> Asked:
    """Everything moved by up to six semitones, but never by none."""
    moves = [each for each in range(-FARTHEST_TRANSPOSITION, FARTHEST_TRANSPOSITION + 1) if each]
    moved = []
    for score, notes in asked:
        by = int(rng.choice(moves))
        moved.append((score, [replace(n, pitch_midi=n.pitch_midi + by) for n in notes]))
    return moved


def with_split_notes(asked: Asked, rng: np.random.Generator) -> Asked:
    """Every third note is heard a second time, 60 to 150 ms later."""
    return [
        (
            score,
            notes
            + [replace(n, onset_s=n.onset_s + float(rng.uniform(0.06, 0.15))) for n in notes[::3]],
        )
        for score, notes in asked
    ]


def main() -> None:
    scores = training_scores()
    rng = np.random.default_rng(SEED)

    def played(of: list[Score], hands: Hands, octaves: tuple[float, float] = ANY_TEMPO) -> Asked:
        return performances(of, WINDOWS, SECONDS, hands, rng, octaves)

    alone = {
        hand: [each for score in scores if (each := one_hand(score, hand))]
        for hand in (Hand.RIGHT, Hand.LEFT)
    }
    asked = {
        "as a player plays": played(scores, PLAYER),
        "as it is heard": played(scores, HEARD),
        "at half tempo": played(scores, PLAYER, (-1.0, -0.9)),
        "at double tempo": played(scores, PLAYER, (0.9, 1.0)),
        "right hand alone": played(alone[Hand.RIGHT], PLAYER),
        "left hand alone": played(alone[Hand.LEFT], PLAYER),
        "split notes": with_split_notes(played(scores, PLAYER), rng),
        "three mistakes in ten": played(scores, NERVOUS),
        "in another key": in_another_key(played(scores, PLAYER), rng),
    }
    catalogue = Catalogue.from_scores(scores)
    number = {piece.piece_id: index for index, piece in enumerate(catalogue.pieces)}

    @cache
    def versions(piece_id: str) -> frozenset[str]:
        same = same_music(number[piece_id], catalogue, catalogue.piece_chords)
        return frozenset(catalogue.pieces[each].piece_id for each in same)

    table = Table("10 s", "right at first", "matched, rightly", "matched, wrongly")
    for name, windows in asked.items():
        right, matched = [], []
        for score, notes in track(windows, name, transient=True):
            answer = identify(notes, catalogue, transposed=name == "in another key")
            best = answer.candidates[0].piece_id if answer.candidates else ""
            right.append(best in versions(score.piece.piece_id))
            matched.append(answer.state is MatchState.MATCHED)
        is_right, is_matched = np.array(right), np.array(matched)
        shares = (is_right, is_right & is_matched, ~is_right & is_matched)
        table.add_row(name, *(f"{share.mean():.3f}" for share in shares))
    unknown = [
        identify(notes, catalogue, transposed=transposed).state is MatchState.MATCHED
        for notes in strangers(WINDOWS, SECONDS, rng)
        for transposed in (False, True)
    ]
    for name, claimed in (("POP909", unknown[::2]), ("POP909, any key", unknown[1::2])):
        table.add_row(name, "–", "–", f"{np.mean(claimed):.3f}")
    Console().print(table)


if __name__ == "__main__":
    main()
