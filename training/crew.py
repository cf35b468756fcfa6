"""Many hands: numbered shards handed out to whoever is free, here or on other machines.

A shard depends on its number and on what was sent to the hands at the start, on nothing else; so
it does not matter who makes it, in which order, or how often it was begun. It comes back as bytes
and is written by the one who handed it out: machines that help need no disk in common. Hands that
die give their shard to others.

Two kinds of hands do the same work: processes of this machine (`LocalProcesses`) and the
processors of a Ray cluster (`RayCluster`).
"""

from __future__ import annotations

import mmap
import multiprocessing
import pickle
import shutil
import signal
import socket
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from itertools import chain
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from edge.errors import InputError, UsageError

ShardKey = int | tuple[int, int]
"""A shard's number, or its seed and number where shards of several seeds are made."""
Content = bytes | dict[str, bytes]
"""A shard as it is stored: a file, or a folder's files by name."""
MakeShard = Callable[[Any], Content]
RAY_HELP = "Render on a Ray cluster: auto, or HOST:PORT of its head. Needs the extra `ray`."
KNOCK_S = 10.0
ALIGNMENT_BYTES = 64
MOST_LOSSES = 3
"""A shard whose hands died so often is what kills them."""


@dataclass(frozen=True, slots=True)
class Lost:
    """The hands that made a shard died, and how."""

    reason: str


class Hands(Protocol):
    """Whoever makes shards."""

    def has_free(self) -> bool:
        """Whether one more shard would be begun at once."""

    def give(self, shard: ShardKey) -> None:
        """Have a shard made."""

    def has_done(self) -> bool:
        """Whether `next_done` would answer at once."""

    def next_done(self) -> tuple[ShardKey, Content | Lost]:
        """Wait for the next shard that is made, or lost with its hands.

        Raises
        ------
        Exception
            Whatever making it raised.
        """


class Making:
    """Shards in the making: handed out in order, and again where they were lost."""

    def __init__(self, hands: Hands, shards: Iterable[ShardKey]) -> None:
        self._hands = hands
        self._waiting = iter(shards)
        self._losses: Counter[ShardKey] = Counter()
        self._being_made = 0
        self._hand_out()

    def _hand_out(self) -> None:
        while self._hands.has_free() and (shard := next(self._waiting, None)) is not None:
            self._hands.give(shard)
            self._being_made += 1

    def next_made(self, patient: bool = True) -> tuple[ShardKey, Content] | None:
        """The next shard made; none where all are, or, not being ``patient``, none is done yet.

        Raises
        ------
        InputError
            A shard was lost ``MOST_LOSSES`` times.
        """
        while self._being_made and (patient or self._hands.has_done()):
            shard, content = self._hands.next_done()
            self._being_made -= 1
            if isinstance(content, Lost):
                self._count_loss(shard, content)
                self._waiting = chain(self._waiting, [shard])
                self._hand_out()
                continue
            self._hand_out()
            return shard, content
        return None

    def _count_loss(self, shard: ShardKey, lost: Lost) -> None:
        self._losses[shard] += 1
        if self._losses[shard] == MOST_LOSSES:
            raise InputError(
                f"shard {shard} was lost {MOST_LOSSES} times with whoever made it "
                f"({lost.reason}; memory may have run out): the shards so far are whole, run "
                "the same command again with fewer processes"
            )


def make_all(
    hands: Hands, shards: Iterable[ShardKey], keep: Callable[[ShardKey, Content], None]
) -> None:
    """Have every shard made and kept, each once.

    Raises
    ------
    InputError
        A shard was lost ``MOST_LOSSES`` times.
    """
    making = Making(hands, shards)
    while (made := making.next_made()) is not None:
        keep(*made)


def store(path: Path, content: Content) -> None:
    """Write a shard; it gets its name when it is whole.

    Raises
    ------
    InputError
        The disk is full, or the folder may not be written to.
    """
    unfinished = path.with_name(path.name + ".part")
    try:
        shutil.rmtree(unfinished, ignore_errors=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            unfinished.write_bytes(content)
        else:
            unfinished.mkdir()
            for name, file_content in content.items():
                (unfinished / name).write_bytes(file_content)
        unfinished.rename(path)
    except OSError as trouble:
        raise InputError(
            f"cannot write {path}: {trouble.strerror}; the shards so far are whole: run the same "
            "command again when that is mended"
        ) from trouble


# --- processes of this machine --------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _LaidOut:
    """A value in a file, its arrays as they lie in memory: all who read it share one copy."""

    path: Path
    outline: bytes
    places: tuple[tuple[int, int], ...]

    def read(self) -> Any:
        """The value; its arrays cannot be written to."""
        with self.path.open("rb") as file:
            memory = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        arrays = [memory[first : first + length] for first, length in self.places]
        return pickle.loads(self.outline, buffers=arrays)


def _lay_out(value: Any, path: Path) -> _LaidOut:
    buffers: list[pickle.PickleBuffer] = []
    outline = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    places = []
    with path.open("wb") as file:
        file.write(bytes(ALIGNMENT_BYTES))  # an empty file cannot be mapped
        for buffer in buffers:
            array = buffer.raw()
            file.write(bytes(-file.tell() % ALIGNMENT_BYTES))
            places.append((file.tell(), array.nbytes))
            file.write(array)
    return _LaidOut(path, outline, tuple(places))


def _serve(connection: Connection, laid_out: _LaidOut) -> None:
    """Make the shards whose numbers come through a pipe, until it closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interruption is the parent's to handle
    make: MakeShard = laid_out.read()
    while True:
        try:
            shard = connection.recv()
        except EOFError:
            return
        try:
            answer: Content | Exception = make(shard)
        except Exception as trouble:  # noqa: BLE001 - told to the parent, which raises it
            trouble.add_note(traceback.format_exc())
            answer = trouble
        connection.send(answer)


@dataclass(frozen=True, slots=True, eq=False)
class _Worker:
    process: SpawnProcess
    connection: Connection


class LocalProcesses(AbstractContextManager["LocalProcesses"]):
    """Processes of this machine, begun afresh, that share one copy of the pianos.

    Not forked: a fork takes the locks of other threads with it, and both TensorFlow and Ray have
    such threads.
    """

    def __init__(self, make: MakeShard, processes: int) -> None:
        self._folder = TemporaryDirectory(prefix="sostenuto-")
        self._make = _lay_out(make, Path(self._folder.name) / "shared")
        self._idle: list[_Worker] = []
        self._busy: dict[_Worker, ShardKey] = {}
        for _ in range(processes):
            self._begin_worker()

    def _begin_worker(self) -> None:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, self._make), daemon=True)
        process.start()
        theirs.close()
        self._idle.append(_Worker(process, ours))

    def has_free(self) -> bool:
        return bool(self._idle)

    def give(self, shard: ShardKey) -> None:
        worker = self._idle.pop()
        self._busy[worker] = shard
        # One that died while it was idle has closed its pipe, as `next_done` will find.
        with suppress(BrokenPipeError):
            worker.connection.send(shard)

    def has_done(self) -> bool:
        return bool(wait([worker.connection for worker in self._busy], timeout=0))

    def next_done(self) -> tuple[ShardKey, Content | Lost]:
        ready = wait([worker.connection for worker in self._busy])
        worker = next(worker for worker in self._busy if worker.connection in ready)
        shard = self._busy.pop(worker)
        try:
            answer = worker.connection.recv()
        except (EOFError, OSError):
            worker.process.join()
            worker.connection.close()
            self._begin_worker()
            return shard, Lost(f"a process ended with code {worker.process.exitcode}")
        self._idle.append(worker)
        if isinstance(answer, Exception):
            raise answer
        return shard, answer

    def __exit__(self, *_: object) -> None:
        for worker in (*self._idle, *self._busy):
            worker.connection.close()
            worker.process.terminate()
            worker.process.join()
        self._folder.cleanup()


# --- a Ray cluster --------------------------------------------------------------------------


def _ray() -> Any:
    try:
        import ray
    except ImportError as missing:
        raise UsageError(
            "--ray needs Ray on every machine that helps: install the extra `ray` "
            "(pip install 'sostenuto[train,ray]')"
        ) from missing
    return ray


def _knock(address: str) -> None:
    """Fail at once where nobody listens at HOST:PORT; Ray itself would try for minutes."""
    host, colon, port = address.rpartition(":")
    if colon and port.isdecimal() and "/" not in host:
        socket.create_connection((host, int(port)), timeout=KNOCK_S).close()


def _make_remotely(make: MakeShard, shard: ShardKey) -> Content:
    return make(shard)


class RayCluster(AbstractContextManager["RayCluster"]):
    """The processors of a Ray cluster which this machine has joined.

    What all shards need (the pianos above all) is sent to each machine once and shared there by
    its processes. A machine may join or leave while the work goes on.

    Raises
    ------
    UsageError
        Ray is not installed, or no cluster is found at the address.
    """

    def __init__(self, make: MakeShard, address: str) -> None:
        self._ray = _ray()
        try:
            _knock(address)
            self._ray.init(address=address, log_to_driver=False, logging_level="ERROR")
        except (OSError, ValueError, RuntimeError) as trouble:
            raise UsageError(
                f"no Ray cluster at {address!r}: start one with `ray start --head "
                "--disable-usage-stats`, join it on every other machine with `ray start "
                "--address=HEAD:6379`, then give --ray auto"
            ) from trouble
        self._made = self._ray.put(make)
        # Lost shards are given anew by `make_all`, as those of local processes are.
        self._make = self._ray.remote(num_cpus=1, max_retries=0)(_make_remotely)
        self._being_made: dict[Any, ShardKey] = {}

    def has_free(self) -> bool:
        processors = int(self._ray.cluster_resources().get("CPU", 0))
        return len(self._being_made) < max(1, processors)

    def give(self, shard: ShardKey) -> None:
        self._being_made[self._make.remote(self._made, shard)] = shard

    def has_done(self) -> bool:
        done, _ = self._ray.wait(list(self._being_made), num_returns=1, timeout=0)
        return bool(done)

    def next_done(self) -> tuple[ShardKey, Content | Lost]:
        (done, *_), _ = self._ray.wait(list(self._being_made), num_returns=1)
        shard = self._being_made.pop(done)
        try:
            content: Content = self._ray.get(done)
        except self._ray.exceptions.RayTaskError as failed:
            raise failed.cause from failed
        except self._ray.exceptions.RayError as lost:
            return shard, Lost(str(lost).splitlines()[0])
        return shard, content

    def __exit__(self, *_: object) -> None:
        self._ray.shutdown()


# --- what the commands call -----------------------------------------------------------------


def begin_hands(
    make: MakeShard, processes: int, ray_address: str | None
) -> LocalProcesses | RayCluster:
    """So many processes of this machine, or where there is an address, a Ray cluster's."""
    return LocalProcesses(make, processes) if ray_address is None else RayCluster(make, ray_address)


def make_shards(
    make: MakeShard,
    paths: Mapping[Any, Path],
    processes: int,
    ray_address: str | None,
    console: Console,
) -> None:
    """Make and store every shard that is missing, with a progress bar.

    Parameters
    ----------
    make : callable
        Shard number -> its content; it and everything it needs can be pickled.
    paths : mapping of number (or seed and number) to Path
        Where each shard belongs; one that is there already is not made again.
    processes : int
        Of this machine; not used with Ray.
    ray_address : str, optional
        ``auto``, or HOST:PORT of a cluster's head.
    console : Console
    """
    missing = [shard for shard, path in paths.items() if not path.exists()]
    bar = Progress(
        TextColumn("rendering"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
    )
    if not missing:
        return
    with begin_hands(make, min(processes, len(missing)), ray_address) as hands, bar:
        task = bar.add_task("rendering", total=len(paths), completed=len(paths) - len(missing))

        def keep(shard: ShardKey, content: Content) -> None:
            store(paths[shard], content)
            bar.advance(task)

        make_all(hands, missing, keep)
