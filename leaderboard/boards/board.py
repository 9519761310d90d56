"""A board: its rows, the cost axes on which they can be compared, and the notes that a reader needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Literal

from harness.common.errors import unknown_name
from harness.common.hardware import Hardware
from harness.records.schema import Workload
from leaderboard.boards.row import Row

BoardKind = Literal["published", "architecture", "measured"]


@dataclass(frozen=True)
class Axis:
    """A cost on which rows can be compared; less is better. A printed figure is the row's cost × `scale`."""

    key: str
    title: str
    unit: str
    scale: float = 1.0
    decimals: int = 1

    @property
    def label(self) -> str:
        """The title and the unit, such as `Size on disk (MB)`."""
        return f"{self.title} ({self.unit})"


AXES: Mapping[str, Axis] = MappingProxyType(
    {
        axis.key: axis
        for axis in (
            Axis("disk", "Size on disk", "MB", scale=1e-6),
            Axis("flops", "FLOPs of one pass", "GFLOPs", scale=1e-9, decimals=2),
            Axis("latency", "Latency", "% of the baseline's", scale=100.0),
            Axis("memory", "Peak memory", "MB", scale=1e-6),
            Axis("size", "Size as published", "% of the baseline's"),
            Axis("gpu-latency", "GPU latency as published", "% of the baseline's", scale=100.0),
            Axis("cpu-latency", "CPU latency as published", "% of the baseline's", scale=100.0),
            Axis("kept", "Weights kept", "% of the pruned matrices"),
        )
    }
)
MEASURED_AXES = tuple(AXES[key] for key in ("disk", "flops", "latency", "memory"))
"""The axes of boards over records. For each, a profile's `realised` has a flag of the same name."""


@dataclass(frozen=True)
class Board:
    """A leaderboard. `tasks` are its columns; ranks and fronts use only the tasks of `compared`.

    `name` and `label` distinguish boards of one kind, such as `gordon2020` and `Gordon et al. 2020, Table 1`.
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
    axes: Sequence[Axis] = MEASURED_AXES
    rows: Sequence[Row] = ()
    hypervolume: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    hypervolume_reference: str = ""
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

    def front(self) -> Board:
        """Keep only the baseline and the rows on the chosen axis's front. Ranks do not change."""
        rows = [row for row in self.rows if self.on_front(row) or row.baseline]
        count = f"only the Pareto front and the baseline are shown: {len(rows)} of {len(self.rows)} rows"
        return replace(self, rows=rows, notes=[*self.notes, count])


def pick_axis(axis: str, known: Sequence[Axis]) -> str:
    """Return `axis` if it is one of `known`. Raises SkylineError (unknown-name) with the nearest one otherwise."""
    keys = [each.key for each in known]
    if axis not in keys:
        raise unknown_name("axis", axis, keys)
    return axis
