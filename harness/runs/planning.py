"""Planning: what is wrong with a run before any of it starts, which cells are missing or stale, and how many
trainings they take.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from harness.common.errors import SkylineError, unknown_name
from harness.common.hardware import check_device
from harness.common.lazy import lazy_imports
from harness.compression.comparable import Baseline, Shape
from harness.recipes.compatibility import shape_after
from harness.recipes.recipe import Recipe
from harness.records.cells import Cell, ProfileCell
from harness.records.store import Store
from harness.runs.job import Job
from harness.runs.staleness import artifact_fingerprint_of, fingerprint, task_of
from harness.runtimes import get_runtime, refused_exits

with lazy_imports():
    from harness.models import checkpoints


if TYPE_CHECKING:
    from harness.records.schema import Record
    from harness.tasks.base import Task

ENGINES = ("local",)


@dataclass
class Plan:
    """What a run has to do: `jobs` to run, `fresh` cells whose records stand."""

    jobs: list[Job] = field(default_factory=list)
    fresh: list[Cell] = field(default_factory=list)


def check_engine(engine: str, workers: int) -> None:
    """Raise SkylineError for an unknown engine and a number of workers below 1."""
    if engine not in ENGINES:
        raise unknown_name("engine", engine, ENGINES)
    if workers < 1:
        raise SkylineError(f"--workers {workers} is out of range: use at least 1")


def check_cells(cells: Sequence[Cell], data_dir: Path | None = None) -> None:
    """Raise SkylineError where a cell cannot run: its base model does not load, its runtime or device is not
    there, or its workload or task asks for longer sequences than the model takes. What a runtime that is there cannot
    run is no mistake (see `unsupported`).

    Of checkpoints only configuration, tokenizer and the weights' header are read.
    """
    for model in dict.fromkeys(cell.model for cell in cells):
        reads = any(cell.model == model and _reads_texts(cell) for cell in cells)
        checkpoints.check_base_model(model, needs_tokenizer=reads)
    for model, recipe in dict.fromkeys((cell.model, cell.recipe) for cell in cells):
        check_recipe(Recipe.parse(recipe), model)
    for cell in cells:
        if cell.task is not None and Recipe.parse(cell.recipe).start is not None:
            raise SkylineError(
                f"'{cell.recipe}' starts from an architecture without weights, so it can be profiled, not trained; "
                "name a method instead"
            )
    for device in dict.fromkeys(cell.trained_on for cell in cells):
        check_device(device)
    for runtime, device in dict.fromkeys(
        (cell.runtime, cell.device) for cell in cells if isinstance(cell, ProfileCell)
    ):
        check_device(device)
        get_runtime(runtime).require(device)
    check_lengths(cells, data_dir)
    check_tasks(cells, data_dir)


def _reads_texts(cell: Cell) -> bool:
    return cell.task is not None or (isinstance(cell, ProfileCell) and cell.workload.task is not None)


def unsupported(cell: ProfileCell) -> str | None:
    """Why a cell's runtime cannot run it, as far as that is known before its artifact is made; None where it can."""
    runtime = get_runtime(cell.runtime)
    lacking = runtime.lacks(cell.precision, cell.device)
    if cell.workload.cached is not None and cell.runtime != "eager":
        return f"runtime '{cell.runtime}' reads whole rows, not what a cache leaves of them; use eager"
    if lacking or runtime.exits_early:
        return lacking
    return refused_exits(cell.runtime, check_recipe(Recipe.parse(cell.recipe), cell.model))


def check_recipe(recipe: Recipe, model: str, task: Task | None = None) -> Shape:
    """The shape that a recipe makes of a base model, as far as it is known before training. Raises SkylineError
    where a method cannot work on what the methods before it leave, naming both, or not on the `task`'s kind and texts.
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


def check_lengths(cells: Sequence[Cell], data_dir: Path | None = None) -> None:
    """Raise SkylineError where a workload, or the max_length that a task's description gives, asks for longer
    sequences than its base model takes.
    """
    lengths = {model: checkpoints.base_config(model).positions for model in {cell.model for cell in cells}}
    for cell in cells:
        if isinstance(cell, ProfileCell):
            check_length(cell.workload.length, cell.model, lengths[cell.model])
    for task, described in _by_task(cells, data_dir):
        for model in dict.fromkeys(cell.model for cell in described):
            task.length_within(lengths[model])


def check_tasks(cells: Sequence[Cell], data_dir: Path | None = None) -> None:
    """Raise SkylineError where a recipe makes a model that cannot answer as its task asks, or has nothing to do on its
    texts.
    """
    for task, described in _by_task(cells, data_dir):
        for model, recipe in dict.fromkeys((cell.model, cell.recipe) for cell in described):
            try:
                check_recipe(Recipe.parse(recipe), model, task)
            except SkylineError as error:
                raise SkylineError(f"task '{task.name}': {error}") from None


def _by_task(cells: Sequence[Cell], data_dir: Path | None) -> Iterator[tuple[Task, list[Cell]]]:
    """The tasks of cells, each with its cells."""
    found: dict[tuple[str, str | None], list[Cell]] = {}
    for cell in cells:
        if cell.task is not None:
            found.setdefault((cell.task, cell.description), []).append(cell)
    for own in found.values():
        yield task_of(own[0], data_dir), own


def check_length(length: int, model: str, positions: int) -> None:
    """Raise SkylineError where a workload's sequences are longer than a base model's positions."""
    if length > positions:
        raise SkylineError(
            f"the workload has sequences of {length} tokens, but model '{model}' has {positions} positions; "
            f"use at most {positions}"
        )


def make_plan(
    cells: Sequence[Cell], store: Store, data_dir: Path | None, *, want_verdicts: bool = False
) -> Plan:
    """Compare the cells with the store: a record that failed or was skipped, or whose fingerprint differs, is
    made again; also a profile without a verdict on its speed, if asked for.
    """
    plan = Plan()
    for cell in cells:
        stamp = fingerprint(cell, data_dir)
        record = store.find(cell)
        if (
            record is None
            or record.status != "ok"
            or record.provenance.fingerprint != stamp
            or (want_verdicts and has_no_verdict(record))
        ):
            refused = unsupported(cell) if isinstance(cell, ProfileCell) else None
            plan.jobs.append(Job(cell, stamp, refused))
        else:
            plan.fresh.append(cell)
    return plan


def has_no_verdict(record: Record) -> bool:
    """Whether a profile's interval stayed too wide for a speedup."""
    latency = None if record.profile is None else record.profile.latency
    return latency is not None and latency.verdict == "none"


def count_trainings(plan: Plan, store: Store, data_dir: Path | None) -> int:
    """How many trainings the plan takes: the training stages whose artifact is not there, each once.

    A profile needs its artifact and its baseline as a score does. What an artifact that is there was built on
    is not needed again.
    """
    seen: set[str] = set()
    missing = 0
    wanted = [(job.cell, recipe) for job in plan.jobs if job.cell.task for recipe in _needed(job.cell)]
    while wanted:
        cell, recipe = wanted.pop()
        own = cell.model_copy(update={"recipe": str(recipe)})
        stamp = artifact_fingerprint_of(own, data_dir)
        if stamp in seen:
            continue
        seen.add(stamp)
        if _is_built(store, stamp):
            continue
        missing += recipe.is_baseline or recipe.stages[-1].trains
        if recipe.parent is not None:
            wanted += [(cell, Recipe()), (cell, recipe.parent)]
    return missing


def _needed(cell: Cell) -> list[Recipe]:
    """The recipes whose artifacts a cell opens."""
    own = Recipe.parse(cell.recipe)
    return [own, Recipe()] if isinstance(cell, ProfileCell) else [own]


def _is_built(store: Store, stamp: str) -> bool:
    folder = store.workspace / "artifacts" / stamp[:20]
    return folder.is_dir() and folder.with_suffix(".training.json").is_file()
