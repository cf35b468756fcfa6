"""What a person reads and what a program reads, kept apart.

Results go to standard output; progress, logs and errors to standard error. Under ``--json``
standard output is JSON and nothing else. C libraries (ALSA, mpg123, LiteRT) write to the
process's standard error as they like; they are muted, so that an error is one line.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import sys
from typing import Any

import msgspec

from edge.logs import OnceThenCounted, counted

DEBUG_VARIABLE = "SOSTENUTO_DEBUG"
"""Set in the environment, tracebacks and the talk of C libraries are shown."""


def debugging() -> bool:
    """Whether the user asked for tracebacks."""
    return bool(os.environ.get(DEBUG_VARIABLE))


def out(line: str = "") -> None:
    """One line of the result."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def out_json(document: Any) -> None:
    """One JSON document on a line of its own."""
    out(msgspec.json.encode(document).decode())


def err(line: str) -> None:
    """One line beside the result."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def mute_libraries() -> None:
    """Keep standard error for ourselves: what C code writes to descriptor 2 goes nowhere."""
    if debugging():
        return
    try:
        ours = os.dup(2)
        nowhere = os.open(os.devnull, os.O_WRONLY)
    except OSError:
        return
    os.dup2(nowhere, 2)
    os.close(nowhere)
    sys.stderr = os.fdopen(ours, "w", buffering=1, encoding="utf-8", errors="backslashreplace")
    # A hang that systemd's watchdog ends (SIGABRT), or a crash, tells where every thread stood.
    faulthandler.enable(sys.stderr)


class _OneLine(logging.Formatter):
    """A log record as one line; the traceback only for those who ask."""

    def formatException(self, ei: Any) -> str:  # noqa: N802 - logging's own name
        return super().formatException(ei) if debugging() else ""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record).rstrip("\n")
        error = record.exc_info[1] if record.exc_info else None
        if error is not None and not debugging():
            text = f"{text}: {type(error).__name__}: {error}"
        return counted(text, record)


def log_to_stderr() -> None:
    """Warnings of every module, a line each, the same ones once and then counted."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setLevel(logging.WARNING)
    handler.addFilter(OnceThenCounted())
    handler.setFormatter(_OneLine("sostenuto: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
