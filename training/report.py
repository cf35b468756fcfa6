"""A page that shows where an ear goes wrong: scores, curves, and the worst passages as piano rolls.

One file, with its pictures inside as SVG: it can be mailed. A roll shows six seconds. What was
played lies behind in grey, orange where nothing answered it; what was heard lies in front with a
tick at its onset, blue where it is right, red where nobody played it. So a missed note is bare
orange, a false one bare red, and a note heard at the wrong time is orange with red beside it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.note import NoteEvent
from training.evaluation import NoteScores
from training.hearing import Hearing

PASSAGE_S = 6.0
PASSAGES_EACH = 3
MOST_RECORDINGS = 20
"""So many recordings are shown, the worst first."""
MISTIMED_S = 0.15
"""A missed note whose key is heard this near was heard, but at the wrong time."""
OVERTONES_SEMITONES = frozenset({12, 19, 24, 28, 31, 34, 36})
"""The second to the eighth harmonic."""

PLAYED, FOUND, MISSED, FALSE = "#c4ccd4", "#0072b2", "#e69f00", "#cc1f4e"
BLACK_KEYS = frozenset({1, 3, 6, 8, 10})
NAMES = ("C", "C♯", "D", "E♭", "E", "F", "F♯", "G", "A♭", "A", "B♭", "B")
PX_PER_S, PX_PER_KEY, LEFT_PX, BOTTOM_PX = 150.0, 8.0, 34.0, 18.0


@dataclass(frozen=True, slots=True)
class Errors:
    """What went wrong, counted.

    Attributes
    ----------
    missed : int
        Notes played that nothing answers; ``mistimed`` of them heard, but more than 50 ms away.
    late_ms : float or None
        By how much those were late, the median; negative where they were early.
    false : int
        Notes heard that nobody played; ``overtones`` of them a harmonic above a note that sounds.
    """

    missed: int
    mistimed: int
    late_ms: float | None
    false: int
    overtones: int

    def __str__(self) -> str:
        late = "" if self.late_ms is None else f" (median {self.late_ms:+.0f} ms)"
        return (
            f"{self.missed} missed, {self.mistimed} of them heard at another time{late}; "
            f"{self.false} false, {self.overtones} of them an overtone of what sounds"
        )


def errors_of(hearing: Hearing) -> Errors:
    """Count a hearing's errors by kind."""
    missed, false = _unanswered(hearing)
    late_s: dict[int, float] = {}
    answering: set[int] = set()
    for i, note in missed.items():
        for j, wrong in false.items():
            by_s = wrong.onset_s - note.onset_s
            if wrong.pitch_midi == note.pitch_midi and abs(by_s) <= MISTIMED_S:
                late_s[i] = min(by_s, late_s.get(i, np.inf), key=abs)
                answering.add(j)
    strange = [wrong for j, wrong in false.items() if j not in answering]
    return Errors(
        missed=len(missed),
        mistimed=len(late_s),
        late_ms=1000.0 * float(np.median(list(late_s.values()))) if late_s else None,
        false=len(false),
        overtones=sum(_is_overtone(wrong, hearing.recording.played) for wrong in strange),
    )


def _unanswered(hearing: Hearing) -> tuple[dict[int, NoteEvent], dict[int, NoteEvent]]:
    """The notes missed and the false ones, by index."""
    found, right = {i for i, _ in hearing.pairs}, {j for _, j in hearing.pairs}
    missed = {i: note for i, note in enumerate(hearing.recording.played) if i not in found}
    return missed, {j: note for j, note in enumerate(hearing.heard) if j not in right}


def _is_overtone(wrong: NoteEvent, played: Sequence[NoteEvent]) -> bool:
    return any(
        wrong.pitch_midi - note.pitch_midi in OVERTONES_SEMITONES
        and note.onset_s - MISTIMED_S <= wrong.onset_s <= (note.offset_s or 0.0)
        for note in played
    )


def worst_passages(hearing: Hearing, count: int = PASSAGES_EACH) -> list[float]:
    """Where the passages of `PASSAGE_S` with the most errors begin, in seconds, the worst first.

    They do not overlap, begin on whole seconds, and have an error each.
    """
    missed, false = _unanswered(hearing)
    at_s = np.array([note.onset_s for note in (*missed.values(), *false.values())])
    chosen: list[float] = []
    while len(at_s) and len(chosen) < count:
        starts_s = np.arange(0.0, np.floor(at_s.max()) + 1.0)
        errors = _counts(at_s, starts_s)
        for start_s in chosen:
            errors[np.abs(starts_s - start_s) < PASSAGE_S] = 0
        if not errors.any():
            break
        chosen.append(float(starts_s[errors.argmax()]))
    return chosen


def _counts(at_s: NDArray[np.float64], starts_s: NDArray[np.float64]) -> NDArray[np.int64]:
    inside = (at_s >= starts_s[:, None]) & (at_s < starts_s[:, None] + PASSAGE_S)
    counts: NDArray[np.int64] = inside.sum(axis=1)
    return counts


def piano_roll(hearing: Hearing, start_s: float) -> str:
    """The six seconds from ``start_s`` as SVG."""
    missed, false = _unanswered(hearing)
    played = [
        (note, MISSED if i in missed else PLAYED)
        for i, note in enumerate(hearing.recording.played)
        if _sounds_in(note, start_s)
    ]
    heard = [
        (note, FALSE if j in false else FOUND)
        for j, note in enumerate(hearing.heard)
        if _sounds_in(note, start_s)
    ]
    keys = [note.pitch_midi for note, _ in (*played, *heard)] or [60]
    low, high = min(keys) - 1, max(keys) + 1
    width, height = LEFT_PX + PASSAGE_S * PX_PER_S, (high - low + 1) * PX_PER_KEY
    parts = [*_keyboard(low, high, width), *_seconds(start_s, height)]
    for note, colour in played:
        parts.append(_bar(note, start_s, high, 0.9, colour))
    for note, colour in heard:
        parts.append(_bar(note, start_s, high, 0.4, colour))
        if note.onset_s >= start_s:
            parts.append(_bar(replace(note, offset_s=note.onset_s), start_s, high, 0.9, colour))
    return _svg(width, height + BOTTOM_PX, parts)


def _sounds_in(note: NoteEvent, start_s: float) -> bool:
    return note.onset_s < start_s + PASSAGE_S and (note.offset_s or 0.0) > start_s


def _bar(note: NoteEvent, start_s: float, high: int, thickness: float, colour: str) -> str:
    """A note as a bar of this share of its lane; one without length is a tick at its onset."""
    left = LEFT_PX + max(0.0, note.onset_s - start_s) * PX_PER_S
    right = LEFT_PX + min(PASSAGE_S, (note.offset_s or 0.0) - start_s) * PX_PER_S
    height = thickness * PX_PER_KEY
    top = (high - note.pitch_midi + 0.5) * PX_PER_KEY - height / 2
    told = (
        f"{NAMES[note.pitch_midi % 12]}{note.pitch_midi // 12 - 1} "
        f"{note.onset_s:.3f} to {note.offset_s:.3f} s, velocity {note.velocity}"
    )
    return (
        f'<rect x="{left:.1f}" y="{top:.1f}" width="{max(right - left, 2.0):.1f}" '
        f'height="{height:.1f}" fill="{colour}"><title>{told}</title></rect>'
    )


def _keyboard(low: int, high: int, width: float) -> Iterable[str]:
    for key in range(low, high + 1):
        top = (high - key) * PX_PER_KEY
        if key % 12 in BLACK_KEYS:
            yield (
                f'<rect x="{LEFT_PX}" y="{top}" width="{width - LEFT_PX}" height="{PX_PER_KEY}" '
                'fill="#f3f4f6"/>'
            )
        if key % 12 == 0:
            yield _line(LEFT_PX, top + PX_PER_KEY, width, top + PX_PER_KEY)
            yield _text(LEFT_PX - 5, top + PX_PER_KEY, f"C{key // 12 - 1}", "end")


def _seconds(start_s: float, height: float) -> Iterable[str]:
    for second in range(int(PASSAGE_S) + 1):
        x = LEFT_PX + second * PX_PER_S
        anchor = {0: "start", int(PASSAGE_S): "end"}.get(second, "middle")
        yield _line(x, 0, x, height)
        yield _text(x, height + 13, f"{start_s + second:.0f} s", anchor)


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="#d9dce0"/>'


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _svg(width: float, height: float, parts: Iterable[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'width="{width:.0f}" height="{height:.0f}" font-family="sans-serif" font-size="10" '
        f'fill="#555">{"".join(parts)}</svg>'
    )


def curve_chart(name: str, unit: str, points: Sequence[tuple[float, NoteScores]]) -> str:
    """Onset F1 (blue, with its values), precision and recall (grey) over the steps, as SVG."""
    width, height, left, top = 300.0, 190.0, 30.0, 26.0
    right, bottom = width - 16, height - 34
    x = np.linspace(left + 12, right - 12, len(points))
    parts = [_text(left, 14, f"{name}: onset F1", "start")]
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = bottom - share * (bottom - top)
        parts += [_line(left, y, right, y), _text(left - 4, y + 3, f"{share:g}", "end")]
    for field, colour, thickness in (
        ("precision", "#9aa5b1", 1),
        ("recall", "#9aa5b1", 1),
        ("f1", FOUND, 2),
    ):
        heights = [bottom - getattr(scores, field) * (bottom - top) for _, scores in points]
        line = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, heights, strict=True))
        dashes = ' stroke-dasharray="4 3"' if field == "recall" else ""
        parts.append(
            f'<polyline points="{line}" fill="none" stroke="{colour}" '
            f'stroke-width="{thickness}"{dashes}/>'
        )
    for at, (step, scores) in zip(x, points, strict=True):
        y_f1 = bottom - scores.f1 * (bottom - top)
        parts += [
            f'<circle cx="{at:.1f}" cy="{y_f1:.1f}" r="2.5" fill="{FOUND}"/>',
            _text(at, y_f1 + 14, f"{scores.f1:.2f}", "middle"),
            _text(at, bottom + 14, f"{step:g}", "middle"),
        ]
    parts.append(_text((left + right) / 2, height - 4, unit, "middle"))
    return _svg(width, height, parts)


def html_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table whose first column is text and whose others are figures."""
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def passages(hearings: Sequence[Hearing]) -> str:
    """The worst passages of the worst recordings, each with what went wrong in the whole of it."""
    parts = [
        f'<p class="key"><i style="background:{PLAYED}"></i>played '
        f'<i style="background:{FOUND}"></i>found <i style="background:{MISSED}"></i>missed '
        f'<i style="background:{FALSE}"></i>false</p>'
    ]
    for hearing in sorted(hearings, key=lambda one: one.scores.f1)[:MOST_RECORDINGS]:
        name = escape(hearing.recording.name)
        parts.append(f"<h3>{name}: onset F1 {hearing.scores.f1:.3f}</h3>")
        parts.append(f"<p>{errors_of(hearing)}.</p>")
        parts += [piano_roll(hearing, start_s) for start_s in worst_passages(hearing)]
    return "\n".join(parts)


_STYLE = """
body { font: 15px/1.45 sans-serif; color: #222; max-width: 960px; margin: 2em auto; padding: 0 1em }
h1 { font-size: 1.5em } h2 { font-size: 1.2em; margin-top: 2em } h3 { font-size: 1em }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 14px }
th, td { padding: .15em .7em; text-align: right; border-bottom: 1px solid #e3e6ea }
th { font-weight: normal; color: #666 }
th:first-child, td:first-child { text-align: left }
svg { display: block; margin: .6em 0; max-width: 100%; height: auto }
.curves { display: flex; flex-wrap: wrap; gap: 1em }
.key i { display: inline-block; width: 1.6em; height: .7em; margin: 0 .4em 0 1.2em }
"""


def write_page(folder: Path, title: str, sections: Sequence[tuple[str, str]]) -> Path:
    """Write ``index.html``: a title and (heading, HTML) sections. Gives its path."""
    body = "\n".join(f"<h2>{escape(heading)}</h2>\n{content}" for heading, content in sections)
    folder.mkdir(parents=True, exist_ok=True)
    page = folder / "index.html"
    page.write_text(
        f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{_STYLE}</style>\n<h1>{escape(title)}</h1>\n{body}\n</html>\n",
        encoding="utf-8",
    )
    return page
