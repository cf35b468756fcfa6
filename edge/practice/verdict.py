"""What is said of one note, and of one bar."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from edge.matching.score import Hand


class Verdict(StrEnum):
    """What became of a written note; or, for an extra one, of a played note."""

    RIGHT = "right"
    WRONG = "wrong"
    """Another key was struck in its stead."""
    MISSED = "missed"
    EXTRA = "extra"
    """Struck, and not written."""
    EARLY = "early"
    LATE = "late"


TOLD_FROM = 0.5
"""Findings surer than this are told; the others may be the ear's, and are only counted."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What is said of one note.

    Attributes
    ----------
    verdict : Verdict
    note : int or None
        Which of the expected notes; None when nothing is written.
    bar_index : int
        The bar, counted from 0 as the score stores them.
    bar : int
        As printed.
    beat : float
        Within the bar; the first is 1.
    hand : Hand
        To which the score gives it; for an extra note the hand that plays nearest.
    expected_pitch_midi : int or None
        None when nothing is written.
    played_pitch_midi : int or None
        None when nothing was played.
    t_s : float
        When it was played, in seconds of the stream; when it was due, if it was not played.
    delta_s : float or None
        Played minus due, against the local tempo; None where nothing can be compared.
    confidence : float
        0 to 1: how surely the player did this, and not the ear.
    """

    verdict: Verdict
    note: int | None
    bar_index: int
    bar: int
    beat: float
    hand: Hand
    expected_pitch_midi: int | None
    played_pitch_midi: int | None
    t_s: float
    delta_s: float | None
    confidence: float = 1.0

    @property
    def is_fault(self) -> bool:
        """Whether there is something to tell, and it is surely the player's."""
        return self.verdict is not Verdict.RIGHT and self.confidence >= TOLD_FROM


@dataclass(frozen=True, slots=True)
class BarFeedback:
    """One bar, played once.

    Attributes
    ----------
    piece_id : str
    take : int
        Which go at the music: counted up at every jump, restart and long pause.
    bar_index, bar : int
        The bar, counted from 0, and as printed.
    t_s : float
        When it was begun, in seconds of the stream.
    findings : tuple of Finding
        One for every note that was asked for and every extra one, in order of time. A hand
        that rested is not asked.
    tempo_bpm : float or None
        Beats a minute, as played; None where too little was played to tell.
    """

    piece_id: str
    take: int
    bar_index: int
    bar: int
    t_s: float
    findings: tuple[Finding, ...]
    tempo_bpm: float | None

    @property
    def faults(self) -> tuple[Finding, ...]:
        """What there is to tell."""
        return tuple(finding for finding in self.findings if finding.is_fault)
