"""Keyboards that speak for themselves: Standard MIDI Files, live MIDI ports, and our own files.

A digital piano needs no ear: a key that goes down is a note at once, and one that comes up ends
it, whatever the sustain pedal carries on; the pedal's moves are told beside the notes. `Keyboard`
reads files and ports alike, so notes heard and notes sent by wire end by the same rule.

After the Standard MIDI File specification 1.0 (MMA, 1988). Channel 10 holds drums and is left
out, as are pitches that no piano has.
"""

from __future__ import annotations

import heapq
import queue
import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import mido

from edge.audio.block import BLOCK_S, STREAM_RATE_HZ, Block, MidiBlock
from edge.audio.source import SourceEvent, SourceEventKind
from edge.errors import DeviceError, InputError, UsageError
from edge.note import (
    HIGHEST_PITCH_MIDI,
    LOWEST_PITCH_MIDI,
    NoteEvent,
    NoteState,
    NoteUpdate,
    PedalEvent,
)

MIDI_SUFFIXES = frozenset({".mid", ".midi", ".smf", ".kar"})

SUSTAIN_CONTROLLER = 64
SUSTAIN_DOWN = 64
"""Controller 64 at this value or above is a pedal that is down (MIDI 1.0)."""

ALL_SOUND_OFF_CONTROLLER = 120
RESET_CONTROLLERS = 121
ALL_NOTES_OFF_CONTROLLER = 123
"""A keyboard sends them when its voice is changed or it is put out: nothing is held after them."""

DRUM_CHANNEL = 9
"""Channel 10 counted from 0: drums (General MIDI)."""

TICKS_PER_BEAT = 960
TEMPO_US_PER_BEAT = 500_000
"""What we write: 960 ticks a beat at 120 beats a minute, 0.52 ms a tick."""

REORDER_S = 10.0
"""How late a step of a note may come and still be written in its place: the ear confirms
within a third of a second, and ends are told as they are heard."""

RTMIDI_ERRORS = (OSError, RuntimeError, ValueError, MemoryError)
"""What rtmidi's own errors are kinds of; they can be named only where it is installed."""

_TRACK_LENGTH_AT = 18
"""Where the length of the only track stands, in bytes from the start of the file."""

PORT_TICK_S = 0.05
"""A silent port gives an empty block so often: time goes on though no key moves."""

PORT_WATCH_S = 1.0
"""How often a live port is looked for in the list of ports."""


@dataclass(frozen=True, slots=True)
class MidiNotes:
    """All that a MIDI file says of the keys and the pedal, in the order of onsets."""

    notes: tuple[NoteEvent, ...]
    pedal: tuple[PedalEvent, ...]


@dataclass(slots=True)
class Keyboard:
    """From MIDI messages to the lives of notes.

    A key's note is confirmed when it goes down and ended when it comes up, when it is struck
    again, or at `flush`; then the pedal comes up as well.
    """

    first_id: int = 0
    _next_id: int = field(init=False)
    _held: dict[tuple[int, int], tuple[int, NoteEvent]] = field(init=False, default_factory=dict)
    _pedal_down: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        self._next_id = self.first_id

    def push(self, message: Any, t_s: float) -> list[NoteUpdate | PedalEvent]:
        """What ``message`` (a mido message) at ``t_s`` seconds of the stream means."""
        if message.type == "note_on" and message.velocity > 0:
            return self._strike(message.channel, message.note, message.velocity, t_s)
        if message.type in ("note_on", "note_off"):
            return self._release((message.channel, message.note), t_s)
        if message.type == "control_change":
            return self._control(message.channel, message.control, message.value, t_s)
        return []

    def flush(self, t_s: float) -> list[NoteUpdate | PedalEvent]:
        """Every key and the pedal, if they are still down, come up at ``t_s``."""
        ended = [step for key in list(self._held) for step in self._release(key, t_s)]
        return ended + self._move_pedal(False, t_s)

    def _control(
        self, channel: int, control: int, value: int, t_s: float
    ) -> list[NoteUpdate | PedalEvent]:
        if control == SUSTAIN_CONTROLLER:
            return self._move_pedal(value >= SUSTAIN_DOWN, t_s)
        if control == RESET_CONTROLLERS:
            return self._move_pedal(False, t_s)
        if control in (ALL_SOUND_OFF_CONTROLLER, ALL_NOTES_OFF_CONTROLLER):
            held = [key for key in self._held if key[0] == channel]
            return [step for key in held for step in self._release(key, t_s)]
        return []

    def _strike(
        self, channel: int, pitch_midi: int, velocity: int, t_s: float
    ) -> list[NoteUpdate | PedalEvent]:
        if channel == DRUM_CHANNEL or not LOWEST_PITCH_MIDI <= pitch_midi <= HIGHEST_PITCH_MIDI:
            return []
        key = (channel, pitch_midi)
        steps = self._release(key, t_s)
        note = NoteEvent(pitch_midi, t_s, None, velocity, 1.0)
        self._held[key] = self._next_id, note
        steps.append(NoteUpdate(self._next_id, NoteState.CONFIRMED, note))
        self._next_id += 1
        return steps

    def _release(self, key: tuple[int, int], t_s: float) -> list[NoteUpdate | PedalEvent]:
        if key not in self._held:
            return []
        number, struck = self._held.pop(key)
        return [NoteUpdate(number, NoteState.ENDED, replace(struck, offset_s=t_s))]

    def _move_pedal(self, down: bool, t_s: float) -> list[NoteUpdate | PedalEvent]:
        if down == self._pedal_down:
            return []
        self._pedal_down = down
        return [PedalEvent(t_s, down)]


def timed_messages(path: str | Path) -> list[tuple[float, Any]]:
    """Every message of a MIDI file with its time in seconds, in order.

    Type 0 and 1 files are read with their tempo map; the songs of a type 2 file follow each
    other; SMPTE time is understood.

    Raises
    ------
    InputError
        Missing, empty, or not a MIDI file that can be read whole.
    """
    path = Path(path)
    song = _open_midi(path)
    tracks = list(song.tracks)
    if song.type == 2:
        messages: list[tuple[float, Any]] = []
        for track in tracks:
            start_s = messages[-1][0] if messages else 0.0
            messages.extend((start_s + t_s, m) for t_s, m in _in_seconds(track, song))
        return messages
    return list(_in_seconds(mido.merge_tracks(tracks, skip_checks=True), song))


def _in_seconds(track: Iterable[Any], song: Any) -> Iterator[tuple[float, Any]]:
    division = song.ticks_per_beat
    tempo = TEMPO_US_PER_BEAT
    t_s = 0.0
    for message in track:
        if division < 0:
            frames_per_s, ticks_per_frame = 256 - ((division >> 8) & 0xFF), division & 0xFF
            t_s += message.time / (frames_per_s * max(1, ticks_per_frame))
        else:
            t_s += message.time * tempo / (1e6 * max(1, division))
        yield t_s, message
        if message.type == "set_tempo":
            tempo = message.tempo


def _open_midi(path: Path) -> Any:
    if path.is_dir():
        raise InputError(f"{path}: is a folder; a MIDI file is needed here")
    if not path.exists():
        raise InputError(f"{path}: no such file; give a Standard MIDI File")
    try:
        if path.stat().st_size == 0:
            raise InputError(f"{path}: the file is empty (0 bytes); give a Standard MIDI File")
        return mido.MidiFile(str(path), clip=True)
    except PermissionError as error:
        raise InputError(f"{path}: cannot be opened; check its permissions") from error
    # mido lets whatever its parser trips over through: a file's bytes may raise anything.
    except Exception as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{path}: broken, or not a Standard MIDI File; export it again from where it came"
        ) from error


def read_midi(path: str | Path) -> MidiNotes:
    """The notes and pedal moves of a MIDI file.

    Raises
    ------
    InputError
        Missing, broken, or without a single piano note.
    """
    keyboard = Keyboard()
    steps: list[NoteUpdate | PedalEvent] = []
    t_s = 0.0
    for t_s, message in timed_messages(path):
        steps.extend(keyboard.push(message, t_s))
    steps.extend(keyboard.flush(t_s))
    notes = [s.note for s in steps if isinstance(s, NoteUpdate) and s.state is NoteState.ENDED]
    if not notes:
        raise InputError(no_notes_line(path))
    notes.sort(key=lambda note: (note.onset_s, note.pitch_midi))
    return MidiNotes(tuple(notes), tuple(s for s in steps if isinstance(s, PedalEvent)))


def no_notes_line(path: str | Path) -> str:
    """What is said of a MIDI file in which nobody plays."""
    return (
        f"{path}: no piano notes in this MIDI file (drums on channel 10 and keys outside "
        "21 to 108 do not count); give one that has notes"
    )


@dataclass(frozen=True, slots=True, order=True)
class _Mark:
    """One message to be written; of one tick: ends, pedal, strikes, in this order."""

    tick: int
    order: int
    number: int
    pitch_midi: int = field(compare=False, default=0)
    value: int = field(compare=False, default=0)


_END, _PEDAL, _STRIKE = 0, 1, 2


class MidiWriter:
    """A Standard MIDI File, type 0, written while the notes come.

    It holds no more than `REORDER_S` of music, so the memory it takes does not grow with the
    music. Nobody finds a file that is half written: it gets its name in `close`.

    Parameters
    ----------
    path : str or Path
    title : str
        Written as the track's name.

    Raises
    ------
    UsageError
        The place cannot be written to.
    """

    def __init__(self, path: str | Path, title: str = "") -> None:
        self.path = Path(path)
        self.notes = 0
        self._partial = self.path.with_name(f".{self.path.name}.part")
        self._marks: list[_Mark] = []
        self._tick = 0
        self._bytes = 0
        self._struck: dict[int, tuple[int, int]] = {}
        self._sounding: dict[int, tuple[int, int]] = {}
        try:
            self._file = self._partial.open("wb")
        except OSError as error:
            raise self._unwritable(error) from error
        self._file.write(struct.pack(">4sIHHH4sI", b"MThd", 6, 0, 1, TICKS_PER_BEAT, b"MTrk", 0))
        self._write(0, b"\xff\x51\x03" + TEMPO_US_PER_BEAT.to_bytes(3, "big"))
        if title:
            name = title.encode("latin-1", "replace")[:127]
            self._write(0, b"\xff\x03" + bytes([len(name)]) + name)
        self._write(0, bytes([0xC0, 0]))

    def push(self, event: NoteUpdate | PedalEvent) -> None:
        """Take a step of a note or a move of the pedal; steps of provisional notes are passed over.

        A note that is struck again while it sounds ends there.
        """
        if isinstance(event, PedalEvent):
            self._lay(_ticks(event.t_s), _PEDAL, value=127 if event.down else 0)
        elif event.state is NoteState.CONFIRMED:
            self._strike(event.id, event.note)
        elif event.state is NoteState.ENDED:
            if event.id not in self._struck:
                self._strike(event.id, event.note)
            self._end(event.id, event.note.offset_s)

    def _strike(self, number: int, note: NoteEvent) -> None:
        tick = _ticks(note.onset_s)
        self._struck[number] = (tick, note.pitch_midi)
        velocity = min(127, max(1, note.velocity))
        self._lay(tick, _STRIKE, number, note.pitch_midi, velocity)

    def _end(self, number: int, offset_s: float | None) -> None:
        struck_tick, pitch_midi = self._struck.pop(number)
        tick = max(struck_tick + 1, _ticks(offset_s or 0.0))
        self._lay(tick, _END, number, pitch_midi)

    def advance(self, now_s: float) -> None:
        """Nothing that is older than ``now_s - REORDER_S`` will come any more: write it."""
        self._write_until(_ticks(now_s - REORDER_S))

    def close(self, end_s: float = 0.0) -> None:
        """End what sounds at ``end_s``, make the file last as long, and give it its name."""
        for number in list(self._struck):
            self._end(number, end_s)
        self._write_until(None)
        self._write(max(self._tick, _ticks(end_s)), b"\xff\x2f\x00")
        try:
            self._file.seek(_TRACK_LENGTH_AT)
            self._file.write(struct.pack(">I", self._bytes))
            self._file.close()
            self._partial.replace(self.path)
        except OSError as error:
            self.abandon()
            raise self._unwritable(error) from error

    def abandon(self) -> None:
        """Leave nothing behind."""
        self._file.close()
        self._partial.unlink(missing_ok=True)

    def _lay(
        self, tick: int, order: int, number: int = -1, pitch_midi: int = 0, value: int = 0
    ) -> None:
        mark = _Mark(max(tick, self._tick), order, number, pitch_midi, value)
        heapq.heappush(self._marks, mark)

    def _write_until(self, tick: int | None) -> None:
        while self._marks and (tick is None or self._marks[0].tick <= tick):
            self._write_mark(heapq.heappop(self._marks))

    def _write_mark(self, mark: _Mark) -> None:
        key = mark.pitch_midi
        number, since_tick = self._sounding.get(key, (None, None))
        if mark.order == _PEDAL:
            self._write(mark.tick, bytes([0xB0, SUSTAIN_CONTROLLER, mark.value]))
        elif mark.order == _END:
            if number == mark.number:
                self._write(mark.tick, bytes([0x80, key, 64]))
                del self._sounding[key]
        elif since_tick != mark.tick:  # two strikes of one key within a tick are one
            if number is not None:
                self._write(mark.tick, bytes([0x80, key, 64]))
            self._write(mark.tick, bytes([0x90, key, mark.value]))
            self._sounding[key] = (mark.number, mark.tick)
            self.notes += 1

    def _write(self, tick: int, message: bytes) -> None:
        event = _variable_length(tick - self._tick) + message
        self._tick = tick
        self._bytes += len(event)
        try:
            self._file.write(event)
        except OSError as error:
            self.abandon()
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> UsageError:
        reason = error.strerror or error
        return UsageError(f"{self.path}: cannot be written ({reason}); choose another place")


def _variable_length(number: int) -> bytes:
    """A number as Standard MIDI Files write it, seven bits a byte, the highest first."""
    groups = [number & 0x7F]
    while number := number >> 7:
        groups.append((number & 0x7F) | 0x80)
    return bytes(reversed(groups))


def _ticks(t_s: float) -> int:
    return max(0, round(t_s * TICKS_PER_BEAT * 1e6 / TEMPO_US_PER_BEAT))


def write_midi(
    path: str | Path,
    notes: Sequence[NoteEvent],
    pedal: Sequence[PedalEvent] = (),
    *,
    end_s: float = 0.0,
    title: str = "",
) -> None:
    """Write a Standard MIDI File, type 0.

    Parameters
    ----------
    path : str or Path
    notes : sequence of NoteEvent
        In any order. One that never ended ends at ``end_s``; one that is struck again while
        it sounds ends there. Times are kept to 0.3 ms.
    pedal : sequence of PedalEvent
    end_s : float
        Seconds that the file lasts at least.
    title : str
        Written as the track's name.

    Raises
    ------
    UsageError
        The place cannot be written to.
    """
    writer = MidiWriter(path, title)
    for number, note in enumerate(notes):
        state = NoteState.CONFIRMED if note.offset_s is None else NoteState.ENDED
        writer.push(NoteUpdate(number, state, note))
    for move in pedal:
        writer.push(move)
    writer.close(end_s)


class MidiFileSource:
    """A MIDI file that goes the way a keyboard goes, paced or as fast as it is taken."""

    kind = "midi_file"
    sample_rate_hz: int | None = None
    channels: int | None = None

    def __init__(self, path: str | Path, *, paced: bool = True) -> None:
        self.path = Path(path)
        self.paced = paced
        self._messages: list[tuple[float, Any]] = []
        self._origin_s: float | None = None
        self._stopped = threading.Event()

    @property
    def name(self) -> str:
        """The file's name."""
        return self.path.name

    @property
    def origin_s(self) -> float | None:
        """When second 0 of the file was played; None unless paced."""
        return self._origin_s

    def open(self) -> None:
        """Read the file.

        Raises
        ------
        InputError
            Broken, or without notes.
        """
        read_midi(self.path)
        self._messages = timed_messages(self.path)

    def stop(self) -> None:
        """End ``items`` before its next block."""
        self._stopped.set()

    def close(self) -> None:
        """Nothing is held open."""

    def items(self) -> Iterator[Block | MidiBlock | SourceEvent]:
        """Blocks of `BLOCK_S`, each with what the keys did in it."""
        if not self._messages:
            self.open()
        if self.paced:
            self._origin_s = time.monotonic()
        keyboard = Keyboard()
        waiting = iter(self._messages)
        upcoming = next(waiting, None)
        end_s = self._messages[-1][0]
        blocks = int(end_s / BLOCK_S) + 1
        for index in range(1, blocks + 1):
            until_s = index * BLOCK_S
            steps: list[NoteUpdate | PedalEvent] = []
            while upcoming is not None and upcoming[0] < until_s:
                steps.extend(keyboard.push(upcoming[1], upcoming[0]))
                upcoming = next(waiting, None)
            if index == blocks:
                steps.extend(keyboard.flush(end_s))
            if self._origin_s is not None:
                self._stopped.wait(max(0.0, self._origin_s + until_s - time.monotonic()))
            if self._stopped.is_set():
                return
            yield MidiBlock(round(until_s * STREAM_RATE_HZ), tuple(steps))


@dataclass(slots=True)
class StatusBytes:
    """Running status, written out: a keyboard may leave out a status that has not changed.

    Drivers write it out themselves, as a rule; a message without its status would be lost.
    Timing bytes, which may stand anywhere, are left out.
    """

    _status: int = 0
    _data_bytes: int = 0

    def push(self, raw: Iterable[int]) -> bytes:
        """The bytes as they came, each message beginning with its status."""
        whole = bytearray()
        for byte in raw:
            if byte >= 0xF8:
                continue
            if byte >= 0x80:
                self._status, self._data_bytes = (byte if byte < 0xF0 else 0), 0
            elif self._status:
                if self._data_bytes == _data_bytes_of(self._status):
                    whole.append(self._status)
                    self._data_bytes = 0
                self._data_bytes += 1
            whole.append(byte)
        return bytes(whole)


def _data_bytes_of(status: int) -> int:
    """Data bytes of a channel message: 1 for programme and pressure, 2 for the others."""
    return 1 if status >> 4 in (0xC, 0xD) else 2


class MidiPortSource:
    """A keyboard on a live port; one that is unplugged is waited for.

    Parameters
    ----------
    name : str
        Part of the port's name; exactly one port must have it.
    open_port : callable, optional
        Opens rtmidi's input; a test puts its own in.
    """

    kind = "midi_port"
    sample_rate_hz: int | None = None
    channels: int | None = None

    def __init__(self, name: str, *, open_port: Callable[[], Any] | None = None) -> None:
        self.wanted = name
        self._open_port = open_port or open_rtmidi
        self._port: Any = None
        self._port_name = name
        self._origin_s: float | None = None
        self._arrived: queue.SimpleQueue[tuple[float, list[int]]] = queue.SimpleQueue()
        self._stopped = threading.Event()

    @property
    def name(self) -> str:
        """The port's stable name: without the numbers that change from start to start."""
        return self._port_name

    @property
    def origin_s(self) -> float | None:
        """When the stream began."""
        return self._origin_s

    def open(self) -> None:
        """Open the port.

        Raises
        ------
        DeviceError
            No such port, more than one, or no MIDI on this machine.
        """
        port = self._open_port()
        names = [stable_port_name(full) for full in port.get_ports()]
        index = choose_port(self.wanted, names)
        port.ignore_types(sysex=True, timing=True, active_sense=True)
        port.set_callback(self._arrive)
        port.open_port(index)
        self._port = port
        self._port_name = names[index]

    def _arrive(self, event: tuple[list[int], float], _: object = None) -> None:
        self._arrived.put((time.monotonic(), event[0]))

    def stop(self) -> None:
        """End ``items`` soon."""
        self._stopped.set()

    def close(self) -> None:
        """Give the port back."""
        if self._port is not None:
            self._port.cancel_callback()
            self._port.close_port()
            self._port = None

    def items(self) -> Iterator[Block | MidiBlock | SourceEvent]:
        """A block for each key that moves, and an empty one when none has for a while."""
        if self._port is None:
            try:
                self.open()
            except DeviceError as error:
                yield from self._wait_for_return(str(error))
        origin_s = self._origin_s = time.monotonic()
        keyboard, parser, status = Keyboard(), mido.Parser(), StatusBytes()
        watched_s = origin_s
        while not self._stopped.is_set():
            steps: list[NoteUpdate | PedalEvent] = []
            now_s = origin_s
            for arrived_s, raw in self._arrivals():
                now_s = max(origin_s, arrived_s)
                parser.feed(status.push(raw))
                for message in parser:
                    steps.extend(keyboard.push(message, now_s - origin_s))
            lost = now_s - watched_s >= PORT_WATCH_S and not self._is_there()
            if now_s - watched_s >= PORT_WATCH_S:
                watched_s = now_s
            if lost:
                steps.extend(keyboard.flush(now_s - origin_s))
            yield MidiBlock(round((now_s - origin_s) * STREAM_RATE_HZ), tuple(steps))
            if lost:
                parser, status = mido.Parser(), StatusBytes()
                gone = f"MIDI port {self._port_name!r} went away; plug it in again"
                yield from self._wait_for_return(gone)

    def _arrivals(self) -> list[tuple[float, list[int]]]:
        """All that has arrived, at once: a pedal that tells every step of its way is one block.

        Where nothing has, waits for it; after `PORT_TICK_S` time has gone on and nothing else.
        """
        arrived: list[tuple[float, list[int]]] = []
        try:
            arrived.append(self._arrived.get(timeout=PORT_TICK_S))
            while True:
                arrived.append(self._arrived.get_nowait())
        except queue.Empty:
            return arrived or [(time.monotonic(), [])]

    def _is_there(self) -> bool:
        if self._port is None:
            return False
        return self._port_name in (stable_port_name(name) for name in self._port.get_ports())

    def _wait_for_return(self, gone: str) -> Iterator[SourceEvent]:
        yield SourceEvent(SourceEventKind.DEVICE_LOST, gone)
        self.close()
        while not self._stopped.wait(PORT_WATCH_S):
            try:
                self.open()
            except DeviceError:
                continue
            back = f"MIDI port {self._port_name!r} is back"
            yield SourceEvent(SourceEventKind.DEVICE_RECOVERED, back)
            return


def open_rtmidi(side: str = "MidiIn") -> Any:
    """rtmidi's side of a MIDI connection: ALSA's, or JACK's where there is no ALSA sequencer.

    Parameters
    ----------
    side : {"MidiIn", "MidiOut"}

    Raises
    ------
    DeviceError
        The extra is not installed, or the machine has no MIDI.
    """
    try:
        import rtmidi
    except ImportError as error:
        raise DeviceError(
            "MIDI ports need python-rtmidi, which is not installed: pip install 'sostenuto[midi]'"
        ) from error
    reasons = []
    for system in (rtmidi.API_LINUX_ALSA, rtmidi.API_UNIX_JACK):
        try:
            return getattr(rtmidi, side)(system, name="sostenuto")
        except RTMIDI_ERRORS as error:
            reasons.append(str(error).rstrip("."))
    raise DeviceError(
        f"no MIDI on this machine ({'; '.join(reasons)}); load the kernel module snd-seq"
    )


def stable_port_name(name: str) -> str:
    """A port's name without ALSA's client and port numbers, which change from start to start."""
    words = name.rsplit(" ", 1)
    if len(words) == 2 and words[1].replace(":", "").isdigit():
        name = words[0]
    head, _, tail = name.partition(":")
    return tail if tail and tail.startswith(head) else name


def choose_port(wanted: str, names: Sequence[str]) -> int:
    """Index of the one name that is ``wanted`` or contains it, letter case aside."""
    return choose_by_name(wanted, names, what="MIDI port")


def choose_by_name(wanted: str, names: Sequence[str], *, what: str) -> int:
    """Index of the one of ``names`` that is ``wanted``, or the only one that contains it.

    Raises
    ------
    DeviceError
        None or several do; the line lists what there is.
    """
    there = ", ".join(repr(name) for name in names) or "none"
    exact = [i for i, name in enumerate(names) if name == wanted]
    if len(exact) == 1:
        return exact[0]
    found = [i for i, name in enumerate(names) if wanted.lower() in name.lower()]
    if not found:
        raise DeviceError(f"no {what} named {wanted!r}; there are: {there}")
    if len(found) > 1:
        fitting = ", ".join(repr(names[i]) for i in found)
        raise DeviceError(f"{len(found)} {what}s are named like {wanted!r}: {fitting}; say which")
    return found[0]
