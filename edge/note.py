"""A note, as a pianist would own to it: which key, when it sounded, how hard it was struck.

The piano's 88 keys are MIDI pitches 21 (A0) to 108 (C8). Times are seconds of the
stream, counted from its first sample; inside the recogniser the sample index is the only
clock, and it becomes seconds here, once.

Before any key is known there is the *strike*: something sounded that had not sounded before.

A live note has a history: it is *provisional* when something was heard and a pitch is
guessed, *confirmed* when the model has had its look-ahead, *ended* when its key was let
go (what the pedal carries on is told by the pedal's moves), and *withdrawn* when a provisional
guess was wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

LOWEST_PITCH_MIDI = 21
HIGHEST_PITCH_MIDI = 108
KEYS = HIGHEST_PITCH_MIDI - LOWEST_PITCH_MIDI + 1

A4_PITCH_MIDI = 69
A4_HZ = 440.0


def pitch_to_hz(pitch_midi: float) -> float:
    """Equal-tempered frequency in Hz of a MIDI pitch, 440 * 2^((m - 69) / 12)."""
    return float(A4_HZ * 2.0 ** ((pitch_midi - A4_PITCH_MIDI) / 12.0))


@dataclass(frozen=True, slots=True)
class NoteEvent:
    """One note.

    Attributes
    ----------
    pitch_midi : int
        21 to 108.
    onset_s, offset_s : float
        Seconds of the stream; ``offset_s``, when the key is let go, is None while it is held.
    velocity : int
        1 to 127, as a MIDI keyboard would have sent it.
    confidence : float
        0 to 1: how sure the ear is that this note was struck.
    """

    pitch_midi: int
    onset_s: float
    offset_s: float | None
    velocity: int
    confidence: float


@dataclass(frozen=True, slots=True)
class PedalEvent:
    """The sustain pedal goes down or comes up at ``t_s`` seconds of the stream."""

    t_s: float
    down: bool


@dataclass(frozen=True, slots=True)
class Strike:
    """Something was struck at ``onset_s`` seconds of the stream; which keys is not known yet.

    ``strength`` is 0 to 1: how much sound appeared, 1 being a full-scale crash.
    """

    onset_s: float
    strength: float


class NoteState(StrEnum):
    """Where a live note is in its history."""

    PROVISIONAL = "provisional"
    CONFIRMED = "confirmed"
    ENDED = "ended"
    WITHDRAWN = "withdrawn"


@dataclass(frozen=True, slots=True)
class NoteUpdate:
    """One step in the life of a live note; ``id`` stays the same from first to last."""

    id: int
    state: NoteState
    note: NoteEvent


Heard = NoteUpdate | PedalEvent | Strike
"""What an ear tells."""
