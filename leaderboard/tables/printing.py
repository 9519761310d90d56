"""Write a board or a table in each form that the command prints."""

from __future__ import annotations

from leaderboard.boards.board import Board
from leaderboard.tables import plain, terminal
from leaderboard.tables.board_figures import board_document, figures_table
from leaderboard.tables.board_table import board_table, readme_table
from leaderboard.tables.model import Table


def to_json(made: Board | Table) -> str:
    """Write every figure as JSON."""
    if isinstance(made, Board):
        return plain.to_json(board_document(made)) + "\n"
    return plain.to_json(made.to_dict())


def to_csv(made: Board | Table) -> str:
    """Write every figure as CSV."""
    return plain.to_csv(figures_table(made) if isinstance(made, Board) else made)


def to_markdown(made: Board | Table) -> str:
    """Write a Markdown table. A board keeps only the columns that fit a page."""
    return plain.to_markdown(readme_table(made) if isinstance(made, Board) else made)


def print_to_terminal(made: Board | Table) -> None:
    """Print a board in the width of the terminal, or a table in its own width."""
    if isinstance(made, Board):
        terminal.print_table(board_table(made))
    else:
        print(plain.to_text(made), end="")
