"""A whole recording written down: the same recogniser, as fast as it goes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.audio.block import Block
from edge.audio.resample import resample, to_mono
from edge.calibration import UNCALIBRATED, Calibration
from edge.note import NoteEvent, NoteState, NoteUpdate
from edge.recogniser import Event, Recogniser, load_recogniser

# Samples heard at once: a second bounds the memory and costs no speed.
_BLOCK_SAMPLES = 16_000


def transcribe(
    samples: NDArray[np.float32],
    sample_rate_hz: int,
    model: str | Path | None = None,
    calibration: Calibration = UNCALIBRATED,
) -> list[NoteEvent]:
    """Write down the notes of a recording.

    Parameters
    ----------
    samples : float32, shape (n,) or (n, channels)
        Full scale 1.
    sample_rate_hz : int
        8 000 to 192 000.
    model : str or Path, optional
        Name of an installed note model, ``"templates"``, or a path to a ``.tflite`` with its
        manifest beside it; the default model if left out.
    calibration : Calibration, optional
        Of the piano (`edge.calibration`).

    Returns
    -------
    list of NoteEvent
        By onset, each with its end.

    Raises
    ------
    InputError
        The rate is out of range.
    ModelError
        The model is missing or damaged.

    Examples
    --------
    >>> import edge, soundfile
    >>> samples, rate_hz = soundfile.read("prelude.flac", dtype="float32")  # doctest: +SKIP
    >>> notes = edge.transcribe(samples, rate_hz)  # doctest: +SKIP
    """
    recogniser = load_recogniser(model, calibration=calibration)
    heard = resample(to_mono(samples), sample_rate_hz)
    blocks = (
        Block(start, heard[start : start + _BLOCK_SAMPLES])
        for start in range(0, len(heard), _BLOCK_SAMPLES)
    )
    return sorted(
        finished_notes(recogniser, blocks), key=lambda note: (note.onset_s, note.pitch_midi)
    )


def finished_notes(recogniser: Recogniser, blocks: Iterable[Block]) -> Iterable[NoteEvent]:
    """The notes of a stream in the order in which they end, the last at its end."""
    for block in blocks:
        yield from _ended(recogniser.push(block))
    yield from _ended(recogniser.flush())


def _ended(events: list[Event]) -> list[NoteEvent]:
    return [
        event.note
        for event in events
        if isinstance(event, NoteUpdate) and event.state is NoteState.ENDED
    ]
