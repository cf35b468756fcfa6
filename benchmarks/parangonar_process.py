"""parangonar's online aligner as its makers wrote it, in an environment of its own (`make peers`).

Run by `benchmarks.following` with the Python of ``.peers/venv``, where nothing of ours is
installed. Each line of the standard input is a JSON document, ``score`` a list of (onset in
quarters, duration in quarters, pitch) and ``notes`` a list of (second, pitch) as they were
struck; for each it prints a line with the place in quarters after each note, and microseconds
of a note. The aligner is given one note at a time and no later one: `TOLTWMatcher` with the
tracker ``SLT_OLTW``, as it is set by default.

After Peter and Widmer: the tempo-informed online time warping of parangonar (Apache-2.0;
arXiv 2505.05078).
"""

from __future__ import annotations

import json
import sys
import time
import warnings

import numpy as np

warnings.simplefilter("ignore")

from parangonar.match.online_matchers import TOLTWMatcher  # noqa: E402

SCORE = [(name, float) for name in ("onset_beat", "duration_beat", "onset_quarter")]
SCORE += [("duration_quarter", float), ("pitch", int), ("id", "U16")]
PLAYED = [("onset_sec", float), ("pitch", int)]


def followed(score: list[list[float]], notes: list[list[float]]) -> dict[str, object]:
    """Places in quarters, and the time that they took."""
    written = np.array(
        [(at, length, at, length, pitch, f"n{k}") for k, (at, length, pitch) in enumerate(score)],
        dtype=SCORE,
    )
    matcher = TOLTWMatcher(written, tracker_type="SLT_OLTW")
    began_s = time.perf_counter()
    places = [matcher(np.array([tuple(note)], dtype=PLAYED)[0]) for note in notes]
    taken_s = time.perf_counter() - began_s
    quarters = [float(matcher.unique_onsets[place]) for place in places]
    return {"quarters": quarters, "us_a_note": 1e6 * taken_s / max(len(notes), 1)}


for line in sys.stdin:
    asked = json.loads(line)
    print(json.dumps(followed(asked["score"], asked["notes"])), flush=True)
