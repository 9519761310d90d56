"""The one model of a table: columns, lines of typed cells, and notes. Every renderer takes it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

MISSING = "–"
"""What people read where nothing was measured."""

Value: TypeAlias = str | float | int | bool | None


@dataclass(frozen=True)
class Cell:
    """`text` is for people; `value` is what CSV and JSON print and what sorts (None: nothing was measured)."""

    text: str
    value: Value


@dataclass(frozen=True)
class Column:
    """A column: its key in CSV and JSON, its heading with the unit, the digits of its figures and its alignment.

    `unit_in_cells`: the cells carry the unit, or everybody knows it, so that headings need not name it.
    """

    key: str
    heading: str
    unit: str = ""
    digits: int = 1
    numeric: bool = False
    unit_in_cells: bool = False

    @property
    def title(self) -> str:
        """The heading, with the unit where that has to be named."""
        return self.heading if self.unit_in_cells or not self.unit else f"{self.heading} ({self.unit})"

    def cell(self, value: Value) -> Cell:
        """A cell whose text is the value with this column's digits."""
        if value is None:
            return Cell(MISSING, None)
        if isinstance(value, bool):
            return Cell("yes" if value else "no", value)
        return Cell(f"{value:.{self.digits}f}" if isinstance(value, float) else str(value), value)


@dataclass(frozen=True)
class Line:
    """The cells of one row, in the order of the columns. `mark`: the row stands out; `faded`: it has no figures."""

    cells: tuple[Cell, ...]
    mark: str = ""
    faded: bool = False


@dataclass(frozen=True)
class Table:
    """A table. `name` tells it from others, in JSON and between the markers of a README."""

    name: str
    title: str
    columns: tuple[Column, ...]
    lines: tuple[Line, ...]
    notes: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        name: str,
        title: str,
        columns: Sequence[Column],
        rows: Sequence[Sequence[Value]],
        notes: Sequence[str] = (),
    ) -> Table:
        """A table of plain values. A column in which any value is a number is numeric."""
        by_column = zip(*rows, strict=True) if rows else [()] * len(columns)
        aligned = tuple(
            replace(column, numeric=any(_is_number(value) for value in values))
            for column, values in zip(columns, by_column, strict=True)
        )
        lines = (
            Line(tuple(column.cell(value) for column, value in zip(columns, row, strict=True)))
            for row in rows
        )
        return cls(name, title, aligned, tuple(lines), tuple(notes))

    def records(self) -> list[dict[str, Value]]:
        """The values of each row by column key, unrounded."""
        keys = [column.key for column in self.columns]
        return [dict(zip(keys, (cell.value for cell in line.cells), strict=True)) for line in self.lines]

    def to_dict(self) -> dict[str, Any]:
        """The table as plain JSON values."""
        return {"name": self.name, "title": self.title, "rows": self.records(), "notes": list(self.notes)}

    def only(self, wanted: Callable[[Column], bool]) -> Table:
        """The table without the columns that `wanted` refuses."""
        kept = [place for place, column in enumerate(self.columns) if wanted(column)]
        return replace(
            self,
            columns=tuple(self.columns[place] for place in kept),
            lines=tuple(
                replace(line, cells=tuple(line.cells[place] for place in kept)) for line in self.lines
            ),
        )


def _is_number(value: Value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
