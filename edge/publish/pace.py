"""How often a place in the piece is told: often enough to follow, seldom enough to carry.

A position comes with every note, and a run has twelve of them a second. A position is told at
once where none was told lately, and otherwise the newest as soon as its time has come: between
two a dashboard goes on in tempo by itself, up to the moment at which the next can come. If by
then no note has moved the place, the last is told once more, with the moment from which it waits.
Losing the place is told at once and once, with the last place that was sure; what is guessed
meanwhile is kept to ourselves.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from edge.following import Position

POSITIONS_PER_S = 4
"""The contract: `position`, at most four a second."""


class PositionPace:
    """Chooses the positions to publish; times are seconds of the stream."""

    def __init__(self) -> None:
        self._told_s = float("-inf")
        self._sure: Position | None = None
        self._waiting: Position | None = None
        self._carried_on: Position | None = None

    def push(self, positions: Iterable[Position], now_s: float) -> list[Position]:
        """The positions to tell now, mostly none or one, of those that came by now."""
        told: list[Position] = []
        for position in positions:
            if not position.lost:
                self._sure = self._waiting = position
            elif self._sure is not None and self._sure.piece_id == position.piece_id:
                last = self._sure
                told.append(replace(position, quarters=last.quarters, bar=last.bar, beat=last.beat))
                self._sure = self._waiting = self._carried_on = None
                self._told_s = now_s
        if now_s - self._told_s < 1 / POSITIONS_PER_S:
            return told
        if self._waiting is not None:
            until_s = max(self._waiting.until_s, now_s + 1 / POSITIONS_PER_S)
            self._carried_on = self._waiting if until_s > self._waiting.until_s else None
            told.append(replace(self._waiting, until_s=until_s))
            self._told_s = now_s
        elif self._carried_on is not None:
            told.append(self._carried_on)
            self._carried_on = None
            self._told_s = now_s
        self._waiting = None
        return told
