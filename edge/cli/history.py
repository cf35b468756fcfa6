"""`sostenuto history`: what was played, listed, written out, or forgotten."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from pathlib import Path

from edge.cli import console
from edge.errors import UsageError
from edge.publish.history import (
    FOREVER_MS,
    Record,
    Sitting,
    export_json,
    export_midi,
    sitting_document,
    wall_ms,
)
from edge.publish.store import state_folder

ACTIONS = ("list", "export", "erase")


def run(
    action: str,
    *,
    since: str | None,
    until: str | None,
    out: Path | None,
    everything: bool,
    outbox: Path | None,
    json: bool,
) -> None:
    """List, export or erase what was played between two times."""
    if action not in ACTIONS:
        raise UsageError(f"history {action!r}: allowed are {', '.join(ACTIONS)}")
    if (out is not None) != (action == "export"):
        raise UsageError("--out FILE goes with `history export`, and it needs one")
    span_ms = (
        0.0 if since is None else wall_ms(since),
        float(FOREVER_MS) if until is None else wall_ms(until),
    )
    record = Record(outbox or state_folder())
    if action == "list":
        _list(record.sittings(*span_ms), as_json=json)
    elif out is not None:
        _export(record, span_ms, out, as_json=json)
    else:
        _erase(record, span_ms, everything=everything, as_json=json)


def _list(sittings: list[Sitting], *, as_json: bool) -> None:
    if as_json:
        console.out_json({"sessions": [sitting_document(each) for each in sittings]})
        return
    for each in sittings:
        when = datetime.fromtimestamp(each.start_ms / 1e3).astimezone()
        unsure = " (clock not set)" if each.clock == "unsynced" else ""
        pieces = ", ".join(piece.title for piece in each.session.pieces)
        console.out(
            f"{when:%Y-%m-%d %H:%M}{unsure}  {each.session.minutes:6.1f} min  "
            f"{each.session.notes:6d} notes  {pieces}".rstrip()
        )
    if not sittings:
        console.err("nothing was played in that time")


def _export(record: Record, span_ms: tuple[float, float], out: Path, *, as_json: bool) -> None:
    events = record.played(*span_ms)
    if out.suffix.lower() in (".mid", ".midi"):
        notes = export_midi(events, out)
    elif out.suffix.lower() == ".json":
        notes = export_json(record.sittings(*span_ms), events, out)
    else:
        raise UsageError(f"--out {out}: its name ends in .mid or .json, which says the form")
    if as_json:
        console.out_json({"file": str(out), "notes": notes})
    else:
        console.out(f"{out}: {notes} notes")


def _erase(
    record: Record, span_ms: tuple[float, float], *, everything: bool, as_json: bool
) -> None:
    if everything == (span_ms != (0.0, float(FOREVER_MS))):
        raise UsageError("erase what? give --from or --to, or --all")
    erased = record.erase(*span_ms)
    if as_json:
        console.out_json(asdict(erased))
    else:
        console.out(
            f"erased {erased.sessions} sessions and {erased.batches} batches of notes; "
            f"{erased.waiting} messages that waited for the broker will not be sent"
        )
