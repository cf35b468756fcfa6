"""A wider ear that begins by hearing what a narrower one has learnt.

Every layer's old kernels go into the corner of the new ones, and nothing leads back from the new
channels into the old: at the first step the wider model says exactly what the narrower one says
(after Net2Net, Chen et al. 2016, without its copies), and has room to learn more.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edge.errors import InputError


def begin_from(model: Any, learnt: Any) -> None:
    """Start ``model`` with the weights of ``learnt``, of the same layers and at most as wide.

    Raises
    ------
    InputError
        The layers are others, or wider than the model's.
    """
    pairs = list(zip(model.weights, learnt.weights, strict=False))
    fits = len(model.weights) == len(learnt.weights) and all(
        len(new.shape) == len(old.shape)
        and all(n >= o for n, o in zip(new.shape, old.shape, strict=True))
        for new, old in pairs
    )
    if not fits:
        raise InputError(
            f"{learnt.name} with {learnt.count_params()} parameters cannot begin {model.name} "
            f"with {model.count_params()}: only a model of the same layers, and no wider, can"
        )
    model.set_weights([_widened(np.array(new), np.array(old)) for new, old in pairs])


def _widened(new: np.ndarray, old: np.ndarray) -> np.ndarray:
    """Kernels are (time, pitch, in, out), depthwise ones (time, pitch, channels, 1)."""
    if new.ndim == 4 and new.shape[3] > 1:
        new[:, :, old.shape[2] :, : old.shape[3]] = 0
    new[tuple(slice(0, n) for n in old.shape)] = old
    return new
