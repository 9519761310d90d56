"""Small tables beside the boards: findings, and sizes against the survey's."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

from harness.common.lazy import lazy_imports
from leaderboard.tables.boards import escape_markdown

with lazy_imports():
    import pandas
    import tabulate


Cell = str | float | int | bool | None


class Column(BaseModel):
    """One column: its key in JSON and CSV, its heading, and the digits of its figures."""

    model_config = ConfigDict(frozen=True)

    key: str
    heading: str
    digits: int = 1

    def text(self, value: Cell) -> str:
        """A cell for people: – where nothing was measured."""
        if value is None:
            return "–"
        if isinstance(value, bool):
            return "yes" if value else "no"
        return f"{value:.{self.digits}f}" if isinstance(value, float) else str(value)


class PlainTable(BaseModel):
    """A title, columns, one value for each in every row, and notes."""

    model_config = ConfigDict(frozen=True)

    name: str
    title: str
    columns: list[Column]
    rows: list[list[Cell]]
    notes: list[str] = []

    def records(self) -> list[dict[str, Cell]]:
        """The rows by column key, unrounded."""
        return [dict(zip((c.key for c in self.columns), row, strict=True)) for row in self.rows]

    def to_dict(self) -> dict[str, Any]:
        """The table as plain JSON values."""
        return {"name": self.name, "title": self.title, "rows": self.records(), "notes": self.notes}


def to_markdown(table: PlainTable) -> str:
    """The table as Markdown, its notes below."""
    lines = "\n".join(f"- {escape_markdown(note)}" for note in table.notes)
    return f"{_tabulated(table, 'pipe', escape=True)}\n\n{lines}".rstrip() + "\n"


def to_text(table: PlainTable) -> str:
    """The table for a terminal."""
    return "\n".join([table.title, "", _tabulated(table, "simple"), "", *table.notes]).rstrip() + "\n"


def to_csv(table: PlainTable) -> str:
    """The table as CSV, every figure unrounded."""
    frame = pandas.DataFrame(table.records(), columns=[c.key for c in table.columns])
    return str(frame.to_csv(index=False, lineterminator="\n"))


def _tabulated(table: PlainTable, style: str, escape: bool = False) -> str:
    made = [[column.text(v) for column, v in zip(table.columns, row, strict=True)] for row in table.rows]
    heads = [column.heading for column in table.columns]
    if escape:
        made, heads = (
            [[escape_markdown(cell) for cell in row] for row in made],
            list(map(escape_markdown, heads)),
        )
    numeric = [
        any(isinstance(row[i], float | int) and not isinstance(row[i], bool) for row in table.rows)
        for i in range(len(heads))
    ]
    align = ["right" if number else "left" for number in numeric]
    return str(tabulate.tabulate(made, headers=heads, tablefmt=style, colalign=align, disable_numparse=True))
