"""Work done by several processes, each task within a time limit that nothing can outstay.

A parser that runs in circles, inside a library's C code or waiting for a file that never comes,
hears no signal handler of Python's. So each task is given an alarm whose default action ends the
process: the kernel does it, whatever the process is at. A process that ends, or crashes, costs
its task alone; another takes its place.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from enum import Enum, auto
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")


class Unfinished(Enum):
    """Why a task has no result."""

    TOO_SLOW = auto()
    CRASHED = auto()


def in_time(
    work: Callable[[Task], Result],
    tasks: Sequence[Task],
    processes: int | None,
    time_limit_s: float,
) -> Iterator[tuple[Task, Result | Unfinished]]:
    """Tasks and their results, as they are done.

    Parameters
    ----------
    work : function of a module
    tasks : sequence
    processes : int or None
        As many as there are cores where it is not given.
    time_limit_s : float
        For each task.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([work.__module__])
    waiting = iter(tasks)
    at_work: dict[Connection, tuple[BaseProcess, Task | None]] = {}

    def start() -> None:
        ours, theirs = context.Pipe()
        process = context.Process(
            target=_serve, args=(theirs, work, time_limit_s), daemon=True, name="reader"
        )
        process.start()
        theirs.close()
        at_work[ours] = (process, None)

    try:
        for _ in range(min(processes or os.cpu_count() or 1, len(tasks))):
            start()
        while at_work:
            for connection in wait(list(at_work)):
                assert isinstance(connection, Connection)
                process, task = at_work.pop(connection)
                try:
                    result = connection.recv()
                except (EOFError, OSError):
                    process.join()
                    if task is None:
                        raise RuntimeError("a reading process cannot be started") from None
                    slow = process.exitcode == -signal.SIGALRM
                    yield task, Unfinished.TOO_SLOW if slow else Unfinished.CRASHED
                    start()
                    continue
                following = next(waiting, None)
                if following is None:
                    connection.close()
                    process.join()
                else:
                    at_work[connection] = (process, following)
                    connection.send(following)
                if task is not None:
                    yield task, result
    finally:
        for process, _ in at_work.values():
            process.kill()


def _serve(connection: Connection, work: Callable[[Task], Result], time_limit_s: float) -> None:
    """Say that we are ready, then answer each task until no more come."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the one who asks is interrupted, not we
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    connection.send(None)
    while True:
        try:
            task = connection.recv()
        except EOFError:
            return
        signal.setitimer(signal.ITIMER_REAL, time_limit_s)
        result = work(task)
        signal.setitimer(signal.ITIMER_REAL, 0)
        connection.send(result)
