"""A sitting at the piano: when it began, what was played, how much.

A session is open from the start of listening, or from the first note after a long silence,
and ends with the next long silence or with the program. All its messages carry one id.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge.following import Position
from edge.messages import PiecePlayed, Session, SessionState
from edge.note import Heard, NoteState, NoteUpdate, PedalEvent, Strike
from edge.practice.summary import Tally
from edge.practice.verdict import BarFeedback
from edge.publish.compose import practised_message

if TYPE_CHECKING:
    from edge.matching import Candidate, PieceMatch

UPDATE_S = 10.0
"""`update` comes at most this often, and only while notes come (the project's plan)."""

SILENCE_S = 300.0
"""So long without a note ends a session. Our choice: a player who turns pages, tunes or answers
the door is still there after a minute or two."""

MINUTE_S = 60.0
_MINUTES_DIGITS = 3
_SECONDS_DIGITS = 4
_CONFIDENCE_DIGITS = 3


@dataclass(slots=True)
class _Played:
    """One piece of the session so far."""

    candidate: Candidate
    start_s: float
    confidence: float
    played_s: float = 0.0


class SessionLog:
    """Follows the events of the recogniser and says what is to be published on `session`.

    Parameters
    ----------
    stream_start_mono_ms : int or None
        The device's monotonic clock at second 0 of the stream, where there is such.
    """

    def __init__(self, stream_start_mono_ms: int | None = None) -> None:
        self._stream_start_mono_ms = stream_start_mono_ms
        self._open = False
        self._start_afresh(0.0)

    def _start_afresh(self, now_s: float) -> None:
        self._id = uuid.uuid4().hex
        self._notes = 0
        self._start_s = now_s
        self._last_note_s = now_s
        self._told_s = now_s
        self._told_notes = 0
        self._played: dict[str, _Played] = {}
        self._playing: _Played | None = None
        self._playing_since_s = 0.0
        self._practice = Tally()

    @property
    def id(self) -> str:
        """Of the session that is open, or was last."""
        return self._id

    def begin(self, now_s: float) -> Session:
        """Open a session at ``now_s`` seconds of the stream; returns its `new`."""
        self._start_afresh(now_s)
        self._open = True
        return self._message(SessionState.NEW)

    def push(
        self, events: Iterable[Heard | PieceMatch | Position | BarFeedback], now_s: float
    ) -> list[Session]:
        """Take what was heard up to ``now_s`` seconds of the stream.

        Returns
        -------
        list of Session
            What is to be published now, mostly nothing.
        """
        said = []
        if self._open and self._notes and now_s - self._last_note_s > SILENCE_S:
            said += self.close(now_s)
        for event in events:
            if isinstance(event, NoteUpdate):
                if event.state is NoteState.CONFIRMED:
                    said += self._note(event.note.onset_s)
            elif isinstance(event, BarFeedback):
                self._practice.add(event)
            elif not isinstance(event, PedalEvent | Strike | Position):
                self._piece(event, now_s)
        if self._open and self._notes > self._told_notes and now_s - self._told_s >= UPDATE_S:
            self._told_s, self._told_notes = now_s, self._notes
            said.append(self._message(SessionState.UPDATE))
        return said

    def close(self, now_s: float) -> list[Session]:
        """End the session, if one is open; returns its `end`."""
        if not self._open:
            return []
        self._stop_playing(min(now_s, self._last_note_s))
        self._open = False
        return [self._message(SessionState.END)]

    def _note(self, onset_s: float) -> list[Session]:
        said = [] if self._open else [self.begin(onset_s)]
        if self._notes == 0:
            self._start_s = onset_s
        self._notes += 1
        self._last_note_s = max(self._last_note_s, onset_s)
        return said

    def _piece(self, match: PieceMatch, now_s: float) -> None:
        best = match.candidates[0] if str(match.state) == "matched" and match.candidates else None
        playing = self._playing
        if best is not None and playing is not None and best.piece_id == playing.candidate.piece_id:
            playing.confidence = max(playing.confidence, best.confidence)
            return
        self._stop_playing(now_s)
        if best is not None:
            fresh = _Played(best, start_s=now_s, confidence=best.confidence)
            self._playing = self._played.setdefault(best.piece_id, fresh)
            self._playing_since_s = now_s

    def _stop_playing(self, now_s: float) -> None:
        if self._playing is not None:
            self._playing.played_s += max(0.0, now_s - self._playing_since_s)
        self._playing = None

    def _message(self, state: SessionState) -> Session:
        practised = self._practice.summary()
        accuracy = practised.accuracy
        return Session(
            id=self._id,
            state=state,
            minutes=_minutes(self._last_note_s - self._start_s) if self._notes else 0.0,
            notes=self._notes,
            pieces=tuple(self._summary(played) for played in self._played.values()),
            accuracy=None if accuracy is None else round(accuracy, _CONFIDENCE_DIGITS),
            practice=practised_message(practised),
            start_s=round(self._start_s, _SECONDS_DIGITS),
            stream_start_mono_ms=self._stream_start_mono_ms,
        )

    def _summary(self, played: _Played) -> PiecePlayed:
        going_on_s = self._last_note_s - self._playing_since_s if played is self._playing else 0.0
        return PiecePlayed(
            piece_id=played.candidate.piece_id,
            work_id=played.candidate.work_id,
            title=played.candidate.title,
            composer=played.candidate.composer,
            confidence=round(played.confidence, _CONFIDENCE_DIGITS),
            start_s=round(played.start_s, _SECONDS_DIGITS),
            minutes=_minutes(played.played_s + max(0.0, going_on_s)),
        )


def _minutes(seconds: float) -> float:
    return round(max(0.0, seconds) / MINUTE_S, _MINUTES_DIGITS)
