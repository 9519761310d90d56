"""The three kinds of board: published, architecture and measured."""

from __future__ import annotations

from leaderboard.architecture import architecture_board
from leaderboard.measured import measured_board
from leaderboard.published_boards import published_board

__all__ = ["architecture_board", "measured_board", "published_board"]
