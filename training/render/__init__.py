"""Rendered training sound: sampled pianos, played, mixed, put into rooms, and labelled.

The labels sit at the acoustic onset because the mixer itself places every sample: it is
known to the sample where each hammer lands. Everything is drawn from one random generator
per segment (`segment_rng`), so that a segment can be rendered again from its seed and index.
"""

from __future__ import annotations

from training.render.piano import SampledPiano
from training.render.recordings import load_piano, load_pianos
from training.render.segment import (
    NOTE_DTYPE,
    Conditions,
    Segment,
    Sources,
    load_sources,
    render_segment,
    segment_rng,
)

__all__ = [
    "NOTE_DTYPE",
    "Conditions",
    "SampledPiano",
    "Segment",
    "Sources",
    "load_piano",
    "load_pianos",
    "load_sources",
    "render_segment",
    "segment_rng",
]
