"""Hundreds of cards through one reader: whose turn it is, and which are done.

Beside ``pianos.csv`` grows ``pianos.written.csv``, a line for each card, on the disk before the
next card is asked for. A batch that was cut, by whatever, is started again by the same command and
goes on with the first piano that has no card. No password stands in it.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from device.flash.disks import Disk
from device.flash.wishes import Row
from edge.errors import InputError

COLUMNS = ("name", "row", "result", "finished", "card", "image", "remark")
WRITTEN = "written"
FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Record:
    """What became of a batch so far, in the file at ``path``."""

    path: Path

    def done(self) -> frozenset[str]:
        """Names of the pianos that have their card.

        Raises
        ------
        InputError
            The file is none of ours.
        """
        if not self.path.exists():
            return frozenset()
        try:
            with self.path.open(encoding="utf-8-sig", newline="") as file:
                lines = csv.DictReader(file)
                if tuple(lines.fieldnames or ()) != COLUMNS:
                    raise InputError(
                        f"{self.path}: is no record of a batch; move it away, or name another "
                        "by --record"
                    )
                return frozenset(line["name"] for line in lines if line["result"] == WRITTEN)
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise InputError(f"{self.path}: cannot be read ({error})") from None

    def mark(self, row: Row, result: str, *, card: str, image: str, remark: str = "") -> None:
        """One line more, on the disk when this returns."""
        fresh = not self.path.exists() or self.path.stat().st_size == 0
        finished = datetime.now(UTC).isoformat(timespec="seconds")
        with self.path.open("a", encoding="utf-8", newline="") as file:
            lines = csv.writer(file)
            if fresh:
                lines.writerow(COLUMNS)
            lines.writerow([row.wishes.name, row.number, result, finished, card, image, remark])
            file.flush()
            os.fsync(file.fileno())


def record_beside(table: Path) -> Record:
    """``pianos.written.csv`` for ``pianos.csv``."""
    return Record(table.with_name(f"{table.stem}.written.csv"))


def cards_in_turn(look: Callable[[], Disk | None]) -> Iterator[Disk | None]:
    """One card after another through a reader: every card once, None while there is no new one.

    Parameters
    ----------
    look : callable
        The reader now: None when it was unplugged, of size 0 when it is empty.

    Notes
    -----
    The next card is a new one once the reader was seen empty, or the card has another serial
    number or size. Whoever iterates waits as long as it likes between two looks.
    """
    last: tuple[str, int] | None = None
    while True:
        disk = look()
        if disk is None or disk.size_bytes == 0:
            last = None
            yield None
        elif (disk.serial, disk.size_bytes) != last:
            last = (disk.serial, disk.size_bytes)
            yield disk
        else:
            yield None
