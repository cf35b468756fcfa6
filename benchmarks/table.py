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


def ten_thousandths(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.4f}"


def part(found: dict[str, float] | None) -> str:
    return NOTHING if not found else share(found["share"])


def interval(found: dict[str, float] | None) -> str:
    return NOTHING if not found else f"{found['low']:.2f}–{found['high']:.2f}"


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
        What this version set out to reach, on a PC; two of them are `compressed`'s and
        `separable3d`'s.
    """

    label: str
    path: tuple[str, ...]
    as_text: Callable[[Any], str]
    goal: str = ""


EAR_ROWS = (
    Row("onset F1, real recordings", ("accuracy", "f1"), share, "≥.84/.88"),
    Row("  precision", ("accuracy", "precision"), share),
    Row("  recall", ("accuracy", "recall"), share),
    Row("  close microphones", ("accuracy", "microphones", "close", "f1"), share),
    Row("  ambient microphones", ("accuracy", "microphones", "ambient", "f1"), share, "≥–/.86"),
    Row("F1 with offsets", ("accuracy", "f1_with_offsets"), share, "≥.40/.48"),
    Row("re-strikes found", ("accuracy", "restrike_recall"), share),
    Row("velocity error, steps", ("accuracy", "velocity_error"), tenths),
    Row("  levelled", ("accuracy", "levelled_velocity_error"), tenths),
    Row("transcribing: CPU s per s", ("transcribing", "cpu_s_per_s"), share),
    Row("  without reading a file", ("transcribing", "hearing_s_per_s"), share, "≤.02/.05"),
    Row("  of Basic Pitch's whole", ("transcribing", "of_basic_pitch"), share, "≤–/.333"),
    Row("transcribing: memory, MB", ("transcribing", "memory_mb"), amount, "≤160/200"),
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

WINDOW_ROWS = (
    Row("human performances, as MIDI", ("performances", "right"), part, "≥ .96/.99/.995"),
    Row("  95 % interval", ("performances", "right"), interval),
    Row("  of asap_dev", ("performances", "right_in", "asap_dev"), part),
    Row("  of giantmidi_dev", ("performances", "right_in", "giantmidi_dev"), part),
    Row("  of vienna4x22", ("performances", "right_in", "vienna4x22"), part),
    Row("  fingerprints alone", ("performances", "right_alone", "fingerprints"), share),
    Row("  direct matching alone", ("performances", "right_alone", "direct"), share),
    Row("  DTW alone", ("performances", "right_alone", "dtw"), share),
    Row("  called matched, rightly", ("performances", "matched_rightly"), part),
    Row("  called matched, wrongly", ("performances", "matched_wrongly"), part),
    Row("  matched, work left out", ("performances", "unknown_matched"), part),
    Row("  an answer, median ms", ("performances", "median_ms"), amount),
    Row("  95th percentile, ms", ("performances", "p95_ms"), amount),
    Row("transcriptions", ("transcriptions", "right"), part, "≥ .95/.97/.98"),
    Row("  95 % interval", ("transcriptions", "right"), interval),
    Row("  matched, work left out", ("transcriptions", "unknown_matched"), part),
    Row("recordings, by our ear", ("recordings", "right"), part, "≥ –/.95/.98"),
    Row("  95 % interval", ("recordings", "right"), interval),
    Row("  matched, work left out", ("recordings", "unknown_matched"), part),
)

LIVE_COLUMNS = ["as MIDI", "trans- cribed", "by ear", "POP909"]
LIVE_ROWS = (
    Row("rightly within 10 s", ("right_within", "10"), part, "≥ 0.90"),
    Row("  95 % interval", ("right_within", "10"), interval),
    Row("rightly within 20 s", ("right_within", "20"), part, "≥ 0.97"),
    Row("  95 % interval", ("right_within", "20"), interval),
    Row("another on the way", ("another_on_the_way",), part),
    Row("work left out: any in 30 s", ("unknown_matched",), part, "≤ 0.02"),
    Row("  95 % interval", ("unknown_matched",), interval),
    Row("gone on, named within 10 s", ("going_on_within", "10"), part),
    Row("gone on, named within 20 s", ("going_on_within", "20"), part),
)


SCALE_ROWS = (
    Row("opened in, s", ("opens_s",), share, "≤ 1"),
    Row("memory added, MB", ("memory_mb",), amount, "≤ 300"),
    Row("on disk, MB", ("disk_mb",), amount),
    Row("a step: median, ms", ("step_median_ms",), tenths),
    Row("  95th percentile, ms", ("step_p95_ms",), tenths, "≤ 10"),
    Row("right at first, 10 s", ("right_10_s",), share),
)

FEEDBACK_COLUMNS = ["wrong", "missed", "extra", "early", "late", "all"]
FEEDBACK_ROWS = (
    Row("mistakes put in", ("put_in",), amount),
    Row("told as what they are", ("recall",), share, "≥ 0.95"),
    Row("told at all", ("told_at_all",), share),
    Row("false alarms a note", ("false_alarms",), ten_thousandths, "≤ 0.02"),
)

FOLLOWING_ROWS = (
    Row("beats asked about", ("beats",), amount),
    Row("followed within 100 ms", ("asap", "within_100_ms"), share, "≥ 0.90, rendered ≥ 0.80"),
    Row("  within 300 ms", ("asap", "within_300_ms"), share, "≥ 0.97, rendered ≥ 0.93"),
    Row("  100 ms, beats with a note", ("on_notes", "within_100_ms"), share),
    Row("unknown, or said to be lost", ("asap", "lost"), share),
    Row("excerpts of Vienna 4x22: 100 ms", ("vienna", "within_100_ms"), share),
    Row("  within 300 ms", ("vienna", "within_300_ms"), share),
    Row("a note takes, µs", ("us_a_note",), amount),
)
FOLLOWING_COLUMNS = {
    "as played": ("as played", "on_notes", "us_a_note"),
    "rendered, by ear": ("rendered", "", ""),
    "parangonar, as played": ("parangonar", "parangonar on_notes", "parangonar_us_a_note"),
}
"""For each column of the table, where its parts stand in the report."""


def following_columns(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What was measured of following, a column for each way to listen."""
    asap, vienna = found["asap_dev"], found["vienna4x22"]
    return {
        title: {
            "beats": asap["beats"],
            "asap": asap[way],
            "on_notes": asap.get(on_notes),
            "vienna": vienna[way],
            "us_a_note": asap.get(cost),
        }
        for title, (way, on_notes, cost) in FOLLOWING_COLUMNS.items()
        if way in asap
    }


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
    made = {}
    if ears:
        made["Notes, by ear"] = (list(ears), rows(list(ears.values()), EAR_ROWS))
    if report.get("identification"):
        made |= _identification_tables(report["identification"])
    if report.get("scale"):
        sizes = [f"{found['pieces']:,}" for found in report["scale"]]
        made["Pieces in the catalogue"] = (sizes, rows(report["scale"], SCALE_ROWS))
    if report.get("following"):
        columns = following_columns(report["following"])
        found = rows(list(columns.values()), FOLLOWING_ROWS)
        made["Which bar: human performances"] = (list(columns), found)
    if report.get("feedback"):
        kinds = [report["feedback"][kind] for kind in FEEDBACK_COLUMNS]
        made["Practice: mistakes put in"] = (FEEDBACK_COLUMNS, rows(kinds, FEEDBACK_ROWS))
    return made


def _identification_tables(
    found: dict[str, Any],
) -> dict[str, tuple[list[str], list[tuple[str, list[str], str]]]]:
    """Windows by their length, live by the kind of music."""
    windows, live = found["windows"], found["live"]
    lengths = list(windows["performances"])
    by_length = [
        {kind: figures.get(length) for kind, figures in windows.items()} for length in lengths
    ]
    by_kind = [*(live[kind] for kind in windows), {"unknown_matched": live["pop909_matched"]}]
    return {
        "Which piece: named at first": (
            [f"{length} s" for length in lengths],
            rows(by_length, WINDOW_ROWS),
        ),
        "Which piece: matched, live": (LIVE_COLUMNS, rows(by_kind, LIVE_ROWS)),
    }


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
