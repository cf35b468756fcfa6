"""Basic Pitch as its makers wrote it, in an environment of its own (`make peers`).

Run by `training.peers` with the Python of ``.peers/venv``, where nothing of ours is installed::

    python basic_pitch_process.py AUDIO...

It prints a line of JSON for each file: the notes as Basic Pitch writes them to MIDI, the CPU
seconds of `basic_pitch.inference.predict` from the file to the notes, and the most memory the
process ever had. All of that function is theirs. Only the runtime is another: LiteRT stands in
for tflite-runtime, which has the same interface, stops at Python 3.11 and is slower, so that both
ears race on one engine.

After Bittner, Bosch, Rubinstein, Meseguer-Brocal and Ewert: A lightweight instrument-agnostic model
for polyphonic note transcription and multipitch estimation (ICASSP 2022).
"""

from __future__ import annotations

import json
import logging
import sys
import tempfile
import time
import types
import warnings
from pathlib import Path

import ai_edge_litert.interpreter
import numpy as np
import soundfile

logging.disable(logging.WARNING)
warnings.simplefilter("ignore")
sys.modules["tflite_runtime"] = types.ModuleType("tflite_runtime")
sys.modules["tflite_runtime.interpreter"] = ai_edge_litert.interpreter

from basic_pitch import ICASSP_2022_MODEL_PATH  # noqa: E402
from basic_pitch.inference import Model, predict  # noqa: E402

KIB_PER_MB = 1024


def most_memory_mb() -> float:
    """The most resident memory this process ever had, in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / KIB_PER_MB for line in lines if line.startswith("VmHWM:"))


def warm_up(model: Model) -> None:
    """The first call compiles and imports for seconds: let it be on two seconds of noise."""
    with tempfile.NamedTemporaryFile(suffix=".wav") as noise:
        samples = 0.1 * np.random.default_rng(0).standard_normal(32_000)
        soundfile.write(noise.name, samples, 16_000)
        predict(noise.name, model)


def main(paths: list[str]) -> None:
    """Hear every file; the model is loaded once, outside the time."""
    # What `predict` prints of its progress must not come between the lines of JSON.
    answers, sys.stdout = sys.stdout, sys.stderr
    model = Model(ICASSP_2022_MODEL_PATH)
    warm_up(model)
    for path in paths:
        began_s = time.process_time()
        _, _, events = predict(path, model)
        cpu_s = time.process_time() - began_s
        notes = [
            [int(pitch), float(onset_s), float(offset_s), max(1, min(127, round(127 * amplitude)))]
            for onset_s, offset_s, pitch, amplitude, _ in events
        ]
        answers.write(
            json.dumps({"cpu_s": cpu_s, "memory_mb": most_memory_mb(), "notes": notes}) + "\n"
        )
        answers.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
