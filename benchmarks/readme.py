"""Puts the figures of ``bench.json`` into the README: ``python -m benchmarks.readme``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.places import ROOT
from benchmarks.table import tables

BEGIN, END = "<!-- bench -->", "<!-- /bench -->"


def markdown(report: dict[str, Any]) -> str:
    """The tables, with the machine and the command that they came from."""
    lines: list[str] = []
    for title, (columns, rows) in tables(report).items():
        lines.append(f"| {title} | " + " | ".join([*columns, "goal"]) + " |")
        lines.append("| --- |" + " ---: |" * (len(columns) + 1))
        for label, cells, goal in rows:
            lines.append("| " + " | ".join([label.strip(), *cells, goal]) + " |")
        lines.append("")
    found = report["machine"]
    origin = (
        f"`make bench` on {found['processor']}, {found['cores']} cores, Python {found['python']}, "
        f"{found['runtime']}, {report['made'][:10]}."
    )
    return "\n".join([*lines, origin])


def with_figures(readme: str, figures: str) -> str:
    """``readme`` with what stands between the two marks replaced."""
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"README.md: {BEGIN} and {END} must stand around the table")
    return f"{before}{BEGIN}\n{figures}\n{END}{after}"


if __name__ == "__main__":
    source = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "bench.json"
    path = ROOT / "README.md"
    path.write_text(with_figures(path.read_text(), markdown(json.loads(source.read_text()))))
