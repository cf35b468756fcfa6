"""Shards of a moment, made well or badly: what the hands of `tests/test_crew.py` are given."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from edge.errors import InputError


def square(shard: int) -> bytes:
    return str(shard * shard).encode()


def name_of(shard: tuple[int, int]) -> bytes:
    """Of a shard with a seed."""
    return f"{shard}".encode()


def die_at_first(memory: Path, shard: int) -> bytes:
    """Shard 3 kills whoever makes it first."""
    if shard == 3 and not (memory / "died").exists():
        (memory / "died").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return square(shard)


def die_always(shard: int) -> bytes:
    if shard == 1:
        os._exit(9)
    return square(shard)


def fail(shard: int) -> bytes:
    raise InputError(f"no piano for shard {shard}")


def tell_and_wait(folder: Path, shard: int) -> bytes:
    (folder / str(os.getpid())).touch()
    time.sleep(60)
    return square(shard)
