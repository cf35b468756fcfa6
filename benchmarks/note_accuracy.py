"""Which notes were heard, on real recordings: each ear, each track, each microphone.

The rules are those of `training.evaluation`. The references' note ends are those of the strings
(key and pedal up), as `edge.midi` reads them.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import soundfile

from edge.midi import read_midi
from training.evaluation import NoteScores, mean_scores, score_notes


def track_accuracy(ear: str, audio: Path, midi: Path) -> NoteScores:
    """Transcribe one recording and score it."""
    import edge

    samples, rate_hz = soundfile.read(audio, dtype="float32")
    return score_notes(read_midi(midi).notes, edge.transcribe(samples, rate_hz, ear))


def summary(tracks: dict[str, NoteScores]) -> dict[str, Any]:
    """The mean, the mean of each microphone, and every track, ready for JSON.

    The recordings' names end in the microphone: ``ENSTDkCl`` is close, ``ENSTDkAm`` ambient.
    """
    of_microphone = {
        "close": [found for name, found in tracks.items() if name.endswith("Cl")],
        "ambient": [found for name, found in tracks.items() if name.endswith("Am")],
    }
    return {
        **asdict(mean_scores(list(tracks.values()))),
        "microphones": {
            m: asdict(mean_scores(found)) for m, found in of_microphone.items() if found
        },
        "tracks": {name: asdict(found) for name, found in tracks.items()},
    }
