"""What could not be used, by name: many hands fill a training folder, and some files are broken.

One bad recording must not end a rendering of hours, and must not pass unseen either: whatever is
left out is named with its reason where it is found, and counted at the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file, or a line of a list, that is left out.

    Attributes
    ----------
    name : str
        Where it is, from the training folder on.
    reason : str
        What is wrong with it, with the value found and what was expected.
    """

    name: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"


def report_skipped(skipped: Sequence[Skipped], console: Console) -> None:
    """Name everything that is left out."""
    for one in skipped:
        console.print(f"skipped {one}", highlight=False, markup=False, soft_wrap=True)


def report_count(skipped: Sequence[Skipped], console: Console) -> None:
    """Count what was left out; nothing is said where nothing was."""
    if skipped:
        files = "1 file was" if len(skipped) == 1 else f"{len(skipped)} files were"
        console.print(f"{files} skipped; each is named above", highlight=False)
