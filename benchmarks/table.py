"""The figures of one run as a table for people."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

NOTHING = "–"


def share(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.3f}"


def amount(value: float | None) -> str:
    return NOTHING if value is None else f"{value:,.0f}"


def tenths(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.1f}"


def confirmed(live: dict[str, Any] | None) -> str:
    return NOTHING if not live else f"{live['confirmed_rightly']}/{live['played']}"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table.

    Attributes
    ----------
    label : str
    path : tuple of str
        Where the figure lies in the report.
    as_text : callable
        How it is written.
    goal : str
        What this version set out to reach, on a PC.
    """

    label: str
    path: tuple[str, ...]
    as_text: Callable[[Any], str]
    goal: str = ""


EAR_ROWS = (
    Row("onset F1, real recordings", ("accuracy", "f1"), share),
    Row("  precision", ("accuracy", "precision"), share),
    Row("  recall", ("accuracy", "recall"), share),
    Row("  close microphones", ("accuracy", "microphones", "close", "f1"), share),
    Row("  ambient microphones", ("accuracy", "microphones", "ambient", "f1"), share),
    Row("F1 with offsets", ("accuracy", "f1_with_offsets"), share),
    Row("re-strikes found", ("accuracy", "restrike_recall"), share),
    Row("velocity error, steps", ("accuracy", "velocity_error"), tenths),
    Row("  levelled", ("accuracy", "levelled_velocity_error"), tenths),
    Row("transcribing: CPU s per s", ("transcribing", "cpu_s_per_s"), share),
    Row("  without reading the file", ("transcribing", "hearing_s_per_s"), share, "≤ 0.05"),
    Row("  of Basic Pitch's whole", ("transcribing", "of_basic_pitch"), share, "≤ 0.333"),
    Row("transcribing: memory, MB", ("transcribing", "memory_mb"), amount),
    Row("listening: CPU s per s", ("listening", "cpu_s_per_s"), share, "≤ 0.15"),
    Row("listening: memory, MB", ("listening", "memory_mb"), amount, "≤ 250"),
    Row("model, bytes", ("model_bytes",), amount),
    Row("delay: median, ms", ("live", "median_ms"), amount),
    Row("  95th percentile, ms", ("live", "p95_ms"), amount, "≤ 300"),
    Row("notes rightly confirmed", ("live",), confirmed),
    Row("`listen`: share of a core", ("live", "cpu_share"), share),
    Row("`listen`: memory, MB", ("live", "memory_mb"), amount),
    Row("piece named after, s", ("live", "piece_after_s"), tenths),
)

IDENTIFICATION_ROWS = (
    Row("pieces in the catalogue", ("pieces",), amount),
    Row("performances asked, 20 s each", ("queries",), amount),
    Row("right at first", ("right",), share, "≥ 0.9"),
    Row("  by direct matching alone", ("right_direct_alone",), share),
    Row("  by DTW alone", ("right_dtw_alone",), share),
    Row("called matched, rightly", ("called_matched_rightly",), share),
    Row("called matched, wrongly", ("called_matched_wrongly",), share),
    Row("called matched, work left out", ("called_matched_though_unknown",), share),
    Row("time for an answer: median, ms", ("median_ms",), amount),
    Row("  answer, 95th percentile, ms", ("p95_ms",), amount),
)


def rows(columns: Sequence[dict[str, Any]], of: Sequence[Row]) -> list[tuple[str, list[str], str]]:
    """Each row's label, one cell for each column, and the goal."""
    return [
        (row.label, [row.as_text(_at(column, row.path)) for column in columns], row.goal)
        for row in of
    ]


def _at(figures: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        figures = figures.get(key) if isinstance(figures, dict) else None
    return figures


def tables(report: dict[str, Any]) -> dict[str, tuple[list[str], list[tuple[str, list[str], str]]]]:
    """The report's tables by title: the names of their columns, and their rows."""
    ears = report["ears"]
    made = {"Notes, by ear": (list(ears), rows(list(ears.values()), EAR_ROWS))}
    if report.get("identification"):
        found = rows([report["identification"]], IDENTIFICATION_ROWS)
        made["Which piece: human performances"] = (["all"], found)
    return made


def rich_tables(report: dict[str, Any]) -> list[Table]:
    """The report's tables for a terminal."""
    made = []
    for title, (columns, lines) in tables(report).items():
        table = Table(
            title=title,
            title_justify="left",
            box=SIMPLE_HEAD,
            show_edge=False,
            padding=(0, 1, 0, 0),
            pad_edge=False,
        )
        table.add_column("", no_wrap=True)
        for column in columns:
            table.add_column(column.replace(" ", "\n"), justify="right", no_wrap=True)
        table.add_column("goal", justify="right", no_wrap=True)
        for label, cells, goal in lines:
            table.add_row(label, *cells, goal)
        made.append(table)
    return made
