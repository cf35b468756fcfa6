"""Where in the piece the player is: bar, beat, tempo, and when to say that nobody knows."""

from __future__ import annotations

from edge.following.follower import Follower, follow
from edge.following.piece_follower import PieceFollower
from edge.following.position import Position
from edge.following.score import FollowedScore

__all__ = ["FollowedScore", "Follower", "PieceFollower", "Position", "follow"]
