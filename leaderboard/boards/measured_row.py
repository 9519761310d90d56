"""A row of the measured board: scores, the drop, and the costs of one of the recipe's artifacts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from harness.recipes.recipe import BASELINE
from harness.records.schema import ArtifactFacts, Quality, Record
from leaderboard.boards.bootstrap import Drop, Score, average_drop, score
from leaderboard.boards.costs import only_size, profiled_costs, size_of
from leaderboard.boards.names import Cards, recipe_family, recipe_title, task_title
from leaderboard.boards.record_selection import Shelf, artifact_id, first_artifact
from leaderboard.boards.row import Costs, Failure, Row

Runs = Mapping[str, Mapping[int, Record]]
"""The quality records of one recipe, by task and seed."""


def measured_row(
    recipe: str, model: str, shelf: Shelf, columns: Sequence[str], compared: Sequence[str], cards: Cards
) -> Row:
    """Build the row of a recipe, with scores on the tasks of `columns` and the drop over the tasks of `compared`."""
    runs = {task: seeds for task, seeds in shelf.quality.get(recipe, {}).items() if task in columns}
    base = shelf.quality.get(BASELINE, {})
    own = _qualities(runs)
    scores = {task: score(task, own[task]) for task in columns if task in own}
    drop, said_of_drop = _drop(runs, base, columns, compared, scores)
    costs, said_of_costs = _costs(recipe, runs, shelf, columns, cards)
    return Row(
        id=f"{recipe}@{model}",
        title=recipe_title(recipe, cards),
        family=recipe_family(recipe, cards),
        recipe=recipe,
        model=model,
        baseline=recipe == BASELINE,
        scores=scores,
        drop=drop,
        costs=costs,
        failures=tuple(shown_failures(shelf.failures.get(recipe, []), columns)),
        notes=(*said_of_drop, *said_of_costs),
    )


def shown_failures(failures: Sequence[Failure], columns: Sequence[str]) -> list[Failure]:
    """Keep the failures of cells of these tasks, and of cells without a task."""
    return [failure for failure in failures if failure.task is None or failure.task in columns]


def _qualities(runs: Runs) -> dict[str, dict[int, Quality]]:
    return {
        task: {seed: record.quality for seed, record in seeds.items() if record.quality is not None}
        for task, seeds in runs.items()
    }


def _drop(
    runs: Runs, base: Runs, columns: Sequence[str], compared: Sequence[str], scores: Mapping[str, Score]
) -> tuple[Drop | None, list[str]]:
    """Compute the drop from the baseline's scores `base`, with notes on scores that could not be compared."""
    if not base:
        return None, ["no drop: the baseline was not measured on this base model"] if runs else []
    comparable, notes = _comparable(runs, base)
    drop, unpaired = average_drop(_qualities(runs), comparable, compared)
    notes += [f"not compared: {line}" for line in unpaired]
    by_task = {} if drop is None else drop.by_task
    for task in (task for task in columns if drop is not None and task in by_task):
        if drop is not None and drop.seeds[task] != scores[task].seeds:
            seeds = ", ".join(str(seed) for seed in drop.seeds[task])
            notes.append(f"{task_title(task)}: the drop uses only seeds {seeds}, which the baseline has too")
    missing = [task_title(task) for task in compared if task not in by_task]
    complete = bool(compared) and not missing
    if runs and not complete:
        notes.append(f"not ranked and not on the front: no score on {', '.join(missing)}")
    if drop is None:
        return None, notes
    ordered = {task: by_task[task] for task in columns if task in by_task}
    return replace(drop, by_task=ordered, complete=complete), notes


def _comparable(runs: Runs, base: Runs) -> tuple[dict[str, dict[int, Quality]], list[str]]:
    """Keep the baseline's scores on the same data, and write a note for each score on other data."""
    kept: dict[str, dict[int, Quality]] = {}
    notes = []
    for task, seeds in base.items():
        for seed, record in seeds.items():
            other = runs.get(task, {}).get(seed)
            data, base_data = (other.provenance.data if other else None), record.provenance.data
            if data is not None and base_data is not None and data != base_data:
                notes.append(f"not compared: {task}, seed {seed}: its data differ from the baseline's")
            elif record.quality is not None:
                kept.setdefault(task, {})[seed] = record.quality
    return kept, notes


def _costs(
    recipe: str, runs: Runs, shelf: Shelf, columns: Sequence[str], cards: Cards
) -> tuple[Costs, list[str]]:
    """Take all costs from one artifact: the first (by task and seed) that was profiled, or else the first known."""
    scored = first_artifact(runs, columns)
    hashes = [record.artifact.hash for record in scored if record.artifact is not None]
    same = [
        (hashes.index(record.artifact.hash), record)
        for records in shelf.profiles.values()
        for record in records
        if record.artifact is not None and record.artifact.hash in hashes
    ]
    chosen = [record for _, record in sorted(same, key=lambda pair: pair[0])] or shelf.profiles.get(recipe)
    if not chosen:
        if not scored:
            return Costs(), []
        facts = next((record.artifact for record in scored if record.artifact is not None), None)
        costs = only_size(facts, _baseline_facts(shelf, scored[0]), _source(scored[0]))
        return costs, ["costs: only the size is known, because no artifact of this recipe was profiled"]
    record = chosen[0]
    assert record.profile is not None
    size = size_of(record.artifact, _baseline_facts(shelf, record))
    costs, notes = profiled_costs(record.profile, size, recipe, cards, _source(record))
    if record.profile.workload.inputs == "real":
        notes.append("costs: measured on real inputs of the task")
    if not same:
        notes.append(f"costs: measured on another artifact of the recipe ({_where(record)})")
    return costs, notes


def _baseline_facts(shelf: Shelf, record: Record) -> ArtifactFacts | None:
    """Return the baseline's artifact of the same task and seed, or else any artifact of the baseline."""
    runs = [each for seeds in shelf.quality.get(BASELINE, {}).values() for each in seeds.values()]
    same = [each for each in runs if (each.task, each.seed) == (record.task, record.seed)]
    candidates = [*same, *runs, *shelf.profiles.get(BASELINE, [])]
    return next((each.artifact for each in candidates if each.artifact is not None), None)


def _where(record: Record) -> str:
    if record.task is None:
        return "no task"
    return task_title(record.task) + (f", seed {record.seed}" if record.seed is not None else "")


def _source(record: Record) -> str:
    return f"measured: costs of artifact {artifact_id(record)} ({_where(record)})"
