"""Sound rendered while a model trains on it: of many hours the disk holds a few.

The shards of a run are numbered, and a window moves over them: a run begins with the first of them
on disk and ends with the last, and in between the window moves as the run does. What lies in the
window depends on the share of the run that is over and on nothing else; a run that was stopped
goes on with the same window, and one whose length is given in steps can be repeated exactly.
Training waits where rendering is behind.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.progress import track

from training.crew import Content, Hands, Making, ShardKey, store

# Shards made before their turn that wait in memory, 3 MB each; more than that, and hands rest.
MOST_AHEAD = 8


class ShardStream:
    """A moving window of shards on disk.

    Parameters
    ----------
    hands : Hands
        Whoever renders, from the first `move` on.
    paths : mapping of shard to Path
        All shards of the run in their order, and where each belongs.
    window : int
        How many of them are on disk at once.
    console : Console
        Told how the first window fills.
    """

    def __init__(
        self, hands: Hands, paths: Mapping[ShardKey, Path], window: int, console: Console
    ) -> None:
        self._hands = hands
        self._shards = list(paths.items())
        self._length = min(window, len(self._shards))
        self._console = console
        self._ahead: dict[ShardKey, Content] = {}
        self._due: deque[int] = deque()
        self._making: Making | None = None
        self._last = range(0)

    def window(self, spent_share: float) -> range:
        """The numbers of the shards to be on disk once this share of the run is over."""
        first = round(min(1.0, spent_share) * (len(self._shards) - self._length))
        return range(first, first + self._length)

    def move(self, spent_share: float) -> None:
        """Bring the disk to this share of the run, which must not be less than the last time.

        Raises
        ------
        InputError
            A shard cannot be made or written.
        """
        window = self.window(spent_share)
        if self._making is None:
            self._begin(window)
        elif window != self._last:
            self._remove(range(self._last.start, window.start))
            self._store_until(window.stop)
        self._last = window
        while len(self._ahead) < MOST_AHEAD and self._take(patient=False):
            pass

    def _begin(self, window: range) -> None:
        shards = self._shards
        self._remove(range(window.start))
        self._remove(range(window.stop, len(shards)))
        missing = [n for n in range(window.start, len(shards)) if not shards[n][1].exists()]
        self._due = deque(missing)
        self._making = Making(self._hands, [shards[n][0] for n in missing])
        to_come = [n for n in missing if n in window]
        for n in track(to_come, "rendering", console=self._console, disable=not to_come):
            self._store_until(n + 1)

    def _remove(self, numbers: range) -> None:
        for n in numbers:
            self._shards[n][1].unlink(missing_ok=True)

    def _store_until(self, stop: int) -> None:
        while self._due and self._due[0] < stop:
            shard, path = self._shards[self._due.popleft()]
            while shard not in self._ahead:
                self._take(patient=True)
            store(path, self._ahead.pop(shard))

    def _take(self, patient: bool) -> bool:
        assert self._making is not None
        made = self._making.next_made(patient)
        if made is not None:
            self._ahead[made[0]] = made[1]
        return made is not None
