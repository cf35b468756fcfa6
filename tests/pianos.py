"""A piano small enough to make in a test: decaying sines, in a folder like any sample set."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import soundfile as sf

from edge.note import pitch_to_hz

SOURCE_RATE_HZ = 22_050


def write_piano(folder: Path, keys: range = range(21, 109, 6), duration_s: float = 2.5) -> None:
    """Sines of each key with an attack after 3 to 12 ms of silence, listed 4 ms wrong."""
    (folder / "samples").mkdir(parents=True)
    rows = []
    for number, key in enumerate(keys):
        latency_s = 0.003 + 0.009 * (number % 4) / 3
        time_s = np.arange(int(duration_s * SOURCE_RATE_HZ)) / SOURCE_RATE_HZ - latency_s
        hz = pitch_to_hz(key)
        sound = sum(np.sin(2 * np.pi * hz * h * time_s) / h for h in (1, 2, 3) if h * hz < 9000)
        sound = 0.3 * sound * np.exp(-time_s / 0.8) * (time_s > 0)
        sf.write(folder / "samples" / f"k{key}.flac", sound, SOURCE_RATE_HZ)
        rows.append(
            {
                "sample": f"samples/k{key}.flac",
                "pitch_keycenter": key,
                "lokey": key - 3,
                "hikey": key + 2,
                "lovel": 1,
                "hivel": 127,
                "volume_db": 0,
                "tune_cents": 0,
                "onset_s": latency_s + 0.004,
                "dur_s": duration_s,
                "peak": 0.3,
            }
        )
    with (folder / "regions.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, fieldnames=list(rows[0]))
        table.writeheader()
        table.writerows(rows)
