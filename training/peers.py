"""Others' ears beside ours, on the same sound in the same call: Basic Pitch, where it is installed.

``make peers`` puts it into ``.peers/``, with what it needs and none of ours, so it runs as a
process of its own (`training.basic_pitch_process`).
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import soundfile

from edge.errors import InputError
from edge.note import NoteEvent
from training.hearing import Hearing, Recording

BASIC_PITCH = "Basic Pitch"
HOW_TO_GET_IT = "Basic Pitch is not here to compare with: `make peers` installs it into .peers/"
FOLDER = Path(__file__).resolve().parent.parent / ".peers"
PYTHON = FOLDER / "venv" / "bin" / "python"
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}


def has_basic_pitch() -> bool:
    return (FOLDER / ".whole").exists()


def basic_pitch_bytes() -> int:
    """Size of its model file."""
    (model,) = FOLDER.glob("venv/lib/python*/site-packages/basic_pitch/saved_models/*/nmp.tflite")
    return model.stat().st_size


def basic_pitch_hears(recordings: Sequence[Recording]) -> Iterator[Hearing]:
    """Listen to recordings one by one with Basic Pitch as its makers set it.

    Raises
    ------
    InputError
        Its process ended before the last recording.
    """
    for recording, answer in zip(
        recordings, run_basic_pitch([one.audio for one in recordings]), strict=True
    ):
        heard = [NoteEvent(key, on_s, off_s, v, 1.0) for key, on_s, off_s, v in answer["notes"]]
        heard.sort(key=lambda note: (note.onset_s, note.pitch_midi))
        seconds = soundfile.info(recording.audio).duration
        yield Hearing.judged(recording, heard, answer["cpu_s"] / seconds)


def run_basic_pitch(audio: Sequence[Path]) -> Iterator[dict[str, Any]]:
    """Its answer to each file: ``notes`` (key, onset, end, velocity), ``cpu_s``, ``memory_mb``."""
    script = Path(__file__).with_name("basic_pitch_process.py")
    command = [str(PYTHON), str(script), *(str(path.resolve()) for path in audio)]
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, text=True, env=ONE_THREAD
        ) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            yield json.loads(line)
        if process.wait() != 0:
            errors.seek(0)
            last = errors.read().strip().splitlines()[-1:] or ["no message"]
            raise InputError(f"Basic Pitch failed ({last[0]}): run `make peers` again")
