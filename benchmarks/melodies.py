"""Is the tune named? Melodies hummed, whistled and picked out, against whole catalogues of scores.

A phrase of 8 to 20 notes is taken from a random place of the top line of a CC BY score
(`edge.matching.melody.top_lines`: where the score's melody lies elsewhere, this asks for what lies
on top), as far as somebody could sing it: within two octaves, without long rests. A singer who
never was sings it (`benchmarks.singing`), and `edge.matching.hummed` hears the sound; or one
finger picks it out, unevenly, with one wrong note and one missed. Asked is the catalogue of the CC
BY scores, and that of all scores at hand. An answer is right when the work is named first, or
among the first five. Each is asked again with its work left out: what is called matched then is a
false claim.

What is set in the matching was set on half of the works (``--fit`` prints the confidence's
constants, which are fitted to that half); what is reported is the other half.
"""

from __future__ import annotations

import argparse
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track

from benchmarks.singing import some_singer, sound_of, sung_notes
from benchmarks.works import PERFORMANCES, catalogue
from edge.matching import Catalogue, MatchState, PieceMatch
from edge.matching.hummed import melody_of_voice
from edge.matching.melody import (
    LOWEST_BACKGROUND,
    MOST_NOTES,
    Melody,
    TopLines,
    answer,
    passages,
    says_enough,
    top_lines,
)
from edge.resources import shipped_dir

LENGTHS = (8, 12, 16, 20)
SEED = 1
OF_EACH_LENGTH = 50
WIDEST_SEMITONES = 24
LONGEST_REST_QUARTERS = 4.0
FEWEST_PITCHES = 4
MIDDLE_STEP_S = 0.4
"""The phrase's middle step at tempo 1: nobody sings semiquavers at a pianist's pace."""
RIDGE = 1e-3

SUNG, ONE_FINGER = "sung", "one finger"


@dataclass(frozen=True, slots=True)
class Query:
    """A melody that was asked about, and where it is from."""

    kind: str
    notes: int
    work_id: str
    melody: Melody


def phrases(
    pieces: Catalogue, lines: TopLines, notes: int, rng: np.random.Generator, *, tuning: bool
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Work, pitches and onsets in quarters of random phrases of one half of the works."""
    while True:
        number = int(rng.integers(len(pieces)))
        work_id = pieces.pieces[number].work_id
        first, last = int(lines.start[number]), int(lines.start[number + 1])
        if (zlib.crc32(work_id.encode()) % 2 == 0) != tuning or last - first < 2 * notes:
            continue
        begin = int(rng.integers(first, last - notes + 1))
        pitch = lines.pitch[begin : begin + notes].astype(np.float64)
        quarters = lines.quarters[begin : begin + notes].astype(np.float64)
        if (
            np.ptp(pitch) <= WIDEST_SEMITONES
            and np.unique(pitch).size >= FEWEST_PITCHES
            and np.diff(quarters).max() <= LONGEST_REST_QUARTERS
        ):
            pace = MIDDLE_STEP_S / 0.6 / float(np.median(np.diff(quarters)))
            yield work_id, pitch, (quarters - quarters[0]) * pace


def sung(pitch: np.ndarray, quarters: np.ndarray, rng: np.random.Generator) -> Melody:
    """A phrase as it was heard from a singer, in a voice's register."""
    register = 12 * round((float(pitch.mean()) - rng.choice([52, 60, 66])) / 12)
    singer = some_singer(rng)
    meant = sung_notes(pitch - register, quarters, singer, rng)
    return melody_of_voice(sound_of(meant, singer, rng))


def picked_out(pitch: np.ndarray, quarters: np.ndarray, rng: np.random.Generator) -> Melody:
    """A phrase as one finger plays it: uneven, in some key, a note wrong and another missed."""
    wrong, missed = rng.choice(pitch.size, 2, replace=False)
    steps_s = np.diff(quarters) * 0.6 / 2.0 ** rng.uniform(-1.0, 1.0)
    steps_s *= np.exp(rng.normal(0.0, 0.15, steps_s.size))
    played = pitch + rng.integers(-6, 7)
    played[wrong] += rng.choice([-2, -1, 1, 2])
    onset_s = np.concatenate(([0.0], np.cumsum(steps_s)))
    return Melody(np.delete(played, missed), np.delete(onset_s, missed))


def queries(pieces: Catalogue, lines: TopLines, of_each: int, *, tuning: bool) -> list[Query]:
    """The melodies that are asked about, the same every time."""
    asked = []
    for notes in track(LENGTHS, "singing", console=Console(stderr=True)):
        rng = np.random.default_rng([SEED, notes, int(tuning)])
        found = phrases(pieces, lines, notes, rng, tuning=tuning)
        for _ in range(of_each):
            work_id, pitch, quarters = next(found)
            asked.append(Query(SUNG, notes, work_id, sung(pitch, quarters, rng)))
            asked.append(Query(ONE_FINGER, notes, work_id, picked_out(pitch, quarters, rng)))
    return asked


@dataclass(frozen=True, slots=True)
class Asked:
    """A query and both of its answers; ``stranger`` is that without its work."""

    query: Query
    answer: PieceMatch
    stranger: PieceMatch
    fits: tuple[tuple[str, float], ...]
    taken_ms: float

    @property
    def right(self) -> bool:
        """The work is named first."""
        named = self.answer.candidates[:1]
        return bool(named) and named[0].work_id == self.query.work_id


def ask(
    asked: list[Query], pieces: Catalogue, lines: TopLines, work_of: dict[str, str], what: str
) -> list[Asked]:
    """Ask a catalogue, whose pieces belong to the works of ``work_of``."""
    joined = _Joined(pieces, work_of)
    found = []
    for query in track(asked, what, console=Console(stderr=True)):
        melody = query.melody.first(MOST_NOTES)
        began_s = time.perf_counter()
        sung_like = passages(melody, lines) if says_enough(melody) else []
        best = answer(melody, sung_like, joined, lines)
        taken_ms = (time.perf_counter() - began_s) * 1e3
        stranger = answer(melody, sung_like, joined, lines, {query.work_id})
        fits = tuple((joined.pieces[each.piece].work_id, each.fit) for each in sung_like)
        found.append(Asked(query, best, stranger, fits, taken_ms))
    return found


class _Joined(Catalogue):
    """A catalogue whose pieces belong to the works of a larger one."""

    def __init__(self, pieces: Catalogue, work_of: dict[str, str]) -> None:
        super().__init__(pieces.packs)
        named = [replace(p, work_id=work_of.get(p.piece_id, p.work_id)) for p in pieces.pieces]
        self.__dict__["pieces"] = tuple(named)


def figures(found: list[Asked]) -> dict[str, dict[str, float]]:
    """Shares of right answers and of claims, for each kind and length; milliseconds an answer."""
    rows: dict[str, list[Asked]] = {}
    for each in found:
        rows.setdefault(f"{each.query.kind}, {each.query.notes} notes", []).append(each)
    return {row: _shares(of_row) for row, of_row in {**rows, "all": found}.items()}


def _shares(found: list[Asked]) -> dict[str, float]:
    def share(holds: Callable[[Asked], bool]) -> float:
        return sum(holds(each) for each in found) / len(found)

    matched = MatchState.MATCHED
    return {
        "first": share(lambda a: a.right),
        "first_five": share(
            lambda a: a.query.work_id in [each.work_id for each in a.answer.candidates]
        ),
        "matched_rightly": share(lambda a: a.answer.state is matched and a.right),
        "matched_wrongly": share(lambda a: a.answer.state is matched and not a.right),
        "matched_though_unknown": share(lambda a: a.stranger.state is matched),
        "median_ms": float(np.median([each.taken_ms for each in found])),
    }


def fitted_confidence(found: list[Asked]) -> dict[str, float]:
    """The constants of `edge.matching.melody.confidence`, with the work and without."""
    features, right = [], []
    for each in found:
        for without in ("", each.query.work_id):
            best: dict[str, float] = {}
            for work_id, fit in each.fits:
                if work_id != without:
                    best.setdefault(work_id, fit)
            if len(best) > 1:
                fits = list(best.values())
                background = max(float(np.median(fits[1:])), LOWEST_BACKGROUND)
                features.append((fits[0], background, 1.0))
                right.append(next(iter(best)) == each.query.work_id)
    weights = _logistic(np.array(features), np.array(right, np.float64))
    names = ("per_fit", "per_background", "offset")
    return dict(zip(names, weights.tolist(), strict=True))


def _logistic(features: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Weights of a logistic regression, by Newton's method."""
    weights = np.zeros(features.shape[1])
    for _ in range(100):
        chance = 1.0 / (1.0 + np.exp(-features @ weights))
        slope = features.T @ (right - chance) - RIDGE * weights
        bend = (features * (chance * (1.0 - chance))[:, None]).T @ features
        weights = weights + np.linalg.solve(bend + RIDGE * np.eye(weights.size), slope)
    return weights


def measure(of_each: int = OF_EACH_LENGTH, *, tuning: bool = False) -> dict[str, Any]:
    """All figures, on the works that nothing was set by; ``tuning``: the constants instead."""
    own = Catalogue.open(shipped_dir() / "catalogue" / "cc_by")
    own_lines = top_lines(own)
    everything = catalogue()
    work_of = {piece.piece_id: piece.work_id for piece in everything.pieces}
    asked = queries(_Joined(own, work_of), own_lines, of_each, tuning=tuning)
    among_own = ask(asked, own, own_lines, work_of, f"asking {len(own)} CC BY scores")
    began_s = time.perf_counter()
    all_lines = top_lines(everything)
    lines_s = time.perf_counter() - began_s
    among_all = ask(asked, everything, all_lines, work_of, f"asking {len(everything)} scores")
    if tuning:
        return fitted_confidence(among_own + among_all)
    heard = [len(each.melody) / each.notes for each in asked if each.kind == SUNG]
    return {
        "top_lines_s": lines_s,
        "top_lines_mb": all_lines.nbytes / 1e6,
        "sung_notes_heard": float(np.mean(heard)),
        f"among {len(own)}": figures(among_own),
        f"among {len(everything)}": figures(among_all),
    }


def main() -> None:
    """Print the figures, or with ``--fit`` the constants."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("--fit", action="store_true", help="the confidence's constants instead")
    arguments.add_argument("--of-each", type=int, default=OF_EACH_LENGTH, metavar="N")
    given = arguments.parse_args()
    if not PERFORMANCES.exists():
        raise SystemExit(f"melodies left out: no {PERFORMANCES}")
    Console().print_json(data=measure(given.of_each, tuning=given.fit))


if __name__ == "__main__":
    main()
