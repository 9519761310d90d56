"""Training and scoring a cell, in a process of its own."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.common.lazy import lazy_imports
from harness.runs.record_making import make_record
from harness.runs.resolution import Resolver

with lazy_imports():
    import torch

    from harness.compression import evaluation
    from harness.models import artifacts
    from harness.profiling.costs import size
    from harness.recipes import builder as recipes_builder

if TYPE_CHECKING:
    from harness.common.hardware import Hardware
    from harness.records.cells import QualityCell
    from harness.tasks.base import Task

Report = Callable[[Any], None]


def execute_quality(
    cell: QualityCell,
    workspace: Path,
    data_dir: Path | None,
    stamp: str,
    machine: Hardware,
    threads: int,
    report: Report,
) -> str:
    """Train and score a quality cell; `report` gets (stage, step, steps, loss). Returns the record as JSON, with the
    fingerprint `stamp` and the hardware that the launching process found.
    """
    started = time.time()
    torch.set_num_threads(threads)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    resolver = Resolver(data_dir)
    task = resolver.task(cell)
    assert task is not None
    builder = recipes_builder.Builder(
        workspace,
        cell.model,
        task,
        cell.seed,
        cell.budget,
        cell.trained_on,
        report=lambda stage, p: report((stage, p.step, p.steps, p.loss)),
    )
    recipe = resolver.recipe(cell.recipe)
    built = builder.build(recipe)
    # Loaded from disk again: what is scored is what is weighed.
    model = artifacts.load_artifact(built.folder)
    quality = evaluation.evaluate_quality(model.to(cell.trained_on), task, cell.trained_on, built.training)
    facts = size.artifact_facts(built.folder)
    record = make_record(
        cell,
        recipe,
        stamp,
        machine,
        started,
        reason=_cut(task, model.config.positions),
        artifact=facts,
        quality=quality,
        data=task.fingerprint(),
        weights=model.origin,
    )
    return record.to_json()


def _cut(task: Task, positions: int) -> str:
    """A note if a model has too few positions for the task's usual length; else the empty string."""
    length = task.length_within(positions)
    if length == task.max_length:
        return ""
    return f"sequences are cut at {length} tokens, the model's positions, and not at {task.max_length}"
