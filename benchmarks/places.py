"""What is measured, and on what."""

from __future__ import annotations

from pathlib import Path

from edge.ear import TEMPLATES
from edge.resources import demo_recording, models_dir
from training.hearing import Recording, recordings_in
from training.peers import BASIC_PITCH, basic_pitch_bytes, has_basic_pitch

ROOT = Path(__file__).resolve().parent.parent
EVALUATION = ROOT.parent / "shared" / "data" / "eval"


def recordings() -> list[Recording]:
    """The real recordings with what was played; none where the folder is not there."""
    folder = EVALUATION / "recordings"
    return recordings_in(folder) if folder.is_dir() else []


def demo() -> tuple[Path, Path]:
    """The demo's recording and the MIDI of what was played."""
    audio = demo_recording()
    return audio, audio.with_suffix(".mid")


def ears() -> list[str]:
    """Every installed note model, onsets with templates alone, and Basic Pitch where it is."""
    peers = [BASIC_PITCH] if has_basic_pitch() else []
    return [*sorted(path.stem for path in models_dir().glob("*.tflite")), TEMPLATES, *peers]


def model_bytes(ear: str) -> int | None:
    """Size of the model file; None for the templates, which have none."""
    if ear == BASIC_PITCH:
        return basic_pitch_bytes()
    path = models_dir() / f"{ear}.tflite"
    return path.stat().st_size if path.exists() else None
