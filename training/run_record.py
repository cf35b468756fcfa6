"""What a run was made from, kept beside it, so that it goes on as it was begun or not at all.

A run's weights say nothing of the pianos that they heard. Whoever leaves an instrument out, to be
judged on it, must be able to rely on that weeks later and on another machine.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import msgspec

from edge.errors import InputError

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


class RunRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The content of a run's ``run.json``; folders and files by name, for a run may move.

    Attributes
    ----------
    train_folder : str
    held_out : tuple of str
        Instruments that were not to be heard.
    audio_hours : float
        How much sound was to be rendered.
    soundfonts : tuple of str
        Those that were there to render with.
    schedule : dict
        `training.train.Schedule`, field by field.
    start_from : str or None
        Whose weights it began with.
    versions : dict
        Of what it was made with.
    """

    train_folder: str
    held_out: tuple[str, ...]
    audio_hours: float
    soundfonts: tuple[str, ...]
    schedule: dict[str, float]
    start_from: str | None
    versions: dict[str, str]


def versions() -> dict[str, str]:
    """Versions of Python, of ourselves, and of what renders and trains."""
    found = {"python": platform.python_version()}
    for name in ("sostenuto", "keras", "tensorflow", "tensorflow-cpu", "jax", "numpy", "scipy"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def record_run(run: Path, record: RunRecord) -> None:
    """Write what a run is made from; where it goes on, see that it is made from the same.

    How much is rendered and how long is trained may change. A run that goes on without
    ``start_from`` keeps the one that it began with.

    Raises
    ------
    InputError
        The run has begun with another training folder, with other instruments held out or with
        other weights, or nothing says with which.
    """
    if (run / "log.jsonl").exists() or any(run.glob("shards/*.npz")) or any(run.glob("judging/*")):
        begun = read_record(run)
        record = msgspec.structs.replace(record, start_from=record.start_from or begun.start_from)
        same = ("train_folder", "held_out", "start_from")
        if differing := differences(*({f: getattr(r, f) for f in same} for r in (begun, record))):
            raise InputError(
                f"{run} cannot go on: {differing}. Its sound was rendered as it was begun: give "
                "the same again, or train into another folder"
            )
    run.mkdir(parents=True, exist_ok=True)
    write_whole(
        run / "run.json", msgspec.json.format(msgspec.json.encode(record), indent=1) + b"\n"
    )


def read_record(run: Path) -> RunRecord:
    """What a run is made from.

    Raises
    ------
    InputError
        Nothing says so, or not as in this version.
    """
    path = run / "run.json"
    try:
        return msgspec.json.decode(path.read_bytes(), type=RunRecord)
    except OSError:
        reason = f"no {path.name}"
    except msgspec.DecodeError as error:
        reason = f"no {path.name} of this version ({error})"
    raise InputError(
        f"{run} has begun, but {reason} says what its sound was rendered from: train into "
        f"another folder; with --start-from {run} it begins with these weights"
    )
