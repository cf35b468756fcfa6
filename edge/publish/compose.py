"""From what the recogniser says to what a dashboard reads.

Times are rounded to a tenth of a millisecond and confidences to a thousandth: the ear is not
finer than that, and a batch of notes stays small.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from edge.messages import (
    Detail,
    Feedback,
    FeedbackKind,
    Hand,
    NoteMessage,
    Notes,
    PedalMessage,
    Piece,
    PieceCandidate,
    PieceState,
    Position,
    Practised,
    StrikeMessage,
)
from edge.note import NoteState, NoteUpdate, PedalEvent, Strike
from edge.practice.summary import Summary, summed
from edge.practice.verdict import BarFeedback, Finding, Verdict

if TYPE_CHECKING:
    from edge import following
    from edge.matching import Candidate, PieceMatch

SECONDS_DIGITS = 4
CONFIDENCE_DIGITS = 3
MUSIC_DIGITS = 3
"""Of beats, quarters and beats a minute."""
MS_DIGITS = 1
CANDIDATES = 5


def note_message(update: NoteUpdate) -> NoteMessage:
    """One step in the life of a note, as `notes` carries it."""
    note = update.note
    return NoteMessage(
        id=update.id,
        state=update.state,
        pitch_midi=note.pitch_midi,
        onset_s=round(note.onset_s, SECONDS_DIGITS),
        offset_s=None if note.offset_s is None else round(note.offset_s, SECONDS_DIGITS),
        velocity=note.velocity,
        confidence=round(note.confidence, CONFIDENCE_DIGITS),
    )


def notes_message(events: Iterable[object], heard_s: float) -> Notes | None:
    """The notes, strikes and pedal moves among ``events`` as one message; None without any.

    ``heard_s`` is how much of the stream had been heard.
    """
    taken = list(events)
    notes = tuple(note_message(event) for event in taken if isinstance(event, NoteUpdate))
    strikes = tuple(
        StrikeMessage(
            t_s=round(event.onset_s, SECONDS_DIGITS),
            strength=round(min(1.0, event.strength), CONFIDENCE_DIGITS),
        )
        for event in taken
        if isinstance(event, Strike)
    )
    pedal = tuple(
        PedalMessage(t_s=round(event.t_s, SECONDS_DIGITS), down=event.down)
        for event in taken
        if isinstance(event, PedalEvent)
    )
    if not notes and not strikes and not pedal:
        return None
    return Notes(notes=notes, strikes=strikes, pedal=pedal, heard_s=round(heard_s, SECONDS_DIGITS))


class DetailFilter:
    """Leaves out of the events what nobody wants to be told.

    What was told is told to its end: a note that sounds when `detail` is turned down is still
    ended, so that no ghost stays on a keyboard; and what was never begun is not ended.
    """

    def __init__(self) -> None:
        self.detail = Detail()
        self._told: set[int] = set()

    def push(self, events: Iterable[object]) -> list[object]:
        """Those of ``events`` that are to be published."""
        return [event for event in events if self._wanted(event)]

    def _wanted(self, event: object) -> bool:
        if isinstance(event, Strike):
            return self.detail.strikes
        if isinstance(event, PedalEvent):
            return self.detail.notes
        if isinstance(event, NoteUpdate):
            return self._note_wanted(event)
        return True

    def _note_wanted(self, update: NoteUpdate) -> bool:
        told = update.id in self._told
        if update.state in (NoteState.ENDED, NoteState.WITHDRAWN):
            self._told.discard(update.id)
            return told
        guessed = update.state is NoteState.PROVISIONAL
        if self.detail.notes and (self.detail.provisional or not guessed):
            self._told.add(update.id)
            return True
        return told


def piece_message(match: PieceMatch, last: Candidate | None = None) -> Piece:
    """What is known of the piece, as `piece` carries it.

    ``last`` is the piece that was being played, which a ``lost`` still names. "None of these"
    is no state of the contract: to a dashboard the device goes on searching.
    """
    best = match.candidates[0] if match.candidates else None
    known = {"matched": best, "lost": last}.get(str(match.state))
    candidates = tuple(_candidate(c) for c in match.candidates[:CANDIDATES])
    if known is None:
        return Piece(state=PieceState.SEARCHING, candidates=candidates)
    return Piece(
        state=PieceState(str(match.state)),
        piece_id=known.piece_id,
        work_id=known.work_id,
        title=known.title,
        composer=known.composer,
        confidence=round(known.confidence, CONFIDENCE_DIGITS),
        tempo_ratio=round(known.tempo_ratio, CONFIDENCE_DIGITS),
        transposition=known.transposition,
        start_s=round(known.start_s, SECONDS_DIGITS),
        bar=known.bar,
        bars=known.bars or None,
        candidates=candidates,
    )


def position_message(position: following.Position) -> Position:
    """A place in the piece, as `position` carries it."""
    knows_tempo = not position.lost and position.tempo_bpm > 0
    return Position(
        piece_id=position.piece_id,
        bar=max(position.bar, 0),
        beat=round(position.beat, MUSIC_DIGITS),
        confidence=round(position.confidence, CONFIDENCE_DIGITS),
        tempo_bpm=round(position.tempo_bpm, MUSIC_DIGITS) if knows_tempo else None,
        tempo_ratio=round(position.tempo_ratio, MUSIC_DIGITS) if knows_tempo else None,
        t_s=round(position.t_s, SECONDS_DIGITS),
        until_s=None if position.lost else round(position.until_s, SECONDS_DIGITS),
        beats_in_bar=position.beats_in_bar,
        quarters=round(position.quarters, MUSIC_DIGITS),
        lost=position.lost,
    )


FEEDBACK_KINDS = {
    Verdict.WRONG: FeedbackKind.WRONG_NOTE,
    Verdict.EXTRA: FeedbackKind.WRONG_NOTE,
    Verdict.MISSED: FeedbackKind.MISSED,
    Verdict.EARLY: FeedbackKind.EARLY,
    Verdict.LATE: FeedbackKind.LATE,
}
HANDS = {1: Hand.RIGHT, 2: Hand.LEFT}


def feedback_messages(bar: BarFeedback) -> list[Feedback]:
    """What went wrong in a bar, as `feedback` carries it, and the bar itself last."""
    of = summed([bar])
    whole = Feedback(
        kind=FeedbackKind.BAR,
        piece_id=bar.piece_id,
        bar=max(bar.bar, 0),
        t_s=round(max(bar.t_s, 0.0), SECONDS_DIGITS),
        take=bar.take,
        asked=of.asked,
        right=of.right,
        unsure=of.unsure,
        evenness_ms=_rounded(of.evenness_ms, MS_DIGITS),
        tempo_bpm=_rounded(bar.tempo_bpm, MS_DIGITS),
    )
    return [*(_fault(finding, bar) for finding in bar.faults), whole]


def _fault(finding: Finding, bar: BarFeedback) -> Feedback:
    return Feedback(
        kind=FEEDBACK_KINDS[finding.verdict],
        piece_id=bar.piece_id,
        bar=max(finding.bar, 0),
        beat=round(finding.beat, MUSIC_DIGITS),
        hand=HANDS.get(finding.hand),
        expected_pitch_midi=finding.expected_pitch_midi,
        played_pitch_midi=finding.played_pitch_midi,
        delta_ms=None if finding.delta_s is None else round(1e3 * finding.delta_s, MS_DIGITS),
        t_s=round(finding.t_s, SECONDS_DIGITS),
        confidence=round(finding.confidence, CONFIDENCE_DIGITS),
        take=bar.take,
    )


def practised_message(of: Summary) -> Practised | None:
    """What practice found, as `session` carries it; None where nothing was compared."""
    if of.asked == 0:
        return None
    return Practised(
        asked=of.asked,
        right=of.right,
        wrong=of.wrong,
        missed=of.missed,
        extra=of.extra,
        early=of.early,
        late=of.late,
        unsure=of.unsure,
        evenness_ms=_rounded(of.evenness_ms, MS_DIGITS),
        tempo_change=_rounded(of.tempo_change, MUSIC_DIGITS),
    )


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def _candidate(candidate: Candidate) -> PieceCandidate:
    return PieceCandidate(
        piece_id=candidate.piece_id,
        work_id=candidate.work_id,
        title=candidate.title,
        composer=candidate.composer,
        confidence=round(candidate.confidence, CONFIDENCE_DIGITS),
    )
