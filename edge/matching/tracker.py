"""The piece, live: a query that grows while notes come, and an answer that does not flutter.

The stream is asked at fixed moments of its own time, never at the moments at which notes
happen to be handed over, so that any split of the notes into pushes gives the same answers.
While the piece is unknown, it is asked once a second: in turn about a long stretch, which
decides between pieces that share a theme, and about a short one, which notices a beginning
after a warm-up. Once it is known, asking less often about the short stretch is enough to see
that the player has gone on to something else.

It takes more to change one's mind than to keep it (hysteresis): a piece is named on a high
confidence or on two good ones in a row, kept through moderate ones, and lost only after
several bad ones.
"""

from __future__ import annotations

from bisect import insort
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from edge.matching.catalogue import Catalogue
from edge.matching.chords import Chords, chords_of_notes
from edge.matching.identification import CHORDS_TO_MATCH, MOST_CHORDS, identify_chords
from edge.matching.match import Candidate, MatchState, PieceMatch
from edge.matching.pack import PieceChords
from edge.note import NoteEvent

ASKED_EVERY_S = 1.0
ASKED_EVERY_MATCHED_S = 2.0
LONG_STRETCH_S = 25.0
SHORT_STRETCH_S = 10.0

SETTLED_AFTER_S = 0.5
"""Notes are confirmed out of order and late; a moment is asked about when this much later is
reached, by when all of its notes have come (the contract: within 0.3 s)."""

SILENCE_S = 15.0
"""A pause this long ends a piece; shorter ones are a fermata, or a page being turned."""

NAMED_AT_ONCE = 0.995
NAMED_TWICE = 0.9
"""Confidence that names a piece on one answer, and on two in a row.

Origin, as of the number of notes below: ``python -m benchmarks.live_naming``, which plays
perturbed CC BY scores and POP909.
"""

NOTES_TO_NAME = 12
"""The first notes of a scale or a cadence are in many pieces: fewer name nothing, however well
they fit."""

KEPT = 0.4
LOST_AFTER = 3
"""Answers in a row that do not hold the piece with :data:`KEPT`."""

WORTH_TELLING = 0.1
"""Change of confidence that is published."""

PIECES_REMEMBERED = 160


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered about one moment of the stream.

    ``moment_s`` is asked about, ``since_s`` is where the stretch that was asked about begins
    (its first chord, the one that the candidates' ``start_s`` places in the score). ``news`` is
    whether it is worth publishing.
    """

    moment_s: float
    since_s: float
    match: PieceMatch
    news: bool


class PieceTracker:
    """Follows which piece is being played.

    Parameters
    ----------
    catalogue : Catalogue
    transposed : bool
        Also look for transposed pieces; see :func:`edge.matching.identification.identify`.
    without_works : collection of str
        Works that are never named.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        transposed: bool = False,
        without_works: Collection[str] = (),
    ) -> None:
        self._catalogue = catalogue
        self._transposed = transposed
        self._without_works = without_works
        self._read: OrderedDict[int, PieceChords] = OrderedDict()
        self.reset()

    def reset(self) -> None:
        """Forget what was played."""
        self._notes: list[tuple[float, int, NoteEvent]] = []
        self._asked_last_s = 0.0
        self._since_s = 0.0
        self._asked = 0
        self._notes_asked_about = 0
        self._forget_piece()
        self._current = PieceMatch(MatchState.SEARCHING, ())
        self._told = self._current

    def _forget_piece(self) -> None:
        self._known: Candidate | None = None
        self._bad_answers = 0
        self._likely_work = ""

    @property
    def current(self) -> PieceMatch:
        """What is known now."""
        return self._current

    def push(self, notes: Sequence[NoteEvent], now_s: float) -> PieceMatch | None:
        """Take notes and the time of the stream.

        Parameters
        ----------
        notes : NoteEvents
            Confirmed notes, each once, at most :data:`SETTLED_AFTER_S` after their onset.
        now_s : float
            Seconds of the stream so far; never falls.

        Returns
        -------
        PieceMatch or None
            The newest answer that is worth publishing.
        """
        told = [answer.match for answer in self.answers(notes, now_s) if answer.news]
        return told[-1] if told else None

    def answers(
        self,
        notes: Sequence[NoteEvent],
        now_s: float,
        followed: Callable[[float], bool] = lambda _moment_s: False,
    ) -> list[Answer]:
        """As :meth:`push`, but the answer about every moment that is settled by now.

        ``followed`` says whether somebody knew the place in the piece at a moment. As long as
        they do, the piece is kept, however little ten seconds of it resemble the whole: a hand
        alone, two bars over and over.
        """
        for note in notes:
            insort(self._notes, (note.onset_s, note.pitch_midi, note), key=lambda each: each[:2])
        found = []
        while (moment_s := self._next_moment_s()) + SETTLED_AFTER_S <= now_s:
            self._asked_last_s = moment_s
            self._ask(moment_s, followed(moment_s))
            found.append(Answer(moment_s, self._since_s, self._current, self._is_news()))
        return found

    def _next_moment_s(self) -> float:
        matched = self._current.state is MatchState.MATCHED
        return self._asked_last_s + (ASKED_EVERY_MATCHED_S if matched else ASKED_EVERY_S)

    def _ask(self, moment_s: float, followed: bool) -> None:
        """Answer for one moment of the stream; nothing is asked where no note is new."""
        heard = [each[2] for each in self._notes if each[0] <= moment_s]
        fresh = len(heard) - self._notes_asked_about
        last_onset_s = heard[-1].onset_s if heard else None
        if last_onset_s is None or moment_s - last_onset_s >= SILENCE_S:
            self._begin_again(moment_s)
            return
        if fresh <= 0:
            return
        self._asked += 1
        matched = self._known is not None
        short = matched or self._asked % 2 == 0
        since_s = moment_s - (SHORT_STRETCH_S if short else LONG_STRETCH_S)
        played = chords_of_notes([note for note in heard if note.onset_s > since_s])
        first = max(len(played) - MOST_CHORDS, 0)
        self._since_s = float(played.onset_s[first]) if len(played) else moment_s
        answer = identify_chords(
            played.part(slice(first, len(played))),
            self._catalogue,
            self._read_piece,
            self._transposed,
            prefer_piece=self._known.piece_id if self._known else "",
            without_works=self._without_works,
        )
        self._decide(answer, _enough(played), followed)
        self._drop_before(moment_s - LONG_STRETCH_S)
        self._notes_asked_about = sum(each[0] <= moment_s for each in self._notes)

    def _begin_again(self, moment_s: float) -> None:
        self._drop_before(moment_s)
        self._notes_asked_about = 0
        self._forget_piece()
        self._current = PieceMatch(MatchState.SEARCHING, ())

    def _drop_before(self, moment_s: float) -> None:
        self._notes = [each for each in self._notes if each[0] > moment_s]

    def _decide(self, answer: PieceMatch, enough: bool, followed: bool) -> None:
        """Keep the piece while it fits; name another only when it does not."""
        best = answer.candidates[0] if answer.candidates else None
        still = next(
            (each for each in answer.candidates if self._known and self._is_known(each)), None
        )
        if still is not None and still.confidence >= KEPT:
            self._bad_answers = 0
            self._match(still, answer.candidates)
        elif self._known is not None and followed:
            self._bad_answers = 0
        elif self._known is not None and not enough:
            pass  # A few slow chords speak neither for the piece nor against it.
        elif best is not None and enough and self._is_named(best):
            self._bad_answers = 0
            self._match(best, answer.candidates)
        else:
            self._doubt(answer.candidates)
        likely = best is not None and best.confidence >= NAMED_TWICE and enough
        self._likely_work = best.work_id if best is not None and likely else ""

    def _is_known(self, candidate: Candidate) -> bool:
        return self._known is not None and candidate.work_id == self._known.work_id

    def _is_named(self, best: Candidate) -> bool:
        """Confident at once, or for the second time in a row."""
        at_once = best.confidence >= NAMED_AT_ONCE
        twice = best.confidence >= NAMED_TWICE and best.work_id == self._likely_work
        return at_once or twice

    def _match(self, piece: Candidate, candidates: tuple[Candidate, ...]) -> None:
        self._known = piece
        others = tuple(each for each in candidates if each is not piece)
        self._current = PieceMatch(MatchState.MATCHED, (piece, *others))

    def _doubt(self, candidates: tuple[Candidate, ...]) -> None:
        """A known piece survives a few bad answers; a lost one stays lost until one is named."""
        if self._known is None:
            lost = self._current.state is MatchState.LOST
            state = MatchState.LOST if lost else MatchState.SEARCHING
            self._current = PieceMatch(state, candidates)
            return
        self._bad_answers += 1
        if self._bad_answers >= LOST_AFTER:
            self._known = None
            self._current = PieceMatch(MatchState.LOST, candidates)

    def _is_news(self) -> bool:
        """Whether the answer differs by more than a shade from what was told; it is told now."""
        news = _differ(self._told, self._current)
        if news:
            self._told = self._current
        return news

    def _read_piece(self, number: int) -> PieceChords:
        """The chords of a piece; those of the last few dozen are kept."""
        piece = self._read.pop(number, None) or self._catalogue.piece_chords(number)
        self._read[number] = piece
        if len(self._read) > PIECES_REMEMBERED:
            self._read.popitem(last=False)
        return piece


def _enough(played: Chords) -> bool:
    """Whether so much was played that a piece may be named by it."""
    return len(played) >= CHORDS_TO_MATCH and int(played.sizes.sum()) >= NOTES_TO_NAME


def _differ(told: PieceMatch, now: PieceMatch) -> bool:
    if told.state is not now.state or bool(told.candidates) != bool(now.candidates):
        return True
    if not now.candidates:
        return False
    before, after = told.candidates[0], now.candidates[0]
    return (
        before.piece_id != after.piece_id
        or abs(before.confidence - after.confidence) >= WORTH_TELLING
    )
