"""What is measured, and on what."""

from __future__ import annotations

from pathlib import Path

from edge.ear import TEMPLATES
from edge.resources import models_dir

ROOT = Path(__file__).resolve().parent.parent
EVALUATION = ROOT.parent / "shared" / "data" / "eval"


def recordings() -> list[tuple[Path, Path]]:
    """The real recordings and their aligned MIDI; none where the folder is not there."""
    folder = EVALUATION / "recordings"
    return [(audio, audio.with_suffix(".mid")) for audio in sorted(folder.glob("*.flac"))]


def demo() -> tuple[Path, Path]:
    """The demo's recording and the MIDI of what was played."""
    audio = models_dir() / "demo" / "demo.flac"
    return audio, audio.with_suffix(".mid")


def ears() -> list[str]:
    """Every installed note model, and onsets with templates alone."""
    return [*sorted(path.stem for path in models_dir().glob("*.tflite")), TEMPLATES]


def model_bytes(ear: str) -> int | None:
    """Size of the model file; None for the templates, which have none."""
    path = models_dir() / f"{ear}.tflite"
    return path.stat().st_size if path.exists() else None
