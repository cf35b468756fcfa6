"""How much an ear can bear: the same dry pieces with more noise, more room, out of tune, softer.

One thing is changed at a time, in a few steps, on the same rendered segments and with the same
noise and the same walls at every step; the ear's scores over the steps are a curve. What is bent is
the sound of a dry segment:

- *noise*: coloured noise at a ratio to the segment's RMS;
- *room*: a room of a given RT60, the piano as loud directly as by way of the walls (0 dB);
- *tuning*: the whole sound read faster or slower, until its A4 stands so many cents off 440 Hz.
  The labels' times go with it (40 cents are 2.3 %); what a tuner's slackened strings would do to
  the partials besides is left out;
- *level*: the peak below full scale, then 16 bits, as a converter would leave it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.audio.block import STREAM_RATE_HZ, Block
from edge.audio.file import AudioFile
from edge.audio.resample import resample
from edge.errors import InputError
from edge.note import NoteEvent
from edge.recogniser import Recogniser, load_recogniser
from edge.transcription import finished_notes
from training.evaluation import NoteScores, mean_scores, score_notes
from training.hearing import Recording
from training.render import room
from training.render.segment import segment_rng, to_level

Float32 = NDArray[np.float32]

SEGMENTS = 24
"""Of 12 s, nearly five minutes for each point of a curve."""
SEED = 16
DIRECT_TO_REVERBERANT_DB = 0.0
FULL_SCALE_16_BIT = 32_768


@dataclass(frozen=True, slots=True)
class Piece:
    """A dry segment at 16 kHz, what was played in it, and its piano's tuning."""

    samples: Float32
    played: tuple[NoteEvent, ...]
    cents: float


@dataclass(frozen=True, slots=True)
class Curve:
    """One thing that is changed, and in which steps.

    Attributes
    ----------
    name, unit : str
    steps : tuple of float
        From the easiest to the hardest where there is such an order.
    bent : callable
        (piece, step, generator) -> the piece so changed.
    """

    name: str
    unit: str
    steps: tuple[float, ...]
    bent: Callable[[Piece, float, np.random.Generator], Piece]


def with_noise(piece: Piece, snr_db: float, rng: np.random.Generator) -> Piece:
    """Coloured noise so far below the piece's RMS."""
    noise = room.coloured_noise(rng, len(piece.samples))
    gain = room.rms(piece.samples) * 10.0 ** (-snr_db / 20.0)
    return replace(piece, samples=piece.samples + noise * np.float32(gain))


def in_a_room(piece: Piece, rt60_s: float, rng: np.random.Generator) -> Piece:
    """The piece in a room of this RT60."""
    walls = room.room_of(rng, rt60_s, DIRECT_TO_REVERBERANT_DB)
    return replace(piece, samples=room.in_room(piece.samples, walls))


def tuned(piece: Piece, cents: float, _rng: np.random.Generator) -> Piece:
    """The piece with its A4 so many cents above 440 Hz, and as much faster."""
    rate_hz = round(STREAM_RATE_HZ * 2.0 ** ((cents - piece.cents) / 1200.0))
    slower = STREAM_RATE_HZ / rate_hz
    played = tuple(
        replace(note, onset_s=note.onset_s * slower, offset_s=(note.offset_s or 0.0) * slower)
        for note in piece.played
    )
    return Piece(resample(piece.samples, rate_hz), played, cents)


def at_level(piece: Piece, peak_db: float, _rng: np.random.Generator) -> Piece:
    """The piece with this peak, in dB re full scale, in 16 bits."""
    steps = np.round(to_level(piece.samples, peak_db) * FULL_SCALE_16_BIT)
    return replace(piece, samples=(steps / FULL_SCALE_16_BIT).astype(np.float32))


CURVES = (
    Curve("noise", "SNR, dB", (40.0, 30.0, 20.0, 10.0, 0.0), with_noise),
    Curve("room", "RT60, s", (0.2, 0.4, 0.8, 1.6), in_a_room),
    Curve("tuning", "cents", (-50.0, -40.0, -20.0, 0.0, 20.0, 40.0, 50.0), tuned),
    Curve("level", "peak, dB", (-3.0, -20.0, -40.0, -55.0, -70.0), at_level),
)


def dry_pieces(recordings: Sequence[Recording]) -> list[Piece]:
    """The first `SEGMENTS` dry segments in which something is played.

    Raises
    ------
    InputError
        There is none.
    """
    chosen = [one for one in recordings if one.dry and one.played][:SEGMENTS]
    if not chosen:
        raise InputError(
            f"none of {len(recordings)} segments is dry: curves begin from dry sound; render with "
            "--clean"
        )
    return [Piece(_samples(one.audio), one.played, one.cents) for one in chosen]


def _samples(audio: Path) -> Float32:
    with AudioFile(audio) as file:
        return np.concatenate([block.samples for block in file.blocks(file.duration_s)])


def curve(
    curve: Curve, pieces: Sequence[Piece], model: str | Path | None
) -> Iterator[tuple[float, NoteScores]]:
    """Each step of a curve with the ear's mean scores over the pieces."""
    recogniser = load_recogniser(model)
    for step in curve.steps:
        scores = [
            _scores(recogniser, curve.bent(piece, step, segment_rng(SEED, number)))
            for number, piece in enumerate(pieces)
        ]
        yield step, mean_scores(scores)


def _scores(recogniser: Recogniser, piece: Piece) -> NoteScores:
    recogniser.reset()
    return score_notes(piece.played, list(finished_notes(recogniser, [Block(0, piece.samples)])))
