"""Logs that say each fault once and then count it.

A microphone that is unplugged for a week is one line and not a full disk: of lines that are the
same, the first is let through, then the tenth, the hundredth and so on, each with its count.
"""

from __future__ import annotations

import logging

LINES_REMEMBERED = 256
"""Different lines that are counted; beyond that, counting begins anew."""


class OnceThenCounted(logging.Filter):
    """Lets a line through the 1st, 10th, 100th, … time; `times` of the record says which."""

    def __init__(self) -> None:
        super().__init__()
        self._times: dict[tuple[str, str, str], int] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to say it."""
        fault = "" if record.exc_info is None else repr(record.exc_info[1])
        key = (record.name, record.getMessage(), fault)
        times = self._times.get(key, 0) + 1
        if len(self._times) >= LINES_REMEMBERED and times == 1:
            self._times.clear()
        self._times[key] = times
        record.times = times
        return str(times).strip("0") == "1"


def counted(text: str, record: logging.LogRecord) -> str:
    """``text`` with how often it came, where that is more than once."""
    times = getattr(record, "times", 1)
    return text if times == 1 else f"{text} ({times} times by now)"
