"""Figures as curves, in SVG: one panel a quantity, the count below it on a logarithmic scale."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

COLOURS = ("#1b6ca8", "#d1495b", "#66a182", "#8d6a9f")
WIDTH, HEIGHT = 420, 300
LEFT, RIGHT, TOP, BOTTOM = 52, 16, 40, 46


@dataclass(frozen=True, slots=True)
class Curve:
    """A quantity ``y`` over counts ``x``."""

    name: str
    x: Sequence[float]
    y: Sequence[float]


def write_curves(path: Path, x_name: str, panels: Mapping[str, Sequence[Curve]]) -> None:
    """Draw panels side by side."""
    drawn = [
        f'<g transform="translate({number * WIDTH} 0)">{_panel(title, x_name, curves)}</g>'
        for number, (title, curves) in enumerate(panels.items())
    ]
    size = f'width="{WIDTH * len(drawn)}" height="{HEIGHT}"'
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="11">'
        f'<rect {size} fill="white"/>{"".join(drawn)}</svg>\n',
        encoding="utf-8",
    )


def _panel(title: str, x_name: str, curves: Sequence[Curve]) -> str:
    counts = [x for curve in curves for x in curve.x]
    values = [y for curve in curves for y in curve.y]
    first, last = math.log10(min(counts)), math.log10(max(counts))
    share = max(values) <= 1.0
    low, high = (math.floor(min(values) * 20) / 20, 1.0) if share else (0.0, max(values) * 1.1)

    def at(x: float, y: float) -> tuple[float, float]:
        across = (math.log10(x) - first) / max(last - first, 1e-9)
        up = (y - low) / max(high - low, 1e-9)
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (
            HEIGHT - TOP - BOTTOM
        )

    parts = [f'<text x="{LEFT}" y="18" font-size="13">{escape(title)}</text>']
    for step in range(5):
        value = low + step * (high - low) / 4
        y = at(min(counts), value)[1]
        label = f"{value:.3f}" if share else f"{value:.0f}"
        parts.append(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>'
            f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{label}</text>'
        )
    for count in sorted(set(counts)):
        x = at(count, low)[0]
        label = f"{count / 1000:g}k"
        parts.append(
            f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{label}</text>'
        )
    parts.append(f'<text x="{LEFT}" y="{HEIGHT - 10}">{escape(x_name)}</text>')
    for number, (curve, colour) in enumerate(zip(curves, COLOURS, strict=False)):
        points = [at(x, y) for x, y in zip(curve.x, curve.y, strict=True)]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in points]
        parts.append(
            f'<text x="{LEFT + 130 * number}" y="32" fill="{colour}">{escape(curve.name)}</text>'
        )
    return "".join(parts)
