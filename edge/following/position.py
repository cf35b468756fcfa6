"""A place in a score, as musicians say it: bar and beat, how fast, and how surely."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Position:
    """Where the player is at one moment.

    Attributes
    ----------
    t_s : float
        The moment, in seconds of the stream.
    quarters : float
        Quarters from the score's beginning, repeats not unfolded.
    bar : int
        As printed.
    beat : float
        Within the bar; the first is 1, and there are fractions between.
    tempo_bpm : float
        Beats of this bar a minute, as played.
    tempo_ratio : float
        Tempo played over tempo written.
    confidence : float
        0 to 1.
    lost : bool
        The notes fit no place well, or several equally: the rest is a guess and not to be told.
    """

    t_s: float
    quarters: float
    bar: int
    beat: float
    tempo_bpm: float
    tempo_ratio: float
    confidence: float
    lost: bool
