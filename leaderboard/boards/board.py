"""A board: its rows, the cost axes on which they can be compared, and the notes that a reader needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from harness.common.hardware import Hardware
from harness.records.schema import Workload
from leaderboard.boards.axes import ARCHITECTURE_AXES, Axis
from leaderboard.boards.row import Row, Section

BoardKind = Literal["published", "architecture", "measured", "archive"]


@dataclass(frozen=True)
class Board:
    """A leaderboard. `tasks` are its columns; ranks and fronts use only the tasks of `compared`.

    `name` and `label` distinguish boards of one kind, such as `gordon2020` and `Gordon et al. 2020, Table 1`.
    `workload` and `runtime` are those of the columns that show absolute costs; `axes` may name others.
    `coverage` says how many rows are complete. `profiles_wanted` is the number of profiles that a scored artifact
    should have (workloads × runtimes).
    `hypervolume` is by axis and family, from 0 to 1; `hypervolume_reference` describes its reference point.
    `skipped` has a line for everything that was left out.
    """

    kind: BoardKind
    title: str
    name: str = ""
    label: str = ""
    model: str | None = None
    tasks: Sequence[str] = ()
    compared: Sequence[str] = ()
    axis: str = "disk"
    axes: Sequence[Axis] = ARCHITECTURE_AXES
    rows: Sequence[Row] = ()
    hypervolume: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    hypervolume_reference: str = ""
    protocol: str | None = None
    seeds: Sequence[int] = ()
    coverage: str = ""
    profiles_wanted: int = 0
    workload: Workload | None = None
    hardware: Hardware | None = None
    runtime: str | None = None
    device: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    date: str | None = None
    notes: Sequence[str] = ()
    skipped: Sequence[str] = ()

    @property
    def chosen_axis(self) -> Axis:
        """The axis whose front the board shows."""
        return next(axis for axis in self.axes if axis.key == self.axis)

    def on_front(self, row: Row) -> bool:
        """Check whether `row` is on the front of the chosen axis."""
        return self.axis in row.fronts and row.fronts[self.axis].on

    def section(self, name: Section) -> list[Row]:
        """The rows of one section, in the board's order."""
        return [row for row in self.rows if row.section == name]

    def front(self) -> Board:
        """Keep only the baseline and the rows on the chosen axis's front. Ranks do not change."""
        rows = [row for row in self.rows if self.on_front(row) or row.baseline]
        count = f"only the Pareto front and the baseline are shown: {len(rows)} of {len(self.rows)} rows"
        return replace(self, rows=rows, notes=[*self.notes, count])
