"""Boards in a terminal: what was measured keeps its place, what matters less gives way, and a line says what."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from harness.common.lazy import lazy_imports
from leaderboard.boards.board import Board, Row
from leaderboard.tables.boards import heading, notes
from leaderboard.tables.cells import FRONT_MARK, Column, columns

with lazy_imports():
    import rich.box
    import rich.cells
    import rich.console
    import rich.table
    import rich.text


if TYPE_CHECKING:
    pass

TITLE_WIDTH = 20
GAP = 2
"""Between two columns."""
SPARED_FIRST = (
    "family",
    "size_pct_without_embeddings",
    "latency_ms",
    "tasks",
    "drop_published",
    "claimed_",
    "disk_pct",
    "size_pct",
)
SPARED_LAST = ("score_", "kept", "peak_memory_bytes", "flops", "speedup", "disk_bytes", "size_pct", "drop")
"""The columns that give way in a narrow terminal, in this order, by how their keys begin. In between go the
intervals, the front (its mark goes before the method's name) and the rank (the rows stay in its order)."""
INTERVAL = re.compile(r" \[[^\]]*\]| ± [\d.,]+")


def print_board(board: Board, console: rich.console.Console | None = None) -> None:
    """Print the board: the columns that fit, then what is hidden, legend, notes and failed cells."""
    console = console or rich.console.Console()
    layout = fit(board, console.width)
    table = rich.table.Table(
        title=rich.text.Text(board.title, style="bold"),
        title_justify="left",
        box=rich.box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        collapse_padding=True,
    )
    for column in layout.columns:
        if column.key == "title":
            table.add_column(
                rich.text.Text(column.heading), min_width=TITLE_WIDTH, overflow="fold", vertical="bottom"
            )
        else:
            head = rich.text.Text("\n".join(layout.heading(column)))
            table.add_column(head, justify="right" if column.numeric else "left", no_wrap=True)
    for row in board.rows:
        style = "bold" if row.pareto else ("dim" if row.failures and row.drop is None else "")
        table.add_row(*(rich.text.Text(layout.text(column, row)) for column in layout.columns), style=style)
    console.print(table)
    for note in (*layout.hidden(console.width), *notes(board)):
        console.print(rich.text.Text(f"· {note}", style="dim"))


@dataclass(frozen=True)
class Layout:
    """The columns of a board that are printed, and whether with intervals and with the front's own column."""

    board: Board
    columns: tuple[Column, ...]
    intervals: bool = True
    front_in_title: bool = False

    @property
    def width(self) -> int:
        """The characters that it takes, with titles folded to `TITLE_WIDTH`."""
        widths = [TITLE_WIDTH if c.key == "title" else self._width(c) for c in self.columns]
        return sum(widths) + GAP * (len(widths) - 1)

    def text(self, column: Column, row: Row) -> str:
        """What a cell says."""
        text = column.text(row)
        if column.key == "title":
            return f"{FRONT_MARK} {text}" if self.front_in_title and row.pareto else text
        return text if self.intervals else INTERVAL.sub("", text)

    def heading(self, column: Column) -> list[str]:
        """The lines of a heading, no wider than its cells where its words allow."""
        return textwrap.wrap(heading(column), self._width(column), break_long_words=False)

    def hidden(self, width: int) -> list[str]:
        """What a terminal of that width has no room for and how to see it, as one line; none where all is shown."""
        whole = everything(self.board)
        shown = {column.key for column in self.columns}
        left_out = [heading(column) for column in whole.columns if column.key not in shown]
        left_out += [] if self.intervals else ["the intervals"]
        if not left_out:
            return []
        return [
            f"hidden in {width} characters: {'; '.join(left_out)}. A terminal of {whole.width} shows them, "
            "--csv and --json have every figure"
        ]

    def _width(self, column: Column) -> int:
        words = heading(column).split()
        return max(
            rich.cells.cell_len(text)
            for text in (*words, *(self.text(column, row) for row in self.board.rows))
        )


def everything(board: Board) -> Layout:
    """The layout that hides nothing."""
    return Layout(board, tuple(columns(board)))


def fit(board: Board, width: int) -> Layout:
    """The layout that keeps what matters most in `width` characters."""
    layout = everything(board)
    narrower = _narrower(layout)
    while layout.width > width and (less := next(narrower, None)) is not None:
        layout = less
    return layout


def _narrower(layout: Layout) -> Iterator[Layout]:
    """Ever narrower layouts; at last only titles are left."""
    keys = {column.key for column in layout.columns}
    for key in SPARED_FIRST:
        if key == "size_pct" and "disk_bytes" not in keys:
            continue  # a table of a paper that has no other size
        for less in _without(layout, key):
            yield less
            layout = less
    if any(INTERVAL.search(column.text(row)) for column in layout.columns for row in layout.board.rows):
        layout = replace(layout, intervals=False)
        yield layout
    if "pareto" in keys:
        (less,) = _without(layout, "pareto")
        layout = replace(less, front_in_title=True)
        yield layout
    for key in ("rank", *SPARED_LAST):
        for less in _without(layout, key):
            yield less
            layout = less


def _without(layout: Layout, key: str) -> Iterator[Layout]:
    """The layout without the column `key`; where it ends in `_`, one fewer of those that so begin, the last first."""
    for column in reversed(layout.columns):
        if column.key == key or (key.endswith("_") and column.key.startswith(key)):
            layout = replace(layout, columns=tuple(c for c in layout.columns if c is not column))
            yield layout
