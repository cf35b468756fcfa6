"""The self-test that takes its time: a known recording, heard while the piano is listened to.

It is `sostenuto-device selftest` in a process of its own, at the lowest priority and for a bounded
time, so that the ear beside it goes on hearing. It needs no microphone; how that does, the ear
itself knows.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

import msgspec

from edge.errors import UsageError
from edge.messages import Check, SelfTest

MOST_S = 180.0
"""A PC needs 15 s for two models of ours; one that is not through by then is ended."""

GENTLY = ("nice", "-n", "19")

RECORDING = "known recording"
"""The check that fails where the program itself does."""


class FullTest:
    """One run at a time, asked for its result between two blocks of sound.

    Parameters
    ----------
    words : sequence of str
        The program with its options; it prints a `SelfTest` as JSON.
    most_s : float
        It is ended after this.
    """

    def __init__(self, words: Sequence[str], most_s: float = MOST_S) -> None:
        self._words = (*GENTLY, *words)
        self._most_s = most_s
        self._until_s = 0.0
        self._process: subprocess.Popen[bytes] | None = None

    def begin(self, now_s: float) -> None:
        """Start it at ``now_s`` of the monotonic clock.

        Raises
        ------
        UsageError
            One is under way, or the program is not there.
        """
        if self._process is not None:
            raise UsageError("a full self-test is under way; ask again when it has ended")
        try:
            self._process = subprocess.Popen(
                self._words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
        except OSError as error:
            raise UsageError(f"the full self-test cannot be started: {error.strerror}") from None
        self._until_s = now_s + self._most_s

    def ended(self, now_s: float) -> tuple[Check, ...] | None:
        """What it found, once; None while it goes on, or where none was begun."""
        process = self._process
        if process is None or (process.poll() is None and now_s < self._until_s):
            return None
        late = process.poll() is None
        said = self._end(process)
        if late:
            return (_failed(f"not heard within {self._most_s:.0f} s"),)
        try:
            return msgspec.json.decode(said, type=SelfTest).checks
        except msgspec.MsgspecError:
            return (_failed(f"could not be heard: the program ended with {process.returncode}"),)

    def close(self) -> None:
        """End it, if it runs."""
        if self._process is not None:
            self._end(self._process)

    def _end(self, process: subprocess.Popen[bytes]) -> bytes:
        """What it printed, far less than a pipe holds."""
        self._process = None
        process.kill()
        said, _ = process.communicate()
        return said


def _failed(text: str) -> Check:
    remedy = "run `sostenuto-device selftest` on the device, and see what it says"
    return Check(name=RECORDING, passed=False, text=text, remedy=remedy)
