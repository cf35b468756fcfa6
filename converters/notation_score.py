"""A score from MusicXML or MEI, read by partitura.

After Cancino-Chacón et al., "Partitura: a Python package for symbolic music processing" (MEC
2022). Partitura counts in divisions of a quarter that differ from part to part; here
everything is turned into quarters from the first written moment. Tied notes are one note, a
grace note lies at the onset of the note it leans on with a duration of 0, repeats are not
unfolded, their signs are kept.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from converters.repeats import Passage, as_array, ending_passages, repeat_passages
from edge.errors import InputError, UsageError
from edge.matching.score import Hand, Piece, Score

DEFAULT_QUARTERS_PER_MINUTE = 120.0
BarLines = tuple[str, str]
"""What MEI calls the lines left and right of a bar; empty where it says nothing."""

_MEI = "{http://www.music-encoding.org/ns/mei}"
_FORWARD, _BACKWARD = ("rptstart", "rptboth"), ("rptend", "rptboth")
_UNIT_QUARTERS = {"w": 4.0, "h": 2.0, "q": 1.0, "e": 0.5, "s": 0.25}


def read_notation_score(path: Path, piece: Piece) -> Score:
    """Read a MusicXML (plain or compressed) or MEI file.

    Where ``piece`` has no title or composer, the file's own give them.

    Raises
    ------
    UsageError
        Partitura is not installed.
    InputError
        Partitura cannot read the file, or there are no notes in it.
    """
    try:
        import partitura
    except ImportError:
        raise UsageError(
            f"{path} needs partitura to be read: install the extra `scores` "
            "(pip install 'sostenuto[scores]')"
        ) from None
    bar_lines = _mei_bar_lines(path) if path.suffix.lower() == ".mei" else []
    with warnings.catch_warnings(), redirect_stdout(StringIO()):  # partitura prints its doubts
        warnings.simplefilter("ignore")
        try:
            read = partitura.load_score(str(path))
            return _score(read, partitura.score, piece, path, bar_lines)
        except InputError:
            raise
        except Exception as error:  # noqa: BLE001 - partitura raises whatever a broken file provokes
            raise InputError(f"{path} cannot be read as a score ({error!r:.120})") from None


def _mei_bar_lines(path: Path) -> list[BarLines]:
    """What stands left and right of each bar of a MEI file, in order.

    Partitura 1.9 passes over ``rptboth``, and makes one long repeat of what it parts; and it
    runs several pieces or movements (``mdiv``) of one file together.
    """
    pieces: list[str] = []
    lines: list[BarLines] = []
    try:
        for _, element in ElementTree.iterparse(path):
            if element.tag == f"{_MEI}measure":
                lines.append((element.get("left", ""), element.get("right", "")))
            elif element.tag == f"{_MEI}mdiv" and element.find(f"{_MEI}mdiv") is None:
                pieces.append(element.get("label") or element.get("n") or str(len(pieces) + 1))
    except (OSError, ElementTree.ParseError):
        return []  # partitura says what is wrong with it
    if len(pieces) > 1:
        raise InputError(
            f"{path} holds {len(pieces)} pieces (mdiv {', '.join(pieces[:5])}"
            f"{', …' if len(pieces) > 5 else ''}): give each a file of its own"
        )
    return lines


def _score(read: Any, kinds: Any, piece: Piece, path: Path, bar_lines: Sequence[BarLines]) -> Score:
    notes: list[tuple[float, int, float, int]] = []
    staves: set[int] = set()
    # Partitura counts from the first full bar; a pickup would lie before the beginning.
    origin = min(float(part.quarter_map(part.first_point.t)) for part in read.parts)
    for number, part in enumerate(read.parts):
        for note in part.iter_all(kinds.Note, include_subclasses=True):
            if note.tie_prev is not None:
                continue
            staff = 100 * number + (note.staff or 1)
            staves.add(staff)
            onset = float(part.quarter_map(note.start.t)) - origin
            end = float(part.quarter_map(note.end_tied.t)) - origin if note.end_tied else onset
            grace = isinstance(note, kinds.GraceNote)
            notes.append((onset, int(note.midi_pitch), onset if grace else end, staff))
    if not notes:
        raise InputError(f"{path} has no notes; give a score with notes")
    notes = [note for note in sorted(set(notes)) if 0 <= note[1] < 128]
    hands: dict[int, Hand] = (
        dict(zip(sorted(staves), (Hand.RIGHT, Hand.LEFT), strict=True)) if len(staves) == 2 else {}
    )
    onset_quarters = np.array([note[0] for note in notes])
    part = max(read.parts, key=lambda each: len(each.measures))
    bar_quarters, bar_number, bar_beat = _bars(part, kinds, origin)
    tempo_quarters, tempo_s = _tempo_map(read.parts, kinds, float(onset_quarters[-1]), origin)
    return Score(
        piece=replace(
            piece,
            title=piece.title or _title(read),
            composer=piece.composer or str(read.composer or ""),
        ),
        pitch_midi=np.array([note[1] for note in notes], dtype=np.uint8),
        onset_quarters=onset_quarters,
        duration_quarters=np.array([note[2] - note[0] for note in notes]),
        hand=np.array([hands.get(note[3], Hand.UNKNOWN) for note in notes], dtype=np.uint8),
        bar_quarters=bar_quarters,
        bar_number=bar_number,
        bar_beat_quarters=bar_beat,
        tempo_quarters=tempo_quarters,
        tempo_s=tempo_s,
        repeat_quarters=as_array(
            passage for each in read.parts for passage in _repeats(each, kinds, origin, bar_lines)
        ),
    )


def _repeats(part: Any, kinds: Any, origin: float, bar_lines: Sequence[BarLines]) -> list[Passage]:
    """From where to where the signs of one part lead; bar lines are those of its bars."""

    def place(point: Any) -> float:
        return float(part.quarter_map(point.t)) - origin

    def places(kind: Any) -> list[float]:
        return [place(each.start) for each in part.iter_all(kind)]

    measures = sorted(part.measures, key=lambda each: each.start.t)
    lines = [place(point) for each in measures for point in (each.start, each.end)]

    def ends_of_bars(kind: Any) -> list[float]:
        """A word such as *da capo* counts at the end of its bar, wherever in it it stands."""
        return [min((x for x in lines if x > at - 1e-6), default=at) for at in places(kind)]

    def spans(kind: Any) -> list[Passage]:
        whole = (each for each in part.iter_all(kind) if each.start and each.end)
        return [(place(each.start), place(each.end)) for each in whole]

    endings, segni, codas = spans(kinds.Ending), places(kinds.Segno), places(kinds.Coda)
    repeats = [(end, begin) for begin, end in spans(kinds.Repeat)]
    if len(bar_lines) == len(part.measures):
        signs = [sign for both in bar_lines for sign in both]
        forward = (at for at, sign in zip(lines, signs, strict=True) if sign in _FORWARD)
        backward = (at for at, sign in zip(lines, signs, strict=True) if sign in _BACKWARD)
        repeats = repeat_passages(forward, backward, endings)
    return [
        *repeats,
        *ending_passages(endings),
        *((at, 0.0) for at in ends_of_bars(kinds.DaCapo)),
        *((at, max(x for x in (0.0, *segni) if x < at)) for at in ends_of_bars(kinds.DalSegno)),
        *((at, min([x for x in codas if x > at] or [at])) for at in ends_of_bars(kinds.ToCoda)),
    ]


def _title(read: Any) -> str:
    """The work's title and the movement's, where the file has them."""
    names = [read.work_title or read.title, read.movement_title]
    return ", ".join(dict.fromkeys(str(name) for name in names if name))


def _bars(
    part: Any, kinds: Any, origin: float
) -> tuple[NDArray[np.float64], NDArray[np.int32], NDArray[np.float64]]:
    """Start, printed number and beat of each bar."""
    measures = sorted(part.measures, key=lambda measure: measure.start.t)
    numbers = [_printed_number(measure) for measure in measures]
    if measures and _is_pickup(measures, part.quarter_map) and numbers[0] == 1:
        # Partitura counts a pickup as bar 1 where the file gives no numbers of its own.
        numbers = [number - 1 for number in numbers]
    signatures = [
        (each.start.t, each.beats, each.beat_type) for each in part.iter_all(kinds.TimeSignature)
    ]
    return (
        np.array([float(part.quarter_map(measure.start.t)) - origin for measure in measures]),
        np.array(numbers, dtype=np.int32),
        np.array([_beat_quarters(signatures, measure.start.t) for measure in measures]),
    )


def _printed_number(measure: Any) -> int:
    name = str(measure.name if measure.name is not None else "")
    return int(name) if name.lstrip("-").isdigit() else int(measure.number or 1)


def _is_pickup(measures: list[Any], quarter_map: Callable[[int], float]) -> bool:
    if len(measures) < 2:
        return False
    first, second = (
        float(quarter_map(each.end.t)) - float(quarter_map(each.start.t)) for each in measures[:2]
    )
    return first < second - 1e-6


def _beat_quarters(signatures: list[tuple[int, int, int]], moment: int) -> float:
    """The meter's unit, or three of it where the meter counts in threes (6/8, 9/8, 12/8)."""
    beats, unit = 4, 4
    for since, numerator, denominator in sorted(signatures):
        if since <= moment:
            beats, unit = numerator, denominator
    compound = unit >= 8 and beats > 3 and beats % 3 == 0
    return 4.0 / unit * (3 if compound else 1)


def _tempo_map(
    parts: list[Any], kinds: Any, end: float, origin: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Anchors (quarter, second), at least two."""
    tempi = {0.0: DEFAULT_QUARTERS_PER_MINUTE}
    for part in parts:
        for tempo in part.iter_all(kinds.Tempo):
            unit = str(tempo.unit or "q")
            quarters = _UNIT_QUARTERS.get(unit[0], 1.0) * (1.5 if unit.endswith(".") else 1.0)
            if tempo.bpm and tempo.bpm > 0:
                at = float(part.quarter_map(tempo.start.t)) - origin
                tempi[at] = float(tempo.bpm) * quarters
    quarters_at = np.array([*sorted(tempi), max(end, *tempi) + 1.0])
    seconds_per_quarter = np.array([60.0 / tempi[quarter] for quarter in sorted(tempi)])
    return quarters_at, np.concatenate(
        ([0.0], np.cumsum(np.diff(quarters_at) * seconds_per_quarter))
    )
