"""The measured board: scores joined with the profiles of the same artifacts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from harness.common.errors import Code, NotComparable, SkylineError, unknown_name
from harness.recipes.recipe import BASELINE
from harness.records.schema import Record
from harness.tasks import task_names
from leaderboard.boards.board import MEASURED_AXES, Board, pick_axis
from leaderboard.boards.measured_row import measured_row, shown_failures
from leaderboard.boards.names import Cards, is_averaged, is_toy, task_title
from leaderboard.boards.ranking import hypervolumes, ranked, with_fronts
from leaderboard.boards.record_selection import (
    Shelf,
    newest,
    pick_model,
    shelve,
    versions_of,
)
from leaderboard.boards.row import Row


def measured_board(
    records: Iterable[Record],
    base_model: str | None = None,
    tasks: Sequence[str] | None = None,
    *,
    cards: Cards | None = None,
    axis: str = "disk",
) -> Board:
    """Build the board of one base model. A row is a recipe over tasks and seeds, with the costs of one artifact of it.

    Args:
        records: records of any kind. Other base models, workloads and kinds of task are listed in `skipped`.
        base_model: the base model; by default the one with the most records.
        tasks: the tasks to compare; by default the set that compares the most scores. Toy tasks are shown only if
            there are no real tasks, or if they are named here.
        cards: the methods' cards as plain values, by id. They give titles, families and claimed costs.
        axis: the cost of the front that the board shows: `disk`, `flops`, `latency` or `memory`.

    Raises SkylineError if there is no score (no-data) or a name is unknown (unknown-name), and NotComparable if `tasks`
    mixes real and toy tasks.
    """
    cards = cards or {}
    axis = pick_axis(axis, MEASURED_AXES)
    found, notes = newest(records)
    quality = [record for record in found if record.kind == "quality"]
    if not quality:
        raise SkylineError(
            "no record has scores yet; train and evaluate recipes with `skyline run`", Code.NO_DATA
        )
    model, skipped = pick_model(quality, base_model)
    shelf = shelve(found, model)
    columns, hidden = _columns(quality, model, tasks)
    skipped += [*hidden, *shelf.skipped]
    compared = _compared(shelf, columns) if tasks is None else list(columns)
    rows = ranked(
        measured_row(recipe, model, shelf, columns, compared, cards) for recipe in _recipes(shelf, columns)
    )
    rows = with_fronts(rows, MEASURED_AXES)
    shown = {row.recipe for row in rows}
    skipped += [
        f"{recipe}: it has no score on the tasks of this board"
        for recipe in dict.fromkeys([*shelf.quality, *shelf.profiles, *shelf.failures])
        if recipe not in shown
    ]
    areas, reference = hypervolumes(rows, MEASURED_AXES)
    used = [record for record in found if record.model == model and record.status == "ok"]
    versions = versions_of(used)
    return Board(
        kind="measured",
        title=f"Measured on {model}",
        model=model,
        tasks=columns,
        compared=compared,
        axis=axis,
        rows=rows,
        hypervolume=areas,
        hypervolume_reference=reference,
        hardware=shelf.hardware,
        workload=next(iter(sorted(shelf.workloads, key=lambda each: each.inputs != "synthetic")), None),
        runtime=shelf.condition.executed_by if shelf.condition else None,
        device=shelf.condition.device if shelf.condition else None,
        versions=versions,
        date=max((record.provenance.started for record in used), default=None),
        notes=[*notes, *_notes(rows, columns, compared, used, versions)],
        skipped=skipped,
    )


def _recipes(shelf: Shelf, columns: Sequence[str]) -> list[str]:
    """List the recipes with a score or a failed quality cell. A recipe that was only profiled has no row."""
    scored = [recipe for recipe, runs in shelf.quality.items() if runs.keys() & set(columns)]
    failed = [
        recipe
        for recipe, failures in shelf.failures.items()
        if any(failure.kind == "quality" for failure in shown_failures(failures, columns))
    ]
    return list(dict.fromkeys([*scored, *failed]))


def _columns(
    quality: Sequence[Record], model: str, wanted: Sequence[str] | None
) -> tuple[list[str], list[str]]:
    """Choose the tasks that the board shows, and write a line for each task that it leaves out."""
    known = sorted({record.task for record in quality if record.model == model and record.task}, key=_order)
    if wanted is not None:
        for task in wanted:
            if task not in known:
                raise unknown_name("task among the records", task, known)
        if len({is_toy(task) for task in wanted}) > 1:
            raise NotComparable("real tasks and toy tasks cannot be on one board; choose tasks of one kind")
        chosen = sorted(set(wanted), key=_order)
    else:
        real = [task for task in known if not is_toy(task)]
        chosen = real or known
    hidden = [
        f"task {task_title(task)}: {'toy tasks are not shown with real tasks' if is_toy(task) else 'not chosen'}"
        for task in known
        if task not in chosen
    ]
    return chosen, hidden


def _order(task: str) -> tuple[int, str]:
    names = task_names()
    return (names.index(task) if task in names else len(names), task)


def _compared(shelf: Shelf, columns: Sequence[str]) -> list[str]:
    """Choose the set of tasks that compares the most scores: (rows that have all its tasks) × (number of tasks)."""
    base = shelf.quality.get(BASELINE, {})
    usable = [task for task in columns if is_averaged(task) or len(columns) == 1]
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


def _notes(
    rows: Sequence[Row],
    columns: Sequence[str],
    compared: Sequence[str],
    used: Sequence[Record],
    versions: Mapping[str, str],
) -> list[str]:
    notes = []
    if compared:
        titles = ", ".join(task_title(task) for task in compared)
        notes.append(f"the drop is the average over {titles}; ranks and fronts use only these tasks")
    for task in columns:
        if task not in compared:
            why = "too few rows have it" if is_averaged(task) else "it is not averaged by convention"
            notes.append(f"{task_title(task)} is shown but not part of the average: {why}")
    if 1 in [row.seed_count for row in rows]:
        notes.append(
            "with one seed, an interval covers only the sampling of dev examples, not the randomness of training"
        )
    weights = sorted({record.provenance.weights for record in used if record.quality is not None})
    if weights:
        notes.append(f"weights: {', '.join(weights)}")
    several = [package for package, found in versions.items() if ", " in found]
    if several:
        notes.append(f"measured with several versions of {', '.join(several)}")
    drops = [row.drop for row in rows if row.drop is not None]
    counts = [len(drop.replicates) for drop in drops if drop.replicates is not None and len(drop.replicates)]
    if counts:
        notes.append(
            f"intervals and P(front) come from {min(counts):,} bootstrap resamples, paired with the baseline"
        )
    return notes
