"""The bars as a picture: one page that shows at a glance where the work is.

A row holds four bars, the right hand above and the left below, each a small piano roll against
the beat: height is pitch, width is length as written. A note's colour is its verdict, and its
shape says so again, for those who cannot tell the colours apart: a missed note is hollow, a
wrong one has a cross where the finger fell, an extra one is a diamond, an early or late one
stands where it was played, with a line from where it was due. What only the ear may have got
wrong is pale. A hand that rested is empty.

One HTML file with SVG inside, no script and nothing to load: it can be mailed, printed, and read
by day and by night.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from itertools import groupby

from edge.matching.score import Hand
from edge.practice.expected import ExpectedNotes
from edge.practice.summary import HAND_WORDS, KIND_WORDS, sentences, summed, worst_bars
from edge.practice.verdict import BarFeedback, Finding, Verdict

BARS_A_ROW = 4
ROW_PX, GAP_PX, HEAD_PX, HAND_PX, FOOT_PX = 1000.0, 10.0, 24.0, 74.0, 8.0
MARGIN_PX = 9.0
NOTE_PX = 6.0
SHORTEST_PX = 5.0
NAMES = ("C", "C♯", "D", "E♭", "E", "F", "F♯", "G", "A♭", "A", "B♭", "B")
TELLING = {
    Verdict.RIGHT: "right",
    Verdict.WRONG: "wrong key",
    Verdict.MISSED: "missed",
    Verdict.EXTRA: "not written",
    Verdict.EARLY: "early",
    Verdict.LATE: "late",
}


def page(expected: ExpectedNotes, bars: Sequence[BarFeedback]) -> str:
    """The whole page, as HTML.

    Parameters
    ----------
    expected : ExpectedNotes
    bars : sequence of BarFeedback
        In the order in which they were played.
    """
    piece = expected.piece
    title = piece.title or piece.piece_id
    said = sentences(bars)
    parts = [f"<h1>{escape(title)}</h1>"]
    if piece.composer:
        parts.append(f'<p class="by">{escape(piece.composer)}</p>')
    parts.append(f'<p class="first">{escape(said[0])}</p>')
    parts.append(f"<p>{escape(' '.join(said[1:]))}</p>")
    parts += [_figures(bars), _legend()]
    worst = {bar.bar_index for bar in worst_bars(bars)}
    takes = [list(take) for _, take in groupby(bars, key=lambda bar: bar.take)]
    for number, take in enumerate(takes, start=1):
        if len(takes) > 1:
            share = summed(take).accuracy or 0.0
            span = (
                f"bars {take[0].bar} to {take[-1].bar}" if len(take) > 1 else f"bar {take[0].bar}"
            )
            parts.append(f"<h2>Take {number}: {span}, {share:.0%} right</h2>")
        for start in range(0, len(take), BARS_A_ROW):
            parts.append(_row(expected, take[start : start + BARS_A_ROW], worst))
    body = "\n".join(parts)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}: practice</title><style>{_STYLE}</style></head>\n"
        f"<body>\n{body}\n</body></html>\n"
    )


def _figures(bars: Sequence[BarFeedback]) -> str:
    """Right, evenness and counts by hand, as a table."""
    rows = [("both hands", summed(bars))]
    rows += [(HAND_WORDS[hand], summed(bars, hand)) for hand in (Hand.RIGHT, Hand.LEFT)]
    cells = []
    for name, of in rows:
        if of.accuracy is None:
            continue
        off = "–" if of.evenness_ms is None else f"{of.evenness_ms:.0f} ms"
        values = [f"{of.accuracy:.0%}", of.wrong, of.missed, of.extra, of.early, of.late, off]
        row = "".join(f"<td>{value}</td>" for value in values)
        cells.append(f"<tr><th>{name}</th>{row}</tr>")
    kinds = "".join(f"<th>{KIND_WORDS[kind]}</th>" for kind in KIND_WORDS)
    return (
        f"<table><thead><tr><th></th><th>right</th>{kinds}<th>evenness</th></tr></thead>"
        f"<tbody>{''.join(cells)}</tbody></table>"
    )


def _legend() -> str:
    """Every kind of mark, drawn as in the bars."""
    parts = []
    for kind, words in TELLING.items():
        mark = "".join(
            _mark(
                kind,
                14.0,
                7.0 if kind is not Verdict.WRONG else 3.0,
                16.0,
                7.0 if kind is not Verdict.WRONG else 12.0,
                22.0,
            )
        )
        parts.append(f'<span><svg viewBox="0 0 44 20">{mark}</svg>{words}</span>')
    pale = "".join(_mark(Verdict.MISSED, 14.0, 7.0, 16.0, 7.0, 14.0))
    parts.append(f'<span><svg viewBox="0 0 44 20"><g class="pale">{pale}</g></svg>the ear?</span>')
    return f'<p class="legend">{"".join(parts)}</p>'


def _row(expected: ExpectedNotes, bars: Sequence[BarFeedback], worst: set[int]) -> str:
    width = (ROW_PX - GAP_PX * (BARS_A_ROW - 1)) / BARS_A_ROW
    height = HEAD_PX + 2 * HAND_PX + FOOT_PX
    parts = []
    for column, bar in enumerate(bars):
        marked = bar.bar_index in worst and bool(bar.faults)
        inside = "".join(_bar(expected, bar, width, marked))
        parts.append(f'<g transform="translate({column * (width + GAP_PX):.1f} 0)">{inside}</g>')
    return f'<svg class="row" viewBox="0 0 {ROW_PX:.0f} {height:.0f}">{"".join(parts)}</svg>'


def _bar(expected: ExpectedNotes, bar: BarFeedback, width: float, marked: bool) -> Iterator[str]:
    """One bar: its frame, number and tempo, and the notes of both hands."""
    height = HEAD_PX + 2 * HAND_PX + FOOT_PX - 2
    css = "bar worst" if marked else "bar"
    yield f'<rect class="{css}" x="1" y="1" width="{width - 2:.1f}" height="{height:.1f}" rx="6"/>'
    yield f'<text class="number" x="9" y="17">{bar.bar}</text>'
    told = f"{bar.tempo_bpm:.0f} bpm" if bar.tempo_bpm else ""
    yield f'<text class="tempo" x="{width - 9:.1f}" y="17">{told}</text>'
    middle = HEAD_PX + HAND_PX
    yield f'<line class="hands" x1="8" x2="{width - 8:.1f}" y1="{middle}" y2="{middle}"/>'
    length = _length(expected, bar.bar_index)
    beat = float(expected.bar_beat_quarters[bar.bar_index])
    scale = (width - 2 * MARGIN_PX - SHORTEST_PX) / length
    at = beat
    while at < length - 1e-3:
        x = MARGIN_PX + at * scale
        yield f'<line class="beat" x1="{x:.1f}" x2="{x:.1f}" y1="{HEAD_PX}" y2="{height - 4:.1f}"/>'
        at += beat
    for finding in bar.findings:
        top = HEAD_PX + (HAND_PX if finding.hand is Hand.LEFT else 0.0)
        low, high = _range(expected, finding.hand)
        yield from _note(expected, finding, scale, top, (low, high), beat, bar)


def _note(
    expected: ExpectedNotes,
    finding: Finding,
    scale: float,
    top: float,
    keys: tuple[int, int],
    beat: float,
    bar: BarFeedback,
) -> Iterator[str]:
    """One note with its mark, and what to say of it when pointed at."""

    def y(pitch: int | None) -> float:
        share = ((pitch or 0) - keys[0]) / max(keys[1] - keys[0], 1)
        return top + 6 + (1 - min(max(share, 0.0), 1.0)) * (HAND_PX - 14 - NOTE_PX)

    x = MARGIN_PX + (finding.beat - 1) * beat * scale
    length = SHORTEST_PX
    if finding.note is not None:
        quarters = float(expected.duration_quarters[finding.note])
        length = max(min(quarters * scale * 0.9, scale * 4), SHORTEST_PX)
    played_x = x
    if finding.verdict in (Verdict.EARLY, Verdict.LATE) and finding.delta_s and bar.tempo_bpm:
        played_x = x + finding.delta_s * bar.tempo_bpm / 60.0 * beat * scale
    written = finding.expected_pitch_midi or finding.played_pitch_midi
    struck = finding.played_pitch_midi or written
    pale = " pale" if finding.verdict is not Verdict.RIGHT and not finding.is_fault else ""
    yield f'<g class="note{pale}"><title>{escape(_told(finding))}</title>'
    yield from _mark(finding.verdict, x, y(written), length, y(struck), played_x)
    yield "</g>"


def _mark(
    kind: Verdict, x: float, y: float, length: float, struck_y: float, played_x: float
) -> Iterator[str]:
    """The mark of a verdict; ``y`` is the top of a note as high as `NOTE_PX`."""
    middle = y + NOTE_PX / 2

    def rect(css: str, left: float, top: float, wide: float) -> str:
        return (
            f'<rect class="{css}" x="{left:.1f}" y="{top:.1f}" width="{wide:.1f}" '
            f'height="{NOTE_PX}" rx="2.5"/>'
        )

    if kind is Verdict.RIGHT:
        yield rect("right", x, y, length)
    elif kind is Verdict.MISSED:
        yield rect("missed", x, y, length)
    elif kind is Verdict.WRONG:
        yield rect("wanted", x, y, length)
        a, b = struck_y + NOTE_PX / 2, 3.6
        yield (
            f'<path class="wrong" d="M{x:.1f} {a - b:.1f}'
            f'l{2 * b} {2 * b}m0 {-2 * b}l{-2 * b} {2 * b}"/>'
        )
    elif kind is Verdict.EXTRA:
        b = 4.2
        yield f'<path class="extra" d="M{x:.1f} {middle:.1f}l{b} {-b}l{b} {b}l{-b} {b}z"/>'
    else:
        css = str(kind)
        yield (
            f'<path class="{css} from" d="M{x:.1f} {y - 2:.1f}v{NOTE_PX + 4}'
            f'M{x:.1f} {middle:.1f}H{played_x:.1f}"/>'
        )
        yield rect(css, played_x, y, length)


def _told(finding: Finding) -> str:
    """What pointing at a note says, as in ``bar 12, beat 2.5, left hand: F♯3 late by 150 ms``."""
    hand = f", {HAND_WORDS[finding.hand]}" if HAND_WORDS[finding.hand] else ""
    where = f"bar {finding.bar}, beat {finding.beat:.3g}{hand}"
    written, struck = finding.expected_pitch_midi, finding.played_pitch_midi
    what = {
        Verdict.RIGHT: f"{_name(written)} right",
        Verdict.WRONG: f"{_name(struck)} instead of {_name(written)}",
        Verdict.MISSED: f"{_name(written)} missed",
        Verdict.EXTRA: f"{_name(struck)} is not written",
        Verdict.EARLY: f"{_name(written)} early by {abs(finding.delta_s or 0) * 1e3:.0f} ms",
        Verdict.LATE: f"{_name(written)} late by {abs(finding.delta_s or 0) * 1e3:.0f} ms",
    }[finding.verdict]
    doubt = "" if finding.is_fault or finding.verdict is Verdict.RIGHT else " (or the ear erred)"
    return f"{where}: {what}{doubt}"


def _name(pitch_midi: int | None) -> str:
    return "" if pitch_midi is None else f"{NAMES[pitch_midi % 12]}{pitch_midi // 12 - 1}"


def _length(expected: ExpectedNotes, bar: int) -> float:
    """How long a bar is, in quarters."""
    begin = float(expected.bar_quarters[bar])
    if bar + 1 < expected.bar_quarters.size:
        return max(float(expected.bar_quarters[bar + 1]) - begin, 0.25)
    last = slice(int(expected.bar_starts[bar]), int(expected.bar_starts[bar + 1]))
    end = expected.onset_quarters[last] + expected.duration_quarters[last]
    return max(float(end.max(initial=begin + 1.0)) - begin, 0.25)


def _range(expected: ExpectedNotes, hand: Hand) -> tuple[int, int]:
    """Lowest and highest key that a hand plays in the piece."""
    keys = expected.pitch_midi[expected.hand == int(hand)]
    keys = keys if keys.size else expected.pitch_midi
    return int(keys.min()), int(keys.max())


_STYLE = """
:root { color-scheme: light dark; --paper: #fbfaf7; --ink: #26282b; --soft: #6d7278;
  --bar: #ffffff; --edge: #dcdad3; --grid: #eceae4; --right: #7f9c8b; --wrong: #c2255c;
  --missed: #c2255c; --extra: #8a4fbf; --early: #1c7ed6; --late: #d9770b }
@media (prefers-color-scheme: dark) { :root { --paper: #16181b; --ink: #e6e4df; --soft: #979ca3;
  --bar: #1e2125; --edge: #34383e; --grid: #2a2e33; --right: #6f9480; --wrong: #ff6b93;
  --missed: #ff6b93; --extra: #c093f0; --early: #5fb0ff; --late: #ffb04d } }
body { background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif;
  max-width: 1000px; margin: 2.5em auto; padding: 0 1.2em }
h1 { font-size: 1.7em; font-weight: 600; margin: 0; line-height: 1.2 }
h2 { font-size: 1em; font-weight: 600; margin: 2em 0 .6em }
p { max-width: 46em; margin: .5em 0 } .by { color: var(--soft); margin: 0 0 1.2em }
.first { font-size: 1.15em }
table { border-collapse: collapse; margin: 1.2em 0; font-variant-numeric: tabular-nums;
  font-size: .9em }
th { font-weight: 400; color: var(--soft); text-align: right } tbody th { text-align: left }
td { text-align: right } th, td { padding: .2em .9em .2em 0 }
.legend { display: flex; flex-wrap: wrap; gap: .3em 1.1em; color: var(--soft); font-size: .85em;
  max-width: none; margin: 1em 0 1.4em }
.legend span { display: flex; align-items: center; gap: .3em } .legend svg { width: 44px }
svg.row { display: block; width: 100%; height: auto; margin: 0 0 10px }
.bar { fill: var(--bar); stroke: var(--edge) } .worst { stroke: var(--wrong); stroke-width: 1.6 }
.number { font: 600 13px system-ui, sans-serif; fill: var(--ink) }
.tempo { font: 11px system-ui, sans-serif; fill: var(--soft); text-anchor: end }
.hands { stroke: var(--edge) } .beat { stroke: var(--grid) }
.right { fill: var(--right) } .wanted, .missed { fill: none; stroke: var(--wrong);
  stroke-width: 1.4; stroke-dasharray: 2.5 1.8 } .missed { stroke-dasharray: none }
.wrong { fill: none; stroke: var(--wrong); stroke-width: 2.4; stroke-linecap: round }
.extra { fill: var(--extra) } .early { fill: var(--early) } .late { fill: var(--late) }
.from { fill: none; stroke-width: 1.4 } .early.from { stroke: var(--early) }
.late.from { stroke: var(--late) } .pale { opacity: .35 }
@media print { body { margin: 0 } svg.row { break-inside: avoid } }
@media (max-width: 640px) { svg.row { width: 200%; } body { overflow-x: auto } }
"""
