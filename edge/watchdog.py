"""Whether the ear hears: told to systemd, which starts it again when it does not.

A watchdog that is fed by a timer proves that a timer runs. Here it is fed by the second hand of
the live loop, the one that recognises, and only while that makes headway: blocks of sound are
heard without a failure, and those that wait do not pile up. Where no sound is expected (switched
off, a microphone that is away, a keyboard that speaks for itself) the turning of the hand is
enough, for a restart would mend nothing. A microphone that has just come back does give sound, and
is judged by it.

The words are those of sd_notify(3): lines in a datagram, to the socket that ``NOTIFY_SOCKET``
names. Without that variable nothing is said.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from edge.messages import AudioState

NOTHING_HEARD_S = 15.0
"""So long without one block of sound, and the ear is deaf. A microphone that gives none is called
lost after 1 s, or after 5 s where it never gave any (`edge.audio.microphone`), so this is a source
that hangs."""

BEHIND_BLOCKS = 100
BEHIND_S = 15.0
"""Blocks that wait, a second of sound, and for how long without a moment of fewer: a board that
stalls catches up within a few seconds, one that has not by then never will."""

WHOLE_BLOCKS = 100
"""After a failure, so many blocks on end without another, a second of sound, before one counts as
heard. An ear that begins anew fails only where its first spectrum is full, with our models at every
ninth block; one bad block a minute is nothing."""

FEEDS = 4
"""So many feeds in the time after which systemd would act."""

STATUS_S = 10.0
"""The status is told when it changes, and at most so often."""

SOUNDLESS = frozenset({AudioState.OFF, AudioState.LOST, AudioState.MIDI})
"""States in which no sound is expected, and which say so."""


class Verdict(Enum):
    """What the second hand's headway comes to; the value says it in words."""

    HEARS = "hears"
    EXPECTS_NOTHING = "expects no sound"
    DEAF = "no sound comes, though the microphone should give some"
    FAILING = "the recogniser fails at what it hears"
    BEHIND = "sound comes faster than it is recognised"

    @property
    def feeds(self) -> bool:
        """Whether the watchdog is fed."""
        return self in (Verdict.HEARS, Verdict.EXPECTS_NOTHING)


@dataclass(frozen=True, slots=True)
class Headway:
    """How far the second hand has come at one of its turns.

    Attributes
    ----------
    audio : AudioState
        How the sound comes in.
    unheard_s : float
        Since a block was last heard whole, or since there was reason to expect one.
    behind_s : float
        For how long, without a break, `BEHIND_BLOCKS` or more have been waiting.
    failing : bool
        Whether the recogniser failed less than `WHOLE_BLOCKS` ago.
    """

    audio: AudioState
    unheard_s: float
    behind_s: float
    failing: bool = False

    @property
    def verdict(self) -> Verdict:
        """Whether this is an ear that hears."""
        if self.audio in SOUNDLESS:
            return Verdict.EXPECTS_NOTHING
        if self.unheard_s > NOTHING_HEARD_S:
            return Verdict.FAILING if self.failing else Verdict.DEAF
        return Verdict.BEHIND if self.behind_s > BEHIND_S else Verdict.HEARS


class Pulse:
    """Headway from turn to turn; all times of the monotonic clock."""

    def __init__(self, now_s: float) -> None:
        self._heard_s = now_s
        self._level_s = now_s
        self._whole_blocks = WHOLE_BLOCKS

    def heard(self, now_s: float) -> None:
        """A block has been through the recogniser, which did not fail."""
        self._whole_blocks += 1
        if self._whole_blocks >= WHOLE_BLOCKS:
            self._heard_s = now_s

    def failed(self) -> None:
        """The recogniser failed at a block."""
        self._whole_blocks = 0

    def turn(self, now_s: float, audio: AudioState, queue_blocks: int) -> Headway:
        """A turn of the second hand, with so many blocks waiting."""
        if audio in SOUNDLESS:
            self._heard_s = now_s
        if audio in SOUNDLESS or queue_blocks < BEHIND_BLOCKS:
            self._level_s = now_s
        failing = self._whole_blocks < WHOLE_BLOCKS
        return Headway(audio, now_s - self._heard_s, now_s - self._level_s, failing)


class Supervisor:
    """systemd, as far as it wants to hear from us.

    Parameters
    ----------
    environment : Mapping
        With ``NOTIFY_SOCKET`` and ``WATCHDOG_USEC`` where systemd set them.
    """

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        name = environment.get("NOTIFY_SOCKET", "")
        self._address = "\0" + name[1:] if name.startswith("@") else name
        self._every_s = watchdog_s(environment) / FEEDS
        self._ready = False
        self._fed_s = self._told_s = float("-inf")
        self._status = ""

    def turn(self, now_s: float, headway: Headway, status: str) -> None:
        """Tell what is due: readiness once, the status when it is another, life if it is one."""
        lines = []
        verdict = headway.verdict
        if not verdict.feeds:
            status = f"{verdict.value}; {status}"
        if not self._ready:
            self._ready = True
            lines.append("READY=1")
        if verdict.feeds and now_s - self._fed_s >= self._every_s:
            self._fed_s = now_s
            lines.append("WATCHDOG=1")
        if status != self._status and (lines or now_s - self._told_s >= STATUS_S):
            self._status, self._told_s = status, now_s
            lines.append(f"STATUS={status}")
        if lines:
            self._say(*lines)

    def stopping(self) -> None:
        """The session is being handed over; it ends soon."""
        self._say("STOPPING=1", "STATUS=handing over what was heard last")

    def _say(self, *lines: str) -> None:
        if not self._address:
            return
        # A supervisor that does not listen is no reason to stop listening ourselves.
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as way:
            way.setblocking(False)
            way.sendto("\n".join(lines).encode(), self._address)


def watchdog_s(environment: Mapping[str, str]) -> float:
    """Seconds after which systemd acts; infinite where it keeps no watch over this process."""
    meant = environment.get("WATCHDOG_PID", "")
    wait_us = environment.get("WATCHDOG_USEC", "")
    if not wait_us.isdigit() or (meant and meant != str(os.getpid())):
        return float("inf")
    return int(wait_us) / 1e6
