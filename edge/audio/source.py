"""What every source of sound or notes looks like to the live loop.

A source gives blocks in order, and between them says what went wrong: a fault is an item
of the stream like any other, so it is dated by its place and cannot be overlooked.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from edge.audio.block import Block, MidiBlock


class SourceEventKind(StrEnum):
    """What can befall a source, in the words of the `event` topic."""

    OVERRUN = "overrun"
    DEVICE_LOST = "device_lost"
    DEVICE_RECOVERED = "device_recovered"
    INPUT_ERROR = "input_error"
    ATTENTION = "attention"
    """It is heard, and somebody should look after something all the same."""


@dataclass(frozen=True, slots=True)
class SourceEvent:
    """A fault, the end of one, or a doubt.

    Attributes
    ----------
    kind : SourceEventKind
    message : str
        One line for a person.
    lost_samples : int
        Samples of the stream (at ``STREAM_RATE_HZ``) that are missing because of it.
    """

    kind: SourceEventKind
    message: str
    lost_samples: int = 0


class Source(Protocol):
    """A microphone, a file, a keyboard."""

    @property
    def name(self) -> str:
        """The stable name of the device, or the file's name."""

    @property
    def kind(self) -> str:
        """``microphone``, ``file``, ``midi_file`` or ``midi_port``."""

    @property
    def sample_rate_hz(self) -> int | None:
        """The source's own rate; None for MIDI."""

    @property
    def channels(self) -> int | None:
        """The source's own channels; None for MIDI."""

    @property
    def origin_s(self) -> float | None:
        """``time.monotonic()`` when sample 0 sounded; None where nothing sounds in real time."""

    def open(self) -> None:
        """Make ready; raises the error that ends the command before the loop has begun."""

    def items(self) -> Iterator[Block | MidiBlock | SourceEvent]:
        """Blocks and faults in order, until the source ends or is stopped."""

    def stop(self) -> None:
        """Ask ``items`` to end soon; may be called from any thread."""

    def close(self) -> None:
        """Give the device or file back."""
