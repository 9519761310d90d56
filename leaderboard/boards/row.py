"""A row of a board: one recipe on one base model, or one row of a paper's table.

A row is made of parts, and each part is complete or absent. One function builds a part, and nothing changes it later.
Scores and drops are in points, sizes in bytes. FLOPs are for one pass of the workload; speedups are over the baseline.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from harness.records.schema import Workload
from leaderboard.boards.bootstrap import Drop, Interval, Score


@dataclass(frozen=True)
class Failure:
    """A cell without figures. `task` is the id of its task."""

    kind: Literal["quality", "profile"]
    task: str | None
    what: str
    status: str
    reason: str

    def __str__(self) -> str:
        return f"{self.what} {self.status}: {self.reason}"


@dataclass(frozen=True)
class Size:
    """The size of one artifact. `disk_pct` is percent of the baseline's bytes.

    `survey_pct` and `survey_pct_without_embeddings` follow the survey's convention: a weight of k bits counts k / 32,
    a pruned weight nothing (Ganesh et al. 2021, Table 1).
    """

    disk_bytes: int | None = None
    disk_pct: float | None = None
    survey_pct: float | None = None
    survey_pct_without_embeddings: float | None = None


@dataclass(frozen=True)
class Speedup:
    """The baseline's latency over the artifact's; None if the interval was too wide (`verdict` is "none")."""

    value: float | None
    ci95: Interval | None = None
    verdict: str | None = None


@dataclass(frozen=True)
class Execution:
    """The costs of one artifact's passes on one workload under one runtime; latency is the median of a pass.

    `realised` says for each cost whether this execution reduces it. `simulated` lists the costs that the methods claim
    to reduce but this execution does not.
    """

    flops: int
    latency_ms: float | None
    peak_memory_bytes: int | None
    realised: Mapping[str, bool]
    simulated: tuple[str, ...]
    workload: Workload
    hardware: str
    runtime: str
    device: str


@dataclass(frozen=True)
class Costs:
    """The costs of one artifact. Fronts compare `by_axis`; `source` says where the figures come from."""

    size: Size | None = None
    execution: Execution | None = None
    speedup: Speedup | None = None
    by_axis: Mapping[str, float] = field(default_factory=dict)
    source: str = ""


@dataclass(frozen=True)
class Rank:
    """The position by drop. Rows whose interval overlaps that of the rank's first row share it."""

    position: int
    tied: bool


@dataclass(frozen=True)
class Front:
    """Membership of the Pareto front of one axis. `probability` is P(front), the share of resamples on the front."""

    on: bool
    probability: float | None


@dataclass(frozen=True, eq=False)
class Row:
    """A row: its identity, and its parts: scores by task, drop, costs, rank, fronts by axis, published claims."""

    id: str
    title: str
    family: str
    recipe: str
    model: str
    baseline: bool = False
    scores: Mapping[str, Score] = field(default_factory=dict)
    drop: Drop | None = None
    costs: Costs = field(default_factory=Costs)
    rank: Rank | None = None
    fronts: Mapping[str, Front] = field(default_factory=dict)
    claimed: Mapping[str, float] = field(default_factory=dict)
    failures: tuple[Failure, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def compared(self) -> Drop | None:
        """The drop if no compared task is missing, else None. Ranks and fronts use it."""
        return self.drop if self.drop is not None and self.drop.complete else None

    @property
    def simulated(self) -> tuple[str, ...]:
        """The costs that the methods claim to reduce but this artifact, under this runtime, does not."""
        return () if self.costs.execution is None else self.costs.execution.simulated

    @property
    def seed_count(self) -> int | None:
        """The smallest number of seeds of the row's scores; None without seeds."""
        return min((len(score.seeds) for score in self.scores.values() if score.seeds), default=None)
