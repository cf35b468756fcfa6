"""The demo recording's known answer: which keys were struck when, which piece, which bar.

None of it was heard: keys and onsets are those of the MIDI file that made the sound, and where the
bars begin is the tempo curve of `scripts/render_demo.py`. So the answer stays the same whatever
ear is asked, and a better ear comes nearer to it.

Run again with ``python scripts/known_answer.py`` after the demo was rendered anew.
"""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from device.selftest.known_answer import KnownAnswer, Struck, answer_file  # noqa: E402
from edge.midi import read_midi  # noqa: E402
from edge.resources import demo_recording  # noqa: E402
from scripts.render_demo import seconds_of  # noqa: E402

PIECE_ID = "fur_elise"
STRETCH_S = 16.0
"""The first phrase and a half: long enough to name the piece (3 to 5 s) and to follow it for bars,
and on a board ten times slower than a PC still heard in 10 s."""

LAST_BAR_BEGUN = 12


def main() -> None:
    recording = demo_recording()
    played = read_midi(recording.with_suffix(".mid")).notes
    notes = tuple(
        Struck(note.pitch_midi, round(note.onset_s, 4))
        for note in played
        if note.onset_s < STRETCH_S
    )
    # Printed bar 1 is the first whole one, at 0 of the tempo curve; the upbeat is bar 0.
    bars = tuple(
        round(float(seconds_of(np.asarray(bar - 1.0))), 4) for bar in range(1, LAST_BAR_BEGUN + 1)
    )
    answer = KnownAnswer(recording.name, STRETCH_S, PIECE_ID, notes, bars)
    path = answer_file()
    path.write_bytes(msgspec.json.encode(answer) + b"\n")
    print(f"{path}: {len(notes)} notes, {len(bars)} bars, {STRETCH_S:.0f} s")


if __name__ == "__main__":
    main()
