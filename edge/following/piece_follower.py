"""Which piece, and where in it: the tracker of pieces and the follower of one, as one stream.

The tracker answers about fixed moments of the stream, half a second after each. When it names a
piece, a follower begins at the place that the tracker knows and is told what was played from
there on, so that it has caught up at once; from then on every note gives a position. While
the place is known, the tracker does not leave the piece. When it is left, the last word is a
position that says so.

The answer about a moment counts from the note on that comes when the moment is settled. So any
split of the notes into pushes gives the same matches and the same positions, each in order; how
the two stand to each other within a push is not promised.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches

from edge.errors import CatalogueError
from edge.following.follower import Follower
from edge.following.position import Position
from edge.following.score import FollowedScore
from edge.matching.catalogue import Catalogue
from edge.matching.match import Candidate, MatchState, PieceMatch
from edge.matching.tracker import LONG_STRETCH_S, SETTLED_AFTER_S, Answer, PieceTracker
from edge.note import NoteEvent

REMEMBERED_S = LONG_STRETCH_S + 5.0
"""Notes older than this are in no stretch that the tracker is still to answer about."""


@dataclass(frozen=True, slots=True)
class _Followed:
    """A follower, the piece it follows, and where it last was."""

    piece: Candidate
    follower: Follower
    last: Position

    def push(self, note: NoteEvent) -> _Followed:
        pitch_midi = note.pitch_midi - self.piece.transposition
        return replace(self, last=self.follower.push(replace(note, pitch_midi=pitch_midi)))


class PieceFollower:
    """Names the piece, and follows it.

    Parameters
    ----------
    catalogue : Catalogue
    latency_s : float
        How long after it sounded a note is told; see :class:`Follower`.
    piece_id : str, optional
        The piece that will be played: it is followed from the first note, and no other is named.

    Raises
    ------
    CatalogueError
        The catalogue has no piece of this name.
    """

    def __init__(
        self, catalogue: Catalogue, latency_s: float = 0.0, piece_id: str | None = None
    ) -> None:
        self._catalogue = catalogue
        self._latency_s = latency_s
        self._tracker = PieceTracker(catalogue) if piece_id is None else None
        self._chosen = None if piece_id is None else _chosen(catalogue, piece_id)
        self.reset()

    def choose(self, piece_id: str | None) -> None:
        """Follow this piece from its beginning, or, with None, recognise what is played.

        Raises
        ------
        CatalogueError
            The catalogue has no piece of this name; everything stays as it was.
        """
        chosen = None if piece_id is None else _chosen(self._catalogue, piece_id)
        self._tracker = PieceTracker(self._catalogue) if chosen is None else None
        self._chosen = chosen
        self.reset()

    def reset(self) -> None:
        """Forget what was played."""
        if self._tracker is not None:
            self._tracker.reset()
        self._played: deque[tuple[float, NoteEvent]] = deque()
        self._reached_s = 0.0
        self._due: deque[Answer] = deque()
        self._followed: _Followed | None = None
        self._sure: deque[tuple[float, bool]] = deque()
        self._told_chosen = False
        if self._chosen is not None:
            self._followed = self._begun(self._chosen)

    def push(self, notes: Sequence[NoteEvent], now_s: float) -> list[PieceMatch | Position]:
        """Take notes and the time of the stream.

        Parameters
        ----------
        notes : NoteEvents
            As for :meth:`PieceTracker.push`.
        now_s : float
            Seconds of the stream so far; never falls.

        Returns
        -------
        list of PieceMatch and Position
            What is news of the piece; and a position for every note that was followed.
        """
        matches = self._chosen_match()
        positions: list[Position] = []
        for note in notes:
            self._reached_s = max(self._reached_s, note.onset_s)
            matches += self._ask((note,), self._reached_s)
            positions += self._take_answers(self._reached_s)
            self._played.append((self._reached_s, note))
            if self._followed is not None:
                positions.append(self._follow(self._followed, self._reached_s, note))
        matches += self._ask((), now_s)
        # Of the half second before, notes may still come, and they belong to what is followed.
        positions += self._take_answers(now_s - SETTLED_AFTER_S)
        while self._followed is None and self._due:
            positions += self._act_on(self._due.popleft())
        while self._played and self._played[0][0] < now_s - REMEMBERED_S:
            self._played.popleft()
        while len(self._sure) > 1 and self._sure[1][0] < now_s - REMEMBERED_S:
            self._sure.popleft()
        return [*matches, *positions]

    def _chosen_match(self) -> list[PieceMatch]:
        """A chosen piece is told once, as if it had been recognised."""
        if self._chosen is None or self._told_chosen:
            return []
        self._told_chosen = True
        return [PieceMatch(MatchState.MATCHED, (self._chosen,))]

    def _ask(self, notes: Sequence[NoteEvent], reached_s: float) -> list[PieceMatch]:
        """What the tracker says up to this second; what it has decided is due from then on."""
        if self._tracker is None:
            return []
        answers = self._tracker.answers(notes, reached_s, self._is_followed_at)
        self._due.extend(answers)
        return [answer.match for answer in answers if answer.news]

    def _is_followed_at(self, moment_s: float) -> bool:
        """Whether the place was known with the last note until then."""
        known = [sure for at_s, sure in self._sure if at_s <= moment_s]
        return bool(known) and known[-1]

    def _follow(self, followed: _Followed, reached_s: float, note: NoteEvent) -> Position:
        self._followed = followed = followed.push(note)
        self._sure.append((reached_s, not followed.last.lost))
        return followed.last

    def _take_answers(self, reached_s: float) -> list[Position]:
        """Act on the answers that were settled before this second."""
        positions: list[Position] = []
        while self._due and self._due[0].moment_s + SETTLED_AFTER_S < reached_s:
            positions += self._act_on(self._due.popleft())
        return positions

    def _act_on(self, answer: Answer) -> list[Position]:
        """Begin with the piece that is named, and leave the one that is not."""
        matched = answer.match.state is MatchState.MATCHED
        piece = answer.match.candidates[0] if matched else None
        before, positions = self._followed, []
        if before is not None:
            if piece is not None and _same(piece, before.piece):
                return []
            over_s = answer.moment_s + SETTLED_AFTER_S
            positions = [replace(before.last, t_s=over_s, until_s=over_s, lost=True, confidence=0)]
        self._followed = None if piece is None else self._begun(piece)
        self._sure.clear()
        if self._followed is not None:
            positions += self._catch_up(self._followed, answer)
        return positions

    def _begun(self, piece: Candidate) -> _Followed:
        score = FollowedScore.of_catalogue(self._catalogue, piece.piece_id)
        follower = Follower(score, score.quarters_at(piece.start_s), self._latency_s)
        return _Followed(piece, follower, follower.position_at(0.0))

    def _catch_up(self, followed: _Followed, answer: Answer) -> list[Position]:
        """Follow what was played since the tracker's stretch began; tell the place at its end."""
        heard = [note for at_s, note in self._played if at_s <= answer.moment_s]
        for note in sorted(heard, key=lambda each: (each.onset_s, each.pitch_midi)):
            if note.onset_s >= answer.since_s:
                followed = followed.push(note)
        self._followed = followed
        self._sure.append((answer.moment_s, not followed.last.lost))
        positions = [followed.last]
        for at_s, note in self._played:
            if at_s > answer.moment_s:
                positions.append(self._follow(self._followed or followed, at_s, note))
        return positions


def _same(one: Candidate, other: Candidate) -> bool:
    return (one.piece_id, one.transposition) == (other.piece_id, other.transposition)


def _chosen(catalogue: Catalogue, piece_id: str) -> Candidate:
    """A piece as if it had been recognised, from its beginning."""
    try:
        pack, number = catalogue.find(piece_id)
    except KeyError:
        known = [each.piece_id for each in catalogue.pieces]
        near = get_close_matches(piece_id, known, n=3, cutoff=0.4)
        meant = f"did you mean {', '.join(near)}?" if near else "take an id that `identify` prints"
        raise CatalogueError(
            f"no piece {piece_id!r} among the catalogue's {len(known)}: {meant}"
        ) from None
    piece = pack.pieces[number]
    return Candidate(
        piece_id, piece.work_id, piece.title, piece.composer, 1.0, 0.0, 1, 1.0, 0, piece.bars
    )
