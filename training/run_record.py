"""What a run was made from, kept beside it, so that it goes on as it was begun or not at all.

A run's weights say nothing of the pianos that they heard. Whoever leaves an instrument out, to be
judged on it, must be able to rely on that weeks later and on another machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

TOLD_DIFFERENCES = 4


def differences(begun: Any, asked: Any) -> str:
    """Where two values of one type differ, field by field: how it was begun, and what is asked.

    Empty where they are equal; no more than ``TOLD_DIFFERENCES`` are told.
    """
    before, now = (dict(_leaves(msgspec.to_builtins(value))) for value in (begun, asked))
    found = [
        f"{name} was {_plain(before.get(name))} and is now {_plain(now.get(name))}"
        for name in dict.fromkeys((*before, *now))
        if before.get(name) != now.get(name)
    ]
    more = len(found) - TOLD_DIFFERENCES
    return "; ".join(found[:TOLD_DIFFERENCES] + ([f"and {more} more"] if more > 0 else []))


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Fields of fields, down to where only plain values are; a list of plain values is one."""
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list | tuple) and any(isinstance(v, dict) for v in value):
        items = list(enumerate(value))
    else:
        yield name, value
        return
    for key, inner in items:
        yield from _leaves(inner, f"{name}.{key}" if name else str(key))


def _plain(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)


def write_whole(path: Path, content: bytes) -> None:
    """Write a small file that is there whole or not at all."""
    unfinished = path.with_name(path.name + ".part")
    unfinished.write_bytes(content)
    unfinished.replace(path)
