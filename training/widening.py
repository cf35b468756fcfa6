"""A new ear that begins by hearing what another one has learnt.

A wider one keeps the old kernels in the corner of the new ones, and nothing leads back from the new
channels into the old: at the first step it says exactly what the narrower one says (after Net2Net,
Chen et al. 2016, without its copies), and has room to learn more. One that looks farther ahead
gives the frames that are new to it no weight yet. Where it sees the keys through fewer patterns
than the other has channels, those that matter most are kept (the singular value decomposition of
its kernel, after Denton et al. 2014), and it says nearly the same.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.errors import InputError

Weights = NDArray[np.float32]


def begin_from(model: Any, learnt: Any) -> None:
    """Start ``model`` with the weights of ``learnt``, of the same layers, at most as wide.

    Raises
    ------
    InputError
        The layers are others, or wider than the model's.
    """
    given = {layer.name: layer.get_weights() for layer in learnt.layers if layer.weights}
    for layer in model.layers:
        if layer.name.endswith("_patterns") and layer.name not in given:
            reach = layer.name.removesuffix("patterns") + "reach"
            kernel, bias = given[reach]
            given[layer.name], given[reach] = _factored(kernel, bias, layer.filters)
    wanted = {layer.name: layer.get_weights() for layer in model.layers if layer.weights}
    if wanted.keys() != given.keys() or not all(map(_fit, wanted.values(), map(given.get, wanted))):
        raise InputError(
            f"{learnt.name} with {learnt.count_params()} parameters cannot begin {model.name} "
            f"with {model.count_params()}: only a model of the same layers, and no wider, can"
        )
    for name, new in wanted.items():
        model.get_layer(name).set_weights(list(map(_widened, new, given[name])))


def _factored(kernel: Weights, bias: Weights, patterns: int) -> tuple[list[Weights], list[Weights]]:
    """A kernel (1, keys, in, out) as the patterns that matter most and what mixes them."""
    left, strength, right = np.linalg.svd(kernel.reshape(-1, kernel.shape[-1]), full_matrices=False)
    share = np.sqrt(strength[:patterns])
    seen = (left[:, :patterns] * share).reshape(*kernel.shape[:3], -1)
    mixed = (right[:patterns] * share[:, None])[None, None]
    return [seen], [mixed, bias]


def _fit(new: list[Weights], old: list[Weights] | None) -> bool:
    return old is not None and all(
        n.ndim == o.ndim and all(np.greater_equal(n.shape, o.shape))
        for n, o in zip(new, old, strict=True)
    )


def _widened(new: Weights, old: Weights) -> Weights:
    """Kernels are (time, pitch, in, out), depthwise ones (time, pitch, channels, 1)."""
    if new.ndim == 4:
        new[old.shape[0] :, :, : old.shape[2], : old.shape[3]] = 0
        if new.shape[3] > 1:
            new[:, :, old.shape[2] :, : old.shape[3]] = 0
    new[tuple(slice(0, n) for n in old.shape)] = old
    return new
