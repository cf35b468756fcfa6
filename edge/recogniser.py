"""The one who listens: samples in, events out, and nothing else.

A stretch of sound passes through the ear and becomes notes; the notes pass through the piece
follower and become the name of a piece and a place in it. A keyboard that speaks MIDI skips the
ear. A hiccup of the sound card is bridged. Where more was lost, nobody knows what happened: what
sounded before the gap is ended, and the ear begins anew at the sample where the stream goes on, so
that nothing after the gap is dated wrongly. An ear that begins in the midst of a sound takes it for
struck; what seems struck right after a gap is therefore not believed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.audio.block import STREAM_RATE_HZ, Block, MidiBlock
from edge.audio.bridge import Bridge
from edge.calibration import UNCALIBRATED, Calibration
from edge.ear import Ear, load_ear
from edge.errors import CatalogueError
from edge.following import PieceFollower, Position
from edge.matching import Catalogue, PieceMatch
from edge.note import Heard, NoteEvent, NoteState, NoteUpdate, PedalEvent, Strike
from edge.practice import BarFeedback, LivePractice

Event = Heard | PieceMatch | Position | BarFeedback
Float32 = NDArray[np.float32]

AMID_SOUND_S = 0.05
"""So long after a gap no onset is believed: the ear dates what goes on sounding 20 to 35 ms in."""


class NoEar:
    """What a keyboard needs that speaks for itself: no model is loaded, and nothing is heard."""

    sample_rate_hz = STREAM_RATE_HZ
    hop_samples = 1
    lookahead_samples = 0

    def push(self, samples: Float32) -> list[Heard]:
        return []

    def flush(self) -> list[Heard]:
        return []

    def reset(self) -> None:
        """Nothing is kept."""


class Recogniser:
    """Blocks to events, with no input or output of its own.

    Parameters
    ----------
    ear : Ear
    pieces : PieceFollower or None
        None to hear notes only.
    gain_db : float
        By how much the sound is made louder for the ear.
    practice : LivePractice or None
        None to compare nothing with the score.
    """

    sample_rate_hz = STREAM_RATE_HZ

    def __init__(
        self,
        ear: Ear,
        pieces: PieceFollower | None = None,
        gain_db: float = 0.0,
        practice: LivePractice | None = None,
    ) -> None:
        self.ear = ear
        self._practice = practice
        self._gain = np.float32(10.0 ** (gain_db / 20))
        self._pieces = pieces
        self.reset()

    def reset(self) -> None:
        self.ear.reset()
        if self._pieces is not None:
            self._pieces.reset()
        if self._practice is not None:
            self._practice.reset()
        self._bridge = Bridge()
        self._now_sample = 0
        self._origin_sample = 0
        self._first_id = 0
        self._next_id = 0
        self._open: dict[int, NoteUpdate] = {}
        self._sounded_before: set[int] = set()
        self._believed_from_s = 0.0
        self._pedal_down = False

    @property
    def now_sample(self) -> int:
        """Index of the first sample not yet heard."""
        return self._now_sample

    def push(self, block: Block | MidiBlock) -> list[Event]:
        """Hear one block; give what it made certain, in order."""
        if isinstance(block, MidiBlock):
            self._now_sample = block.end_sample
            for event in block.events:
                self._remember(event)
            return self._recognise(block.events)
        before: list[Event] = []
        lost = block.start_sample - self._now_sample
        if lost and not self._bridge.spans(lost):
            before, lost = self._resume_at(block.start_sample), 0
        self._now_sample = block.end_sample
        heard = self.ear.push(self._bridge.push(block.samples, lost) * self._gain)
        return [*before, *self._recognise(self._placed(heard))]

    def choose_piece(self, piece_id: str | None) -> None:
        """Follow this piece from now on, or, with None, recognise what is played.

        Raises
        ------
        CatalogueError
            There is no such piece, or no catalogue.
        """
        if self._pieces is None:
            raise CatalogueError("no catalogue is loaded, so no piece can be followed")
        self._pieces.choose(piece_id)
        if self._practice is not None:
            self._practice.reset()

    def flush(self) -> list[Event]:
        """End the stream: everything still sounding is ended."""
        ended = self._recognise([*self._placed(self.ear.flush()), *self._let_go()])
        self._begin_at(self._now_sample)
        return ended if self._practice is None else [*ended, *self._practice.flush()]

    def recover(self) -> list[Event]:
        """After a failure of the ear: what was begun is closed, and the ear begins anew from here.

        What sounded is ended, what was provisional is withdrawn, and the pedal is let go.
        """
        self.ear.reset()
        self._begin_at(self._now_sample)
        return [*self._let_go()]

    def _let_go(self) -> list[Heard]:
        """The ends of all that nobody has ended: an ear that failed, a keyboard cut off."""
        now_s = self._now_sample / STREAM_RATE_HZ
        ended: list[Heard] = [_closed(update, now_s) for update in self._open.values()]
        if self._pedal_down:
            ended.append(PedalEvent(now_s, down=False))
        self._open.clear()
        self._pedal_down = False
        return ended

    def _resume_at(self, sample: int) -> list[Event]:
        """Close what was before a gap, and begin anew behind it."""
        ended = self.flush()
        self._begin_at(sample)
        return ended

    def _begin_at(self, sample: int) -> None:
        self._origin_sample = sample
        self._first_id = self._next_id
        self._sounded_before.clear()
        self._believed_from_s = sample / STREAM_RATE_HZ + AMID_SOUND_S

    def _placed(self, heard: Sequence[Heard]) -> list[Heard]:
        """The ear's events in the stream's time, with ids that no earlier note has."""
        origin_s = self._origin_sample / STREAM_RATE_HZ
        placed = (self._place(event, origin_s) for event in heard)
        return [event for event in placed if event is not None]

    def _place(self, event: Heard, origin_s: float) -> Heard | None:
        if isinstance(event, PedalEvent):
            moved_pedal = replace(event, t_s=event.t_s + origin_s)
            self._remember(moved_pedal)
            return moved_pedal
        if isinstance(event, Strike):
            struck = replace(event, onset_s=event.onset_s + origin_s)
            return struck if struck.onset_s >= self._believed_from_s else None
        note = event.note
        number = event.id + self._first_id
        if number >= self._next_id and note.onset_s + origin_s < self._believed_from_s:
            self._sounded_before.add(number)
        self._next_id = max(self._next_id, number + 1)
        if number in self._sounded_before:
            return None
        offset_s = None if note.offset_s is None else note.offset_s + origin_s
        moved = replace(note, onset_s=note.onset_s + origin_s, offset_s=offset_s)
        placed = replace(event, id=number, note=moved)
        self._remember(placed)
        return placed

    def _remember(self, event: Heard) -> None:
        """What is open, so that it can be closed."""
        if isinstance(event, PedalEvent):
            self._pedal_down = event.down
        elif isinstance(event, NoteUpdate):
            if event.state in (NoteState.PROVISIONAL, NoteState.CONFIRMED):
                self._open[event.id] = event
            else:
                self._open.pop(event.id, None)

    def _recognise(self, events: Sequence[Heard]) -> list[Event]:
        """The events, and what the confirmed notes among them say of piece, place and playing."""
        if self._pieces is None:
            return [*events]
        now_s = self._now_sample / STREAM_RATE_HZ
        notes = _confirmed(events)
        found = self._pieces.push(notes, now_s)
        if self._practice is None:
            return [*events, *found]
        matches = [each for each in found if isinstance(each, PieceMatch)]
        return [*events, *found, *self._practice.push(notes, matches, now_s)]


def _closed(update: NoteUpdate, now_s: float) -> NoteUpdate:
    """The last step of a note that nobody hears any more."""
    if update.state is NoteState.PROVISIONAL:
        return replace(update, state=NoteState.WITHDRAWN)
    return replace(update, state=NoteState.ENDED, note=replace(update.note, offset_s=now_s))


def _confirmed(events: Sequence[Heard]) -> list[NoteEvent]:
    return [
        event.note
        for event in events
        if isinstance(event, NoteUpdate) and event.state is NoteState.CONFIRMED
    ]


def load_recogniser(
    model: str | Path | None = None,
    catalogue: Catalogue | None = None,
    *,
    provisional: bool = False,
    calibration: Calibration = UNCALIBRATED,
    piece_id: str | None = None,
    needs_ear: bool = True,
) -> Recogniser:
    """A recogniser with an installed model (None: the default) and, if given, a catalogue.

    ``provisional``: tell strikes and guessed keys before they are sure. ``calibration``: of the
    piano that is heard. ``piece_id``: the piece of the catalogue that will be played; None to
    recognise it. ``needs_ear``: False where all that comes is MIDI; no model is then loaded.
    """
    ear: Ear = NoEar()
    if needs_ear:
        ear = load_ear(model, provisional=provisional, tuning=calibration.tuning)
    latency_s = ear.lookahead_samples / ear.sample_rate_hz
    pieces = None if catalogue is None else PieceFollower(catalogue, latency_s, piece_id)
    practice = None if catalogue is None else LivePractice(catalogue)
    return Recogniser(ear, pieces, calibration.gain_db, practice)
