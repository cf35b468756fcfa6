"""The fallback runtime: tflite-runtime 2.14, numpy 1 and Python 3.11, in an environment of its own.

`scripts/setup.sh` lays it out as ``.venv-tflite`` wherever a Python 3.11 is; elsewhere there is
nothing to test, because tflite-runtime stops at that version.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from edge.ear import load_ear
from edge.note import NoteState, NoteUpdate
from edge.resources import models_dir
from tests.base_dependencies import ROOT

PYTHON = ROOT / ".venv-tflite" / "bin" / "python"

# int8 results may differ by a few steps between runtimes, so a note at the edge of a threshold
# may be heard by one alone.
SHARE_HEARD_BY_BOTH = 0.9

HEAR = """
import importlib.util, json, sys
import numpy as np
assert importlib.util.find_spec("ai_edge_litert") is None, "LiteRT would be taken first"
from edge.ear import load_ear
from edge.note import NoteState, NoteUpdate
ear = load_ear(sys.argv[1])
steps = ear.push(np.load(sys.argv[2])) + ear.flush()
import tflite_runtime
notes = [[s.note.pitch_midi, s.note.onset_s] for s in steps
         if isinstance(s, NoteUpdate) and s.state is NoteState.CONFIRMED]
print(json.dumps({"numpy": np.__version__, "runtime": tflite_runtime.__name__, "notes": notes}))
"""


@pytest.fixture(scope="module")
def python() -> Path:
    if not PYTHON.exists():
        why = "exists" if shutil.which("python3.11") else "is not on this machine"
        pytest.skip(f".venv-tflite is not set up (Python 3.11 {why})")
    return PYTHON


def a_rising_scale() -> np.ndarray:
    """Three seconds of decaying harmonic tones, c' to c'', at 16 kHz."""
    rate_hz, length_s = 16_000, 0.35
    t_s = np.arange(int(rate_hz * length_s)) / rate_hz
    tones = []
    for pitch_midi in (60, 62, 64, 65, 67, 69, 71, 72):
        f_hz = 440 * 2 ** ((pitch_midi - 69) / 12)
        partials = [np.sin(2 * np.pi * f_hz * h * t_s) / h**1.5 for h in range(1, 7)]
        tones.append(np.sum(partials, axis=0) * np.exp(-4 * t_s))
    return (0.2 * np.concatenate([np.zeros(8000), *tones, np.zeros(8000)])).astype(np.float32)


@pytest.mark.parametrize("model", sorted(p.stem for p in models_dir().glob("*.tflite")))
def test_the_fallback_runtime_hears_what_litert_hears(
    model: str, python: Path, tmp_path: Path
) -> None:
    samples = a_rising_scale()
    np.save(tmp_path / "scale.npy", samples)
    run = subprocess.run(
        [str(python), "-c", HEAR, model, str(tmp_path / "scale.npy")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    answer = json.loads(run.stdout)
    assert answer["numpy"].startswith("1.")
    ear = load_ear(model)
    here = [
        (step.note.pitch_midi, step.note.onset_s)
        for step in ear.push(samples) + ear.flush()
        if isinstance(step, NoteUpdate) and step.state is NoteState.CONFIRMED
    ]
    there = [tuple(note) for note in answer["notes"]]
    assert here, "the scale was not heard at all"
    both = sum(any(p == q and abs(a - b) < 0.05 for q, b in there) for p, a in here)
    assert both >= SHARE_HEARD_BY_BOTH * max(len(here), len(there))
