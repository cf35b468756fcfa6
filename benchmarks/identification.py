"""Is the piece named? Music that was really played, against more than two thousand scores.

    python -m benchmarks.identification [--whole] [--seed 1] [--json]

``benchmarks/works.py`` says what the catalogue holds and what asks. Two things are measured.

*Windows*: 5, 10 and 20 s from a random place after the first note, with eight onsets at least.
Right is an answer whose first candidate is a version of the work. Each window is asked again with
its work left out: whatever is called matched then is a false claim. On the human performances the
parts are measured too: the fingerprints' first place, and the best by direct matching and by time
warping among the places that are matched in full.

*Live*: music from its first note through the piece tracker, its notes a quarter of a second late,
as from an ear. When is the right work published as matched? With its work left out, and for
POP909, which no catalogue holds: is any, within 30 s? And the same with 20 s of something else
before it, to see how soon it is noticed that the player has gone on.

All that can be asked is too much for every day: ``--whole`` asks it; without it there are two
windows of one performance of each work, and sixty of these live. Shares come with Wilson's
interval (95 %).
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from operator import eq
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track

from benchmarks import live_naming, works
from benchmarks.perturbed import strangers
from benchmarks.works import Music
from edge.matching import Catalogue, MatchState, PieceTracker, identify
from edge.matching.chords import chords_of_notes
from edge.matching.identification import MOST_CHORDS, places_verified
from edge.matching.search import places
from edge.matching.verification import verify

PERFORMED, TRANSCRIBED, RECORDED = "performances", "transcriptions", "recordings"
GOALS = {
    PERFORMED: {5.0: 0.96, 10.0: 0.99, 20.0: 0.995},
    TRANSCRIBED: {5.0: 0.95, 10.0: 0.97, 20.0: 0.98},
    RECORDED: {10.0: 0.95, 20.0: 0.98},
}
LIVE_GOALS = {10.0: 0.90, 20.0: 0.97}
FALSE_GOAL = 0.02
UNKNOWN_S = 30.0
BEFORE_S = 20.0
"""How much of another piece is played before the one that the player goes on to."""

FEWEST_ONSETS = 8
TRIES = 50
Z_95 = 1.96


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is asked: windows of each file, files of each kind live, windows of POP909."""

    windows: dict[str, int]
    one_of_each_work: bool
    live: int
    strangers: int


QUICK = Effort(
    {PERFORMED: 2, TRANSCRIBED: 4, RECORDED: 10}, one_of_each_work=True, live=60, strangers=60
)
WHOLE = Effort(
    {PERFORMED: 4, TRANSCRIBED: 16, RECORDED: 40}, one_of_each_work=False, live=1000, strangers=300
)


@dataclass(frozen=True, slots=True)
class Share:
    """How many of how many, with Wilson's interval (JASA 1927)."""

    count: int
    of: int

    @classmethod
    def of_all(cls, found: Iterable[bool]) -> Share:
        """The share of those that are true."""
        all_of_them = list(found)
        return cls(sum(all_of_them), len(all_of_them))

    @property
    def value(self) -> float:
        return self.count / max(self.of, 1)

    @property
    def interval(self) -> tuple[float, float]:
        """Lowest and highest share that what was seen does not speak against, at 95 %."""
        n, z2 = max(self.of, 1), Z_95**2
        middle = (self.value + z2 / (2 * n)) / (1 + z2 / n)
        half = Z_95 / (1 + z2 / n) * math.sqrt(self.value * (1 - self.value) / n + z2 / (4 * n * n))
        return max(middle - half, 0.0), min(middle + half, 1.0)

    def figures(self) -> dict[str, Any]:
        low, high = self.interval
        return {"share": self.value, "low": low, "high": high, "of": self.of}


@dataclass(frozen=True, slots=True)
class Answered:
    """What one window was answered; ``parts`` says which of the parts alone were right."""

    music: Music
    right: bool
    matched: bool
    stranger_matched: bool
    parts: dict[str, bool]
    taken_ms: float


def windows(
    played: Sequence[Music], seconds: float, each: int, rng: np.random.Generator
) -> list[Music]:
    """``each`` random windows of everything; fewer where there are too few notes."""
    found = []
    for music in played:
        onset_s = np.array([note.onset_s for note in music.notes])
        last_s = max(onset_s[-1] - seconds, onset_s[0])
        for _ in range(each):
            for start_s in rng.uniform(onset_s[0], last_s, TRIES):
                first, end = np.searchsorted(onset_s, (start_s, start_s + seconds))
                if end - first >= FEWEST_ONSETS:
                    found.append(replace(music, notes=music.notes[first:end]))
                    break
    return found


def answered(music: Music, pieces: Catalogue, with_parts: bool) -> Answered:
    """Ask about a window, with its work in the catalogue and without."""
    began_s = time.perf_counter()
    answer = identify(music.notes, pieces)
    taken_ms = (time.perf_counter() - began_s) * 1e3
    best = answer.candidates[0].work_id if answer.candidates else ""
    stranger = identify(music.notes, pieces, without_works={music.work_id})
    return Answered(
        music=music,
        right=best == music.work_id,
        matched=answer.state is MatchState.MATCHED,
        stranger_matched=stranger.state is MatchState.MATCHED,
        parts=_parts(music, pieces) if with_parts else {},
        taken_ms=taken_ms,
    )


def _parts(music: Music, pieces: Catalogue) -> dict[str, bool]:
    """Whether each part alone would have been right."""

    def is_right(piece: int) -> bool:
        return pieces.pieces[piece].work_id == music.work_id

    chords = chords_of_notes(music.notes).part(slice(0, MOST_CHORDS))
    found = places(chords, pieces, places_verified(len(chords)))
    verified = verify(chords, found, pieces.piece_chords)
    direct = max(verified, key=lambda each: each.direct, default=None)
    elastic = max(verified, key=lambda each: each.elastic, default=None)
    return {
        "fingerprints": bool(found) and is_right(found[0].piece),
        "among_places": any(is_right(place.piece) for place in found),
        "direct": direct is not None and is_right(direct.piece),
        "dtw": elastic is not None and is_right(elastic.piece),
    }


def window_figures(
    played: dict[str, list[Music]], pieces: Catalogue, effort: Effort, seed: int
) -> dict[str, dict[str, Any]]:
    """Of each kind of music and each length: how often right, and how often claimed."""
    figures: dict[str, dict[str, Any]] = {}
    for kind, music in played.items():
        for seconds in GOALS[kind]:
            asked = windows(music, seconds, effort.windows[kind], np.random.default_rng(seed))
            answers = [
                answered(each, pieces, with_parts=kind == PERFORMED)
                for each in _tracked(asked, f"{kind}, {seconds:g} s")
            ]
            figures.setdefault(kind, {})[f"{seconds:g}"] = _window_figures(answers)
    return figures


def _window_figures(answers: list[Answered]) -> dict[str, Any]:
    by_source = defaultdict(list)
    for each in answers:
        by_source[each.music.source].append(each)
    taken_ms = [each.taken_ms for each in answers]
    parts = {
        part: Share.of_all(each.parts[part] for each in answers).value for part in answers[0].parts
    }
    return {
        "right": Share.of_all(each.right for each in answers).figures(),
        "right_in": {
            source: Share.of_all(each.right for each in found).figures()
            for source, found in by_source.items()
        },
        "matched_rightly": Share.of_all(each.matched and each.right for each in answers).figures(),
        "matched_wrongly": Share.of_all(
            each.matched and not each.right for each in answers
        ).figures(),
        "unknown_matched": Share.of_all(each.stranger_matched for each in answers).figures(),
        "right_alone": parts,
        "median_ms": float(np.median(taken_ms)),
        "p95_ms": float(np.percentile(taken_ms, 95)),
    }


def live_figures(
    played: dict[str, list[Music]], pieces: Catalogue, effort: Effort, seed: int
) -> dict[str, Any]:
    """How soon music is named from its first note, and what is claimed that should not be."""
    rng = np.random.default_rng(seed)
    figures: dict[str, Any] = {}
    for kind, music in played.items():
        known, unknown, wrong, gone_on = [], [], [], []
        chosen = [music[index] for index in rng.permutation(len(music))[: effort.live]]
        for each in _tracked(chosen, f"live, {kind}"):
            is_right = partial(eq, each.work_id)
            told = live_naming.named(PieceTracker(pieces), each.notes, UNKNOWN_S)
            known.append(live_naming.first_right_s(told, is_right))
            wrong.append(any(not is_right(work) for _, work in told))
            without = PieceTracker(pieces, without_works={each.work_id})
            told = live_naming.named(without, each.notes, UNKNOWN_S, stop_at_first=True)
            unknown.append(any(not is_right(work) for _, work in told))
            gone_on.append(_noticed_after_s(each, music[rng.integers(len(music))], pieces))
        figures[kind] = {
            "right_within": _within(known),
            "another_on_the_way": Share.of_all(wrong).figures(),
            "unknown_matched": Share.of_all(unknown).figures(),
            "going_on_within": _within([each for each in gone_on if each is not None]),
        }
    popular = strangers(effort.strangers, UNKNOWN_S, rng)
    claimed = [
        bool(live_naming.named(PieceTracker(pieces), notes, UNKNOWN_S, stop_at_first=True))
        for notes in _tracked(popular, "live, POP909")
    ]
    return {**figures, "pop909_matched": Share.of_all(claimed).figures()}


def _noticed_after_s(music: Music, before: Music, pieces: Catalogue) -> float | None:
    """How long into ``music`` it is named, if it is played right after 20 s of ``before``."""
    if music.work_id == before.work_id:
        return None
    first_s = before.notes[0].onset_s
    head = [note for note in before.notes if note.onset_s < first_s + BEFORE_S]
    begins_s = head[-1].onset_s + 1.0
    shift_s = begins_s - music.notes[0].onset_s
    tail = [replace(n, onset_s=n.onset_s + shift_s, offset_s=None) for n in music.notes]
    told = live_naming.named(PieceTracker(pieces), [*head, *tail], BEFORE_S + 1.0 + UNKNOWN_S)
    at_s = live_naming.first_right_s(told, partial(eq, music.work_id))
    return at_s - (begins_s - first_s)


def _within(at_s: Sequence[float]) -> dict[str, Any]:
    return {
        f"{limit_s:g}": Share.of_all(at <= limit_s for at in at_s).figures()
        for limit_s in (*LIVE_GOALS, UNKNOWN_S)
    }


def _tracked(items: Sequence[Any], what: str) -> Iterable[Any]:
    return track(items, what, console=Console(stderr=True), transient=True)


def _one_of_each(played: list[Music], rng: np.random.Generator) -> list[Music]:
    """One performance of each work in each collection, at random."""
    by_work = defaultdict(list)
    for music in played:
        by_work[music.source, music.work_id].append(music)
    return [found[rng.integers(len(found))] for found in by_work.values()]


def measure(effort: Effort = QUICK, seed: int = 1) -> dict[str, Any] | None:
    """Figures of the protocol; None where the data is not beside the project."""
    if not works.INDEX.exists():
        return None
    pieces = works.catalogue()
    known = {piece.work_id for piece in pieces.pieces}
    performed = works.performances(known)
    if effort.one_of_each_work:
        performed = _one_of_each(performed, np.random.default_rng(seed))
    played = {
        PERFORMED: performed,
        TRANSCRIBED: works.transcriptions(known),
        RECORDED: works.recordings(known),
    }
    return {
        "pieces": len(pieces),
        "works": len(known),
        "seed": seed,
        "whole": not effort.one_of_each_work,
        "windows": window_figures(played, pieces, effort, seed),
        "live": live_figures(played, pieces, effort, seed),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--whole", action="store_true", help="ask everything, not a part")
    parser.add_argument("--seed", type=int, default=1, help="default: 1")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    options = parser.parse_args()
    figures = measure(WHOLE if options.whole else QUICK, options.seed)
    if figures is None:
        raise SystemExit(f"identification left out: no {works.INDEX}")
    if options.json:
        print(json.dumps(figures, indent=1))
        return
    from benchmarks.table import rich_tables

    for made in rich_tables({"ears": {}, "identification": figures}):
        Console().print(made)


if __name__ == "__main__":
    main()
