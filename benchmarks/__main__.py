"""``make bench``: every figure of the README, as a table and as ``bench.json``.

    python -m benchmarks [--ear NAME]... [--only PART]... [--out FILE]

The parts are accuracy, speed, live, identification, scale, following and feedback. All but speed
and live need the evaluation data beside the project and are left out, with a line that says so,
where it is not there.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from concurrent.futures import ProcessPoolExecutor, as_completed
from datetime import UTC, datetime
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from benchmarks import (
    delay,
    feedback,
    following,
    identification,
    note_accuracy,
    places,
    scale,
    speed,
    table,
    works,
)
from training.hearing import Hearing
from training.peers import BASIC_PITCH, HOW_TO_GET_IT, basic_pitch_hears, has_basic_pitch

PARTS = ("accuracy", "speed", "live", "identification", "scale", "following", "feedback")

EAR_PARTS = ("accuracy", "speed", "live")

FOLLOWED_PERFORMANCES = 20
FOLLOWED_S = 30.0
# Up to 100,000 pieces `python -m benchmarks.scale` goes by itself.
CATALOGUE_SIZES = (1_000, 2_228)
PRACTISED_PERFORMANCES = 22

progress_console = Console(stderr=True)


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    names = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith(("model name", "Model"))
    ]
    return {
        "processor": names[0] if names else platform.machine(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "runtime": f"ai-edge-litert {version('ai-edge-litert')}",
        "load_at_start": os.getloadavg()[0],
    }


def accuracies(ears: list[str]) -> dict[str, dict[str, Any]]:
    """Every ear on every recording, as many at a time as there are cores."""
    recordings = places.recordings()
    if not recordings:
        progress_console.print(f"accuracy left out: no recordings in {places.EVALUATION}")
        return {}
    jobs = [(ear, recording) for ear in ears if ear != BASIC_PITCH for recording in recordings]
    found: dict[str, list[Hearing]] = {ear: [] for ear in ears}
    with (
        ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool,
        Progress(console=progress_console) as bar,
    ):
        waiting = {pool.submit(note_accuracy.track_accuracy, *job): job for job in jobs}
        task = bar.add_task("accuracy on real recordings", total=len(ears) * len(recordings))
        for done in as_completed(waiting):
            found[waiting[done][0]].append(done.result())
            bar.advance(task)
        if BASIC_PITCH in ears:
            for hearing in basic_pitch_hears(recordings):
                found[BASIC_PITCH].append(hearing)
                bar.advance(task)
    for hearings in found.values():
        hearings.sort(key=lambda hearing: hearing.recording.name)
    return {ear: note_accuracy.figures(hearings) for ear, hearings in found.items()}


def figures_of(ear: str, parts: list[str]) -> dict[str, Any]:
    """Size, speed, memory and delay of one ear; accuracy comes from elsewhere.

    Basic Pitch hears whole files only: it cannot listen.
    """
    figures: dict[str, Any] = {"model_bytes": places.model_bytes(ear)}
    if ear == BASIC_PITCH:
        if "speed" in parts:
            progress_console.print(f"{ear}: speed and memory")
            figures["transcribing"] = speed.measure_basic_pitch()
        return figures
    if "speed" in parts:
        progress_console.print(f"{ear}: speed and memory")
        figures["transcribing"] = speed.measure(ear, with_catalogue=False)
        figures["listening"] = speed.measure(ear, with_catalogue=True)
    if "live" in parts:
        progress_console.print(f"{ear}: delay, at the pace of real time")
        figures["live"] = delay.measure(ear)
    return figures


def compare_speed(figures: dict[str, dict[str, Any]]) -> None:
    """Add to each ear's cost of hearing what share it is of Basic Pitch's whole way in this run."""
    theirs = figures.get(BASIC_PITCH, {}).get("transcribing")
    for ear, found in figures.items():
        if theirs and "transcribing" in found and ear != BASIC_PITCH:
            ours = found["transcribing"]
            ours["of_basic_pitch"] = ours["hearing_s_per_s"] / theirs["cpu_s_per_s"]


def of_the_piece(part: str) -> Any:
    """What was found of which piece, which bar and what went wrong; None without the data."""
    progress_console.print(f"{part}: what it needs is made the first time")
    if not works.INDEX.exists():
        progress_console.print(f"{part} left out: no {works.INDEX}")
        return None
    if part == "identification":
        return identification.measure()
    if part == "scale":
        return scale.grown(CATALOGUE_SIZES)
    if part == "following":
        return following.measure(FOLLOWED_PERFORMANCES, FOLLOWED_S)
    return feedback.measure(PRACTISED_PERFORMANCES)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--ear", action="append", metavar="NAME", help="default: all of them")
    parser.add_argument("--only", action="append", choices=PARTS, help="default: all of them")
    parser.add_argument("--out", type=Path, default=Path("bench.json"), help="default: bench.json")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    ears = options.ear or places.ears()
    if not has_basic_pitch():
        if BASIC_PITCH in ears:
            raise SystemExit(HOW_TO_GET_IT)
        progress_console.print(HOW_TO_GET_IT)
    parts = options.only or list(PARTS)
    report: dict[str, Any] = {
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "software": version("sostenuto"),
        "machine": machine(),
        "ears": {},
    }
    # Speed and delay first: they want the machine to themselves.
    for ear in ears:
        report["ears"][ear] = figures_of(ear, parts)
    compare_speed(report["ears"])
    if "accuracy" in parts:
        for ear, found in accuracies(ears).items():
            report["ears"][ear]["accuracy"] = found
    report |= {part: of_the_piece(part) for part in parts if part not in EAR_PARTS}
    options.out.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    console = Console()
    for made in table.rich_tables(report):
        console.print(made)
    console.print(f"{machine()['processor']}; all of it in {options.out}", highlight=False)


if __name__ == "__main__":
    main()
