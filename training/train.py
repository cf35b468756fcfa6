"""One training run: a schedule over hours rather than steps, a running average, checkpoints.

A run is given a number of hours and ends with them, whatever else the machine does: the learning
rate follows the share of the time that is spent (warm-up, then a cosine to nothing). What is kept
is the running average of the weights, which is worth several times its cost (Izmailov et al.,
"Averaging weights leads to wider optima", 2018). A run that is stopped goes on from its folder.
"""

from __future__ import annotations

import json
import math
import re
import time
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
from training.widening import begin_from


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long and how fast.

    ``layer_decay`` below 1 lets each block learn so much slower than the one above it, and the
    heads fastest. With ``steps`` the run is as long as that and not by the clock, so that runs on a
    machine shared with others can be compared.
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


def height(path: str, blocks: int) -> int:
    """How far below the heads a variable's layer lies: 0 for the heads, then block by block."""
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
        slower = self.layer_decay ** height(known.path, self.blocks)
        super().update_step(gradient, variable, learning_rate * slower)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "layer_decay": self.layer_decay, "blocks": self.blocks}


class _Pacer(keras.callbacks.Callback):  # type: ignore[misc]
    """Sets the rate by the clock, keeps the running average, saves, and stops in time."""

    def __init__(self, folder: Path, schedule: Schedule, progress: dict[str, Any]) -> None:
        super().__init__()
        self.folder = folder
        self.schedule = schedule
        self.progress = progress
        self.average: list[Any] | None = None

    def on_train_begin(self, logs: Any = None) -> None:
        self.before_s = float(self.progress.get("spent_s", 0.0))
        self.step = int(self.progress.get("steps", 0))
        self.started = time.monotonic()
        stored = self.folder / "average.npz"
        if stored.exists():
            with np.load(stored) as arrays:
                self.average = [arrays[f"w{i:03}"] for i in range(len(arrays.files))]

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
        if self.spent_share >= 1:
            self.model.stop_training = True

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        assert self.average is not None
        self.model.save(self.folder / "last.keras")
        np.savez(self.folder / "average.npz", **{f"w{i:03}": w for i, w in enumerate(self.average)})
        line = {
            "steps": self.step,
            "spent_s": round(self.spent_s, 1),
            "rate": float(self.model.optimizer.learning_rate),
            **{k: round(float(v), 4) for k, v in (logs or {}).items()},
        }
        self.progress.update(line)
        with (self.folder / "log.jsonl").open("a") as log:
            log.write(json.dumps(line) + "\n")


def train(
    architecture: Architecture,
    shards: Path,
    folder: Path,
    schedule: Schedule,
    start_from: Path | None = None,
    variation: Variation = USUAL_VARIATION,
) -> None:
    """Train into ``folder``: architecture.json, last.keras, average.npz, log.jsonl.

    A folder that holds an earlier, unfinished run is continued. ``start_from`` is another run's
    folder, or a checkpoint, whose averaged weights this one begins with.

    Raises
    ------
    InputError
        There is nothing to train on, or nothing that this architecture can start from.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "architecture.json").write_bytes(msgspec.json.encode(architecture))
    model, progress = _resumed(folder, architecture, schedule, start_from)
    batches = SegmentBatches(
        shards,
        architecture.features,
        schedule.batch,
        schedule.frames,
        schedule.steps_per_epoch,
        variation,
        schedule.seed + int(progress.get("steps", 0)),
    )
    pacer = _Pacer(folder, schedule, progress)
    model.fit(batches, epochs=100_000, verbose=2, callbacks=[pacer])


def _resumed(
    folder: Path, architecture: Architecture, schedule: Schedule, start_from: Path | None
) -> tuple[Any, dict[str, Any]]:
    if (folder / "last.keras").exists():
        lines = (folder / "log.jsonl").read_text().splitlines()
        stored = keras.saving.load_model(
            folder / "last.keras", custom_objects={"note_loss": note_loss}
        )
        return stored, json.loads(lines[-1])
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
    return model, {}


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
    with np.load(weights) as arrays:
        try:
            model.set_weights([arrays[f"w{i:03}"] for i in range(len(arrays.files))])
        except ValueError as error:
            raise InputError(f"{weights} is not of {architecture.family}: {error}") from None
    return model
