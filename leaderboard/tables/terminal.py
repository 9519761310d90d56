"""Print a table in a terminal. If it is too wide, less important columns are hidden, and a line names them."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import replace

from harness.common.lazy import lazy_imports
from leaderboard.tables.model import Column, Line, Table

with lazy_imports():
    import rich.box
    import rich.cells
    import rich.console
    import rich.table
    import rich.text

TITLE_WIDTH = 20
FOLDED = ("title", "terms", "flags")
"""The columns whose texts are folded to `TITLE_WIDTH`, by key."""
GAP = 2
"""Characters between two columns."""
SPARED_FIRST = (
    "family",
    "model",
    "size_pct_without_embeddings",
    "latency_ms",
    "records",
    "tasks",
    "drop_published",
    "claimed_",
    "disk_pct",
    "size_pct",
)
SPARED_LAST = (
    *("flags", "over_control", "drop_", "score_", "kept", "peak_memory_bytes", "flops", "speedup", "terms"),
    *("size", "disk_bytes", "size_pct", "drop"),
)
"""The columns that a narrow terminal hides, in this order, by key (or by its beginning, if it ends in `_`). Between the
two groups it hides the intervals, the front (its mark moves to the method's name) and the rank (rows keep its order).
"""
INTERVAL = re.compile(r" \[[^\]]*\]| ± [\d.,]+")


def print_table(table: Table, console: rich.console.Console | None = None) -> None:
    """Print the columns that fit, a line that names the hidden ones, and the notes."""
    console = console or rich.console.Console()
    fitted = fit(table, console.width)
    drawn = rich.table.Table(
        title=rich.text.Text(table.title, style="bold"),
        title_justify="left",
        box=rich.box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        collapse_padding=True,
    )
    for place, column in enumerate(fitted.columns):
        if column.key in FOLDED:
            narrowest = (
                TITLE_WIDTH if column.key == "title" else min(TITLE_WIDTH, _column_width(fitted, place))
            )
            drawn.add_column(
                rich.text.Text(column.heading), min_width=narrowest, overflow="fold", vertical="bottom"
            )
        else:
            # As narrow as its cells, unless a word of the heading is wider.
            lines = textwrap.wrap(column.title, _column_width(fitted, place), break_long_words=False)
            drawn.add_column(
                rich.text.Text("\n".join(lines)),
                justify="right" if column.numeric else "left",
                no_wrap=True,
                vertical="bottom",
            )
    for line in fitted.lines:
        style = "bold" if line.mark else "dim" if line.faded else ""
        drawn.add_row(*(rich.text.Text(cell.text) for cell in line.cells), style=style)
    console.print(drawn)
    for note in (*_hidden(table, fitted, console.width), *table.notes):
        console.print(rich.text.Text(f"· {note}", style="dim"))


def fit(table: Table, width: int) -> Table:
    """Hide the least important columns until the table fits into `width` characters. The titles always stay."""
    narrower = _narrower(table)
    while width_of(table) > width and (less := next(narrower, None)) is not None:
        table = less
    return table


def width_of(table: Table) -> int:
    """Compute a table's width in characters, with long texts folded to `TITLE_WIDTH`."""
    widths = [
        TITLE_WIDTH
        if column.key == "title"
        else min(TITLE_WIDTH, _column_width(table, place))
        if column.key in FOLDED
        else _column_width(table, place)
        for place, column in enumerate(table.columns)
    ]
    return sum(widths) + GAP * (len(widths) - 1)


def _column_width(table: Table, place: int) -> int:
    words = table.columns[place].title.split()
    return max(
        rich.cells.cell_len(text) for text in (*words, *(line.cells[place].text for line in table.lines))
    )


def _hidden(whole: Table, fitted: Table, width: int) -> list[str]:
    """Write one line that names what is hidden and how to see it; none if everything is shown."""
    shown = {column.key for column in fitted.columns}
    left_out = [column.title for column in whole.columns if column.key not in shown]
    if _has_intervals(whole) and not _has_intervals(fitted):
        left_out.append("the intervals")
    if not left_out:
        return []
    return [
        f"hidden in {width} characters: {'; '.join(left_out)}. A terminal of {width_of(whole)} shows them, "
        "--csv and --json have every figure"
    ]


def _narrower(table: Table) -> Iterator[Table]:
    """Yield narrower and narrower tables."""
    for key in SPARED_FIRST:
        if key == "size_pct" and not _spared(table, "disk_bytes"):
            continue  # a paper's table without another size
        for column in _spared(table, key):
            table = _without(table, column)
            yield table
    if _has_intervals(table):
        table = _with_texts(table, lambda c, _, text: INTERVAL.sub("", text) if c.numeric else text)
        yield table
    for column in _spared(table, "pareto"):
        table = _with_texts(
            _without(table, column),
            lambda c, line, text: f"{line.mark} {text}" if c.key == "title" and line.mark else text,
        )
        yield table
    for key in ("rank", *SPARED_LAST):
        for column in _spared(table, key):
            table = _without(table, column)
            yield table


def _spared(table: Table, key: str) -> list[Column]:
    """Find the column `key`, or, if `key` ends in `_`, all columns that begin with it, the last first."""
    prefix = key if key.endswith("_") else None
    return [c for c in reversed(table.columns) if c.key == key or (prefix and c.key.startswith(prefix))]


def _without(table: Table, column: Column) -> Table:
    return table.only(lambda each: each is not column)


def _with_texts(table: Table, change: Callable[[Column, Line, str], str]) -> Table:
    lines = (
        replace(
            line,
            cells=tuple(
                replace(cell, text=change(column, line, cell.text))
                for column, cell in zip(table.columns, line.cells, strict=True)
            ),
        )
        for line in table.lines
    )
    return replace(table, lines=tuple(lines))


def _has_intervals(table: Table) -> bool:
    return any(
        column.numeric and INTERVAL.search(cell.text)
        for line in table.lines
        for column, cell in zip(table.columns, line.cells, strict=True)
    )
