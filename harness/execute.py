"""What runs inside a cell's own process: it makes the artifact, measures it and returns the record as JSON."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.cells import BudgetSpec, Cell, ProfileCell, QualityCell
from harness.errors import SkylineError
from harness.provenance import EVALUATION_VERSION, PROFILING_VERSION, artifact_fingerprint, digest
from harness.recipe import Recipe
from harness.records import Provenance, Record, Status
from harness.tasks import load_task
from harness.tasks.base import Task
from harness.version import __version__

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Report = Callable[[Any], None]


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
    from harness.checkpoints import origin_of

    data, budgets = "none", BudgetSpec()
    if cell.task is not None and cell.budget is not None:
        data, budgets = _data_fingerprint(cell, data_dir), cell.budget
    return artifact_fingerprint(
        Recipe.parse(cell.recipe),
        origin=origin_of(cell.model),
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
    from harness.hardware import hardware, versions
    from harness.runtimes import get_runtime

    parts: dict[str, Any] = {"artifact": artifact_fingerprint_of(cell, data_dir)}
    if isinstance(cell, QualityCell):
        parts["evaluation"] = EVALUATION_VERSION
    else:
        parts |= {
            "profiling": PROFILING_VERSION,
            "torch": versions().get("torch"),
            "hardware": hardware(cell.device).id,
            **get_runtime(cell.runtime).versions(),
        }
    return digest(parts)


def make_record(
    cell: Cell, stamp: str, started: float, status: Status = "ok", reason: str = "", **measured: Any
) -> Record:
    """A record with this process's provenance. `started` is the wall clock's reading at the start."""
    from harness.hardware import hardware, versions

    data = measured.pop("data", None)
    weights = measured.pop("weights", "")
    return Record(
        kind="quality" if isinstance(cell, QualityCell) else "profile",
        key=cell.key,
        status=status,
        reason=reason,
        recipe=cell.recipe,
        model=cell.model,
        task=cell.task,
        seed=cell.seed,
        cell=cell.identity(),
        provenance=Provenance(
            fingerprint=stamp,
            skyline=__version__,
            versions=versions(),
            hardware=hardware(cell.measured_on),
            weights=weights,
            data=data,
            started=datetime.fromtimestamp(started, UTC).isoformat(timespec="seconds"),
            seconds=round(time.time() - started, 3),
        ),
        **measured,
    )


def execute_quality(
    cell_json: str, workspace: str, data_dir: str | None, stamp: str, threads: int, report: Report
) -> str:
    """Train and score one quality cell; `report` gets (stage, step, steps, loss). Returns the record as JSON."""
    import torch

    from harness.artifacts import load_artifact
    from harness.build import Builder
    from harness.evaluation import evaluate_quality
    from harness.profiling.size import artifact_facts

    started = time.time()
    torch.set_num_threads(threads)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    cell = QualityCell.model_validate_json(cell_json)
    task = task_of(cell, data_dir)
    builder = Builder(
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
    model = load_artifact(built.folder)
    quality = evaluate_quality(model.to(cell.trained_on), task, cell.trained_on, built.training)
    facts = artifact_facts(built.folder)
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


def build_for_profile(
    cell_json: str, workspace: str, data_dir: str | None, threads: int
) -> tuple[str, str, str]:
    """Make a profile cell's artifact and its baseline: their folders, and what weights they hold. Runs in a
    process of its own; trainings use as many threads as those of quality cells.
    """
    import torch

    from harness.artifacts import read_config
    from harness.build import Builder, build_untrained

    torch.set_num_threads(threads)
    cell = ProfileCell.model_validate_json(cell_json)
    recipe = Recipe.parse(cell.recipe)
    if cell.task is None or cell.budget is None:
        folder, baseline = build_untrained(recipe, cell.model, Path(workspace), cell.seed)
    else:
        task = task_of(cell, data_dir)
        builder = Builder(Path(workspace), cell.model, task, cell.seed, cell.budget, cell.trained_on)
        folder, baseline = builder.build(recipe).folder, builder.build(Recipe()).folder
    return str(folder), str(baseline), read_config(folder).origin


def real_inputs(folder: Path, cell_json: str, data_dir: Path | None) -> NDArray[np.int64]:
    """Rows of a profile cell's task, from its dev split, in the tokens of its artifact (see `real_rows`). Runs in a
    process of its own. Raises SkylineError where the cell has no task.
    """
    from harness.profiling.inputs import real_rows

    cell = ProfileCell.model_validate_json(cell_json)
    if cell.task is None:
        raise SkylineError("real inputs are a task's, and this profile has none; use synthetic ones")
    examples = task_of(cell, data_dir).dev()
    pairs = [example.pair or "" for example in examples]
    texts = [example.text for example in examples]
    return real_rows(folder, texts, pairs if any(pairs) else None, cell.workload).arrays()


def execute_profile(
    cell: ProfileCell, workspace: Path, data_dir: Path | None, stamp: str, threads: int = 1
) -> Record:
    """Measure one profile cell. Called in the launching process, which only waits: each measurement has its
    own child.
    """
    from harness.isolation import run_isolated
    from harness.model import Batch
    from harness.profiling.profile import profile_artifact
    from harness.profiling.size import artifact_facts

    started = time.time()
    folder, baseline, origin = run_isolated(
        build_for_profile,
        cell.model_dump_json(),
        str(workspace),
        None if data_dir is None else str(data_dir),
        threads,
    )
    real = None
    if cell.workload.inputs == "real":
        real = Batch.of_arrays(run_isolated(real_inputs, Path(folder), cell.model_dump_json(), data_dir))
    profile = profile_artifact(
        Path(folder),
        Path(baseline),
        recipe=cell.recipe,
        model=cell.model,
        weights=origin,
        workload=cell.workload,
        runtime=cell.runtime,
        precision=cell.precision,
        device=cell.device,
        time_cap_s=cell.time_cap_s,
        real_batches=real,
    )
    return make_record(
        cell, stamp, started, artifact=artifact_facts(Path(folder)), profile=profile, weights=origin
    )
