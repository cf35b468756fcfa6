"""One training run: a schedule over hours rather than steps, a running average, checkpoints.

A run is given a number of hours and ends with them, whatever else the machine does: the learning
rate follows the share of the time that is spent (warm-up, then a cosine to nothing). What is kept
is the running average of the weights, which is worth several times its cost (Izmailov et al.,
"Averaging weights leads to wider optima", 2018). A run that is stopped, at whatever moment, goes on
from its folder, here or where the folder was copied to: what an epoch leaves takes the place of the
epoch before all at once.
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import msgspec
import numpy as np

from edge.errors import InputError
from training.architecture import Architecture, read_architecture
from training.dataset import USUAL_VARIATION, SegmentBatches, Variation
from training.graph import sequence_model
from training.objective import note_loss
from training.run_record import differences, write_whole
from training.widening import begin_from


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long, how fast, and how much at a time.

    Attributes
    ----------
    hours : float
        Length of the run by the clock.
    steps : int
        Where it is not 0, the run is that long and not by the clock, so that runs on a machine
        shared with others can be compared.
    peak_rate : float
        Learning rate after the warm-up.
    warm_up_share : float
        Of the run, between 0 and 1.
    batch : int
        Crops in a step.
    frames : int
        Length of a crop: 224 frames of 20 ms are 4.5 s.
    steps_per_epoch : int
        After so many the run is stored, and new shards are looked for.
    seed : int
        Of the crops and their variation.
    layer_decay : float
        Below 1, each block learns so much slower than the one above it, and the heads fastest.
    """

    hours: float
    steps: int = 0
    peak_rate: float = 1.5e-3
    warm_up_share: float = 0.03
    batch: int = 4
    frames: int = 224
    steps_per_epoch: int = 100
    seed: int = 1
    layer_decay: float = 1.0

    def rate(self, spent_share: float) -> float:
        """Learning rate once this share of the time is spent."""
        if spent_share < self.warm_up_share:
            return self.peak_rate * max(0.02, spent_share / self.warm_up_share)
        done = (spent_share - self.warm_up_share) / (1 - self.warm_up_share)
        return self.peak_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, done))))


# Half the bytes and, where the processor has such instructions, twice the products a second; the
# weights themselves, the heads and the loss stay in 32 bits.
COMPUTED_IN = "mixed_bfloat16"

# The running average forgets with a time constant of this many steps, less at the start.
AVERAGE_STEPS = 300


_LAYER = re.compile(r"(?P<low>stem|to_keys)|block(?P<block>\d+)")


def depth_below_heads(path: str, blocks: int) -> int:
    """How far down a variable's layer lies: 0 for the heads, then block by block."""
    found = _LAYER.match(path)
    if found is None:
        return 0
    if found["low"]:
        return blocks + (2 if found["low"] == "stem" else 1)
    return blocks - int(found["block"])


@keras.saving.register_keras_serializable("sostenuto")
class LayerwiseAdamW(keras.optimizers.AdamW):  # type: ignore[misc]
    """AdamW whose rate falls from the heads down (Howard and Ruder 2018)."""

    def __init__(self, *args: Any, layer_decay: float = 1.0, blocks: int = 0, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.layer_decay, self.blocks = layer_decay, blocks

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        known = self._trainable_variables[self._get_variable_index(variable)]
        slower = self.layer_decay ** depth_below_heads(known.path, self.blocks)
        super().update_step(gradient, variable, learning_rate * slower)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "layer_decay": self.layer_decay, "blocks": self.blocks}


class _Pacer(keras.callbacks.Callback):  # type: ignore[misc]
    """Sets the rate by the clock, keeps the running average, saves, and stops in time."""

    def __init__(
        self,
        folder: Path,
        schedule: Schedule,
        progress: dict[str, Any],
        average: list[Any] | None,
        refill: Callable[[float], None] | None,
    ) -> None:
        super().__init__()
        self.refill = refill
        self.folder = folder
        self.schedule = schedule
        self.average = average
        self.before_s = float(progress.get("spent_s", 0.0))
        self.step = int(progress.get("steps", 0))
        self.started = time.monotonic()

    def on_train_begin(self, logs: Any = None) -> None:
        self.started = time.monotonic()

    @property
    def spent_s(self) -> float:
        return self.before_s + time.monotonic() - self.started

    @property
    def spent_share(self) -> float:
        """How much of the run is over."""
        if self.schedule.steps:
            return self.step / self.schedule.steps
        return self.spent_s / (self.schedule.hours * 3600)

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self.model.optimizer.learning_rate = self.schedule.rate(self.spent_share)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.step += 1
        weights = self.model.get_weights()
        if self.average is None:
            self.average = weights
        keep = min(1 - 1 / AVERAGE_STEPS, self.step / (self.step + 10))
        for kept, now in zip(self.average, weights, strict=True):
            kept *= keep
            kept += (1 - keep) * now
        if self.refill is not None:
            self.refill(self.spent_share)
        if self.spent_share >= 1:
            self.model.stop_training = True

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        assert self.average is not None
        line = {
            "steps": self.step,
            "spent_s": round(self.spent_s, 1),
            "rate": float(self.model.optimizer.learning_rate),
            **{k: round(float(v), 4) for k, v in (logs or {}).items()},
        }
        store_epoch(self.folder, self.model, self.average, line)


# What an epoch leaves, in the order in which it takes the place of the epoch before.
_OF_AN_EPOCH = ("last.keras", "average.npz", "log.jsonl")


def store_epoch(folder: Path, model: Any, average: list[Any], line: dict[str, Any]) -> None:
    """Put an epoch in the place of the one before: all of it, or, where this is cut off, nothing.

    It is written into ``epoch.part``, which becomes ``epoch`` when it is whole. From then on this
    epoch is the last one, and `take_over` brings its files to their places, now or when the run
    goes on.
    """
    unfinished, log = folder / "epoch.part", folder / "log.jsonl"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    model.save(unfinished / "last.keras")
    np.savez(unfinished / "average.npz", **{f"w{i:03}": w for i, w in enumerate(average)})
    before = log.read_text() if log.exists() else ""
    (unfinished / "log.jsonl").write_text(before + json.dumps(line) + "\n")
    for path in (*unfinished.iterdir(), unfinished):
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
    unfinished.rename(folder / "epoch")
    take_over(folder)


def take_over(folder: Path) -> None:
    """Bring an epoch that is whole to its place, if it is not there already."""
    epoch = folder / "epoch"
    if epoch.is_dir():
        for name in _OF_AN_EPOCH:
            if (epoch / name).exists():
                (epoch / name).replace(folder / name)
        epoch.rmdir()


def train(
    architecture: Architecture,
    shards: Path,
    folder: Path,
    schedule: Schedule,
    start_from: Path | None = None,
    variation: Variation = USUAL_VARIATION,
    refill: Callable[[float], None] | None = None,
) -> None:
    """Train into ``folder``: architecture.json, last.keras, average.npz, log.jsonl.

    A folder that holds an earlier, unfinished run is continued from its last finished epoch; where
    none was finished, the run begins anew. ``start_from`` is another run's folder, or a checkpoint,
    whose averaged weights a new run begins with. ``refill`` is given the share of the run that is
    over, before the first step and after each: it may change what is in ``shards``, which are read
    anew at each epoch.

    Raises
    ------
    InputError
        There is nothing to train on, nothing that this architecture can start from, or the folder
        holds a run of another architecture, or only a part of one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    take_over(folder)
    model, progress, average = (
        _resumed(folder, architecture)
        if (folder / "log.jsonl").exists()
        else _begun(folder, architecture, schedule, start_from)
    )
    pacer = _Pacer(folder, schedule, progress, average, refill)
    if pacer.spent_share >= 1:
        return
    if refill is not None:
        refill(pacer.spent_share)
    batches = SegmentBatches(
        shards,
        architecture.features,
        schedule.batch,
        schedule.frames,
        schedule.steps_per_epoch,
        variation,
        schedule.seed + pacer.step,
    )
    model.fit(batches, epochs=100_000, verbose=2, callbacks=[pacer])


def _resumed(
    folder: Path, architecture: Architecture
) -> tuple[Any, dict[str, Any], list[Any] | None]:
    """The last finished epoch: its model, its line of the log, its averaged weights."""
    if differing := differences(read_architecture(folder / "architecture.json"), architecture):
        raise InputError(
            f"{folder} holds a run of another architecture: {differing}; go on as it was begun, or "
            "train into another folder"
        )
    missing = [name for name in _OF_AN_EPOCH if not (folder / name).exists()]
    if missing:
        raise InputError(
            f"{folder} has a log but no {', '.join(missing)}: copy the whole run, or train into "
            "another folder"
        )
    model = keras.saving.load_model(folder / "last.keras", custom_objects={"note_loss": note_loss})
    progress = json.loads((folder / "log.jsonl").read_text().splitlines()[-1])
    return model, progress, _stored_weights(folder / "average.npz")


def _begun(
    folder: Path, architecture: Architecture, schedule: Schedule, start_from: Path | None
) -> tuple[Any, dict[str, Any], list[Any] | None]:
    keras.config.set_dtype_policy(COMPUTED_IN)
    model = sequence_model(architecture)
    keras.config.set_dtype_policy("float32")
    if start_from is not None:
        begin_from(model, averaged_model(start_from))
    adam = LayerwiseAdamW(
        1e-3,
        weight_decay=1e-4,
        clipnorm=1.0,
        layer_decay=schedule.layer_decay,
        blocks=len(architecture.blocks),
    )
    model.compile(adam, loss=note_loss)
    write_whole(folder / "architecture.json", msgspec.json.encode(architecture))
    return model, {}, None


def _stored_weights(path: Path) -> list[Any]:
    with np.load(path) as arrays:
        return [arrays[f"w{i:03}"] for i in range(len(arrays.files))]


def averaged_model(stored: Path) -> Any:
    """The sequence model of a run, or of a checkpoint (.npz), with its averaged weights.

    Raises
    ------
    InputError
        There are no such weights, or they are another architecture's.
    """
    is_checkpoint = stored.suffix == ".npz"
    weights = stored if is_checkpoint else stored / "average.npz"
    described = stored.with_suffix(".json") if is_checkpoint else stored / "architecture.json"
    if not weights.exists() or not described.exists():
        raise InputError(
            f"no weights in {stored}: {weights.name} and {described.name} are needed, as "
            "`sostenuto-studio train` leaves them"
        )
    architecture = read_architecture(described)
    model = sequence_model(architecture)
    try:
        model.set_weights(_stored_weights(weights))
    except ValueError as error:
        raise InputError(f"{weights} is not of {architecture.family}: {error}") from None
    return model
