"""Write a board or a table in each form that the command prints."""

from __future__ import annotations

from leaderboard.boards.board import Board
from leaderboard.tables import plain, terminal
from leaderboard.tables.board_figures import board_document, figures_table
from leaderboard.tables.board_table import for_readme, section_tables
from leaderboard.tables.model import Table


def to_json(made: Board | Table) -> str:
    """Write every figure as JSON."""
    if isinstance(made, Board):
        return plain.to_json(board_document(made)) + "\n"
    return plain.to_json(made.to_dict())


def to_csv(made: Board | Table) -> str:
    """Write every figure as CSV. The column `section` says which rows are incomplete."""
    return plain.to_csv(figures_table(made) if isinstance(made, Board) else made)


def to_markdown(made: Board | Table) -> str:
    """Write a Markdown table, or one for each section of a board. A board keeps only the columns that fit a page."""
    if not isinstance(made, Board):
        return plain.to_markdown(made)
    first, *others = (for_readme(table) for table in section_tables(made))
    parts = [plain.to_markdown(first)]
    parts += [f"{plain.escape_markdown(table.title)}\n\n{plain.to_markdown(table)}" for table in others]
    return "\n".join(parts)


def print_to_terminal(made: Board | Table) -> None:
    """Print a board in the width of the terminal, or a table in its own width."""
    if isinstance(made, Board):
        for table in section_tables(made):
            terminal.print_table(table)
    else:
        print(plain.to_text(made), end="")
