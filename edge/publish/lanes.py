"""In which order messages leave: three lanes that know the contract and nothing of the network.

- present (`info`, `health`): only the newest is true, so only the newest is kept;
- live (`notes`, `position`, `rsp`): worth something now or never, kept for a moment;
- outbox (`piece`, `session`, `feedback`, `history/notes`, `tags`, `event`): kept until the
  broker has acknowledged them, within bounds.

At every connect the whole retained set goes out again. What waited goes out before what is new,
but no faster than its outbox lets it, so that a long absence does not hold up the present: marked
as `historical` and never retained, so that an old `piece` cannot take the place of the present
one. And when the last of it is gone, the present one is told once more.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import msgspec

from edge.messages import Envelope, EventMessage, decode, encode
from edge.publish.clock import Stamp
from edge.publish.outbox import DropLedger, Outbox, Outgoing

LIVE_MESSAGES = 10_000
LIVE_S = 2.0
"""How many live messages wait for the broker, and for how long. A note that shows on a live
keyboard later than this misleads; and what else waited longer is `historical`."""

DRAIN_TICK_S = 0.05
"""How often an outbox that lets through only so much at a time is asked for more."""


@dataclass(frozen=True, slots=True)
class Dispatch:
    """One message as it goes to the broker now."""

    entry: Outgoing
    payload: bytes
    retain: bool


def as_historical(name: str, payload: bytes) -> bytes:
    """The same message, marked as one that waited for the broker."""
    message = decode(name, payload)
    assert isinstance(message, Envelope)
    return encode(msgspec.structs.replace(message, historical=True))


class Lanes:
    """Keeps messages until they may go. One thread uses it; times are of `time.monotonic`.

    Parameters
    ----------
    outbox : Outbox
        Keeps what must not be lost.
    drops : DropLedger
        Is told of every message that will not be sent.
    live_s : float
        How long a live message waits.
    """

    def __init__(self, outbox: Outbox, drops: DropLedger, live_s: float = LIVE_S) -> None:
        self._outbox = outbox
        self._drops = drops
        self._live_s = live_s
        self._live: deque[Outgoing] = deque()
        self._live_on_their_way: dict[tuple[str, str, int], Outgoing] = {}
        self._present: dict[str, Outgoing] = {}
        self._to_present: dict[str, Outgoing] = {}
        self._never_presented: set[str] = set()
        self._overtaken: set[str] = set()  # retained topics on which the past was just told

    def __len__(self) -> int:
        """Messages that the broker does not have yet, as far as is known."""
        return (
            len(self._live)
            + len(self._live_on_their_way)
            + len(self._outbox)
            + len(self._never_presented)
        )

    @property
    def pressing(self) -> int:
        """Those of them that are to leave now, and not little by little."""
        return len(self) - len(self._outbox) + self._outbox.pressing

    @property
    def kept(self) -> int:
        """Those of them that the next start of the program will send, if this one ends now."""
        return self._outbox.kept

    def rest_s(self, connected: bool) -> float:
        """For how long there is nothing to do, if nothing comes in."""
        drains = connected and self._outbox.draining
        return min(self._outbox.rest_s, DRAIN_TICK_S if drains else float("inf"))

    def keep(self, stamp: Stamp, *, closing: bool = False) -> list[EventMessage]:
        """Let the outbox do what is due at ``stamp``; returns what happened to it."""
        for lost in self._outbox.keep(stamp, closing=closing):
            self._evicted(lost)
        return self._outbox.notices()

    def accept(self, entry: Outgoing) -> None:
        """Take in a new message."""
        if entry.topic.retain:
            self._supersede(entry)
        if entry.topic.through_outbox:
            for lost in self._outbox.append(entry):
                self._evicted(lost)
        elif entry.topic.retain:
            self._to_present[entry.name] = entry
            self._never_presented.add(entry.name)
        else:
            self._live.append(entry)
            if len(self._live) > LIVE_MESSAGES:
                self._drop(self._live.popleft())

    def _supersede(self, entry: Outgoing) -> None:
        """``entry`` is the present now; the one before it, if nobody has it, is gone."""
        before = self._present.get(entry.name)
        self._to_present.pop(entry.name, None)
        if before is not None and entry.name in self._never_presented:
            self._never_presented.discard(entry.name)
            self._drop(before)
        self._present[entry.name] = entry

    def _evicted(self, lost: Outgoing) -> None:
        """The outbox is full: what is still the present goes out as such, the rest is gone."""
        present = self._present.get(lost.name)
        if present is not None and present.key == lost.key:
            self._to_present[lost.name] = present
            self._never_presented.add(lost.name)
        else:
            self._drop(lost)

    def _drop(self, entry: Outgoing) -> None:
        self._drops.add(entry.name, entry.seq, boot=entry.boot)

    def expire(self, now_s: float) -> None:
        """Drop the live messages that came too late for anybody."""
        while self._live and now_s - self._live[0].made_s > self._live_s:
            self._drop(self._live.popleft())

    def connected(self) -> None:
        """A broker is there: everything retained is to be published again."""
        for name, entry in self._present.items():
            if not (entry.topic.through_outbox and self._outbox.holds(entry)):
                self._to_present[name] = entry

    def disconnected(self) -> None:
        """The broker is gone: what it did not acknowledge is to be sent again."""
        self._outbox.rewind()
        self._live.extendleft(reversed(self._live_on_their_way.values()))
        self._live_on_their_way.clear()

    def next(self, now_s: float, room: bool) -> Dispatch | None:
        """The message to send now, or None.

        ``room`` says whether the broker takes one more that it has to acknowledge.
        """
        direct = [n for n, e in self._to_present.items() if not e.topic.through_outbox]
        if room and direct:
            return self._presenting(direct[0])
        if self._live and (room or self._live[0].topic.qos == 0):
            entry = self._live.popleft()
            if entry.topic.qos > 0:
                self._live_on_their_way[entry.key] = entry
            return Dispatch(entry, entry.payload, retain=False)
        if not room:
            return None
        waiting = self._outbox.next()
        if waiting is not None:
            return self._from_outbox(waiting, now_s)
        if not self._outbox.draining:
            for name in self._overtaken & self._present.keys():
                self._to_present[name] = self._present[name]
            self._overtaken.clear()
        return self._presenting(next(iter(self._to_present))) if self._to_present else None

    def _presenting(self, name: str) -> Dispatch:
        entry = self._to_present.pop(name)
        return Dispatch(entry, entry.payload, retain=True)

    def _from_outbox(self, entry: Outgoing, now_s: float) -> Dispatch:
        if self._present.get(entry.name) is entry:
            self._to_present.pop(entry.name, None)
            self._overtaken.discard(entry.name)
            return Dispatch(entry, entry.payload, retain=True)
        late = now_s - entry.made_s > self._live_s
        if late and entry.topic.retain:
            self._overtaken.add(entry.name)
        payload = as_historical(entry.name, entry.payload) if late else entry.payload
        return Dispatch(entry, payload, retain=False)

    def acknowledge(self, entry: Outgoing) -> None:
        """The broker has ``entry``."""
        if entry.topic.through_outbox:
            self._outbox.acknowledge(entry)
        self._live_on_their_way.pop(entry.key, None)
        if self._present.get(entry.name) is entry:
            self._never_presented.discard(entry.name)

    def refuse(self, entry: Outgoing) -> None:
        """The broker will not have ``entry``: it counts as dropped.

        A refused event is not announced, for that would be another one.
        """
        if entry.topic.through_outbox:
            self._outbox.refuse(entry)
        self.acknowledge(entry)
        self._drops.add(entry.name, entry.seq, announce=entry.name != "event", boot=entry.boot)
