"""A recording whose notes, piece and bars are known, heard again by this very machine.

The beginning of the demo's recording goes block by block through the ear, the piece search and the
follower, as a microphone's sound would. What is known of it was never heard (``known_answer.json``,
made by ``scripts/known_answer.py`` from the MIDI file that the sound was made of): so another model
or catalogue is held against the truth, and not against what its forerunner heard.

int8 arithmetic differs by a few steps between kinds of processor, so the answer has a tolerance.
A model with a few damaged weights in a hundred hears next to nothing; the tolerance lies between.
"""

from __future__ import annotations

import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from device.selftest.verdict import failed, not_tried, passed
from edge.audio.block import BLOCK_S, STREAM_RATE_HZ
from edge.audio.file import AudioFile
from edge.errors import ModelError, SostenutoError
from edge.following import Position
from edge.matching import Catalogue, MatchState, PieceMatch
from edge.messages import Check
from edge.note import NoteState, NoteUpdate
from edge.recogniser import Recogniser, load_recogniser
from edge.resources import demo_recording

ONSET_TOLERANCE_S = 0.05
"""As in every evaluation of transcription (MIREX)."""

LEAST_FOUND = 0.90
LEAST_RIGHT = 0.70
"""Recall and precision that pass. Our ears give, on x86-64: separable3d 1.00 and 0.95, compressed
1.00 and 0.82, templates 0.96 and 0.85 (`sostenuto-device selftest --known-answer` prints them).
With every weight up to 8 steps of int8 off, far more than processors differ by, the models still
give 1.00 and 0.82, and 1.00 and 0.78. With 3 % of the weights damaged, 0 and 12 of 74 keys are
found."""

BAR_TOLERANCE_S = 0.25
"""A position may be so far from the truth, a fifth of a bar of this piece."""

END_LEFT_OUT_S = 0.5
"""Onsets so near to the end are not judged: the ear had no time to be sure of them."""

LEAST_MARGIN = 4.0
"""The whole service takes three times the processor that the ear alone takes on a recording (0.168
of a core against 0.052 s for a second, on x86-64: bench.json), and a room gets warm in summer."""

REMEDY = (
    "the sound would not be heard rightly either: go back to the version before, install again, or "
    "flash the card anew"
)


class Struck(msgspec.Struct, frozen=True, array_like=True):
    """A key and when it was struck, in seconds of the recording."""

    pitch_midi: int
    onset_s: float


class KnownAnswer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is known of the beginning of a recording.

    Attributes
    ----------
    recording : str
        Its name, beside this file.
    stretch_s : float
        Seconds from its beginning that are heard.
    piece_id : str
        The piece, as the catalogue calls it.
    notes : tuple of Struck
        By onset.
    bar_starts_s : tuple of float
        When bar 1, 2, … begins, as printed; the upbeat before is bar 0.
    """

    recording: str
    stretch_s: float
    piece_id: str
    notes: tuple[Struck, ...]
    bar_starts_s: tuple[float, ...]

    def bars_near(self, t_s: float) -> range:
        """The bars that may be told of a moment, with `BAR_TOLERANCE_S` on both sides."""
        first = bisect_right(self.bar_starts_s, t_s - BAR_TOLERANCE_S)
        last = bisect_left(self.bar_starts_s, t_s + BAR_TOLERANCE_S)
        return range(first, last + 1)


@dataclass(frozen=True, slots=True)
class Recognised:
    """What was heard of the recording.

    Attributes
    ----------
    notes : tuple of Struck
        Confirmed ones, as they came.
    named : tuple of str
        The pieces that were called matched, in order, and
    named_after_s : float or None
        when the first was, in seconds of the recording.
    last : Position or None
        The last place that was sure.
    stretch_s, cpu_s : float
        Seconds of sound heard, and processor time that it took.
    """

    notes: tuple[Struck, ...]
    named: tuple[str, ...]
    named_after_s: float | None
    last: Position | None
    stretch_s: float
    cpu_s: float


def answer_file() -> Path:
    """Where the known answer lies: beside the recording."""
    return demo_recording().with_name("known_answer.json")


def read_answer(path: Path) -> KnownAnswer:
    """The known answer.

    Raises
    ------
    ModelError
        It is missing or damaged.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=KnownAnswer)
    except (OSError, msgspec.DecodeError) as error:
        raise ModelError(
            f"the known answer {path} cannot be read ({error}): install sostenuto again"
        ) from None


def hear(
    recogniser: Recogniser,
    recording: Path,
    stretch_s: float,
    told: Callable[[float], None] = lambda _: None,
) -> Recognised:
    """The first ``stretch_s`` of ``recording`` through ``recogniser``, as fast as it goes.

    ``told`` is called with the share that was heard so far, about once a second.

    Raises
    ------
    InputError
        The recording is missing or damaged.
    """
    notes: list[Struck] = []
    named: list[str] = []
    named_after_s: float | None = None
    last: Position | None = None
    with AudioFile(recording) as file:
        began_s = time.process_time()
        for number, block in enumerate(file.blocks(BLOCK_S)):
            if block.end_sample > stretch_s * STREAM_RATE_HZ:
                break
            now_s = block.end_sample / STREAM_RATE_HZ
            for event in recogniser.push(block):
                if isinstance(event, NoteUpdate) and event.state is NoteState.CONFIRMED:
                    notes.append(Struck(event.note.pitch_midi, event.note.onset_s))
                elif isinstance(event, PieceMatch) and event.state is MatchState.MATCHED:
                    named_after_s = named_after_s or now_s
                    named.append(event.candidates[0].piece_id)
                elif isinstance(event, Position) and not event.lost:
                    last = event
            if number % round(1 / BLOCK_S) == 0:
                told(now_s / stretch_s)
        cpu_s = time.process_time() - began_s
    return Recognised(tuple(notes), tuple(named), named_after_s, last, stretch_s, cpu_s)


def matched(heard: Sequence[Struck], known: Sequence[Struck]) -> int:
    """How many of ``heard`` are the same key within `ONSET_TOLERANCE_S` of one of ``known``.

    Each counts once. On one key the windows are equally wide, so taking the earliest that fits
    is the best there is.
    """
    count = 0
    for pitch_midi in {note.pitch_midi for note in known}:
        truth = sorted(note.onset_s for note in known if note.pitch_midi == pitch_midi)
        for onset_s in sorted(note.onset_s for note in heard if note.pitch_midi == pitch_midi):
            while truth and truth[0] < onset_s - ONSET_TOLERANCE_S:
                truth.pop(0)
            if truth and truth[0] <= onset_s + ONSET_TOLERANCE_S:
                truth.pop(0)
                count += 1
    return count


def judge_notes(heard: Recognised, answer: KnownAnswer, name: str = "known notes") -> Check:
    """Enough of the struck keys found, and not too much beside them."""
    until_s = heard.stretch_s - END_LEFT_OUT_S
    known = [note for note in answer.notes if note.onset_s < until_s]
    told = [note for note in heard.notes if note.onset_s < until_s]
    hits = matched(told, known)
    found, right = hits / len(known), hits / max(len(told), 1)
    text = (
        f"{hits} of {len(known)} struck keys found ({found:.2f}), "
        f"{right:.2f} of {len(told)} told notes are right"
    )
    if found >= LEAST_FOUND and right >= LEAST_RIGHT:
        return passed(name, text)
    return failed(name, f"{text}; {LEAST_FOUND:.2f} and {LEAST_RIGHT:.2f} are needed", REMEDY)


def judge_piece(heard: Recognised, answer: KnownAnswer, name: str = "known piece") -> Check:
    """The piece named, and no other."""
    others = [piece for piece in heard.named if piece != answer.piece_id]
    if others:
        return failed(name, f"{others[0]!r} was named; it is {answer.piece_id!r}", REMEDY)
    if heard.named_after_s is None:
        text = f"no piece was named in {heard.stretch_s:.0f} s; it is {answer.piece_id!r}"
        return failed(name, text, REMEDY)
    return passed(name, f"{answer.piece_id} named after {heard.named_after_s:.1f} s")


def judge_bar(heard: Recognised, answer: KnownAnswer, name: str = "known bar") -> Check:
    """The last place told is where the playing was then."""
    last = heard.last
    if last is None:
        return failed(name, f"no bar was told in {heard.stretch_s:.0f} s", REMEDY)
    allowed = answer.bars_near(last.t_s)
    told = f"bar {last.bar} told at {last.t_s:.1f} s"
    if last.bar in allowed:
        return passed(name, f"{told}, as played")
    played = " or ".join(map(str, allowed))
    return failed(name, f"{told}; played was bar {played}", REMEDY)


def judge_speed(heard: Recognised) -> Check:
    """The ear alone takes little enough that all that is done beside it has room too."""
    cost = heard.cpu_s / heard.stretch_s
    text = f"{cost:.3f} s of processor for 1 s of sound: {1 / cost:.1f} times as fast as the piano"
    if cost * LEAST_MARGIN <= 1.0:
        return passed("speed", text)
    return failed(
        "speed",
        f"{text}; {LEAST_MARGIN:.0f} times is needed",
        "sostenuto-device bench says which model this board can carry; see `power` too",
    )


def check_known_answer(
    model: Path | str,
    catalogue: Catalogue | None,
    told: Callable[[float], None] = lambda _share: None,
    *,
    speed: bool = False,
) -> list[Check]:
    """The known recording heard with ``model``, and what came of it.

    Parameters
    ----------
    model : Path or str
        A manifest, or a name as `edge.ear.load_ear` takes it.
    catalogue : Catalogue or None
        None: it cannot be opened, so piece and bar are not tried.
    told : callable
        Is told which share was heard, for a progress bar.
    speed : bool
        Judge what it took, too.
    """
    ear = Path(model).stem
    notes, piece, bar = (f"known {what}, {ear}" for what in ("notes", "piece", "bar"))
    try:
        answer = read_answer(answer_file())
        recogniser = load_recogniser(model, catalogue, provisional=True)
        recording = answer_file().with_name(answer.recording)
        heard = hear(recogniser, recording, answer.stretch_s, told)
    except SostenutoError as error:
        return [failed(notes, str(error), REMEDY)]
    except Exception as error:  # noqa: BLE001 - a model may fail in any way; that is the finding
        return [failed(notes, f"the ear fails: {type(error).__name__}: {error}", REMEDY)]
    checks = [judge_notes(heard, answer, notes)]
    checks += _piece_and_bar(heard, answer, catalogue, piece, bar)
    return [*checks, judge_speed(heard)] if speed else checks


def _piece_and_bar(
    heard: Recognised,
    answer: KnownAnswer,
    catalogue: Catalogue | None,
    piece_name: str,
    bar_name: str,
) -> list[Check]:
    if catalogue is None:
        return [not_tried(name, "no catalogue can be opened") for name in (piece_name, bar_name)]
    try:
        catalogue.find(answer.piece_id)
    except KeyError:
        reason = f"this catalogue does not hold {answer.piece_id!r}"
        return [not_tried(name, reason) for name in (piece_name, bar_name)]
    return [judge_piece(heard, answer, piece_name), judge_bar(heard, answer, bar_name)]
