"""The fingerprint of a cell: all that makes its record stale."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.common.errors import SkylineError
from harness.common.hardware import hardware, versions
from harness.common.hashing import digest
from harness.common.lazy import lazy_imports
from harness.recipes.fingerprints import artifact_fingerprint
from harness.recipes.recipe import Recipe
from harness.records.cells import BudgetSpec, Cell, QualityCell
from harness.records.versions import EVALUATION_VERSION, PROFILING_VERSION
from harness.runtimes import get_runtime
from harness.tasks import load_task
from harness.tasks.base import Task

with lazy_imports():
    from harness.models import checkpoints


if TYPE_CHECKING:
    pass


def task_of(cell: Cell, data_dir: Path | str | None) -> Task:
    """The task of a cell that has one.

    Raises what `load_task` raises, and SkylineError where the description of a task of one's own is no longer
    the one that the cell was made from.
    """
    assert cell.task is not None
    task = load_task(cell.task_file or cell.task, data_dir)
    if task.described != cell.description:
        raise SkylineError(f"{cell.task_file or cell.task} was changed since the run began; run again")
    return task


def artifact_fingerprint_of(cell: Cell, data_dir: Path | None) -> str:
    """The fingerprint of the artifact that a cell measures."""
    data, budgets = "none", BudgetSpec()
    if cell.task is not None and cell.budget is not None:
        data, budgets = _data_fingerprint(cell, data_dir), cell.budget
    return artifact_fingerprint(
        Recipe.parse(cell.recipe),
        origin=checkpoints.origin_of(cell.model),
        data=data,
        seed=cell.seed,
        budgets=budgets.model_dump(),
        device=cell.trained_on,
    )


def _data_fingerprint(cell: Cell, data_dir: Path | None) -> str:
    """The fingerprint of a cell's task. All cells of a task ask for it, so its data are read once."""
    task = task_of(cell, data_dir)
    try:
        versions = tuple((path, path.stat().st_mtime_ns, path.stat().st_size) for path in task.files)
    except OSError:
        return task.fingerprint()  # its error names the file
    return _fingerprint_of_version(cell.task_file or task.name, data_dir, task.described, versions)


@cache
def _fingerprint_of_version(
    name: str, data_dir: Path | None, _described: str | None, _versions: tuple[tuple[Path, int, int], ...]
) -> str:
    return load_task(name, data_dir).fingerprint()


def fingerprint(cell: Cell, data_dir: Path | None) -> str:
    """All that makes the cell's record stale, hashed."""
    parts: dict[str, Any] = {"artifact": artifact_fingerprint_of(cell, data_dir)}
    if isinstance(cell, QualityCell):
        parts["evaluation"] = EVALUATION_VERSION
    else:
        if cell.workload.task is not None:
            parts["rows"] = load_task(cell.workload.task, data_dir).fingerprint()
        parts |= {
            "profiling": PROFILING_VERSION,
            "torch": versions().get("torch"),
            "hardware": hardware(cell.device).id,
            **get_runtime(cell.runtime).versions(),
        }
    return digest(parts)
