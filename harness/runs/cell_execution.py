"""What runs inside a cell's own process: it makes the artifact, measures it and returns the record as JSON."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.common.lazy import lazy_imports
from harness.recipes.recipe import Recipe
from harness.records.cells import QualityCell
from harness.tasks.base import Task

with lazy_imports():
    import torch

    from harness.compression import evaluation
    from harness.models import artifacts
    from harness.profiling.costs import size
    from harness.recipes import builder as recipes_builder


if TYPE_CHECKING:
    pass
from harness.runs.record_making import make_record
from harness.runs.staleness import task_of

Report = Callable[[Any], None]


def execute_quality(
    cell_json: str, workspace: str, data_dir: str | None, stamp: str, threads: int, report: Report
) -> str:
    """Train and score one quality cell; `report` gets (stage, step, steps, loss). Returns the record as JSON."""
    started = time.time()
    torch.set_num_threads(threads)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    cell = QualityCell.model_validate_json(cell_json)
    task = task_of(cell, data_dir)
    builder = recipes_builder.Builder(
        Path(workspace),
        cell.model,
        task,
        cell.seed,
        cell.budget,
        cell.trained_on,
        report=lambda stage, p: report((stage, p.step, p.steps, p.loss)),
    )
    built = builder.build(Recipe.parse(cell.recipe))
    # Loaded from disk again: what is scored is what is weighed.
    model = artifacts.load_artifact(built.folder)
    quality = evaluation.evaluate_quality(model.to(cell.trained_on), task, cell.trained_on, built.training)
    facts = size.artifact_facts(built.folder)
    record = make_record(
        cell,
        stamp,
        started,
        reason=_cut(task, model.config.positions),
        artifact=facts,
        quality=quality,
        data=task.fingerprint(),
        weights=model.origin,
    )
    return record.to_json()


def _cut(task: Task, positions: int) -> str:
    """A note where a model of so many positions reads less of a task than others do."""
    length = task.length_within(positions)
    if length == task.max_length:
        return ""
    return f"sequences are cut at {length} tokens, the model's positions, and not at {task.max_length}"
