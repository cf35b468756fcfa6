"""What the model is punished for.

Cross-entropies of unequal worth: the onset is what everything else hangs on, and it is rare (one
cell in two hundred), so its cells count more where a hammer fell. The velocity counts only near
onsets, where it is known.
"""

from __future__ import annotations

from typing import Any

from keras import ops

from training.targets import HELD, OFFSET, ONSET, SOUNDING, VELOCITY, VELOCITY_KNOWN

# How much more a cell with an onset (or an offset) weighs than one without.
ONSET_EMPHASIS = 4.0
OFFSET_EMPHASIS = 2.0
# Shares of the total, chosen by hand for the first model: no run has compared others.
WEIGHTS = {"onset": 1.0, "sounding": 0.2, "held": 0.3, "offset": 0.2, "velocity": 0.1}

# The first frames of a crop miss their past; the last ones their look-ahead.
UNJUDGED_START_FRAMES = 12
UNJUDGED_END_FRAMES = 8


def _cross_entropy(logits: Any, target: Any) -> Any:
    return ops.maximum(logits, 0) - logits * target + ops.log1p(ops.exp(-ops.abs(logits)))


def note_loss(targets: Any, logits: Any) -> Any:
    """Scalar loss of logits (batch, time, 88, 5) against targets (batch, time, 88, 6)."""
    judged = slice(UNJUDGED_START_FRAMES, -UNJUDGED_END_FRAMES)
    t, z = targets[:, judged], ops.cast(logits[:, judged], "float32")
    onset = _cross_entropy(z[..., ONSET], t[..., ONSET]) * (1 + ONSET_EMPHASIS * t[..., ONSET])
    sounding = _cross_entropy(z[..., SOUNDING], t[..., SOUNDING])
    offset = _cross_entropy(z[..., OFFSET], t[..., OFFSET])
    offset *= 1 + OFFSET_EMPHASIS * t[..., OFFSET]
    loudness = ops.sigmoid(z[..., VELOCITY]) - t[..., VELOCITY]
    loudness = ops.square(loudness) * t[..., VELOCITY_KNOWN]
    held = _cross_entropy(z[..., HELD], t[..., HELD])
    total = WEIGHTS["onset"] * onset + WEIGHTS["sounding"] * sounding
    total += WEIGHTS["offset"] * offset + WEIGHTS["held"] * held
    # Scaled to the order of one, so that learning rates mean what they usually mean.
    return 100 * ops.mean(total) + 1000 * WEIGHTS["velocity"] * ops.mean(loudness)
