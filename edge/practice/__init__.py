"""Practice: what a patient teacher would say after each bar.

Against the followed score, every note that is written becomes *right*, *wrong* (another key
was struck in its stead), *missed*, *early* or *late*, and every note too many an *extra*. Late
is said against the player's own tempo and never against a metronome: rubato is no fault. How
even the notes lie, and how steady the tempo is from bar to bar, is told for each bar and hand.

It is kinder than a comparison of lists. Who plays one hand alone misses nothing of the other;
who stops, goes back or jumps begins another take, and what lies between was not asked for;
rolled chords, trills, turns, grace notes and octave doublings are nobody's mistakes. And where
an ear listens, its own doubt is not laid on the player: see `edge.practice.judging`.
"""

from __future__ import annotations

from edge.practice.expected import ExpectedNotes
from edge.practice.live import LivePractice
from edge.practice.practice import Practice, practised
from edge.practice.verdict import BarFeedback, Finding, Verdict

__all__ = [
    "BarFeedback",
    "ExpectedNotes",
    "Finding",
    "LivePractice",
    "Practice",
    "Verdict",
    "practised",
]
