"""A score from a Standard MIDI File: ticks are musical time, so quarters and bars are exact.

A MIDI file of a score carries its time signatures and tempi but no bar lines: bars are
counted from the first tick. A pickup cannot be told from a bar that begins with rests, and
counts as bar 1. Two tracks with notes are taken for two staves, the higher one for the right
hand.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import mido
import numpy as np
from numpy.typing import NDArray

from edge.errors import InputError
from edge.matching.score import Hand, Piece, Score

DEFAULT_TEMPO_US = 500_000
"""Microseconds a quarter where a file names no tempo (Standard MIDI Files 1.0)."""


@dataclass(frozen=True, slots=True)
class _MidiNotes:
    """Notes of one track; all int64, shape (notes,)."""

    pitch: NDArray[np.int64]
    onset_tick: NDArray[np.int64]
    end_tick: NDArray[np.int64]


def read_midi_score(path: Path, piece: Piece) -> Score:
    """Read a MIDI file as a score.

    Raises
    ------
    InputError
        The file is no MIDI file, counts time in SMPTE frames, or holds no notes.
    """
    try:
        midi = mido.MidiFile(path, clip=True)
    except (OSError, ValueError, EOFError, KeyError, IndexError) as error:
        raise InputError(
            f"{path} cannot be read as MIDI ({str(error) or 'it ends early'})"
        ) from None
    if midi.type == 2 and len(midi.tracks) > 1:
        raise InputError(
            f"{path} holds {len(midi.tracks)} pieces (MIDI type 2): give each piece a file"
        )
    if midi.ticks_per_beat <= 0:
        raise InputError(f"{path} counts time in SMPTE frames; a score must count ticks a quarter")
    tracks = [notes for notes in map(_track_notes, midi.tracks) if notes.pitch.size]
    if not tracks:
        raise InputError(f"{path} has no notes; give a score with notes")
    per_quarter = midi.ticks_per_beat
    hand = np.concatenate(_hands(tracks))
    pitch, onset, end = (
        np.concatenate([getattr(notes, name) for notes in tracks])
        for name in ("pitch", "onset_tick", "end_tick")
    )
    order = np.lexsort((pitch, onset))
    tempo_tick, tempo_s = _tempo_map(midi, int(end.max()))
    bar_tick, beat_tick = _bars(midi, int(end.max()))
    return Score(
        piece=piece,
        pitch_midi=pitch[order].astype(np.uint8),
        onset_quarters=onset[order] / per_quarter,
        duration_quarters=(end - onset)[order] / per_quarter,
        hand=hand[order],
        bar_quarters=bar_tick / per_quarter,
        bar_number=np.arange(1, bar_tick.size + 1, dtype=np.int32),
        bar_beat_quarters=beat_tick / per_quarter,
        tempo_quarters=tempo_tick / per_quarter,
        tempo_s=tempo_s,
    )


def _track_notes(track: mido.MidiTrack) -> _MidiNotes:
    sounding: dict[tuple[int, int], int] = {}
    notes: list[tuple[int, int, int]] = []
    tick = 0
    for message in track:
        tick += message.time
        if message.type not in ("note_on", "note_off") or message.channel == 9:
            continue
        key = (message.channel, message.note)
        if key in sounding:
            notes.append((message.note, sounding.pop(key), tick))
        if message.type == "note_on" and message.velocity > 0:
            sounding[key] = tick
    notes.extend((pitch, onset, tick) for (_, pitch), onset in sounding.items())
    table = np.array(notes, dtype=np.int64).reshape(-1, 3)
    return _MidiNotes(table[:, 0], table[:, 1], table[:, 2])


def _hands(tracks: list[_MidiNotes]) -> list[NDArray[np.uint8]]:
    if len(tracks) != 2:
        return [np.full(notes.pitch.size, Hand.UNKNOWN, dtype=np.uint8) for notes in tracks]
    first_is_higher = tracks[0].pitch.mean() >= tracks[1].pitch.mean()
    hands = (Hand.RIGHT, Hand.LEFT) if first_is_higher else (Hand.LEFT, Hand.RIGHT)
    return [
        np.full(notes.pitch.size, hand, dtype=np.uint8)
        for notes, hand in zip(tracks, hands, strict=True)
    ]


def _tempo_map(
    midi: mido.MidiFile, end_tick: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Anchors (tick, second), at least two, rising."""
    tempi = {0: DEFAULT_TEMPO_US}
    for tick, message in _meta(midi, "set_tempo"):
        tempi[tick] = message.tempo
    ticks = np.array(sorted(tempi), dtype=np.float64)
    slopes = np.array([tempi[int(tick)] for tick in ticks]) / 1e6 / midi.ticks_per_beat
    ticks = np.append(ticks, max(float(end_tick), ticks[-1] + 1.0))
    seconds = np.concatenate(([0.0], np.cumsum(np.diff(ticks) * slopes)))
    return ticks, seconds


def _bars(midi: mido.MidiFile, end_tick: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Start of each bar and length of its beat, in ticks.

    The beat is what the time signature counts, or three of it where it counts in threes
    (6/8, 9/8, 12/8).
    """
    signatures = {0: (4, 4)}
    for tick, message in _meta(midi, "time_signature"):
        signatures[tick] = (message.numerator, message.denominator)
    starts: list[float] = []
    beats: list[float] = []
    changes = sorted(signatures)
    for tick, following in zip(changes, [*changes[1:], end_tick], strict=True):
        numerator, denominator = signatures[tick]
        unit = 4.0 * midi.ticks_per_beat / denominator
        compound = denominator >= 8 and numerator > 3 and numerator % 3 == 0
        bars = np.arange(float(tick), float(following), unit * numerator)
        starts.extend(bars.tolist())
        beats.extend([unit * (3 if compound else 1)] * bars.size)
    return np.array(starts), np.array(beats)


def _meta(midi: mido.MidiFile, kind: str) -> list[tuple[int, mido.MetaMessage]]:
    found = []
    for track in midi.tracks:
        tick = 0
        for message in track:
            tick += message.time
            if message.type == kind:
                found.append((tick, message))
    return found
