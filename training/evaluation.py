"""How well an ear hears: notes found against notes played, by the rules of MIREX.

A note counts as found when one of the same pitch is reported within 50 ms of its onset; with
offsets, when its end also lies within 50 ms or a fifth of its length, whichever is more
(`mir_eval.transcription`). Each note played answers for one reported. A note's end is when its key
is let go, by wire (`edge.midi`) as by ear. Scores are averaged over recordings: a long one counts
no more than a short one.

Three figures go beyond MIREX. *Velocity error* is the mean distance in MIDI steps between a note
found and the one played; *levelled*, after the straight line that fits best: how loud a recording
is says nothing of how hard the keys were struck, only its louder and softer notes do
(`mir_eval.transcription_velocity` takes out the same). *Re-strike recall* counts only the notes
whose key was struck less than a quarter of a second before, pedal or not: the trills and
repetitions where an ear hears one note for two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.note import NoteEvent, pitch_to_hz

ONSET_TOLERANCE_S = 0.05
OFFSET_RATIO = 0.2
RESTRIKE_S = 0.25
"""From one strike of a key to the next: four a second and faster."""
# mir_eval refuses notes without length.
_LEAST_LENGTH_S = 0.01


@dataclass(frozen=True, slots=True)
class NoteScores:
    """Of one recording, or the mean over several.

    Attributes
    ----------
    precision, recall, f1, f1_with_offsets : float
    velocity_error : float or None
        Mean absolute error over the notes found, in MIDI steps; None where none was found.
    restrike_recall : float or None
        Share found of the notes in `restruck`; None where there are none. Over several recordings
        it is the share of all of them together, because most recordings have few.
    restrikes : int
        How many notes that share is of.
    levelled_velocity_error : float or None
        The velocity error with the recording's level and range taken out; None for fewer than
        three notes.
    """

    precision: float
    recall: float
    f1: float
    f1_with_offsets: float
    velocity_error: float | None = None
    restrike_recall: float | None = None
    restrikes: int = 0
    levelled_velocity_error: float | None = None


def score_notes(played: Sequence[NoteEvent], heard: Sequence[NoteEvent]) -> NoteScores:
    """Compare the notes heard in a recording with those played; all must have ended."""
    return score_pairs(played, heard, match_notes(played, heard))


def score_pairs(
    played: Sequence[NoteEvent], heard: Sequence[NoteEvent], pairs: Sequence[tuple[int, int]]
) -> NoteScores:
    """The same from what `match_notes` found."""
    again = restruck(played)
    found = np.zeros(len(played), bool)
    found[[i for i, _ in pairs]] = True
    restrikes = int(again.sum())
    restrike_recall = float(found[again].mean()) if restrikes else None
    if not played or not heard:
        same = float(len(played) == len(heard))
        return NoteScores(
            same, same, same, same, restrike_recall=restrike_recall, restrikes=restrikes
        )
    struck = np.array([(played[i].velocity, heard[j].velocity) for i, j in pairs], np.float64)
    with_offsets = len(match_notes(played, heard, OFFSET_RATIO))
    return NoteScores(
        precision=len(pairs) / len(heard),
        recall=len(pairs) / len(played),
        f1=2 * len(pairs) / (len(played) + len(heard)),
        f1_with_offsets=2 * with_offsets / (len(played) + len(heard)),
        velocity_error=float(np.abs(np.diff(struck)).mean()) if pairs else None,
        restrike_recall=restrike_recall,
        restrikes=restrikes,
        levelled_velocity_error=_levelled_error(*struck.T) if len(pairs) > 2 else None,
    )


def _levelled_error(played: NDArray[np.float64], heard: NDArray[np.float64]) -> float:
    line = np.stack([heard, np.ones_like(heard)], axis=1)
    fitted = line @ np.linalg.lstsq(line, played, rcond=None)[0]
    return float(np.abs(played - fitted).mean())


def match_notes(
    played: Sequence[NoteEvent],
    heard: Sequence[NoteEvent],
    offset_ratio: float | None = None,
    onset_tolerance_s: float = ONSET_TOLERANCE_S,
) -> list[tuple[int, int]]:
    """Which note heard answers for which one played, as indices; as many pairs as there can be.

    Parameters
    ----------
    offset_ratio : float, optional
        Ends must agree to this share of the note's length, or 50 ms; left out, they do not count.
    onset_tolerance_s : float
        MIREX's 50 ms, unless something is to be learnt from another.
    """
    from mir_eval.transcription import match_notes as matched

    if not played or not heard:
        return []
    pairs = matched(
        *intervals_and_hz(played),
        *intervals_and_hz(heard),
        onset_tolerance=onset_tolerance_s,
        offset_ratio=offset_ratio,
    )
    return [(int(i), int(j)) for i, j in pairs]


def since_last_strike_s(played: Sequence[NoteEvent]) -> NDArray[np.float64]:
    """For each note the seconds since its key was struck before, shape (n,); infinity at first."""
    last_s: dict[int, float] = {}
    since_s = np.full(len(played), np.inf)
    for i in sorted(range(len(played)), key=lambda i: played[i].onset_s):
        note = played[i]
        since_s[i] = note.onset_s - last_s.get(note.pitch_midi, -np.inf)
        last_s[note.pitch_midi] = note.onset_s
    return since_s


def restruck(played: Sequence[NoteEvent]) -> NDArray[np.bool_]:
    """Which notes had their key struck less than `RESTRIKE_S` before, shape (n,)."""
    return since_last_strike_s(played) < RESTRIKE_S


def mean_scores(scores: Sequence[NoteScores]) -> NoteScores:
    """The mean over recordings, figure by figure; re-strikes are counted together."""

    def mean(field: str) -> float:
        return float(np.mean([getattr(s, field) for s in scores]))

    def mean_of_known(field: str) -> float | None:
        known = [value for s in scores if (value := getattr(s, field)) is not None]
        return float(np.mean(known)) if known else None

    restrikes = sum(s.restrikes for s in scores)
    found = sum(s.restrike_recall * s.restrikes for s in scores if s.restrike_recall is not None)
    return NoteScores(
        mean("precision"),
        mean("recall"),
        mean("f1"),
        mean("f1_with_offsets"),
        mean_of_known("velocity_error"),
        found / restrikes if restrikes else None,
        restrikes,
        mean_of_known("levelled_velocity_error"),
    )


def intervals_and_hz(
    notes: Sequence[NoteEvent],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Notes as mir_eval wants them: seconds, shape (n, 2), and hertz, shape (n,).

    A note that still sounds is given the least length: its end cannot be scored yet.
    """
    onset = np.array([n.onset_s for n in notes], np.float64)
    offset = np.array([n.offset_s or 0.0 for n in notes], np.float64)
    intervals = np.stack([onset, np.maximum(offset, onset + _LEAST_LENGTH_S)], axis=1)
    hz = np.array([pitch_to_hz(n.pitch_midi) for n in notes])
    return intervals.reshape(-1, 2), hz
