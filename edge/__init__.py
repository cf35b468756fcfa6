"""Sostenuto's edge: everything that runs on the small computer beside the piano.

For programs, one call writes a recording down::

    import edge, soundfile

    samples, rate_hz = soundfile.read("prelude.flac", dtype="float32")
    notes = edge.transcribe(samples, rate_hz)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edge.note import NoteEvent
    from edge.transcription import transcribe

__all__ = ["NoteEvent", "transcribe"]


def __getattr__(name: str) -> Any:
    # Loaded when asked for: importing the package does no work.
    if name == "transcribe":
        from edge.transcription import transcribe

        return transcribe
    if name == "NoteEvent":
        from edge.note import NoteEvent

        return NoteEvent
    raise AttributeError(f"module 'edge' has no attribute {name!r}")
