"""Practice beside the recogniser: it hears what is confirmed and which piece it is, and tells bars.

A piece is named some seconds after it was begun, so what was played is kept until then and
judged from its first note. When another piece is named, or none, what was played so far is told.
The place is followed here a second time, note by note from the first one on: the positions that
are published begin when the piece is named.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

from edge.following import FollowedScore, Follower
from edge.matching import Candidate, Catalogue, MatchState, PieceMatch
from edge.note import NoteEvent
from edge.practice.expected import ExpectedNotes
from edge.practice.practice import Practice
from edge.practice.verdict import BarFeedback

REMEMBERED_S = 60.0
"""A piece that is named later than this after it was begun is judged from here on."""

SETTLED_AFTER_S = 0.5
"""The ear confirms a note within a third of a second: the silence until then is known."""


@dataclass(frozen=True, slots=True)
class _Practised:
    """The piece that is being played, and what is known of it."""

    piece: Candidate
    follower: Follower
    practice: Practice

    def push(self, note: NoteEvent) -> list[BarFeedback]:
        note = replace(note, pitch_midi=note.pitch_midi - self.piece.transposition)
        return self.practice.push(note, self.follower.push(note))


class LivePractice:
    """Judges whatever piece of a catalogue is played.

    Parameters
    ----------
    catalogue : Catalogue
    """

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self.reset()

    def reset(self) -> None:
        """Forget what was played, and which piece it is."""
        self._practised: _Practised | None = None
        self._played: deque[NoteEvent] = deque()

    def push(
        self, notes: Sequence[NoteEvent], matches: Sequence[PieceMatch], now_s: float
    ) -> list[BarFeedback]:
        """Take confirmed notes, what is news of the piece, and the time of the stream.

        Returns
        -------
        list of BarFeedback
            The bars that are over.
        """
        told: list[BarFeedback] = []
        for note in notes:
            if self._practised is None:
                self._played.append(note)
            else:
                told += self._practised.push(note)
        for match in matches:
            told += self._named(match)
        if self._practised is not None:
            told += self._practised.practice.advance(now_s - SETTLED_AFTER_S)
        while self._played and self._played[0].onset_s < now_s - REMEMBERED_S:
            self._played.popleft()
        return told

    def flush(self) -> list[BarFeedback]:
        """Nothing more comes, or a gap: what was played so far is judged."""
        return [] if self._practised is None else self._practised.practice.flush()

    def _named(self, match: PieceMatch) -> list[BarFeedback]:
        best = match.candidates[0] if match.state is MatchState.MATCHED else None
        if best is not None and self._practised is not None and _same(best, self._practised.piece):
            return []
        told = self.flush()
        self._practised = None
        if best is not None:
            score = FollowedScore.of_catalogue(self._catalogue, best.piece_id)
            expected = ExpectedNotes.of_catalogue(self._catalogue, best.piece_id)
            follower = Follower(score, score.quarters_at(best.start_s))
            self._practised = _Practised(best, follower, Practice(expected))
            for note in sorted(self._played, key=lambda each: (each.onset_s, each.pitch_midi)):
                told += self._practised.push(note)
            self._played.clear()
        return told


def _same(one: Candidate, other: Candidate) -> bool:
    return (one.piece_id, one.transposition) == (other.piece_id, other.transposition)
