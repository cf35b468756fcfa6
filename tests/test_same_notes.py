"""What counts as the same notes on two kinds of processor."""

from __future__ import annotations

from dataclasses import replace

from device.soak.same_notes_on_arm import likeness
from edge.note import NoteEvent

HERE = [NoteEvent(60 + k % 5, 0.1 * k, 0.1 * k + 0.09, 64, 0.9) for k in range(100)]


def test_notes_a_step_apart_are_the_same() -> None:
    there = [replace(n, onset_s=n.onset_s + 0.004, velocity=n.velocity + 6) for n in HERE]
    found = likeness("a", HERE, there)
    assert (found.same_notes, found.same_velocities) == (1.0, 1.0)
    assert round(found.farthest_onset_ms) == 4
    assert found.holds


def test_notes_too_many_too_few_or_elsewhere_are_not() -> None:
    assert not likeness("a", HERE, HERE[3:]).holds
    assert not likeness("a", HERE[3:], HERE).holds
    late = [replace(n, onset_s=n.onset_s + 0.02) for n in HERE]
    assert likeness("a", HERE, late).same_notes == 0.0
    louder = [replace(n, velocity=n.velocity + 7) for n in HERE]
    assert not likeness("a", HERE, louder).holds


def test_nothing_heard_on_both_sides_is_no_likeness() -> None:
    assert not likeness("a", [], []).holds
