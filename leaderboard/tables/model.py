"""The model of a table that all renderers share: columns, lines of typed cells, and notes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

MISSING = "–"
"""The text of a cell without a figure."""

Value: TypeAlias = str | float | int | bool | None


@dataclass(frozen=True)
class Cell:
    """A cell. People read `text`; CSV and JSON print `value`, and tables sort by it (None: nothing was measured)."""

    text: str
    value: Value


@dataclass(frozen=True)
class Column:
    """A column: its key in CSV and JSON, its heading, its unit, and how its figures are written.

    If `unit_in_cells` is set, the cells name the unit or it is well known, so the heading leaves it out.
    """

    key: str
    heading: str
    unit: str = ""
    digits: int = 1
    numeric: bool = False
    unit_in_cells: bool = False

    @property
    def title(self) -> str:
        """The heading, with the unit unless `unit_in_cells`."""
        return self.heading if self.unit_in_cells or not self.unit else f"{self.heading} ({self.unit})"

    def cell(self, value: Value) -> Cell:
        """Make a cell whose text is the value with this column's digits."""
        if value is None:
            return Cell(MISSING, None)
        if isinstance(value, bool):
            return Cell("yes" if value else "no", value)
        return Cell(f"{value:.{self.digits}f}" if isinstance(value, float) else str(value), value)


@dataclass(frozen=True)
class Line:
    """The cells of one row, in the order of the columns. A `mark` makes the row bold; a `faded` row is printed dim."""

    cells: tuple[Cell, ...]
    mark: str = ""
    faded: bool = False


@dataclass(frozen=True)
class Table:
    """A table. JSON and the markers of a README use its `name`."""

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
        """Make a table from plain values. A column is numeric if any of its values is a number."""
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
        """Return the unrounded values of each row, by column key."""
        keys = [column.key for column in self.columns]
        return [dict(zip(keys, (cell.value for cell in line.cells), strict=True)) for line in self.lines]

    def to_dict(self) -> dict[str, Any]:
        """Return the table as plain JSON values."""
        return {"name": self.name, "title": self.title, "rows": self.records(), "notes": list(self.notes)}

    def only(self, wanted: Callable[[Column], bool]) -> Table:
        """Keep the columns for which `wanted` is true."""
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
