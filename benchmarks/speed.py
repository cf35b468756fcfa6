"""Seconds of processing for a second of audio, and the most memory it took.

Run in a process of its own (``python -m benchmarks.speed EAR``), because memory counts all that a
process ever loaded. Time is CPU time of the whole process, so that whatever else the machine does
is left out; importing and loading are left out as well. Memory is the kernel's high-water mark
(``VmHWM``) and leaves nothing out; ``ru_maxrss`` would count what the parent held at the fork.

*Transcribing* is all from the file to the notes: reading, features, model and tracking over blocks
of a second; *hearing* is the same without the reading (decoding and resampling, a third of it).
Basic Pitch, where it is installed, goes its own way from the same file to its notes.
*Listening* is features, model and tracking over blocks of 10 ms as a microphone gives them, with
provisional notes, the piece tracker and the whole catalogue.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.places import ROOT, demo
from edge.audio.block import BLOCK_S, Block
from edge.audio.file import AudioFile

RUNS = 5
TRANSCRIBING_BLOCK_S = 1.0
KIB_PER_MB = 1024


def most_memory_mb() -> float:
    """The most resident memory this process ever had, in MB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / KIB_PER_MB
    raise RuntimeError("the kernel does not tell VmHWM")


def measure_here(ear: str, *, with_catalogue: bool) -> dict[str, float]:
    """Push the demo's recording through a recogniser `RUNS` times, in this process."""
    from edge.matching import Catalogue, default_catalogue_dir
    from edge.recogniser import load_recogniser

    with AudioFile(demo()[0]) as file:
        duration_s = file.duration_s
        in_memory = list(file.blocks(BLOCK_S if with_catalogue else TRANSCRIBING_BLOCK_S))
    catalogue = Catalogue.open(default_catalogue_dir()) if with_catalogue else None
    recogniser = load_recogniser(ear, catalogue, provisional=with_catalogue)

    def cost_of(blocks: Iterable[Block]) -> float:
        recogniser.reset()
        began_s = time.process_time()
        for block in blocks:
            recogniser.push(block)
        recogniser.flush()
        return (time.process_time() - began_s) / duration_s

    hearing_s_per_s = median(cost_of(in_memory) for _ in range(RUNS))
    if with_catalogue:
        return {"cpu_s_per_s": hearing_s_per_s, "memory_mb": most_memory_mb()}
    transcribing_s_per_s = median(cost_of(_read()) for _ in range(RUNS))
    return {
        "cpu_s_per_s": transcribing_s_per_s,
        "hearing_s_per_s": hearing_s_per_s,
        "memory_mb": most_memory_mb(),
    }


def _read() -> Iterator[Block]:
    """The demo's recording, decoded and resampled as it is asked for."""
    with AudioFile(demo()[0]) as file:
        yield from file.blocks(TRANSCRIBING_BLOCK_S)


def measure_basic_pitch() -> dict[str, float]:
    """The demo's recording through Basic Pitch, as often; the median, and its memory."""
    from training.peers import run_basic_pitch

    audio = demo()[0]
    with AudioFile(audio) as file:
        duration_s = file.duration_s
    answers = list(run_basic_pitch([audio] * RUNS))
    return {
        "cpu_s_per_s": median(answer["cpu_s"] for answer in answers) / duration_s,
        "memory_mb": answers[-1]["memory_mb"],
    }


def measure(ear: str, *, with_catalogue: bool) -> dict[str, Any]:
    """The same in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.speed", ear]
    command += ["--with-catalogue"] if with_catalogue else []
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if run.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {run.stderr.strip()}")
    figures: dict[str, Any] = json.loads(run.stdout)
    return figures


if __name__ == "__main__":
    print(json.dumps(measure_here(sys.argv[1], with_catalogue="--with-catalogue" in sys.argv)))
