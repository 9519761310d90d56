"""Cells: the units of work, of caching and of isolation. A cell is a frozen specification with a key."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from harness.common.hashing import digest
from harness.records.schema import Precision, Workload

if TYPE_CHECKING:
    from harness.tasks.base import Task


class BudgetSpec(BaseModel):
    """The training budget of a cell: that of the baseline and that of each stage which trains after it (see
    `training.Budget`).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    baseline: dict[str, Any] = Field(default_factory=dict)
    recipe: dict[str, Any] = Field(default_factory=dict)


class _Cell(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    recipe: str
    model: str
    description: str | None = None
    """The hash of the description, for a task of one's own: its name alone does not say which task it is."""
    task_file: str | None = None
    """Where that description stands here. It makes no other cell, and no record tells it."""
    trained_on: str = "cpu"
    """The device that trains the artifact: sums are rounded otherwise on another."""

    def identity(self) -> dict[str, Any]:
        """What the key is made of, and what a record says of its cell."""
        usual = {"description": None, "trained_on": "cpu", "precision": "float32"}
        absent = {name for name, value in usual.items() if getattr(self, name, value) == value}
        return self.model_dump(mode="json", exclude={"task_file", *absent})

    @property
    def key(self) -> str:
        """A short hash of the cell's identity: the same cell has the same key on every machine."""
        return digest({"cell": type(self).__name__, **self.identity()})[:16]


class QualityCell(_Cell):
    """One recipe × base model × task × seed, trained and scored."""

    task: str
    seed: int
    budget: BudgetSpec

    @property
    def measured_on(self) -> str:
        """The device whose machine the record belongs to."""
        return self.trained_on

    @property
    def slug(self) -> str:
        """A readable file name, unique through the key."""
        return _slug(self.task, self.model, self.recipe, f"s{self.seed}", self.key[:8])


class ProfileCell(_Cell):
    """One artifact × runtime × precision × device × workload. The artifact is a trained one (task and seed), or
    untrained (neither).
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
        """The device whose machine the record belongs to."""
        return self.device

    @property
    def slug(self) -> str:
        """A readable file name, unique through the key."""
        runtime = self.runtime if self.precision == "float32" else f"{self.runtime}-{self.precision}"
        where = f"{runtime}-{self.device}-{self.workload.batch}x{self.workload.length}"
        where += "" if self.workload.cached is None else f"-{self.workload.cached}cached"
        return _slug("profile", self.task or "untrained", self.model, self.recipe, where, self.key[:8])


Cell = QualityCell | ProfileCell


def task_fields(name: str, task: Task) -> dict[str, Any]:
    """What a cell says of `task`, which `load_task` gave for `name`."""
    own = task.described is not None
    return {"task": task.name, "description": task.described, "task_file": name if own else None}


def _slug(*parts: str) -> str:
    clean = [
        re.sub(r"[^A-Za-z0-9.=]+", "-", part.replace(">", "then").replace("+", "and")).strip("-")
        for part in parts
    ]
    return ".".join(part[:60] for part in clean)
