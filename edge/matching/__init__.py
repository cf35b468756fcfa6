"""Which piece is being played, and where in it: search, verification and tracking."""

from __future__ import annotations

from pathlib import Path

from edge.matching.catalogue import Catalogue
from edge.matching.identification import identify
from edge.matching.match import Candidate, MatchState, PieceMatch
from edge.matching.score import Piece, Score
from edge.matching.tracker import PieceTracker
from edge.resources import catalogue_dir

__all__ = [
    "Candidate",
    "Catalogue",
    "MatchState",
    "Piece",
    "PieceMatch",
    "PieceTracker",
    "Score",
    "default_catalogue_dir",
    "identify",
]


def default_catalogue_dir() -> Path:
    """The folder of packs in force: those that came with the program, or newer ones."""
    return catalogue_dir()
