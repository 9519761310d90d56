"""Resolve cells into jobs. Recipe, task, runtime, base model and machine of a cell are read here and nowhere else.

A process uses one resolver for all its cells, so that what they share is read once. A child process makes its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.common.errors import Code, SkylineError
from harness.common.hardware import hardware, versions
from harness.common.hashing import digest
from harness.common.lazy import lazy_imports
from harness.compression.comparable import Baseline, Shape
from harness.recipes.compatibility import shape_after
from harness.recipes.fingerprints import artifact_fingerprint
from harness.recipes.recipe import Recipe
from harness.records.cells import BudgetSpec, Cell, ProfileCell, QualityCell
from harness.records.versions import EVALUATION_VERSION, PROFILING_VERSION
from harness.runs.job import Build, Job
from harness.runtimes import get_runtime
from harness.tasks import load_task

with lazy_imports():
    from harness.models import checkpoints

if TYPE_CHECKING:
    from harness.models.config import EncoderConfig
    from harness.runtimes import Runtime
    from harness.tasks.base import Task


class Resolver:
    """Resolves cells into jobs, and caches what several cells share: recipes, tasks and their data, runtimes, base
    models, machines and fingerprints of artifacts.
    """

    def __init__(self, data_dir: Path | None = None) -> None:
        self.recipe: Callable[[str], Recipe] = cache(Recipe.parse)
        self._load_task: Callable[[str], Task] = cache(lambda name: load_task(name, data_dir))
        self._held_out: Callable[[Task], Task] = cache(lambda task: task.held_out())
        self._runtime: Callable[[str], Runtime] = cache(get_runtime)
        self._runtime_versions: Callable[[str], dict[str, str]] = cache(
            lambda name: self._runtime(name).versions()
        )
        self._torch: Callable[[], str | None] = cache(lambda: versions().get("torch"))
        self._hardware = cache(hardware)
        self._base: Callable[[str], EncoderConfig] = cache(checkpoints.base_config)
        self._origin: Callable[[str], str] = cache(checkpoints.origin_of)
        self._shape: Callable[[Recipe, str, Task | None], Shape] = cache(check_recipe)
        self._artifacts: dict[tuple[Recipe, str], str] = {}

    def job(self, cell: Cell) -> Job:
        """Resolve a cell into a job. `harness.runs.job.supports` then tells whether the job can run.

        Raises SkylineError if a recipe, task, runtime, base model or device does not exist or cannot be read, or if a
        method of the recipe cannot work on the model that it would get.
        """
        recipe, task = self.recipe(cell.recipe), self.task(cell)
        shape = self._shape(recipe, cell.model, None)
        if task is not None:
            try:
                shape = self._shape(recipe, cell.model, task)
            except SkylineError as error:
                raise SkylineError(f"task '{task.name}': {error}", error.code) from None
        lineage = self._lineage(cell, recipe, task)
        return Job(
            cell=cell,
            recipe=recipe,
            task=task,
            runtime=self._runtime(cell.runtime) if isinstance(cell, ProfileCell) else None,
            base=self._base(cell.model),
            shape=shape,
            lineage=lineage,
            fingerprint=self._record_fingerprint(cell, lineage[0].fingerprint),
            hardware=self._hardware(cell.measured_on),
        )

    def task(self, cell: Cell) -> Task | None:
        """Return the task that a cell's artifact is trained on, or None.

        Raises the errors of `load_task`, and SkylineError (`changed`) if the user's task description changed after the
        cell was made.
        """
        if cell.task is None:
            return None
        task = self._load_task(cell.task_file or cell.task)
        if task.described != cell.description:
            raise SkylineError(
                f"{cell.task_file or cell.task} changed after the run began; run again", Code.CHANGED
            )
        held_out = isinstance(cell, QualityCell) and cell.split == "held-out"
        return self._held_out(task) if held_out else task

    def rows(self, cell: ProfileCell) -> Task:
        """Return the task whose dev rows are a profile's real inputs.

        Raises SkylineError (`incomplete`) if neither workload nor cell names a task.
        """
        task = self.task(cell) if cell.workload.task is None else self._load_task(cell.workload.task)
        if task is None:
            raise SkylineError(
                "real inputs need a task, and this profile has none; use synthetic inputs", Code.INCOMPLETE
            )
        return task

    def _lineage(self, cell: Cell, recipe: Recipe, task: Task | None) -> tuple[Build, ...]:
        data, budget, chain = "none", BudgetSpec(), [recipe]
        if task is not None and cell.budget is not None:
            data, budget = task.fingerprint(), cell.budget
            while (parent := chain[-1].parent) is not None:
                chain.append(parent)
        facts = {
            "origin": self._origin(cell.model),
            "data": data,
            "seed": cell.seed,
            "budgets": budget.model_dump(),
            "device": cell.trained_on,
        }
        shared = digest(facts)
        return tuple(Build(each, self._artifact_fingerprint(each, shared, facts)) for each in chain)

    def _artifact_fingerprint(self, recipe: Recipe, shared: str, facts: dict[str, Any]) -> str:
        key = (recipe, shared)
        if key not in self._artifacts:
            self._artifacts[key] = artifact_fingerprint(recipe, **facts)
        return self._artifacts[key]

    def _record_fingerprint(self, cell: Cell, artifact: str) -> str:
        """Return the hash of everything that makes a cell's record stale."""
        if isinstance(cell, QualityCell):
            return digest({"artifact": artifact, "evaluation": EVALUATION_VERSION})
        rows = {} if cell.workload.task is None else {"rows": self.rows(cell).fingerprint()}
        return digest(
            {
                "artifact": artifact,
                **rows,
                "profiling": PROFILING_VERSION,
                "torch": self._torch(),
                "hardware": self._hardware(cell.device).id,
                **self._runtime_versions(cell.runtime),
            }
        )


def check_recipe(recipe: Recipe, model: str, task: Task | None = None) -> Shape:
    """Return the shape of the model that a recipe makes of a base model, as far as it is known before training.

    Raises SkylineError if a method cannot work on the model that the methods before it leave, or on the kind and texts
    of `task`. The message names both methods.
    """
    baseline = Baseline(checkpoints.base_config(model), lambda: checkpoints.base_tokenizer(model))
    if task is not None:
        config = baseline.config.with_head(task.kind, task.output_size)
        baseline = replace(
            baseline,
            config=config,
            texts=lambda: [text for e in task.train() for text in (e.text, e.pair) if text],
        )
    return shape_after(recipe, model, baseline)
