"""Which notes were heard, on real recordings: each ear, each track, each microphone.

The rules are those of `training.evaluation`; which microphone, the recordings' ``index.csv`` says.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from training.hearing import Hearing, Recording, hear, summary


def track_accuracy(ear: str, recording: Recording) -> Hearing:
    """Listen to one recording with one of our ears and score it."""
    (hearing,) = hear(ear, [recording])
    return hearing


def figures(hearings: Sequence[Hearing]) -> dict[str, Any]:
    """The mean, the mean of each microphone, and every track, ready for JSON."""
    found = summary(hearings)
    return {**found["mean"], "microphones": found["groups"], "tracks": found["files"]}
