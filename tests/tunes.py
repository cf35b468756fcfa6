"""Small music made up on the spot: scores that differ, and hands that play them."""

from __future__ import annotations

import numpy as np

from edge.matching import Piece, Score
from edge.matching.score import Hand
from edge.note import NoteEvent

C_MAJOR = (0, 2, 4, 5, 7, 9, 11)


def made_up_score(seed: int, chords: int = 160, quarters_per_minute: float = 120.0) -> Score:
    """A melody in steps and leaps over a bass, in eighths, quarters and dotted quarters."""
    rng = np.random.default_rng(seed)
    lengths = rng.choice([0.5, 0.5, 1.0, 1.5], chords)
    onsets = np.concatenate(([0.0], np.cumsum(lengths)[:-1]))
    walk = np.cumsum(rng.choice([-4, -3, -2, -1, 1, 2, 3, 4], chords))
    degree = np.abs(walk % 44 - 22) - 8  # up and down between two octaves and a half
    melody = np.array([72 + 12 * (d // 7) + C_MAJOR[d % 7] for d in degree])
    with_bass = rng.random(chords) < 0.4
    bass = np.array([48 + C_MAJOR[d] for d in rng.integers(0, 7, chords)])
    onset = np.concatenate((onsets, onsets[with_bass]))
    pitch = np.concatenate((melody, bass[with_bass]))
    hand = np.concatenate((np.full(chords, Hand.RIGHT), np.full(with_bass.sum(), Hand.LEFT)))
    length = np.concatenate((lengths, lengths[with_bass]))
    order = np.lexsort((pitch, onset))
    bars = np.arange(0.0, onsets[-1] + 1e-9, 4.0)
    end = onsets[-1] + 4.0
    return Score(
        piece=Piece(f"piece-{seed}", f"work-{seed}", f"Piece {seed}", "Nobody"),
        pitch_midi=pitch[order].astype(np.uint8),
        onset_quarters=onset[order],
        duration_quarters=length[order],
        hand=hand[order].astype(np.uint8),
        bar_quarters=bars,
        bar_number=np.arange(1, bars.size + 1, dtype=np.int32),
        bar_beat_quarters=np.ones(bars.size),
        tempo_quarters=np.array([0.0, end]),
        tempo_s=np.array([0.0, end * 60.0 / quarters_per_minute]),
    )


def played(
    score: Score,
    from_quarter: float = 0.0,
    quarters: float = 40.0,
    tempo: float = 1.0,
    transposition: int = 0,
    start_s: float = 0.0,
) -> list[NoteEvent]:
    """A stretch of the score, played evenly, ``tempo`` times as fast as written."""
    inside = (score.onset_quarters >= from_quarter) & (
        score.onset_quarters < from_quarter + quarters
    )
    onset_s = score.onset_s[inside]
    return [
        NoteEvent(int(pitch) + transposition, float(at) + start_s, None, 64, 1.0)
        for pitch, at in zip(score.pitch_midi[inside], (onset_s - onset_s[0]) / tempo, strict=True)
    ]


def with_mistakes(notes: list[NoteEvent], seed: int, share: float = 0.1) -> list[NoteEvent]:
    """As a nervous hand plays: late and early by 20 ms, some notes missed, some wrong."""
    rng = np.random.default_rng(seed)
    kept = [note for note in notes if rng.random() > share]
    return [
        NoteEvent(
            note.pitch_midi + (int(rng.choice([-1, 1])) if rng.random() < share / 2 else 0),
            max(note.onset_s + float(rng.normal(0.0, 0.02)), 0.0),
            None,
            note.velocity,
            1.0,
        )
        for note in kept
    ]


def noise(seed: int, notes: int = 80, start_s: float = 0.0) -> list[NoteEvent]:
    """Keys struck at random."""
    rng = np.random.default_rng(seed)
    return [
        NoteEvent(int(pitch), start_s + float(at), None, 64, 1.0)
        for pitch, at in zip(
            rng.integers(40, 90, notes), np.sort(rng.uniform(0, notes / 5, notes)), strict=True
        )
    ]
