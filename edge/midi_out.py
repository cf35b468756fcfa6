"""An acoustic piano as a live MIDI port: what is heard goes on as keys and pedal.

A synthesiser, a notation program or a light show beside the piano takes MIDI and asks nothing of
MQTT. A confirmed note is a *note on* with its velocity as soon as it is confirmed, its end a *note
off*, the sustain pedal controller 64, all on channel 1. Whoever would rather have notes soon than
surely may ask for provisional ones too: one that is withdrawn is then let go again.

A key that hangs is the worst that a MIDI port can do. So everything that is held is let go, and
*all notes off* is said, when listening ends, where sound was lost, when the ear failed, and when
the port could not keep up.

The listening hand lays events down and never waits. A thread of this module's own sends them, and
looks whether the port is still there; one that is unplugged is waited for.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from edge.audio.source import SourceEvent, SourceEventKind
from edge.errors import DeviceError
from edge.midi import (
    ALL_NOTES_OFF_CONTROLLER,
    PORT_WATCH_S,
    RTMIDI_ERRORS,
    SUSTAIN_CONTROLLER,
    choose_by_name,
    open_rtmidi,
    stable_port_name,
)
from edge.note import NoteState, NoteUpdate, PedalEvent

log = logging.getLogger(__name__)

VIRTUAL = "virtual"
"""This name asks for a port of our own that other programs connect to."""

VIRTUAL_PORT_NAME = "piano"

MOST_WAITING = 1000
"""Batches of events that may wait for a port: a minute of them. What comes then is left out."""

HANDED_ON_S = 0.1
"""JACK hands on what is sent once in a period: a port is kept open for a few of them at the end, or
the last keys would never be let go."""

CLOSE_S = 1.0
"""The port has so long to take what is left at the end."""

_NOTE_ON, _NOTE_OFF, _CONTROL = 0x90, 0x80, 0xB0
_RELEASE_VELOCITY = 64


class Keys:
    """From the lives of notes to MIDI messages.

    Parameters
    ----------
    provisional : bool
        Strike a key when its note is provisional already.
    """

    def __init__(self, provisional: bool = False) -> None:
        self._strikes = {NoteState.CONFIRMED}
        if provisional:
            self._strikes.add(NoteState.PROVISIONAL)
        self._held: dict[int, int] = {}
        """The note, by its id, that holds each key."""

    def push(self, event: object) -> list[bytes]:
        """The messages that an event of the recogniser becomes; none for most kinds."""
        if isinstance(event, PedalEvent):
            return [bytes((_CONTROL, SUSTAIN_CONTROLLER, 127 if event.down else 0))]
        if not isinstance(event, NoteUpdate):
            return []
        if event.state in self._strikes:
            return self._strike(event)
        if event.state in (NoteState.ENDED, NoteState.WITHDRAWN):
            return self._let_go(event.id)
        return []

    def silence(self) -> list[bytes]:
        """Let go of every key and the pedal."""
        let_go = [_off(pitch) for pitch in self._held]
        self._held.clear()
        return [
            *let_go,
            bytes((_CONTROL, SUSTAIN_CONTROLLER, 0)),
            bytes((_CONTROL, ALL_NOTES_OFF_CONTROLLER, 0)),
        ]

    def _strike(self, event: NoteUpdate) -> list[bytes]:
        pitch = event.note.pitch_midi
        if self._held.get(pitch) == event.id:
            return []  # it sounds since it was provisional
        before = self._let_go(event.id)
        if pitch in self._held:
            before.append(_off(pitch))
        self._held[pitch] = event.id
        velocity = min(127, max(1, event.note.velocity))
        return [*before, bytes((_NOTE_ON, pitch, velocity))]

    def _let_go(self, number: int) -> list[bytes]:
        pitches = [pitch for pitch, holder in self._held.items() if holder == number]
        for pitch in pitches:
            del self._held[pitch]
        return [_off(pitch) for pitch in pitches]


def _off(pitch_midi: int) -> bytes:
    return bytes((_NOTE_OFF, pitch_midi, _RELEASE_VELOCITY))


class MidiOut:
    """A MIDI port that plays what is heard.

    Parameters
    ----------
    wanted : str
        `VIRTUAL`, or a part of the name of the one port that is meant.
    provisional : bool
        See `Keys`.
    open_port : callable, optional
        Opens rtmidi's output; a test puts its own in.
    watch_s : float
        How often a port is looked for.
    """

    def __init__(
        self,
        wanted: str,
        *,
        provisional: bool = False,
        open_port: Callable[[], Any] | None = None,
        watch_s: float = PORT_WATCH_S,
    ) -> None:
        self.wanted = wanted
        self.name = wanted
        self._open_port = open_port or (lambda: open_rtmidi("MidiOut"))
        self._watch_s = watch_s
        self._keys = Keys(provisional)
        self._port: Any = None
        self._waiting: queue.SimpleQueue[Sequence[object] | None] = queue.SimpleQueue()
        self._faults: queue.SimpleQueue[SourceEvent] = queue.SimpleQueue()
        self._left_out = False
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._send_all, name="midi-out", daemon=True)

    def open(self) -> None:
        """Open the port and begin to send.

        Raises
        ------
        DeviceError
            No such port, more than one, or no MIDI on this machine.
        """
        self._connect()
        self._thread.start()

    def push(self, events: Sequence[object]) -> None:
        """Take events of the recogniser, without waiting."""
        if not events:
            return
        if self._waiting.qsize() < MOST_WAITING:
            self._waiting.put(events)
        else:
            self._left_out = True

    def silence(self) -> None:
        """Let go of everything, after what was pushed before."""
        self._waiting.put(None)

    def faults(self) -> list[SourceEvent]:
        """What befell the port since this was last asked."""
        return [self._faults.get() for _ in range(self._faults.qsize())]

    def close(self) -> None:
        """Send what is left, let go of everything, and give the port back; again does nothing."""
        self.silence()
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join(CLOSE_S)

    # ---- the sending thread

    def _send_all(self) -> None:
        watched_s = time.monotonic()
        while not (self._closing.is_set() and self._waiting.empty()):
            with contextlib.suppress(queue.Empty):
                self._send(self._messages(self._waiting.get(timeout=self._watch_s)))
            if time.monotonic() - watched_s >= self._watch_s:
                watched_s = time.monotonic()
                self._look_after()
        time.sleep(HANDED_ON_S)
        self._disconnect()

    def _messages(self, events: Sequence[object] | None) -> list[bytes]:
        if events is None:
            return self._keys.silence()
        messages = [message for event in events for message in self._keys.push(event)]
        if self._left_out and self._waiting.empty():
            self._left_out = False
            messages += self._keys.silence()
        return messages

    def _send(self, messages: Sequence[bytes]) -> None:
        if self._port is None:
            return
        try:
            for message in messages:
                self._port.send_message(message)
        except RTMIDI_ERRORS as error:
            log.info("%s: %s", self.name, error)
            self._lose()

    def _look_after(self) -> None:
        """See whether the port is there; find it again when it was gone."""
        if self._port is None:
            try:
                self._connect()
            except DeviceError:
                return
            self._send(self._keys.silence())
            line = f"MIDI output {self.name!r} is back"
            self._faults.put(SourceEvent(SourceEventKind.DEVICE_RECOVERED, line))
        elif self.wanted != VIRTUAL and self.name not in _names(self._port):
            self._lose()

    def _lose(self) -> None:
        self._disconnect()
        line = f"MIDI output {self.name!r} went away; plug it in again"
        self._faults.put(SourceEvent(SourceEventKind.DEVICE_LOST, line))

    def _connect(self) -> None:
        port = self._open_port()
        if self.wanted == VIRTUAL:
            port.open_virtual_port(VIRTUAL_PORT_NAME)
            self.name = f"sostenuto:{VIRTUAL_PORT_NAME}"
        else:
            names = _names(port)
            index = choose_by_name(self.wanted, names, what="MIDI output")
            port.open_port(index)
            self.name = names[index]
        self._port = port

    def _disconnect(self) -> None:
        if self._port is not None:
            port, self._port = self._port, None
            with contextlib.suppress(*RTMIDI_ERRORS):  # it may be gone, which is why it is closed
                port.close_port()
                port.delete()


def _names(port: Any) -> list[str]:
    return [stable_port_name(full) for full in port.get_ports()]
