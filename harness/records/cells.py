"""Cells: frozen specifications of one unit of work. A cell has a key, a record, and runs in its own process."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from harness.common.hashing import digest
from harness.records.schema import Precision, Workload

if TYPE_CHECKING:
    from harness.tasks.base import Task

Split = Literal["dev", "held-out"]


class BudgetSpec(BaseModel):
    """Training budgets of a cell: one for the baseline, one for each later stage that trains.

    The fields of both are those of `compression.context.Budget`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    baseline: dict[str, Any] = Field(default_factory=dict)
    recipe: dict[str, Any] = Field(default_factory=dict)

    def with_fields(self, values: dict[str, Any]) -> BudgetSpec:
        """Return these budgets with other values of some fields."""
        return BudgetSpec(baseline={**self.baseline, **values}, recipe={**self.recipe, **values})


class _Cell(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    recipe: str
    model: str
    description: str | None = None
    """Hash of the task description, for a user's task: its name alone does not identify it."""
    task_file: str | None = None
    """Path of the task description on this machine. Not part of the cell's key, not written to records."""
    trained_on: str = "cpu"
    """Device that trains the artifact. Another device rounds sums differently."""
    protocol: str | None = None
    """Name of the protocol that chose the budget (`harness.runs.protocols`); None for a budget of one's own."""

    def identity(self) -> dict[str, Any]:
        """Return the fields that make the key, as a record stores them. Fields with their usual value are left out."""
        usual = {
            "description": None,
            "trained_on": "cpu",
            "precision": "float32",
            "protocol": None,
            "split": "dev",
        }
        absent = {name for name, value in usual.items() if getattr(self, name, value) == value}
        return self.model_dump(mode="json", exclude={"task_file", *absent})

    @property
    def key(self) -> str:
        """Short hash of the cell's identity. It is the same on every machine."""
        return digest({"cell": type(self).__name__, **self.identity()})[:16]


class QualityCell(_Cell):
    """Train and score one recipe × base model × task × seed.

    With `split` "held-out" a slice of the training set is scored, which is then not trained on. Choices, such as that
    of a learning rate, are made on it.
    """

    task: str
    seed: int
    budget: BudgetSpec
    split: Split = "dev"

    @property
    def measured_on(self) -> str:
        """The device that decides under which machine the record is stored."""
        return self.trained_on

    @property
    def slug(self) -> str:
        """Readable file name, made unique by the key."""
        task = self.task if self.split == "dev" else f"{self.task}-{self.split}"
        return _slug(task, self.model, self.recipe, f"s{self.seed}", self.key[:8])


class ProfileCell(_Cell):
    """Measure one artifact × runtime × precision × device × workload.

    The artifact is trained if `task` is given, with `seed`; otherwise it is untrained. `time_cap_s` is in seconds.
    """

    task: str | None = None
    seed: int = 0
    budget: BudgetSpec | None = None
    runtime: str = "eager"
    precision: Precision = "float32"
    device: str = "cpu"
    workload: Workload = Workload(batch=1, length=128)
    time_cap_s: float = 20.0

    @property
    def measured_on(self) -> str:
        """The device that decides under which machine the record is stored."""
        return self.device

    @property
    def slug(self) -> str:
        """Readable file name, made unique by the key."""
        runtime = self.runtime if self.precision == "float32" else f"{self.runtime}-{self.precision}"
        where = f"{runtime}-{self.device}-{self.workload.batch}x{self.workload.length}"
        where += "" if self.workload.cached is None else f"-{self.workload.cached}cached"
        return _slug("profile", self.task or "untrained", self.model, self.recipe, where, self.key[:8])


Cell = QualityCell | ProfileCell


def task_fields(name: str, task: Task) -> dict[str, Any]:
    """Return the fields of a cell that identify `task`. `name` is the name from which `load_task` made it."""
    own = task.described is not None
    return {"task": task.name, "description": task.described, "task_file": name if own else None}


def _slug(*parts: str) -> str:
    clean = [
        re.sub(r"[^A-Za-z0-9.=]+", "-", part.replace(">", "then").replace("+", "and")).strip("-")
        for part in parts
    ]
    return ".".join(part[:60] for part in clean)
