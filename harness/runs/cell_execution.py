"""Train and score a quality cell. A run calls this in a child process."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

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
    from harness.runs.engines.base import Message
    from harness.tasks.base import Task


def execute_quality(
    cell: QualityCell,
    workspace: Path,
    data_dir: Path | None,
    stamp: str,
    machine: Hardware,
    threads: int,
    report: Callable[[Message], None],
) -> str:
    """Train and score a quality cell, and return its record as JSON.

    `stamp` is the record's fingerprint and `machine` its hardware; the parent process found both. `report` gets the
    progress of each training. Raises SkylineError if the training or the evaluation fails by a mistake of the user.
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
    # Score the artifact as it is on disk, since its size is measured there.
    model = artifacts.load_artifact(built.folder)
    quality = evaluation.evaluate_quality(model.to(cell.trained_on), task, cell.trained_on, built.training)
    return make_record(
        cell,
        recipe,
        stamp,
        machine,
        started,
        reason=_truncation_note(task, model.config.positions),
        artifact=size.artifact_facts(built.folder),
        quality=quality,
        data=task.fingerprint(),
        weights=model.origin,
    ).to_json()


def _truncation_note(task: Task, positions: int) -> str:
    """Return a note if the model has fewer positions than the task's usual length, else an empty string."""
    length = task.length_within(positions)
    if length == task.max_length:
        return ""
    return f"sequences are cut at {length} tokens, the model's positions, and not at {task.max_length}"
