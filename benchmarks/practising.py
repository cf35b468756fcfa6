"""What practising does to a follower: jumps, one hand alone, an unknown place, another piece.

    python -m benchmarks.practising [--pieces 14] [--seed 7] [--heard]

The CC BY scores that may train, played on paper (``benchmarks.perturbed``: a wandering tempo,
hands apart, missed, wrong and added notes; ``--heard``: as an ear tells of it, with more of each).
It is what a change of a price in
``edge/following/follower.py`` is checked with. Right is within 0.6 of a quarter and
not called lost. A jump into a passage that the piece has twice cannot be right before the two
part; it is counted apart (``written_twice``): so many of the chords of its first three seconds
stand in the same order elsewhere.

At repeat signs the player goes where they lead or straight on; ``no_signs`` is the same playing,
followed in the score without its signs. Where both ways begin with the same three chords
(``repeats_alike``), nobody can know.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from benchmarks.perturbed import (
    HEARD,
    PLAYER,
    Hands,
    signed_scores,
    training_scores,
    wandering,
    with_mistakes,
)
from benchmarks.works import TRAINING
from edge.following import FollowedScore, follow
from edge.matching import Score
from edge.matching.score import no_repeats
from edge.note import HIGHEST_PITCH_MIDI, LOWEST_PITCH_MIDI, NoteEvent

STRETCH_QUARTERS = 30.0
RIGHT_QUARTERS = 0.6
RECOVERED_WITHIN_S = 3.0
FEWEST_NOTES = 20
JUMPS_A_PIECE = 4
SETTLED_NOTES = 10
PIECE_NOTES = (300, 3000)
SIGNS_A_PIECE = 4
BREATH_S = 0.3
"""How much later than in time a player may begin again."""
ALIKE_CHORDS = 3
ALIKE = 0.75
"""Share of chords from which on two passages are one passage, written twice."""

Notes = NDArray[np.float64]
"""Seconds, pitch and the quarter that is being played, shape (notes, 3), in order of time."""


def played(
    score: Score,
    quarters: tuple[float, float],
    tempo: float,
    rng: np.random.Generator,
    hand: int | None = None,
    hands: Hands = PLAYER,
) -> Notes:
    """A stretch of the score from time 0, as a player would."""
    inside = (score.onset_quarters >= quarters[0]) & (score.onset_quarters < quarters[1])
    if hand is not None:
        inside &= score.hand == hand
    if not inside.any():
        return np.zeros((0, 3))
    onset_s = score.onset_s[inside]
    true_s = wandering(onset_s - onset_s[0], rng) / tempo
    at_s, pitch = with_mistakes(true_s, score.pitch_midi[inside].astype(np.int64), hands, rng)
    place = np.interp(at_s, true_s, score.onset_quarters[inside])
    kept = (pitch >= LOWEST_PITCH_MIDI) & (pitch <= HIGHEST_PITCH_MIDI)
    rows = np.stack((np.maximum(at_s, 0.0), pitch, place), axis=1)[kept]
    return rows[np.lexsort((rows[:, 1], rows[:, 0]))]


def written_twice(known: FollowedScore, quarters: float, written_s: float) -> bool:
    """Whether the passage that begins here is written somewhere else too."""
    keys, onset_s = known.keys[: known.whole], known.onset_s[: known.whole]
    first = int(np.searchsorted(known.onset_quarters[: known.whole], quarters - 1e-6))
    after = int(np.searchsorted(onset_s, onset_s[first] + written_s))
    alike = np.zeros(known.whole - (after - first) + 1)
    for chord in range(first, after):
        shift = chord - first
        alike += (keys[shift : shift + alike.size] == keys[chord]).all(axis=1)
    alike[first] = 0
    return bool(alike.max(initial=0) >= ALIKE * (after - first))


def followed(
    score: Score, followed_score: FollowedScore, notes: Notes, start: float | None
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """For each note, whether its place was told rightly, and whether it was told at all."""
    origin = min(0.0, score.onset_quarters[0], *score.bar_quarters[:1])
    events = [NoteEvent(int(row[1]), float(row[0]), None, 64, 1.0) for row in notes]
    found = follow(followed_score, events, None if start is None else start - origin)
    told = np.array([not position.lost for position in found])
    off = np.array([position.quarters for position in found]) + origin - notes[:, 2]
    return told & (np.abs(off) < RIGHT_QUARTERS), told


def measure(pieces: int, seed: int, hands: Hands = PLAYER) -> dict[str, Any] | None:
    """Shares and seconds; None where the data is not beside the project."""
    if not TRAINING.is_dir():
        return None
    rng = np.random.default_rng(seed)
    fitting = [s for s in training_scores() if PIECE_NOTES[0] < s.pitch_midi.size < PIECE_NOTES[1]]
    scores = [fitting[each] for each in rng.permutation(len(fitting))[:pieces]]
    recovered_s, twice, after_jump, wrong_after_jump = [], [], [], []
    alone: list[np.bool_] = []
    unknown: list[np.bool_] = []
    other: list[np.bool_] = []
    for number, score in track(list(enumerate(scores)), "practice", console=Console(stderr=True)):
        known = FollowedScore.of_score(score)
        end = float(score.onset_quarters[-1])
        for _ in range(JUMPS_A_PIECE):
            tempo = 2 ** rng.uniform(-0.6, 0.6)
            until, to = rng.uniform(0.3, 1.0) * end, rng.uniform(0.0, 0.8) * end
            if rng.random() < 0.8 and score.bar_quarters.size:
                to = float(score.bar_quarters[max(np.searchsorted(score.bar_quarters, to) - 1, 0)])
            start = max(until - STRETCH_QUARTERS, 0.0)
            first = played(score, (start, until), tempo, rng, hands=hands)
            again = played(score, (to, to + STRETCH_QUARTERS), tempo, rng, hands=hands)
            if min(len(first), len(again)) < FEWEST_NOTES:
                continue
            again[:, 0] += first[-1, 0] + rng.uniform(0.2, 1.5)
            right, told = followed(score, known, np.concatenate((first, again)), start)
            right, told = right[len(first) :], told[len(first) :]
            since_s = again[:, 0] - again[0, 0]
            recovered_s.append(since_s[right][0] if right.any() else np.inf)
            origin = min(0.0, score.onset_quarters[0], *score.bar_quarters[:1])
            twice.append(written_twice(known, to - origin, RECOVERED_WITHIN_S * tempo))
            if twice[-1]:
                continue
            late = since_s > RECOVERED_WITHIN_S
            after_jump.extend(right[late])
            wrong_after_jump.extend((told & ~right)[late])
        for hand in (1, 2):
            notes = played(score, (0.0, 2 * STRETCH_QUARTERS), 1.0, rng, hand, hands)
            if len(notes) >= FEWEST_NOTES:
                alone.extend(followed(score, known, notes, float(notes[0, 2]))[0])
        stretch = (0.4 * end, 0.4 * end + STRETCH_QUARTERS)
        notes = played(score, stretch, 1.0, rng, hands=hands)
        unknown.extend(followed(score, known, notes, None)[0][FEWEST_NOTES:])
        stranger = scores[(number + 1) % len(scores)]
        notes = played(stranger, (0.0, 2 * STRETCH_QUARTERS), 1.0, rng, hands=hands)
        other.extend(followed(score, known, notes, None)[1][SETTLED_NOTES:])
    in_time, once = np.array(recovered_s) < RECOVERED_WITHIN_S, ~np.array(twice)
    return {
        "jumps": int(once.sum()),
        "found_within_3_s": float(np.mean(in_time[once])),
        "median_s": float(np.median(np.array(recovered_s)[once])),
        "jumps_written_twice": int((~once).sum()),
        "written_twice_within_3_s": float(np.mean(in_time[~once])),
        "right_from_3_s_on": float(np.mean(after_jump)),
        "wrongly_told_from_3_s_on": float(np.mean(wrong_after_jump)),
        "one_hand_alone_right": float(np.mean(alone)),
        "unknown_place_right_from_note_20_on": float(np.mean(unknown)),
        "another_piece_told": float(np.mean(other)),
        **at_signs(pieces, seed, hands),
    }


def at_signs(pieces: int, seed: int, hands: Hands = PLAYER) -> dict[str, Any]:
    """Right within the first notes and seconds after a repeat sign, taken and not."""
    rng = np.random.default_rng(seed)
    scores = signed_scores(pieces, PIECE_NOTES, rng)
    kinds = {
        f"{way}{signs}": _AfterSigns()
        for way in ("repeat_taken", "repeat_not_taken")
        for signs in ("", "_no_signs")
    }
    alike = 0
    for score in track(scores, "repeats", console=Console(stderr=True)):
        known = FollowedScore.of_score(score)
        without = FollowedScore.of_score(replace(score, repeat_quarters=no_repeats()))
        passages = rng.permutation(score.repeat_quarters)[:SIGNS_A_PIECE].tolist()
        for until, to in passages:
            start = max(until - STRETCH_QUARTERS, 0.0)
            first = played(score, (start, until), 2 ** rng.uniform(-0.4, 0.4), rng, hands=hands)
            for way, on in (("repeat_taken", to), ("repeat_not_taken", until)):
                notes = _joined(first, until, score, on, rng, hands)
                if notes is None:
                    continue
                if _begins_alike(score, until, to):
                    alike += 1
                    continue
                for signs, followed_score in (("", known), ("_no_signs", without)):
                    right, _ = followed(score, followed_score, notes, start)
                    after, at_s = right[len(first) :], notes[len(first) :, 0]
                    kinds[way + signs].add(after, at_s - at_s[0])
    found: dict[str, Any] = {"repeats_alike": alike}
    for name, each in kinds.items():
        found |= {f"{name}_{what}": value for what, value in each.shares().items()}
    return found


@dataclass(slots=True)
class _AfterSigns:
    """What was right after the signs, sign by sign: the first notes, the first seconds."""

    second: list[np.bool_] = field(default_factory=list)
    fourth: list[np.bool_] = field(default_factory=list)
    early: list[np.bool_] = field(default_factory=list)

    def add(self, right: NDArray[np.bool_], since_s: NDArray[np.float64]) -> None:
        self.second.append(right[1])
        self.fourth.append(right[3])
        self.early.extend(right[since_s < RECOVERED_WITHIN_S])

    def shares(self) -> dict[str, float]:
        return {
            "times": len(self.second),
            "right_at_note_2": float(np.mean(self.second)),
            "right_at_note_4": float(np.mean(self.fourth)),
            "right_in_first_3_s": float(np.mean(self.early)),
        }


def _joined(
    first: Notes,
    until: float,
    score: Score,
    on: float,
    rng: np.random.Generator,
    hands: Hands,
) -> Notes | None:
    """What was played up to a sign, and what comes after it, in the tempo of the last notes."""
    if len(first) < FEWEST_NOTES:
        return None
    late = first[-FEWEST_NOTES:]
    s_per_quarter = np.ptp(late[:, 0]) / max(np.ptp(late[:, 2]), 0.1)
    written = score.onset_quarters >= on
    written &= score.onset_quarters < on + STRETCH_QUARTERS
    if written.sum() < FEWEST_NOTES:
        return None
    written_s = np.ptp(score.onset_s[written]) / max(np.ptp(score.onset_quarters[written]), 0.1)
    tempo = float(np.clip(written_s / s_per_quarter, 0.4, 2.5))
    again = played(score, (on, on + STRETCH_QUARTERS), tempo, rng, hands=hands)
    if len(again) < FEWEST_NOTES:
        return None
    due_s = late[-1, 0] + (until - late[-1, 2]) * s_per_quarter
    due_s += (score.onset_quarters[written][0] - on) * s_per_quarter
    again[:, 0] += max(due_s + rng.uniform(0.0, BREATH_S), late[-1, 0] + 0.05)
    return np.concatenate((first, again))


def _begins_alike(score: Score, one: float, other: float) -> bool:
    """Whether the first chords after two places are the same."""
    begun = []
    for place in (one, other):
        later = np.unique(score.onset_quarters[score.onset_quarters >= place - 1e-6])
        chords = (score.pitch_midi[score.onset_quarters == at] for at in later[:ALIKE_CHORDS])
        begun.append([sorted(set(chord.tolist())) for chord in chords])
    return begun[0] == begun[1]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--pieces", type=int, default=14)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--heard", action="store_true", help="with the mistakes of an ear")
    given = parser.parse_args()
    hands = HEARD if given.heard else PLAYER
    Console().print(measure(given.pieces, given.seed, hands) or f"practice left out: no {TRAINING}")
