"""The measured board: recipes on one base model under one protocol, with scores and costs of the same artifacts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from harness.common.errors import Code, SkylineError, unknown_name
from harness.records.schema import Record
from leaderboard.boards.axes import Axis, main_axis, pick_axis, ratio_axes, workload_words
from leaderboard.boards.board import Board
from leaderboard.boards.declaration import Declaration
from leaderboard.boards.derivation import derive
from leaderboard.boards.measured_costs import Machine, pick_machine
from leaderboard.boards.measured_row import Setting, measured_row, pooled_variances
from leaderboard.boards.names import FINE_TUNING, Cards, task_title
from leaderboard.boards.ranking import hypervolumes, ranked, with_fronts
from leaderboard.boards.record_selection import Selection, newest, select, versions_of
from leaderboard.boards.row import Row


def measured_board(
    records: Iterable[Record],
    declaration: Declaration | None = None,
    *,
    name: str = "",
    model: str | None = None,
    tasks: Sequence[str] | None = None,
    cards: Cards | None = None,
    axis: str | None = None,
) -> Board:
    """Build a board of rows that can be compared: a row is a recipe over tasks and seeds.

    Args:
        records: records of any kind. What does not belong to the board is listed in `skipped`.
        declaration: what belongs to the board; None derives it from the records.
        name: the board's name.
        model: the base model of a derived board; a declaration names its own.
        tasks: the tasks to compare, of those declared; for a derived board any of the records.
        cards: the methods' cards as plain values, by id. They give titles, families, claimed costs and fidelity.
        axis: the key of the cost axis whose front the board shows; by default the size on disk.

    Raises SkylineError if no score belongs to the board (no-data), if a name is unknown (unknown-name) or if `model` is
    not the declared one (conflict), and NotComparable if `tasks` mixes real and toy tasks.
    """
    cards = cards or {}
    found, notes = newest(records, by_machine=True)
    if not any(record.kind == "quality" for record in found):
        raise SkylineError(
            "no record has scores yet; train and evaluate recipes with `skyline run`", Code.NO_DATA
        )
    derived = None if declaration is not None else derive(found, model, tasks)
    declared = derived.declaration if derived is not None else _narrowed(declaration, model, tasks)
    selection = select(found, declared, derived.terms if derived is not None else None)
    if not selection.recipes:
        raise SkylineError(_nothing(declared), Code.NO_DATA)
    compared = derived.compared if derived is not None else list(declared.tasks)
    axes = ratio_axes(declared.workloads, declared.runtimes)
    chosen = pick_axis(axis, axes)
    machine, elsewhere = pick_machine(selection)
    of_drops, of_scores = pooled_variances(selection, declared.tasks)
    setting = Setting(declared, compared, axes, selection, machine, cards, of_drops, of_scores)
    rows = ranked([measured_row(recipe, setting) for recipe in selection.recipes])
    rows = with_fronts(rows, axes)
    areas, reference = hypervolumes(rows, axes)
    used = list(selection.records)
    versions = versions_of(used)
    main = main_axis("latency", axes)
    coverage = _coverage(rows, axes)
    return Board(
        kind="measured",
        name=name,
        title=declared.title,
        model=declared.model,
        tasks=declared.tasks,
        compared=compared,
        axis=chosen,
        axes=axes,
        rows=rows,
        hypervolume=areas,
        hypervolume_reference=reference,
        protocol=declared.protocol,
        seeds=declared.seeds,
        coverage=coverage,
        profiles_wanted=len(declared.workloads) * len(declared.runtimes),
        hardware=None if machine is None else machine.hardware,
        workload=None if main is None else main.workload,
        runtime=None if machine is None else ", ".join(declared.runtimes),
        device=None if machine is None else machine.device,
        versions=versions,
        date=max((record.provenance.started for record in used), default=None),
        notes=[
            *([] if derived is None else derived.notes),
            *notes,
            *_notes(rows, setting, versions, coverage),
        ],
        skipped=[*selection.skipped, *elsewhere, *_without_scores(found, selection, declared)],
    )


def _narrowed(declaration: Declaration | None, model: str | None, tasks: Sequence[str] | None) -> Declaration:
    """Keep the tasks that a reader chose of those declared."""
    assert declaration is not None
    if model is not None and model != declaration.model:
        raise SkylineError(
            f"this board is declared for base model {declaration.model}; leave out --model {model}, or name another "
            "folder with --profiles",
            Code.CONFLICT,
        )
    if not tasks:
        return declaration
    for task in tasks:
        if task not in declaration.tasks:
            raise unknown_name("task of this board", task, declaration.tasks)
    return declaration.model_copy(update={"tasks": tuple(t for t in declaration.tasks if t in tasks)})


def _nothing(declared: Declaration) -> str:
    protocol = "no protocol" if declared.protocol is None else f"protocol {declared.protocol}"
    return (
        f"no score on {declared.model} under {protocol} belongs to the board '{declared.title}' yet; measure it with "
        "`skyline run`, or see older scores with `skyline board archive`"
    )


def _without_scores(records: Sequence[Record], selection: Selection, declared: Declaration) -> list[str]:
    """List the recipes of the board's base model that only have profiles or failures."""
    shown = set(selection.recipes)
    scored = {record.recipe for record in records if record.kind == "quality" and record.quality is not None}
    recipes = dict.fromkeys(
        record.recipe
        for record in records
        if record.model == declared.model and record.recipe not in shown | scored
    )
    return [f"{recipe}: it has no score on the tasks of this board" for recipe in recipes]


def _coverage(rows: Sequence[Row], axes: Sequence[Axis]) -> str:
    """Say how many rows are complete, and how many of them have a figure of each cost at each workload."""
    complete = [row for row in rows if row.section == "ranked"]
    wanted = {(axis.cost, axis.workload) for axis in axes}
    candidates = [row for row in complete if not row.baseline]
    costed = sum(
        {(axis.cost, axis.workload) for axis in axes if axis.key in row.costs.by_axis} == wanted
        for row in candidates
    )
    return (
        f"{len(complete)} of {len(rows)} rows are complete; {costed} of {len(candidates)} complete rows besides the "
        "baseline have every cost"
    )


def _notes(rows: Sequence[Row], setting: Setting, versions: Mapping[str, str], coverage: str) -> list[str]:
    declared, compared = setting.declaration, setting.compared
    protocol = "no protocol" if declared.protocol is None else f"protocol {declared.protocol}"
    seeds = ", ".join(str(seed) for seed in declared.seeds)
    notes = [f"{protocol}; seeds {seeds}, of which every row needs {declared.seeds[0]}", coverage]
    if compared:
        titles = ", ".join(task_title(task) for task in compared)
        notes.append(f"the drop is the average over {titles}; ranks and fronts use only these tasks")
    notes += _of_statistics(rows, setting)
    notes += _of_costs(setting)
    if any(row.over_control is not None for row in rows):
        notes.append(
            f"over control: the difference from {FINE_TUNING}, the baseline trained on for the recipe's budget"
        )
    weights = sorted(
        {record.provenance.weights for record in setting.selection.records if record.quality is not None}
    )
    if weights:
        notes.append(f"weights: {', '.join(weights)}")
    several = [package for package, found in versions.items() if ", " in found]
    if several:
        notes.append(f"measured with several versions of {', '.join(several)}")
    return notes


def _of_statistics(rows: Sequence[Row], setting: Setting) -> list[str]:
    """Say what intervals, ranks and P(front) are made of."""
    drops = [row.drop for row in rows if row.drop is not None]
    counts = [len(drop.replicates) for drop in drops if drop.replicates is not None]
    if not counts:
        return []
    notes = [
        f"intervals, ranks and P(front) come from {min(counts):,} bootstrap resamples, paired by example"
    ]
    known = [task for task in setting.compared if task in setting.drop_variances]
    if known:
        said = ", ".join(f"{task_title(task)} {setting.drop_variances[task] ** 0.5:.2f}" for task in known)
        notes.append(
            f"they contain the noise of training; standard deviation of a drop between seeds, in points: {said}"
        )
    unknown = [task_title(task) for task in setting.compared if task not in known]
    if unknown:
        notes.append(
            f"no row has two seeds on {', '.join(unknown)}, so the noise of training is left out there"
        )
    if any(row.rank is not None for row in rows):
        notes.append(
            "rank: all ranks that a row may have; 95 % simultaneous confidence, from comparisons of all pairs of rows"
        )
    return notes


def _of_costs(setting: Setting) -> list[str]:
    declared = setting.declaration
    workloads = "; ".join(f"{each}, {workload_words(each)}" for each in declared.workloads)
    notes = [
        "costs: of the scored artifacts, over the row's own baseline on the same workload; geometric mean over tasks",
        f"workloads (batch, length): {workloads}; runtimes: {', '.join(declared.runtimes)}",
    ]
    machine: Machine | None = setting.machine
    if machine is not None:
        notes.append(f"latency and memory were measured on {machine.device}, hardware {machine.hardware.id}")
    return notes
