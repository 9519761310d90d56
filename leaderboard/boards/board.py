"""What a board is: rows, the axes that they can be compared on, and all that a reader must be told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, SkipValidation

from harness.common.errors import unknown_name
from harness.common.hardware import Hardware
from harness.records.schema import Workload

BoardKind = Literal["published", "architecture", "measured"]
Interval = tuple[float, float]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)


class Axis(_Model):
    """One cost that rows can be compared on; less is better. A printed figure is the row's cost × `scale`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str
    title: str
    unit: str
    scale: float = 1.0
    decimals: int = 1

    @property
    def label(self) -> str:
        """Title and unit, such as `Size on disk (MB)`."""
        return f"{self.title} ({self.unit})"


AXES: Mapping[str, Axis] = MappingProxyType(
    {
        axis.key: axis
        for axis in (
            Axis(key="disk", title="Size on disk", unit="MB", scale=1e-6),
            Axis(key="flops", title="FLOPs of one pass", unit="GFLOPs", scale=1e-9, decimals=2),
            Axis(key="latency", title="Latency", unit="% of the baseline's", scale=100),
            Axis(key="memory", title="Peak memory", unit="MB", scale=1e-6),
            Axis(key="size", title="Size as published", unit="% of the baseline's"),
            Axis(key="gpu-latency", title="GPU latency as published", unit="% of the baseline's", scale=100),
            Axis(key="cpu-latency", title="CPU latency as published", unit="% of the baseline's", scale=100),
            Axis(key="kept", title="Weights kept", unit="% of the pruned matrices"),
        )
    }
)
REALISED_COST: Mapping[str, Literal["disk", "flops", "latency", "memory"]] = MappingProxyType(
    {"disk": "disk", "flops": "flops", "latency": "latency", "memory": "memory"}
)
"""Which flag of `Profile.realised` speaks of which axis."""


class Failure(_Model):
    """A cell that gave no figures. `task` is its task's id."""

    kind: Literal["quality", "profile"]
    task: str | None
    what: str
    status: str
    reason: str

    def __str__(self) -> str:
        return f"{self.what} {self.status}: {self.reason}"


class Row(_Model):
    """One recipe on one base model (or one row of a paper's table) over tasks and seeds. None: not measured.

    Scores and drops are in points, sizes in bytes, `flops` of one pass of the workload, `speedup` relative
    to the baseline. `tasks` are those that `drop` averages over. `size_pct` follows the survey's convention
    (k bits are k / 32 of a weight, pruned weights are free). `simulated` names the costs that the method
    claims to reduce but this artifact, under this runtime, does not. `costs` holds what the fronts compare,
    by axis.
    """

    id: str
    title: str
    family: str
    recipe: str
    model: str
    baseline: bool = False
    rank: int | None = None
    tied: bool = False
    scores: dict[str, float] = {}
    scores_ci95: dict[str, Interval] = {}
    metrics: dict[str, str] = {}
    drop: float | None = None
    drop_ci95: Interval | None = None
    drops: dict[str, float] = {}
    drop_published: float | None = None
    tasks: list[str] = []
    seeds: dict[str, list[int]] = {}
    complete: bool = True
    size_pct: float | None = None
    size_pct_without_embeddings: float | None = None
    disk_bytes: int | None = None
    disk_pct: float | None = None
    flops: int | None = None
    speedup: float | None = None
    speedup_ci95: Interval | None = None
    speedup_verdict: str | None = None
    latency_ms: float | None = None
    peak_memory_bytes: int | None = None
    pareto: bool = False
    pareto_probability: float | None = None
    fronts: dict[str, bool] = {}
    front_probabilities: dict[str, float] = {}
    costs: dict[str, float] = {}
    realised: dict[str, bool] = {}
    simulated: list[str] = []
    workload: Workload | None = None
    hardware: str | None = None
    runtime: str | None = None
    device: str | None = None
    claimed: dict[str, float] = {}
    failures: list[Failure] = []
    notes: list[str] = []
    source: str = ""
    replicates: SkipValidation[npt.NDArray[np.float64] | None] = Field(default=None, exclude=True, repr=False)

    @property
    def seed_count(self) -> int | None:
        """The smallest number of seeds behind any of the row's tasks."""
        counts = [len(seeds) for seeds in self.seeds.values()]
        return min(counts) if counts else None


class Board(_Model):
    """A leaderboard. `tasks` are the columns, `compared` those of them that ranks and fronts rest on.

    `name` and `label` tell boards of one kind apart: `gordon2020`, and `Gordon et al. 2020, Table 1`.
    """

    kind: BoardKind
    title: str
    name: str = ""
    label: str = ""
    model: str | None = None
    tasks: list[str] = []
    compared: list[str] = []
    axis: str
    axes: list[Axis]
    rows: list[Row]
    hypervolume: dict[str, dict[str, float]] = {}
    hypervolume_reference: str = ""
    workload: Workload | None = None
    hardware: Hardware | None = None
    runtime: str | None = None
    device: str | None = None
    versions: dict[str, str] = {}
    date: str | None = None
    notes: list[str] = []
    skipped: list[str] = []

    def to_json(self) -> str:
        """The board as indented JSON."""
        return self.model_dump_json(indent=1) + "\n"

    @property
    def chosen_axis(self) -> Axis:
        """The axis whose front `Row.pareto` shows."""
        return next(axis for axis in self.axes if axis.key == self.axis)

    def front(self) -> Board:
        """This board with the rows on the chosen axis's front, and the baseline, alone; ranks stay as they are."""
        rows = [row for row in self.rows if row.pareto or row.baseline]
        count = f"{len(rows)} of the board's {len(self.rows)} rows: the Pareto front and the baseline"
        return self.model_copy(update={"rows": rows, "notes": [*self.notes, count]})


def pick_axis(axis: str, known: Sequence[str]) -> str:
    """`axis` where the board has it. Raises SkylineError naming the nearest one otherwise."""
    if axis not in known:
        raise unknown_name("axis", axis, known)
    return axis
