"""What a subscriber shows of a piano: keys, piece, delay, losses.

`Picture` knows nothing but the messages it is given, in the order of their arrival, as any
dashboard would. It counts what the numbers in them say is missing, and measures each note's
delay from the moment it sounded to the moment its message arrived. `draw` makes a screen of
it with a piano roll that runs towards the keyboard.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from msgspec import Struct

from edge.messages import (
    Availability,
    Envelope,
    EventMessage,
    Health,
    Info,
    NoteMessage,
    Notes,
    Piece,
    PieceState,
    Position,
    Session,
)
from edge.note import KEYS, LOWEST_PITCH_MIDI, NoteState
from edge.publish.health import percentiles

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

ROLL_ROWS = 12
ROW_S = 0.2
"""The roll shows the last 2.4 seconds, a fifth of a second a row: the whole screen fits into
the 24 lines of the smallest terminal."""

FRESH_S = 0.25
"""A key that was struck no longer ago than this is drawn as a strike."""

_BLACK = frozenset({1, 3, 6, 8, 10})
_KEY_NAMES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
_MARGIN_COLUMNS = 4


def key_name(pitch_midi: int) -> str:
    """A key's name, middle C being C4."""
    return f"{_KEY_NAMES[pitch_midi % 12]}{pitch_midi // 12 - 1}"


@dataclass(slots=True)
class Drawn:
    """A note on the roll, in seconds of the stream; ``offset_s`` is None while it sounds."""

    pitch_midi: int
    onset_s: float
    offset_s: float | None
    velocity: int

    def sounds_in(self, begin_s: float, end_s: float) -> bool:
        """Whether it sounds at any moment between the two."""
        return self.onset_s < end_s and (self.offset_s is None or self.offset_s > begin_s)


class Picture:
    """All that the messages of one piano have said so far."""

    def __init__(self) -> None:
        self.online = False
        self.info: Info | None = None
        self.piece: Piece | None = None
        self.health: Health | None = None
        self.session: Session | None = None
        self.last_event: EventMessage | None = None
        self.position: Position | None = None
        self.matched_s: float | None = None
        """Second of the stream when the piece was first named."""
        self.heard_s = 0.0
        self.notes = 0
        self.pedal_down = False
        self.missing = 0
        """Messages whose numbers were left out."""
        self.delays_ms: list[float] = []
        self._roll: dict[int, Drawn] = {}
        self._over: deque[Drawn] = deque(maxlen=400)
        self._last_seq: dict[str, int] = {}
        self._undated: list[tuple[float, float]] = []
        self._events: Counter[str] = Counter()

    def take(self, topic: str, message: Struct | Availability, arrived_s: float) -> None:
        """One message that arrived at ``arrived_s`` of `time.monotonic`."""
        if isinstance(message, Availability):
            self.online = message is Availability.ONLINE
            return
        if isinstance(message, Envelope):
            self._count_missing(topic, message)
        if isinstance(message, Notes):
            self._take_notes(message, arrived_s)
        elif isinstance(message, Piece):
            self._take_piece(message)
        elif isinstance(message, Position):
            self.position = message
        elif isinstance(message, Session):
            self.session = message
            self._date_delays()
        elif isinstance(message, Health):
            self.health = message
        elif isinstance(message, Info):
            self.info = message
        elif isinstance(message, EventMessage):
            self.last_event = message
            self._events[message.kind] += message.count

    @property
    def last_seq(self) -> dict[str, int]:
        """The number of the last message of each topic."""
        return dict(self._last_seq)

    def sounding(self) -> list[Drawn]:
        """The notes that sound now."""
        return list(self._roll.values())

    def roll(self) -> list[Drawn]:
        """Every note that is still to be seen."""
        return [*self._over, *self._roll.values()]

    def delay_ms(self) -> tuple[float, float] | None:
        """Median and 95th percentile from a note's sound to its message's arrival."""
        found = percentiles(self.delays_ms)
        return None if found is None else (found.p50_ms, found.p95_ms)

    def _count_missing(self, topic: str, message: Envelope) -> None:
        expected = self._last_seq.get(topic, -1) + 1
        self.missing += max(0, message.seq - expected)
        self._last_seq[topic] = max(message.seq, expected - 1)

    def _take_notes(self, message: Notes, arrived_s: float) -> None:
        for note in message.notes:
            self._take_note(note, arrived_s)
        for move in message.pedal:
            self.pedal_down = move.down
        if message.heard_s is not None:
            self.heard_s = max(self.heard_s, message.heard_s)
        self._date_delays()

    def _take_note(self, note: NoteMessage, arrived_s: float) -> None:
        drawn = Drawn(note.pitch_midi, note.onset_s, note.offset_s, note.velocity)
        if note.state is NoteState.CONFIRMED:
            self.notes += 1
            self._undated.append((note.onset_s, arrived_s))
        if note.state in (NoteState.CONFIRMED, NoteState.PROVISIONAL):
            self._roll[note.id] = drawn
            return
        self._roll.pop(note.id, None)
        if note.state is NoteState.ENDED:
            self._over.append(drawn)

    def _take_piece(self, message: Piece) -> None:
        self.piece = message
        if message.state is not PieceState.MATCHED:
            self.position = None
        if message.state is PieceState.MATCHED and self.matched_s is None:
            self.matched_s = self.heard_s

    def _date_delays(self) -> None:
        """Delays can be told once a `session` has said when the stream began."""
        start_ms = self.session.stream_start_mono_ms if self.session else None
        if start_ms is None:
            return
        for onset_s, arrived_s in self._undated:
            self.delays_ms.append((arrived_s - onset_s) * 1e3 - start_ms)
        self._undated.clear()


def named(title: str | None, composer: str | None) -> str:
    """A piece as people call it; folk songs have no composer."""
    return f"{title} ({composer})" if composer else f"{title}"


def window(columns: int) -> tuple[int, int]:
    """Lowest and highest key that fit into so many columns, the middle of the keyboard kept."""
    fitting = max(12, min(KEYS, columns))
    lowest = LOWEST_PITCH_MIDI + (KEYS - fitting) // 2
    return lowest, lowest + fitting - 1


def piece_line(picture: Picture) -> str:
    """What is known of the piece, in one line."""
    piece = picture.piece
    if piece is None or (piece.state is PieceState.SEARCHING and not piece.candidates):
        return "listening for a piece ..."
    if piece.state is PieceState.MATCHED:
        return f"{named(piece.title, piece.composer)}, {piece.confidence:.0%} sure"
    if piece.state is PieceState.LOST:
        return f"no longer {piece.title}"
    best = piece.candidates[0]
    return f"perhaps {named(best.title, best.composer)}, {best.confidence:.0%} sure"


A_LITTLE, MUCH = 0.08, 0.3
"""From how much off the written tempo on somebody would call it a little slow, and slow."""


def place_line(picture: Picture, now_s: float) -> str:
    """Bar and beat at ``now_s`` seconds of the stream, and the tempo, in one line."""
    return "" if picture.position is None else place(picture.position, now_s)


def place(position: Position, now_s: float = -math.inf) -> str:
    """A position in words, as it is at ``now_s`` or else as it was told."""
    if position.lost:
        return f"lost after bar {position.bar}"
    bar, beat = place_at(position, now_s)
    line = f"bar {bar}, beat {math.floor(beat)}"
    if position.tempo_bpm is None or position.tempo_ratio is None:
        return line
    return f"{line}; {position.tempo_bpm:.0f} beats a minute{_pace(position.tempo_ratio)}"


def _pace(tempo_ratio: float) -> str:
    """A tempo against the written one, in words."""
    off = abs(math.log(tempo_ratio))
    if off < math.log1p(A_LITTLE):
        return ""
    how = "much" if off > math.log1p(MUCH) else "a little"
    return f", {how} {'faster' if tempo_ratio > 1 else 'slower'} than written"


def place_at(position: Position, now_s: float) -> tuple[int, float]:
    """Bar and beat at a later moment, if nothing new has been said: on in tempo, then waiting."""
    bar, beat = position.bar, position.beat
    if position.t_s is None or position.until_s is None or position.tempo_bpm is None:
        return bar, beat
    beat += max(0.0, min(now_s, position.until_s) - position.t_s) * position.tempo_bpm / 60.0
    beats = position.beats_in_bar
    if beats is not None and beat >= beats + 1.0:
        bars = math.floor((beat - 1.0) / beats)
        bar, beat = bar + bars, beat - bars * beats
    return bar, beat


def figures_line(picture: Picture) -> str:
    """What was heard, and how soon it was known, in one line."""
    line = f"{picture.heard_s:.1f} s, {picture.notes} notes"
    delay = picture.delay_ms()
    if delay is None:
        return line
    return f"{line}; from sound to message {delay[0]:.0f} ms, 95 of 100 within {delay[1]:.0f} ms"


def losses_line(picture: Picture) -> str:
    """What was lost, and the work it was, in one line."""
    health = picture.health
    lost_samples = 0 if health is None else health.dropped_samples
    overruns = 0 if health is None else health.overruns
    line = f"sound dropped {overruns} times ({lost_samples} samples), "
    line += f"{picture.missing} messages missing"
    if health is not None and health.load is not None:
        line += f"; {health.load:.0%} of a core"
    return line


def notes_line(notes: Sequence[NoteMessage]) -> str:
    """The keys struck, by name."""
    return " ".join(key_name(note.pitch_midi) for note in notes)


def draw(
    picture: Picture, now_s: float, columns: int, *, ascii_only: bool = False
) -> RenderableType:
    """The screen at ``now_s`` seconds of the stream, ``columns`` wide."""
    from rich.console import Group
    from rich.text import Text

    lowest, highest = window(columns - _MARGIN_COLUMNS)
    device = picture.info.audio_device if picture.info is not None else None
    heard = device.name if device is not None else "..."
    lines: list[Text] = [Text(f"  Sostenuto hears {heard}", style="bold")]
    for row in range(ROLL_ROWS, 0, -1):
        begin_s = now_s - row * ROW_S
        lines.append(_roll_row(picture, begin_s, begin_s + ROW_S, lowest, highest, ascii_only))
    lines.extend(_keyboard(picture, now_s, lowest, highest, ascii_only))
    known = picture.piece is not None and picture.piece.state is PieceState.MATCHED
    lines.append(Text())
    lines.append(Text(f"  {piece_line(picture)}", style="bold green" if known else "yellow"))
    lines.append(Text(f"  {place_line(picture, now_s)}", style="green"))
    lines.append(Text(f"  {figures_line(picture)}", style="cyan"))
    lines.append(Text(f"  {losses_line(picture)}", style="cyan"))
    if picture.last_event is not None and picture.last_event.kind != "source_ended":
        lines.append(Text(f"  {picture.last_event.kind}: {picture.last_event.text}", style="red"))
    return Group(*lines)


def _roll_row(
    picture: Picture, begin_s: float, end_s: float, lowest: int, highest: int, ascii_only: bool
) -> Text:
    from rich.text import Text

    row: dict[int, tuple[str, str]] = {}
    for note in picture.roll():
        if not note.sounds_in(begin_s, end_s):
            continue
        struck = begin_s <= note.onset_s < end_s
        mark = ("#" if struck else "|") if ascii_only else ("█" if struck else "│")
        column = min(highest, max(lowest, note.pitch_midi))
        if struck or column not in row:
            row[column] = (mark, _colour(note.velocity))
    text = Text("  ")
    for pitch_midi in range(lowest, highest + 1):
        mark, colour = row.get(pitch_midi, (" ", ""))
        text.append(mark, style=colour)
    return text


def _keyboard(
    picture: Picture, now_s: float, lowest: int, highest: int, ascii_only: bool
) -> list[Text]:
    """Two rows of keys, those that sound in colour, and the names of the Cs below."""
    from rich.text import Text

    down = {min(highest, max(lowest, n.pitch_midi)): n for n in picture.sounding()}
    back, front, names = Text("  "), Text("  "), Text("  ", style="dim")
    for pitch_midi in range(lowest, highest + 1):
        black = pitch_midi % 12 in _BLACK
        note = down.get(pitch_midi)
        fresh = note is not None and now_s - note.onset_s < FRESH_S
        colour = _colour(note.velocity) if note is not None else ""
        bold = "bold " if fresh else ""
        if ascii_only:
            back.append("*" if note is not None else ("#" if black else "|"))
            front.append("*" if note is not None and not black else "|")
        else:
            white_key = f"{bold}{colour or 'white'}"
            black_key = f"{bold}{colour}" if colour else "grey15"
            back.append("█", style=black_key if black else white_key)
            front.append("█", style="white" if black else white_key)
    for pitch_midi in range(lowest, highest + 1):
        if pitch_midi % 12 == 0 and pitch_midi + 1 < highest:
            names.append(key_name(pitch_midi))
        elif len(names) < pitch_midi - lowest + 3:
            names.append(" ")
    pedal = " pedal" if picture.pedal_down else ""
    names.append(pedal, style="bold")
    return [back, front, names]


def _colour(velocity: int) -> str:
    """The louder, the warmer."""
    steps = ((40, "blue"), (60, "cyan"), (80, "green"), (100, "yellow"), (128, "red"))
    return next(colour for below, colour in steps if velocity < below)


def summary_lines(picture: Picture) -> list[str]:
    """What remains to be said when the recording is over."""
    session, piece = picture.session, picture.piece
    name = "no piece of the catalogue was recognised"
    if session is not None and session.pieces:
        longest = max(session.pieces, key=lambda played: (played.minutes, played.confidence))
        when = "" if picture.matched_s is None else f", known after {picture.matched_s:.1f} s"
        name = f"this was {named(longest.title, longest.composer)}, "
        name += f"{longest.confidence:.0%} sure{when}"
    elif piece is not None and piece.candidates:
        name += f"; nearest was {piece.candidates[0].title}"
    return [name, figures_line(picture), losses_line(picture)]
