"""What each idea of the note model is worth: the same short training without it, or with it.

Every variant is trained from nothing for as many steps, on the same shards in the same order, and
judged on the same rendered playing, each with the best of a few onset thresholds. The figures are
those of short runs: they rank ideas, they do not say how well a finished ear hears. Run::

    python -m training.ablation RUN --steps 600

RUN is the folder of a training run (its shards/ and judging/ are read); results are added to
RUN/ablation_STEPS.json as they come, and what is there already is not trained again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from edge.segmentation import SegmentationParameters
from training.architecture import Architecture, compressed, conv3d_reference, separable3d
from training.dataset import USUAL_VARIATION, Variation
from training.judging import heard_in_keras, played_segments
from training.thresholds import judge
from training.train import Schedule, averaged_model, train

CHANNELS = 64
ONSET_THRESHOLDS = (0.2, 0.3, 0.4, 0.5, 0.6)


@dataclass(frozen=True, slots=True)
class Variant:
    """An architecture, and what of the schedule and of the sound differs."""

    architecture: Architecture
    layer_decay: float = 1.0
    variation: Variation = USUAL_VARIATION
    every: int = 1
    """Only every so many shards are trained on."""
    peak_rate: float = Schedule(hours=0).peak_rate
    seed: int = 1


def _changed(**changed: object) -> Callable[[], Variant]:
    return lambda: Variant(msgspec.structs.replace(separable3d(CHANNELS), **changed))


def _without_reach() -> Variant:
    ear = separable3d(CHANNELS)
    blocks = tuple(msgspec.structs.replace(block, reach_channels=0) for block in ear.blocks)
    return Variant(msgspec.structs.replace(ear, blocks=blocks))


UNVARIED = Variation(
    level_db=0.0,
    tilt_db=0.0,
    ripple_db=0.0,
    fine_ripple_db=0.0,
    contrast=0.0,
    noise_floor_db=0.0,
    shift_semitones=0,
)

VARIANTS: dict[str, Callable[[], Variant]] = {
    "as it is": lambda: Variant(separable3d(CHANNELS)),
    # What differs by chance alone.
    "as it is, another seed": lambda: Variant(separable3d(CHANNELS), seed=2),
    "no harmonic stack": _changed(harmonic_stack=False),
    "keys do not reach": _without_reach,
    "1x1 in 4 groups, shuffled": _changed(groups=4),
    "spectra as rendered": lambda: Variant(separable3d(CHANNELS), variation=UNVARIED),
    "a thirtieth of the sound": lambda: Variant(separable3d(CHANNELS), every=30),
    "no skips": _changed(skips=False),
    "rates x 0.8 a layer down": lambda: Variant(separable3d(CHANNELS), layer_decay=0.8),
    "recurrent step, 16 units": _changed(recurrent_units=16),
    "look-ahead 104 ms": lambda: Variant(separable3d(CHANNELS, 1)),
    "look-ahead 164 ms": lambda: Variant(separable3d(CHANNELS, 4)),
    "look-ahead 244 ms": lambda: Variant(separable3d(CHANNELS, 8)),
    "half the channels": lambda: Variant(separable3d(CHANNELS // 2)),
    "twice the channels": lambda: Variant(separable3d(CHANNELS * 2)),
    # At the usual rate its loss rises again.
    "compressed": lambda: Variant(compressed(), peak_rate=8e-4),
    "whole 3D convolutions": lambda: Variant(conv3d_reference()),
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a variant came to."""

    parameters: int
    cpu_s_per_step: float
    onset_f1: float
    f1_with_offsets: float


def run_variant(run: Path, name: str, steps: int) -> Outcome:
    """Train one variant below ``run``/ablation and judge it."""
    variant = VARIANTS[name]()
    folder = run / "ablation" / f"{name.replace(' ', '_')}_{steps}"
    schedule = Schedule(
        hours=0,
        steps=steps,
        peak_rate=variant.peak_rate,
        seed=variant.seed,
        layer_decay=variant.layer_decay,
    )
    shards = _every(run / "shards", folder / "shards", variant.every)
    started = time.process_time()
    train(variant.architecture, shards, folder, schedule, variation=variant.variation)
    cpu_s = time.process_time() - started
    model = averaged_model(folder)
    heard = heard_in_keras(played_segments(run / "judging"), model, variant.architecture)
    rising = [SegmentationParameters(onset_threshold=(t, t, t)) for t in ONSET_THRESHOLDS]
    best = max((judge(heard, p) for p in rising), key=lambda scores: scores.f1)
    return Outcome(model.count_params(), cpu_s / steps, best.f1, best.f1_with_offsets)


def _every(shards: Path, some: Path, every: int) -> Path:
    """A folder with every ``every``-th shard, as links."""
    if every == 1:
        return shards
    some.mkdir(parents=True, exist_ok=True)
    for shard in sorted(shards.glob("*.npz"))[::every]:
        if not (some / shard.name).exists():
            (some / shard.name).symlink_to(shard.resolve())
    return some


def ablation_table(outcomes: dict[str, Outcome]) -> Table:
    """Outcomes, each beside its difference from the first in points."""
    table = Table("", "parameters", "CPU s a step", "onset F1", "points", "with offsets")
    base = next(iter(outcomes.values()))
    for name, found in outcomes.items():
        table.add_row(
            name,
            f"{found.parameters:,}",
            f"{found.cpu_s_per_step:.2f}",
            f"{found.onset_f1:.3f}",
            f"{100 * (found.onset_f1 - base.onset_f1):+.1f}",
            f"{found.f1_with_offsets:.3f}",
        )
    return table


def main(
    run: Annotated[Path, typer.Argument(help="A training run: its shards/ and judging/ are read.")],
    steps: Annotated[int, typer.Option(help="Steps of each training.")] = 600,
    only: Annotated[list[str] | None, typer.Option(help="Only this variant; repeatable.")] = None,
) -> None:
    """Train every variant for as many steps and print what each is worth."""
    for name in only or ():
        if name not in VARIANTS:
            raise typer.BadParameter(f"{name!r}: there are {'; '.join(VARIANTS)}")
    stored = run / f"ablation_{steps}.json"
    outcomes = (
        msgspec.json.decode(stored.read_bytes(), type=dict[str, Outcome]) if stored.exists() else {}
    )
    # Each in a process of its own: what a training held is not given back before its process ends.
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as alone:
        for name in only or VARIANTS:
            if name not in outcomes:
                outcomes[name] = alone.submit(run_variant, run, name, steps).result()
                stored.write_text(json.dumps(msgspec.to_builtins(outcomes), indent=1) + "\n")
    Console(width=max(100, Console().width)).print(ablation_table(outcomes))


if __name__ == "__main__":
    typer.run(main)
