"""Where the things lie that Sostenuto brings along: note models, catalogue packs, the demo.

From a clone (or an editable install) they are the folder ``models/`` at its root; from a
wheel the same folder lies beside this module. Nothing is searched for anywhere else, so a
device always runs what was installed with its code.
"""

from __future__ import annotations

from pathlib import Path

from edge.errors import ModelError


def models_dir() -> Path:
    """Folder with NAME.tflite, NAME.json, NAME.md, ``catalogue/`` and ``demo/``.

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


def demo_recording() -> Path:
    """The piano recording of ``make demo``; its MIDI of true onsets has the same stem."""
    return models_dir() / "demo" / "demo.flac"
