"""Where the things lie that Sostenuto brings along: note models, catalogue packs, the demo.

From a clone (or an editable install) they are the folder ``models/`` at its root; from a
wheel the same folder lies beside this module.

Note models and catalogue packs may also come alone, after the software, as a parcel
(`device.update`): ``PARCELS/KIND/VERSION/``, to which the link ``PARCELS/KIND/current`` points.
Versions of parcels continue those of the software: 0.2.0.1 follows what came with 0.2.0, and
software 0.2.1 brings something newer. A parcel that the software cannot read, since it went
back to an older version, is passed over like one that is not there.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from edge.errors import ModelError

PARCELS = Path("/var/lib/sostenuto/parcels")

PARCELS_VARIABLE = "SOSTENUTO_PARCELS"
"""Set in the environment, parcels are looked for in this folder."""

NEEDS_FILE = "NEEDS"
"""In a parcel: the oldest version of the software that can read it."""

MODELS = "models"
CATALOGUE = "catalog"


def version_numbers(text: str) -> tuple[int, ...] | None:
    """``0.2.0.1`` as numbers that can be compared; None for anything else than 1 to 4 numbers."""
    if not re.fullmatch(r"\d{1,8}(\.\d{1,8}){0,3}", text, re.ASCII):
        return None
    numbers = [int(part) for part in text.split(".")]
    while len(numbers) > 1 and numbers[-1] == 0:  # 0.2 and 0.2.0 are one version
        numbers.pop()
    return tuple(numbers)


def software_version() -> str:
    """The version of this software; ``0`` where it runs without being installed."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("sostenuto")
    except PackageNotFoundError:
        return "0"


def parcels_dir() -> Path:
    """The folder with a folder for each kind of parcel; there need be none."""
    return Path(os.environ.get(PARCELS_VARIABLE) or PARCELS)


def parcel_dir(kind: str, software: str | None = None) -> Path | None:
    """The parcel of this kind that is in force; None where what came with the software is.

    The folder is named by its version and not by the link, so that a program which reads
    several of its files reads them all of the same version.
    """
    ours = version_numbers(software or software_version()) or (0,)
    try:
        target = str((parcels_dir() / kind / "current").readlink())
        folder = parcels_dir() / kind / target
        needs = version_numbers((folder / NEEDS_FILE).read_text(encoding="ascii").strip())
    except (OSError, ValueError):
        return None
    theirs = version_numbers(target)
    if theirs is None or needs is None or theirs <= ours or needs > ours:
        return None
    return folder


def shipped_dir() -> Path:
    """Folder that came with the software: NAME.tflite, .json, .md, ``catalogue/``, ``demo/``.

    Raises
    ------
    ModelError
        The installation has no such folder.
    """
    package = Path(__file__).resolve().parent
    for folder in (package / "models", package.parent / "models"):
        if folder.is_dir():
            return folder
    raise ModelError(
        f"no models folder beside {package} or in {package.parent}: "
        "the installation is incomplete; install sostenuto again"
    )


def models_dir() -> Path:
    """Folder with NAME.tflite, NAME.json and NAME.md of every note model in force.

    Raises
    ------
    ModelError
        No parcel is in force, and the installation has no models.
    """
    return parcel_dir(MODELS) or shipped_dir()


def catalogue_dir() -> Path:
    """Folder of the catalogue packs in force.

    Raises
    ------
    ModelError
        No parcel is in force, and the installation has no such folder.
    """
    return parcel_dir(CATALOGUE) or shipped_dir() / "catalogue"


def demo_recording() -> Path:
    """The piano recording of ``make demo``; its MIDI of true onsets has the same stem."""
    return shipped_dir() / "demo" / "demo.flac"
