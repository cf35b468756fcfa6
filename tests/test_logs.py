from __future__ import annotations

import logging

from edge.commander import LogTail
from edge.logs import LINES_REMEMBERED, OnceThenCounted, counted


def record(text: str, error: Exception | None = None) -> logging.LogRecord:
    exc_info = None if error is None else (type(error), error, None)
    return logging.LogRecord("edge.x", logging.WARNING, "", 1, text, (), exc_info)


def test_a_fault_is_said_once_and_then_counted_by_tens() -> None:
    once = OnceThenCounted()
    said = []
    for _ in range(1234):
        fault = record("the microphone is gone")
        if once.filter(fault):
            said.append(counted(fault.getMessage(), fault))
    assert said == [
        "the microphone is gone",
        "the microphone is gone (10 times by now)",
        "the microphone is gone (100 times by now)",
        "the microphone is gone (1000 times by now)",
    ]


def test_another_fault_is_another_line() -> None:
    once = OnceThenCounted()
    assert once.filter(record("the recogniser failed", ValueError("a")))
    assert not once.filter(record("the recogniser failed", ValueError("a")))
    assert once.filter(record("the recogniser failed", ValueError("b")))
    assert once.filter(record("something else"))


def test_what_is_remembered_stays_small() -> None:
    once = OnceThenCounted()
    for i in range(10 * LINES_REMEMBERED):
        assert once.filter(record(f"line {i}"))
    assert len(once._times) <= LINES_REMEMBERED


def test_the_tail_of_the_log_is_not_filled_by_one_fault() -> None:
    tail = LogTail()
    tail.handle(record("first"))
    for _ in range(1000):
        tail.handle(record("again"))
    assert list(tail.lines) == [
        "WARNING edge.x: first",
        "WARNING edge.x: again",
        "WARNING edge.x: again (10 times by now)",
        "WARNING edge.x: again (100 times by now)",
        "WARNING edge.x: again (1000 times by now)",
    ]
