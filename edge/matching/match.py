"""What the matching answers: which pieces, how surely, and where in them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class MatchState(StrEnum):
    """Whether a piece is known."""

    SEARCHING = "searching"
    """Too little has been played to say."""
    MATCHED = "matched"
    """The first candidate is being played."""
    NONE = "none"
    """Enough has been played, and it is no piece of the catalogue."""
    LOST = "lost"
    """A piece was matched, and what is played is no longer it."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A piece that may be the one played.

    Attributes
    ----------
    piece_id, work_id, title, composer : str
    confidence : float
        0 to 1: the chance that this is it.
    start_s : float
        Where in the score the notes asked about begin, in seconds at the score's own tempo.
    bar : int
        The bar there, as printed.
    tempo_ratio : float
        Speed of the playing, as a multiple of the score's tempo.
    transposition : int
        Semitones that the playing lies above the score.
    bars : int
        Bars of the score; 0 if unknown.
    """

    piece_id: str
    work_id: str
    title: str
    composer: str
    confidence: float
    start_s: float
    bar: int
    tempo_ratio: float
    transposition: int
    bars: int = 0


@dataclass(frozen=True, slots=True)
class PieceMatch:
    """A state and the best five candidates, best first, one for each work."""

    state: MatchState
    candidates: tuple[Candidate, ...]
