"""The measured board: quality records joined with the profiles of the same artifacts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from harness.common.errors import NotComparable, SkylineError, unknown_name
from harness.records.schema import ArtifactFacts, Quality, Record, Workload
from leaderboard.boards import bootstrap as statistics
from leaderboard.boards.board import Board, Failure, Row, pick_axis
from leaderboard.boards.names import (
    BASELINE,
    TASK_TITLES,
    Cards,
    is_toy,
    recipe_family,
    recipe_title,
    task_title,
)
from leaderboard.boards.ranking import hypervolumes, mark_fronts, rank
from leaderboard.boards.record_selection import (
    MEASURED_AXES,
    Shelf,
    Wanted,
    add_profile,
    add_size,
    first_artifact,
    newest,
    pick_model,
    shelve,
    versions_of,
)

NOT_AVERAGED = frozenset({"wnli"})
"""Left out of averages by custom: its dev split contradicts its training split."""

Runs = Mapping[str, Mapping[int, Record]]


def measured_board(
    records: Iterable[Record],
    base_model: str | None = None,
    tasks: Sequence[str] | None = None,
    *,
    cards: Cards | None = None,
    axis: str = "disk",
    workload: Workload | tuple[int, int] | None = None,
    hardware: str | None = None,
    runtime: str | None = None,
    device: str | None = None,
) -> Board:
    """The board of one base model: a row is a recipe over tasks and seeds, with one of its artifacts' costs.

    Args:
        records: any records; those of other base models, workloads or kinds of task are listed in `skipped`.
        base_model: the base model; by default that with the most records.
        tasks: the tasks to compare on; by default the set that compares the most scores. Toy tasks show only
            where there are no real ones, or where they are asked for.
        cards: the methods' cards as plain values, by id: titles, families and claimed costs come from them.
        axis: the cost of the front that `Row.pareto` shows: `disk`, `flops`, `latency` or `memory`.
        workload, hardware, runtime, device: which profiles count; by default those of most recipes.

    Raises SkylineError where nothing fits, and NotComparable for real and toy tasks together.
    """
    cards = cards or {}
    axis = pick_axis(axis, [known.key for known in MEASURED_AXES])
    found, notes = newest(records)
    quality = [record for record in found if record.kind == "quality"]
    if not quality:
        raise SkylineError("no quality was measured yet; `skyline run` trains and evaluates recipes")
    model, skipped = pick_model(quality, base_model)
    shelf = shelve(found, model, Wanted(hardware, runtime, device, workload))
    columns, hidden = _columns(quality, model, tasks)
    skipped += hidden + shelf.skipped
    compared = _compared(shelf, columns) if tasks is None else list(columns)
    rows = rank([_row(recipe, model, shelf, columns, compared, cards) for recipe in _recipes(shelf, columns)])
    shown = {row.recipe for row in rows}
    skipped += [
        f"{recipe}: no score on the tasks of this board"
        for recipe in dict.fromkeys([*shelf.quality, *shelf.profiles, *shelf.failures])
        if recipe not in shown
    ]
    axes = list(MEASURED_AXES)
    mark_fronts(rows, axes, axis)
    areas, reference = hypervolumes(rows, axes)
    used = [record for record in found if record.model == model and record.status == "ok"]
    board = Board(
        kind="measured",
        title=f"Measured on {model}",
        model=model,
        tasks=columns,
        compared=compared,
        axis=axis,
        axes=axes,
        rows=rows,
        hypervolume=areas,
        hypervolume_reference=reference,
        hardware=shelf.hardware,
        workload=_workload(shelf),
        runtime=shelf.condition.executed_by if shelf.condition else None,
        device=shelf.condition.device if shelf.condition else None,
        versions=versions_of(used),
        date=max((record.provenance.started for record in used), default=None),
        notes=notes,
        skipped=skipped,
    )
    board.notes += _board_notes(board, used)
    return board


def _recipes(shelf: Shelf, columns: Sequence[str]) -> list[str]:
    """Recipes with quality or with a failed quality cell; one only profiled is no row of this board."""
    scored = [recipe for recipe, runs in shelf.quality.items() if runs.keys() & set(columns)]
    failed = [
        recipe
        for recipe, failures in shelf.failures.items()
        if any(failure.kind == "quality" for failure in _shown_failures(failures, columns))
    ]
    return list(dict.fromkeys([*scored, *failed]))


def _shown_failures(failures: Sequence[Failure], columns: Sequence[str]) -> list[Failure]:
    """The failures of cells of these tasks, and of cells without a task."""
    return [failure for failure in failures if failure.task is None or failure.task in columns]


def _columns(
    quality: Sequence[Record], model: str, wanted: Sequence[str] | None
) -> tuple[list[str], list[str]]:
    """The tasks that the board shows, and what it leaves out."""
    known = sorted({record.task for record in quality if record.model == model and record.task}, key=_order)
    if wanted is not None:
        for task in wanted:
            if task not in known:
                raise unknown_name("task among the records", task, known)
        if len({is_toy(task) for task in wanted}) > 1:
            raise NotComparable("toy tasks and real ones never share a board; choose tasks of one kind")
        chosen = sorted(set(wanted), key=_order)
    else:
        real = [task for task in known if not is_toy(task)]
        chosen = real or known
    hidden = [
        f"task {task_title(task)}: {'never beside real tasks' if is_toy(task) else 'not asked for'}"
        for task in known
        if task not in chosen
    ]
    return chosen, hidden


def _order(task: str) -> tuple[int, str]:
    names = list(TASK_TITLES)
    return (names.index(task) if task in names else len(names), task)


def _compared(shelf: Shelf, columns: Sequence[str]) -> list[str]:
    """The set of tasks that compares the most scores: (rows that have all of them) × (how many)."""
    base = shelf.quality.get(BASELINE, {})
    usable = [task for task in columns if task not in NOT_AVERAGED or len(columns) == 1]
    sets = [
        frozenset(task for task in usable if task in runs and (not base or task in base))
        for recipe, runs in shelf.quality.items()
        if recipe != BASELINE
    ]
    candidates = {tasks for tasks in sets if tasks}
    if not candidates:
        return [task for task in usable if not base or task in base]
    best = max(
        candidates,
        key=lambda tasks: (sum(tasks <= own for own in sets) * len(tasks), len(tasks), sorted(tasks)),
    )
    return sorted(best, key=_order)


def _row(
    recipe: str, model: str, shelf: Shelf, columns: Sequence[str], compared: Sequence[str], cards: Cards
) -> Row:
    runs = {task: seeds for task, seeds in shelf.quality.get(recipe, {}).items() if task in columns}
    row = Row(
        id=f"{recipe}@{model}",
        title=recipe_title(recipe, cards),
        family=recipe_family(recipe, cards),
        recipe=recipe,
        model=model,
        baseline=recipe == BASELINE,
        failures=_shown_failures(shelf.failures.get(recipe, []), columns),
    )
    _add_quality(row, runs, shelf.quality.get(BASELINE, {}), columns, compared)
    _add_costs(row, runs, shelf, columns, cards)
    return row


def _qualities(runs: Runs) -> dict[str, dict[int, Quality]]:
    return {
        task: {seed: record.quality for seed, record in seeds.items() if record.quality is not None}
        for task, seeds in runs.items()
    }


def _add_quality(row: Row, runs: Runs, base: Runs, columns: Sequence[str], compared: Sequence[str]) -> None:
    own = _qualities(runs)
    for task in columns:
        if task not in own:
            continue
        score = statistics.score(task, own[task])
        row.scores[task], row.metrics[task] = score.mean, score.metric
        row.seeds[task] = list(score.seeds)
        if score.ci95 is not None:
            row.scores_ci95[task] = score.ci95
    if not base and own:
        row.notes.append("no drop: the baseline of this base model was not measured")
    drop = statistics.average_drop(own, _comparable(runs, base, row), compared)
    row.drop, row.drop_ci95, row.replicates = drop.mean, drop.ci95, drop.replicates
    row.tasks = [task for task in columns if task in drop.by_task]
    row.drops = {task: drop.by_task[task] for task in row.tasks}
    row.complete = bool(compared) and set(compared) <= drop.by_task.keys()
    row.notes += [f"not compared: {line}" for line in drop.unpaired] if base else []
    for task in row.tasks:
        if list(drop.seeds[task]) != row.seeds[task]:
            seeds = ", ".join(str(seed) for seed in drop.seeds[task])
            row.notes.append(
                f"{task_title(task)}: the drop is over seeds {seeds}, which the baseline has too"
            )
    if own and not row.complete and base:
        missing = ", ".join(task_title(task) for task in compared if task not in drop.by_task)
        row.notes.append(f"neither ranked nor on the front: it lacks {missing}")


def _comparable(runs: Runs, base: Runs, row: Row) -> dict[str, dict[int, Quality]]:
    """The baseline's scores on the same data; those on other data are left out with a note."""
    kept: dict[str, dict[int, Quality]] = {}
    for task, seeds in base.items():
        for seed, record in seeds.items():
            other = runs.get(task, {}).get(seed)
            data, base_data = (other.provenance.data if other else None), record.provenance.data
            if data is not None and base_data is not None and data != base_data:
                row.notes.append(
                    f"not compared: {task}, seed {seed}: measured on other data than the baseline"
                )
            elif record.quality is not None:
                kept.setdefault(task, {})[seed] = record.quality
    return kept


def _add_costs(row: Row, runs: Runs, shelf: Shelf, columns: Sequence[str], cards: Cards) -> None:
    """All costs of one artifact: the first (by task and seed) that was profiled, or else the first known."""
    scored = first_artifact(runs, columns)
    hashes = {record.artifact.hash: record for record in scored if record.artifact is not None}
    profiled = [record for records in shelf.profiles.values() for record in records]
    same = [record for record in profiled if record.artifact is not None and record.artifact.hash in hashes]
    order = {key: index for index, key in enumerate(hashes)}
    same.sort(key=lambda record: order[record.artifact.hash] if record.artifact is not None else 0)
    others = [record for record in shelf.profiles.get(row.recipe, []) if record not in same]
    chosen = next(iter(same), next(iter(others), None))
    if chosen is None:
        facts = next((record.artifact for record in scored if record.artifact is not None), None)
        add_size(row, facts, _baseline_facts(shelf, scored[0] if scored else None))
        if scored:
            row.notes.append("costs: only the size is known, no artifact of it was profiled")
            row.source = _source(scored[0])
        return
    add_size(row, chosen.artifact, _baseline_facts(shelf, chosen))
    if chosen.profile is not None:
        add_profile(row, chosen.profile, cards)
        if chosen.profile.workload.inputs == "real":
            row.notes.append("costs: measured on real inputs of the task")
    if not same:
        row.notes.append(f"costs: those of another artifact of the recipe ({_where(chosen)})")
    row.source = _source(chosen)


def _baseline_facts(shelf: Shelf, record: Record | None) -> ArtifactFacts | None:
    """The baseline's artifact of the same task and seed, or else any of the baseline's."""
    runs = shelf.quality.get(BASELINE, {})
    if record is not None and record.task in runs and record.seed in runs[record.task]:
        same = runs[record.task][record.seed].artifact
        if same is not None:
            return same
    candidates = [r for seeds in runs.values() for r in seeds.values()] + shelf.profiles.get(BASELINE, [])
    return next((r.artifact for r in candidates if r.artifact is not None), None)


def _where(record: Record) -> str:
    if record.task is None:
        return "no task"
    return task_title(record.task) + (f", seed {record.seed}" if record.seed is not None else "")


def _source(record: Record) -> str:
    identity = record.artifact.hash[:12] if record.artifact is not None else "unknown"
    return f"measured: costs of artifact {identity} ({_where(record)})"


def _workload(shelf: Shelf) -> Workload | None:
    if shelf.condition is None:
        return None
    kinds = [
        record.profile.workload
        for records in shelf.profiles.values()
        for record in records
        if record.profile is not None
    ]
    return next((kind for kind in kinds if kind.inputs == "synthetic"), kinds[0])


def _board_notes(board: Board, used: Sequence[Record]) -> list[str]:
    titles = ", ".join(task_title(task) for task in board.compared)
    notes = []
    if board.compared:
        notes.append(f"average drop over {titles}; ranks and fronts rest on these tasks only")
    for task in board.tasks:
        if task not in board.compared:
            why = "by custom not averaged" if task in NOT_AVERAGED else "not measured for enough rows"
            notes.append(f"{task_title(task)} is shown but not in the average: {why}")
    lengths = [row.seed_count for row in board.rows if row.seed_count is not None]
    if lengths and min(lengths) == 1:
        notes.append(
            "with one seed an interval covers the choice of dev examples only, not training's chance"
        )
    weights = sorted({record.provenance.weights for record in used if record.quality is not None})
    if weights:
        notes.append(f"weights: {', '.join(weights)}")
    single = [package for package, versions in board.versions.items() if ", " in versions]
    if single:
        notes.append(f"measured with several versions of {', '.join(single)}")
    counts = [
        len(row.replicates) for row in board.rows if row.replicates is not None and np.size(row.replicates)
    ]
    if counts:
        notes.append(
            f"intervals and front shares from {min(counts):,} bootstrap resamples, paired with the baseline"
        )
    return notes
