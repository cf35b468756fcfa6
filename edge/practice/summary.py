"""A sitting in a few figures and sentences: how much was right, how even, how steady, what next.

*Right* is the share of the notes asked for that were right. *Evenness* is within how many
milliseconds of the player's own flow half of the notes lie; 10 to 20 is even, and 40 can be heard.
*Steadiness* is by how much the tempo changes from one bar to the next, as a share. What only the
ear may have got wrong counts neither for nor against.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from edge.matching.score import Hand
from edge.practice.verdict import BarFeedback, Verdict

IN_TIME = frozenset({Verdict.RIGHT, Verdict.EARLY, Verdict.LATE})
WORST_BARS = 3


@dataclass(frozen=True, slots=True)
class Summary:
    """What came of a bar, a hand, or all that was played.

    Attributes
    ----------
    asked : int
        Notes that were expected and can be judged.
    right, wrong, missed, extra, early, late : int
    unsure : int
        Findings that may be the ear's.
    evenness_ms : float or None
        Half of the notes lie this near to the flow; None where nothing could be compared.
    tempo_bpm : float or None
        Of the middle bar.
    tempo_change : float or None
        Mean change from one bar to the next, as a share; None with fewer than three bars.
    """

    asked: int
    right: int
    wrong: int
    missed: int
    extra: int
    early: int
    late: int
    unsure: int
    evenness_ms: float | None
    tempo_bpm: float | None
    tempo_change: float | None

    @property
    def accuracy(self) -> float | None:
        """Share of the notes asked for that were right; None if none was."""
        return self.right / self.asked if self.asked else None

    @property
    def faults(self) -> int:
        """How many findings are told."""
        return self.wrong + self.missed + self.extra + self.early + self.late


class Tally:
    """Adds bars up, of one hand or of both, in a few bytes a note: for a whole sitting."""

    def __init__(self, hand: Hand | None = None) -> None:
        self._hand = hand
        self._counts: Counter[Verdict] = Counter()
        self._unsure = 0
        self._off_ms = array("f")
        self._tempi = array("f")
        self._steps = array("f")
        self._before: BarFeedback | None = None

    def add(self, bar: BarFeedback) -> None:
        """Count one more bar."""
        for finding in bar.findings:
            if self._hand not in (None, finding.hand):
                continue
            if finding.verdict is not Verdict.RIGHT and not finding.is_fault:
                self._unsure += 1
                continue
            self._counts[finding.verdict] += 1
            if finding.verdict in IN_TIME and finding.delta_s is not None:
                self._off_ms.append(1e3 * abs(finding.delta_s))
        if bar.tempo_bpm is not None:
            self._tempi.append(bar.tempo_bpm)
            before = self._before
            if before is not None and before.take == bar.take and before.tempo_bpm is not None:
                self._steps.append(abs(np.log(bar.tempo_bpm / before.tempo_bpm)))
        self._before = bar

    def summary(self) -> Summary:
        """What was counted so far."""
        counts = self._counts
        return Summary(
            asked=counts.total() - counts[Verdict.EXTRA],
            right=counts[Verdict.RIGHT],
            wrong=counts[Verdict.WRONG],
            missed=counts[Verdict.MISSED],
            extra=counts[Verdict.EXTRA],
            early=counts[Verdict.EARLY],
            late=counts[Verdict.LATE],
            unsure=self._unsure,
            evenness_ms=float(np.median(self._off_ms)) if self._off_ms else None,
            tempo_bpm=float(np.median(self._tempi)) if self._tempi else None,
            tempo_change=float(np.expm1(np.mean(self._steps))) if len(self._steps) > 1 else None,
        )


def summed(bars: Iterable[BarFeedback], hand: Hand | None = None) -> Summary:
    """Count what was found, of one hand or of both."""
    tally = Tally(hand)
    for bar in bars:
        tally.add(bar)
    return tally.summary()


def worst_bars(bars: Iterable[BarFeedback], count: int = WORST_BARS) -> list[BarFeedback]:
    """The bars with the most to tell, the worst first; all times that one was played together.

    Of bars with as much to tell, the one comes first where more went wrong than its timing.
    """
    together: dict[int, BarFeedback] = {}
    for bar in bars:
        before = together.get(bar.bar_index)
        findings = bar.findings if before is None else before.findings + bar.findings
        together[bar.bar_index] = replace(bar, findings=findings)

    def badness(bar: BarFeedback) -> tuple[int, int, int]:
        keys = [each for each in bar.faults if each.verdict not in IN_TIME]
        return -len(bar.faults), -len(keys), bar.bar_index

    return sorted((bar for bar in together.values() if bar.faults), key=badness)[:count]


KIND_WORDS = {
    Verdict.WRONG: "wrong",
    Verdict.MISSED: "missed",
    Verdict.EXTRA: "too many",
    Verdict.EARLY: "early",
    Verdict.LATE: "late",
}
HAND_WORDS = {Hand.LEFT: "left hand", Hand.RIGHT: "right hand", Hand.UNKNOWN: ""}


def spelled(bar: BarFeedback) -> str:
    """What went wrong in a bar, as in ``bar 12 (left hand: 2 wrong, 1 late)``."""
    parts = []
    for hand in (Hand.RIGHT, Hand.LEFT, Hand.UNKNOWN):
        counts = Counter(each.verdict for each in bar.faults if each.hand is hand)
        words = ", ".join(
            f"{counts[kind]} {KIND_WORDS[kind]}" for kind in KIND_WORDS if counts[kind]
        )
        if words:
            parts.append(f"{HAND_WORDS[hand]}: {words}" if HAND_WORDS[hand] else words)
    return f"bar {bar.bar} ({'; '.join(parts)})"


def sentences(bars: Sequence[BarFeedback]) -> list[str]:
    """What a teacher would say first."""
    whole = summed(bars)
    if whole.accuracy is None:
        return ["Nothing of this piece was recognised in what was played."]
    first, last = min(bar.bar for bar in bars), max(bar.bar for bar in bars)
    said = [
        f"{whole.right} of {whole.asked} notes right ({whole.accuracy:.0%}), "
        f"bars {first} to {last}{_in_takes(bars)}."
    ]
    counts = [
        (whole.wrong, "wrong"),
        (whole.missed, "missed"),
        (whole.extra, "too many"),
        (whole.early, "early"),
        (whole.late, "late"),
    ]
    if whole.faults:
        said.append(f"{_listed([f'{n} {word}' for n, word in counts if n])}.".capitalize())
    worst = worst_bars(bars)
    if worst:
        said.append(f"Look at {_listed([spelled(bar) for bar in worst])}.")
    if whole.evenness_ms is not None:
        said.append(
            f"Half of the notes lie within {whole.evenness_ms:.0f} ms "
            f"of your own flow{_hands(bars)}."
        )
    if whole.tempo_bpm is not None and whole.tempo_change is not None:
        said.append(
            f"Around {whole.tempo_bpm:.0f} beats a minute; "
            f"the tempo changes by {whole.tempo_change:.0%} from bar to bar."
        )
    if whole.unsure:
        said.append(
            f"{whole.unsure} more could be the ear's mistake as well as yours; "
            "they count neither way."
        )
    return said


def _in_takes(bars: Iterable[BarFeedback]) -> str:
    takes = len({bar.take for bar in bars})
    return f", in {takes} takes" if takes > 1 else ""


def _hands(bars: Sequence[BarFeedback]) -> str:
    each = [(HAND_WORDS[hand], summed(bars, hand).evenness_ms) for hand in (Hand.RIGHT, Hand.LEFT)]
    told = [f"{name} {off_ms:.0f}" for name, off_ms in each if off_ms is not None]
    return f" ({', '.join(told)})" if len(told) > 1 else ""


def _listed(words: Sequence[str]) -> str:
    return " and ".join((", ".join(words[:-1]), words[-1])) if len(words) > 1 else words[0]
