"""What several commands share."""

from __future__ import annotations

from pathlib import Path

from edge.matching import Catalogue, default_catalogue_dir


def open_catalogue(folder: Path | None) -> Catalogue:
    """The catalogue in ``folder``, or the installed one.

    Raises
    ------
    CatalogueError
        There is none, or it is damaged.
    """
    return Catalogue.open(default_catalogue_dir() if folder is None else folder)
