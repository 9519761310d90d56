"""A row of a board: one recipe on one base model, or one row of a paper's table.

A row is made of parts, and each part is complete or absent. One function builds a part, and nothing changes it later.
Scores and drops are in points, sizes in bytes. FLOPs are for one pass of the workload; speedups are over the baseline.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from harness.records.schema import Workload
from leaderboard.boards.bootstrap import Difference, Drop, Interval, Score
from leaderboard.boards.rank_ranges import RankRange
from leaderboard.boards.terms import Terms

Section = Literal["ranked", "incomplete", ""]
"""A measured board ranks its complete rows, and shows the others apart. Other boards have one section."""
CostState = Literal["measured", "no difference", "simulated", "no verdict", "missing"]
"""What a cost ratio says.

- `no difference`: the difference lies inside the noise of the baseline against itself (A/A).
- `simulated`: the methods claim to reduce this cost, but the artifact under this runtime does not.
- `no verdict`: it was timed, but its interval stayed too wide.
"""


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
class CostRatio:
    """One cost over the baseline's on the same workload: of one artifact, or the geometric mean over a board's tasks.

    `counted` is what fronts compare: 1 if there is no difference, and at least 1 if the cost is not realised. The
    logarithm of `counted` is uncertain by the standard deviation `log_deviation`. `runtime` is the runtime that was
    chosen if the axis asks for the best one. A state without a figure has neither `ratio` nor `counted`.
    """

    state: CostState
    ratio: float | None = None
    ci95: Interval | None = None
    counted: float | None = None
    log_deviation: float = 0.0
    realised: bool = False
    runtime: str | None = None
    by_task: Mapping[str, CostRatio] = field(default_factory=dict)

    @property
    def realised_somewhere(self) -> bool:
        """Whether the cost is reduced on any task."""
        return self.realised or any(each.realised for each in self.by_task.values())


@dataclass(frozen=True)
class Costs:
    """The costs of a row. Fronts compare `by_axis`; `source` says where the figures come from.

    On a measured board `ratios` holds each axis's ratio to the row's own baseline, and `size` and `execution` describe
    the artifact of the first task.
    """

    size: Size | None = None
    execution: Execution | None = None
    speedup: Speedup | None = None
    by_axis: Mapping[str, float] = field(default_factory=dict)
    ratios: Mapping[str, CostRatio] = field(default_factory=dict)
    source: str = ""


@dataclass(frozen=True)
class Front:
    """Membership of the Pareto front of one axis. `probability` is P(front), the share of resamples on the front."""

    on: bool
    probability: float | None


@dataclass(frozen=True)
class Flag:
    """A warning on a row: a code for programs, and what it says in words."""

    code: str
    words: str


@dataclass(frozen=True)
class Evidence:
    """What a row has on one task: the seeds that were scored, and the number of profiles of its scored artifact."""

    seeds: tuple[int, ...] = ()
    profiles: int = 0


@dataclass(frozen=True, eq=False)
class Row:
    """A row: its identity, and its parts: scores by task, drop, costs, rank, fronts by axis, published claims.

    `drops` are by task, and `drop` is their average. `over_control` is the average difference from the baseline that
    was trained on for the recipe's budget. `control` marks a row that is compared with, and is no proposal. On an
    archive `terms` are those of the scores, and `records` counts what the row holds.
    """

    id: str
    title: str
    family: str
    recipe: str
    model: str
    baseline: bool = False
    control: bool = False
    section: Section = ""
    scores: Mapping[str, Score] = field(default_factory=dict)
    drops: Mapping[str, Difference] = field(default_factory=dict)
    drop: Drop | None = None
    over_control: Drop | None = None
    costs: Costs = field(default_factory=Costs)
    evidence: Mapping[str, Evidence] = field(default_factory=dict)
    rank: RankRange | None = None
    fronts: Mapping[str, Front] = field(default_factory=dict)
    claimed: Mapping[str, float] = field(default_factory=dict)
    flags: tuple[Flag, ...] = ()
    terms: Terms | None = None
    records: int = 0
    failures: tuple[Failure, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def in_best_set(self) -> bool:
        """Whether no row is significantly better: with 95 % confidence the best row is one of these."""
        return self.rank is not None and self.rank.best == 1

    @property
    def simulated(self) -> tuple[str, ...]:
        """The costs that the methods claim to reduce but this artifact, under this runtime, does not."""
        return () if self.costs.execution is None else self.costs.execution.simulated

    @property
    def seed_count(self) -> int | None:
        """The smallest number of seeds of the row's scores; None without seeds."""
        return min((len(score.seeds) for score in self.scores.values() if score.seeds), default=None)
