"""A score from Humdrum kern, read by its own rules.

After Huron, *The Humdrum Toolkit: Reference Manual* (1995), and the syntax pages of
humdrum.org: columns (spines) run downwards in time, one staff or voice each; they split, join,
swap places and end; a line of notes is a moment. Partitura reads kern too, but at version 1.9
it rejects one in six of some thousand published scores (columns that split and join), and
strikes a tied chord again; since the catalogue must hold no wrong note, kern is read here.

Repeats are not unfolded: the list of sections (``*>[A,A,B]``), where there is one, and the bar
lines (``=:|!``) say where a player may go back or on. Of an ossia the main text is taken. Grace
notes keep their place before the note they lean on, at its onset and with a duration of 0.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

import numpy as np

from converters.repeats import Passage, as_array, repeat_passages, section_passages
from edge.errors import InputError
from edge.matching.score import Hand, Piece, Score

DEFAULT_QUARTERS_PER_MINUTE = 120.0
"""Where a score gives no number: MIDI's default, so that files of both kinds agree."""

_DURATION = re.compile(r"(\d+)(?:%(\d+))?(\.*)")
_PITCH = re.compile(r"([a-gA-G])\1*")
_ACCIDENTALS = re.compile(r"[a-gA-G]([#-]+)")
_METER = re.compile(r"\*M(\d+)/(\d+)(?:%\d+)?$")
_TEMPO = re.compile(r"\*MM(\d+(?:\.\d+)?)")
_BAR_NUMBER = re.compile(r"=+(\d+)")
_BACKWARD, _FORWARD = re.compile(r":[|!]"), re.compile(r"[|!]:")
_MARKED_TEMPO = re.compile(r"\[([a-z]+)(-dot)?\]\s*=\s*(\d+(?:\.\d+)?)")
_UNIT_QUARTERS = {
    "whole": 4.0,
    "half": 2.0,
    "quarter": 1.0,
    "eighth": 0.5,
    "sixteenth": 0.25,
}
_SEMITONES = {"c": 0, "d": 2, "e": 4, "f": 5, "g": 7, "a": 9, "b": 11}


@dataclass(slots=True)
class _Spine:
    """A column at one moment of reading."""

    kind: str
    staff: int = 0
    end: Fraction = Fraction(0)
    ossia: bool = False


@dataclass(slots=True)
class _Note:
    pitch: int
    onset: Fraction
    end: Fraction
    staff: int


@dataclass(slots=True)
class _Reading:
    """What has been read so far."""

    spines: list[_Spine] = field(default_factory=list)
    now: Fraction = Fraction(0)
    notes: list[_Note] = field(default_factory=list)
    tied: dict[int, list[_Note]] = field(default_factory=dict)
    bars: list[tuple[Fraction, int | None]] = field(default_factory=list)
    meters: list[tuple[Fraction, int, int]] = field(default_factory=list)
    tempi: list[tuple[Fraction, float]] = field(default_factory=list)
    forward: set[Fraction] = field(default_factory=set)
    backward: set[Fraction] = field(default_factory=set)
    sections: list[tuple[Fraction, str]] = field(default_factory=list)
    order: list[str] = field(default_factory=list)
    records: dict[str, str] = field(default_factory=dict)


def read_kern_score(path: Path, piece: Piece) -> Score:
    """Read a kern file.

    Where ``piece`` has no title or composer, the file's own reference records give them.

    Raises
    ------
    InputError
        The file cannot be read, is no kern, or holds no notes.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig", errors="replace")
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror})") from None
    reading = _Reading()
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            _read_line(line, reading)
        except (ValueError, IndexError, ZeroDivisionError) as error:
            raise InputError(f"{path}, line {number}: not kern ({error})") from None
    if not reading.notes:
        raise InputError(f"{path} has no notes in a **kern column; give a score with notes")
    return _score(reading, piece)


def _read_line(line: str, reading: _Reading) -> None:
    if not line.strip():
        return
    if line.startswith("!!!"):
        key, _, value = line.lstrip("!").partition(":")
        reading.records.setdefault(key.strip(), value.strip())
        return
    if line.startswith("!"):
        return
    tokens = line.split("\t")
    if line.startswith("**"):
        if reading.notes:
            raise ValueError("a second piece begins: give each piece a file of its own")
        reading.spines = [_Spine(token[2:]) for token in tokens]
        return
    if len(tokens) != len(reading.spines):
        raise ValueError(f"{len(tokens)} columns where {len(reading.spines)} are open")
    if line.startswith("*"):
        _interpret(tokens, reading)
    elif line.startswith("="):
        _bar_line(tokens[0], reading)
    else:
        _moment(tokens, reading)


# --- columns --------------------------------------------------------------------------------


def _interpret(tokens: list[str], reading: _Reading) -> None:
    for token, spine in zip(tokens, reading.spines, strict=True):
        if spine.kind == "kern":
            _tandem(token, spine, reading)
    if tokens[0].startswith("*>"):
        _section(tokens[0][2:], reading)
    if any(token in ("*^", "*v", "*x", "*+", "*-") for token in tokens):
        reading.spines = _rearranged(tokens, reading.spines)
    elif any(token.startswith("**") for token in tokens):
        for token, spine in zip(tokens, reading.spines, strict=True):
            spine.kind = token[2:] if token.startswith("**") else spine.kind


def _tandem(token: str, spine: _Spine, reading: _Reading) -> None:
    if token.startswith("*staff"):
        digits = re.match(r"\d+", token[6:])
        spine.staff = int(digits.group()) if digits else 0
    elif token == "*S/ossia":
        spine.ossia = True
    elif token in ("*S/fin", "*Xstrophe", "*S-"):
        spine.ossia = False
    elif meter := _METER.match(token):
        _set_meter(reading, int(meter.group(1)), int(meter.group(2)))
    elif (tempo := _TEMPO.match(token)) and float(tempo.group(1)) > 0:
        reading.tempi = [each for each in reading.tempi if each[0] != reading.now]
        reading.tempi.append((reading.now, float(tempo.group(1))))


def _section(name: str, reading: _Reading) -> None:
    """A section begins, or the order of all of them is given; others (``norep``) have names."""
    if name.startswith("["):
        reading.order = name.strip("[]").split(",")
    elif "[" not in name:
        ends = [spine.end for spine in reading.spines if spine.kind == "kern"]
        now = min((end for end in ends if end > reading.now), default=reading.now)
        reading.sections.append((now, name))


def _set_meter(reading: _Reading, beats: int, unit: int) -> None:
    reading.meters = [each for each in reading.meters if each[0] != reading.now]
    reading.meters.append((reading.now, beats, max(unit, 1)))


def _rearranged(tokens: list[str], spines: list[_Spine]) -> list[_Spine]:
    """The columns after a line of splits, joins, swaps, additions and ends."""
    after: list[_Spine] = []
    index = 0
    while index < len(tokens):
        token, spine = tokens[index], spines[index]
        if token == "*^":
            after.extend((spine, replace(spine)))
        elif token == "*v":
            joined = [spine]
            while index + 1 < len(tokens) and tokens[index + 1] == "*v":
                index += 1
                joined.append(spines[index])
            spine.end = max(each.end for each in joined)
            spine.ossia = False
            after.append(spine)
        elif token == "*x" and index + 1 < len(tokens) and tokens[index + 1] == "*x":
            after.extend((spines[index + 1], spine))
            index += 1
        elif token == "*+":
            after.extend((spine, _Spine("", end=spine.end)))
        elif token != "*-":
            after.append(spine)
        index += 1
    return after


def _bar_line(token: str, reading: _Reading) -> None:
    """All columns meet; a line with a number begins a bar, any other stands within one.

    They meet where the first of the last notes ends: a rest is often written longer than its
    bar, a note hardly ever shorter.
    """
    ends = [spine.end for spine in reading.spines if spine.kind == "kern"]
    reading.now = min((end for end in ends if end > reading.now), default=reading.now)
    for spine in reading.spines:
        spine.end = reading.now
    if _FORWARD.search(token):
        reading.forward.add(reading.now)
    if _BACKWARD.search(token):
        reading.backward.add(reading.now)
    number = _BAR_NUMBER.match(token)
    if number is None and (not token.startswith("=-") or reading.bars):
        return
    reading.bars.append((reading.now, int(number.group(1)) if number else None))


# --- notes ----------------------------------------------------------------------------------


def _moment(tokens: list[str], reading: _Reading) -> None:
    """All columns' notes at one moment: the moment at which the notes before them end.

    Columns without a note here say nothing about the time, so a line of placeholders passes
    no time at all.
    """
    struck = [
        (token, spine)
        for token, spine in zip(tokens, reading.spines, strict=True)
        if spine.kind == "kern" and token != "."
    ]
    ends = [spine.end for _, spine in struck]
    reading.now = max(reading.now, min(ends, default=reading.now))
    for token, spine in struck:
        _strike(token, spine, reading)


def _strike(token: str, spine: _Spine, reading: _Reading) -> None:
    """The notes of one token; the first of them says when the column goes on."""
    goes_on = quarters = None
    for note in token.split(" "):
        quarters = Fraction(0) if "q" in note else _quarters(note, quarters or Fraction(0))
        goes_on = quarters if goes_on is None else goes_on
        pitch = _pitch(note)
        if pitch is not None and not spine.ossia:
            _add_note(note, _Note(pitch, reading.now, reading.now + quarters, spine.staff), reading)
    spine.end = reading.now + (goes_on or Fraction(0))


def _add_note(token: str, note: _Note, reading: _Reading) -> None:
    """A tie is joined where the note before it ends at this very moment."""
    tied = reading.tied.setdefault(note.pitch, [])
    before = next((each for each in tied if each.end == note.onset), None)
    if before is not None and ("_" in token or "]" in token):
        before.end = note.end
        if "]" in token:
            tied.remove(before)
        return
    reading.notes.append(note)
    if "[" in token or "_" in token:
        tied.append(note)


def _quarters(token: str, chord_quarters: Fraction) -> Fraction:
    """Length of a note; a chord's later notes may leave theirs out."""
    found = _DURATION.search(token)
    if found is None:
        return chord_quarters
    digits, divisor, dots = found.groups()
    if set(digits) == {"0"}:  # 0 is a breve, 00 a long, 000 a maxima
        length = Fraction(4 * 2 ** len(digits))
    else:
        length = Fraction(4 * int(divisor or 1), int(digits))
    return length * (2 - Fraction(1, 2 ** len(dots)))


def _pitch(token: str) -> int | None:
    """MIDI pitch; None for a rest or a token without a pitch."""
    if "r" in token:
        return None
    found = _PITCH.search(token)
    if found is None:
        return None
    letters = found.group()
    octave = 3 + len(letters) if letters[0].islower() else 4 - len(letters)
    accidentals = _ACCIDENTALS.search(token)
    signs = accidentals.group(1) if accidentals else ""
    pitch = 12 * (octave + 1) + _SEMITONES[letters[0].lower()]
    pitch += signs.count("#") - signs.count("-")
    return pitch if 0 <= pitch < 128 else None


# --- the score ------------------------------------------------------------------------------


def _score(reading: _Reading, piece: Piece) -> Score:
    notes = _without_doubles(reading.notes)
    onset = np.array([float(note.onset) for note in notes])
    end = np.array([float(note.end) for note in notes])
    staves = sorted({note.staff for note in notes if note.staff})
    hands = dict(zip(staves, (Hand.RIGHT, Hand.LEFT), strict=True)) if len(staves) == 2 else {}
    bar_quarters, bar_number, bar_beat = _bars(reading)
    tempo_quarters, tempo_s = _tempo_map(reading, float(end.max()))
    return Score(
        piece=replace(
            piece,
            title=piece.title or reading.records.get("OTL", ""),
            composer=piece.composer or reading.records.get("COM", ""),
        ),
        pitch_midi=np.array([note.pitch for note in notes], dtype=np.uint8),
        onset_quarters=onset,
        duration_quarters=end - onset,
        hand=np.array([hands.get(note.staff, Hand.UNKNOWN) for note in notes], dtype=np.uint8),
        bar_quarters=bar_quarters,
        bar_number=bar_number,
        bar_beat_quarters=bar_beat,
        tempo_quarters=tempo_quarters,
        tempo_s=tempo_s,
        repeat_quarters=as_array(_repeats(reading)),
    )


def _repeats(reading: _Reading) -> list[Passage]:
    """What the order of sections says; of places that it does not leave, what the bar lines say."""
    last = max(reading.notes, key=lambda note: note.onset)
    end = reading.now if reading.now > last.onset else last.end
    begins = [float(start) for start, _ in reading.sections]
    names = [name for _, name in reading.sections]
    sections = dict(zip(names, zip(begins, [*begins[1:], float(end)], strict=False), strict=True))
    passages = section_passages(reading.order, sections)
    left = {each[0] for each in passages}
    lines = repeat_passages(map(float, reading.forward), map(float, reading.backward))
    return passages + [each for each in lines if each[0] not in left]


def _without_doubles(notes: list[_Note]) -> list[_Note]:
    """One note where two voices share a key: a key is struck once."""
    kept: dict[tuple[Fraction, int], _Note] = {}
    for note in sorted(notes, key=lambda note: (note.onset, note.pitch, -note.end)):
        kept.setdefault((note.onset, note.pitch), note)
    return list(kept.values())


def _bars(
    reading: _Reading,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Starts, printed numbers and beats of the bars.

    Music before the first bar line is a pickup, one less than the first number; a bar whose
    number is missing follows the one before it; the line that nothing follows begins no bar.
    """
    last = max(note.onset for note in reading.notes)
    starts: list[Fraction] = []
    numbers: list[int] = []
    for start, number in reading.bars:
        if start > last or (starts and start == starts[-1]):
            continue
        numbers.append(number if number is not None else (numbers[-1] + 1 if numbers else 1))
        starts.append(start)
    if not starts or starts[0] > 0:
        numbers.insert(0, numbers[0] - 1 if numbers else 1)
        starts.insert(0, Fraction(0))
    beats = [_beat_quarters(reading, start) for start in starts]
    return (
        np.array([float(start) for start in starts]),
        np.array(numbers, dtype=np.int32),
        np.array(beats),
    )


def _beat_quarters(reading: _Reading, start: Fraction) -> float:
    """The meter's unit, or three of it where the meter counts in threes (6/8, 9/8, 12/8)."""
    beats, unit = 4, 4
    for since, numerator, denominator in reading.meters:
        if since <= start:
            beats, unit = numerator, denominator
    compound = unit >= 8 and beats > 3 and beats % 3 == 0
    return 4.0 / unit * (3 if compound else 1)


def _tempo_map(reading: _Reading, end: float) -> tuple[np.ndarray, np.ndarray]:
    """Anchors (quarter, second), at least two."""
    tempi = {0.0: _marked_tempo(reading.records.get("OMD", ""))}
    tempi.update({float(quarter): tempo for quarter, tempo in reading.tempi})
    quarters = np.array([*sorted(tempi), max(end, max(tempi)) + 1.0])
    seconds_per_quarter = np.array([60.0 / tempi[quarter] for quarter in sorted(tempi)])
    return quarters, np.concatenate(([0.0], np.cumsum(np.diff(quarters) * seconds_per_quarter)))


def _marked_tempo(marking: str) -> float:
    """Quarters a minute of a marking such as ``Allegro. [quarter-dot] = 60``."""
    found = _MARKED_TEMPO.search(marking)
    if found is None or found.group(1) not in _UNIT_QUARTERS or float(found.group(3)) <= 0:
        return DEFAULT_QUARTERS_PER_MINUTE
    dotted = 1.5 if found.group(2) else 1.0
    return _UNIT_QUARTERS[found.group(1)] * dotted * float(found.group(3))
