"""A place in a score, as musicians say it: bar and beat, how fast, and how surely."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Position:
    """Where the player is at one moment, and how that goes on while nothing new is heard.

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
    piece_id : str
        The piece that is followed, as the catalogue calls it.
    quarters_per_s : float
        How fast the place moves.
    until_s : float
        From ``t_s`` to this second of the stream the place goes on in tempo. By then the next
        note should have been told; as long as it is not, the player is thought to wait for it.
    beats_in_bar : float or None
        Beats of this bar; None in the score's last one, and where there are no bars.
    """

    t_s: float
    quarters: float
    bar: int
    beat: float
    tempo_bpm: float
    tempo_ratio: float
    confidence: float
    lost: bool
    piece_id: str
    quarters_per_s: float
    until_s: float
    beats_in_bar: float | None

    def quarters_at(self, t_s: float) -> float:
        """The place at a later second of the stream, if nothing new has been heard."""
        gone_s = min(t_s, self.until_s) - self.t_s
        return self.quarters + max(gone_s, 0.0) * self.quarters_per_s
