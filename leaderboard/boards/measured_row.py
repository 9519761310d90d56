"""A row of the measured board: scores and drops on shared seeds, the average drop, costs, and flags."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from harness.recipes.recipe import BASELINE
from harness.records.schema import Quality
from leaderboard.boards.axes import Axis
from leaderboard.boards.bootstrap import Difference, Drop, averaged, differences, score
from leaderboard.boards.declaration import Declaration
from leaderboard.boards.flags import is_constant, row_flags, trains
from leaderboard.boards.measured_costs import Machine, ScoredProfiles, measured_costs
from leaderboard.boards.names import FINE_TUNING, Cards, is_control, recipe_family, recipe_title, task_title
from leaderboard.boards.record_selection import Runs, Selection
from leaderboard.boards.row import Evidence, Row
from leaderboard.boards.seed_noise import SeedNoise, pooled_variance
from leaderboard.boards.terms import Terms


@dataclass(frozen=True)
class Setting:
    """What all rows of a board share. Variances are those of `seed_noise`, by task, of drops and of scores."""

    declaration: Declaration
    compared: Sequence[str]
    axes: Sequence[Axis]
    selection: Selection
    machine: Machine | None
    cards: Cards
    drop_variances: Mapping[str, float] = field(default_factory=dict)
    score_variances: Mapping[str, float] = field(default_factory=dict)

    @property
    def baseline(self) -> Runs:
        """The baseline's scores."""
        return self.selection.runs.get(BASELINE, {})


def pooled_variances(selection: Selection, tasks: Sequence[str]) -> tuple[dict[str, float], dict[str, float]]:
    """Pool the variances between seeds by task: of all rows' differences from the baseline, and of all rows' scores.

    A row that gives one answer scores alike with every seed, and says nothing of the others: it is left out.
    """
    base = selection.runs.get(BASELINE, {})
    drops: dict[str, list[Sequence[float]]] = {task: [] for task in tasks}
    scores: dict[str, list[Sequence[float]]] = {task: [] for task in tasks}
    for recipe, every in selection.runs.items():
        runs = {task: seeds for task, seeds in every.items() if not any(map(is_constant, seeds.values()))}
        for task, seeds in qualities(runs).items():
            scores[task].append([each.scores[each.metric] for each in seeds.values()])
        if recipe != BASELINE:
            for task, each in compare(runs, base)[0].items():
                drops[task].append(each.by_seed)
    found = [{task: pooled_variance(rows) for task, rows in each.items()} for each in (drops, scores)]
    of_drops, of_scores = (
        {task: value for task, value in each.items() if value is not None} for each in found
    )
    return of_drops, of_scores


def measured_row(recipe: str, setting: Setting) -> Row:
    """Build the row of a recipe. It is incomplete, without average, if a compared task or its first seed is missing."""
    declaration, compared = setting.declaration, setting.compared
    runs = setting.selection.runs.get(recipe, {})
    drops, notes = _drops(recipe, runs, setting)
    shared = {task: each.seeds for task, each in drops.items()}
    scores = {
        task: score(task, _on(shared.get(task), seeds), SeedNoise(recipe, setting.score_variances))
        for task in declaration.tasks
        if (seeds := qualities(runs).get(task))
    }
    missing = [task for task in compared if declaration.seeds[0] not in shared.get(task, ())]
    complete = bool(compared) and not missing
    if runs and missing and setting.baseline:
        where = ", ".join(task_title(task) for task in missing)
        notes.append(f"incomplete: no score of seed {declaration.seeds[0]} on {where}")
    drop = _average(recipe, drops, setting) if complete else None
    found = ScoredProfiles.of(runs, setting.baseline, setting.selection, setting.machine)
    base = ScoredProfiles.of(setting.baseline, setting.baseline, setting.selection, setting.machine)
    costs = measured_costs(
        recipe, found, base, setting.axes, compared, declaration.runtimes, setting.cards, complete=complete
    )
    control = setting.selection.runs.get(FINE_TUNING, {})
    used = {task: runs[task] for task in compared if task in runs}
    return Row(
        id=f"{recipe}@{declaration.model}",
        title=recipe_title(recipe, setting.cards),
        family=recipe_family(recipe, setting.cards),
        recipe=recipe,
        model=declaration.model,
        baseline=recipe == BASELINE,
        control=is_control(recipe, setting.cards),
        section="ranked" if drop is not None else "incomplete",
        scores=scores,
        drops=drops,
        drop=drop,
        over_control=_over_control(recipe, runs, control, setting) if complete else None,
        costs=costs,
        evidence={
            task: Evidence(
                tuple(sorted(runs.get(task, {}))),
                found.count(task, declaration.workloads, declaration.runtimes),
            )
            for task in declaration.tasks
        },
        flags=row_flags(
            recipe,
            used,
            [record for task in compared for record in found.profiles.get(task, [])],
            costs,
            () if costs.execution is None else costs.execution.simulated,
            control,
            {task: len(shared[task]) for task in compared if task in shared},
            setting.cards,
        ),
        failures=tuple(setting.selection.failures.get(recipe, [])),
        notes=(*notes, *_places(runs)),
    )


def qualities(runs: Runs) -> dict[str, dict[int, Quality]]:
    """Return the scores of records by task and seed."""
    return {
        task: {seed: record.quality for seed, record in seeds.items() if record.quality is not None}
        for task, seeds in runs.items()
    }


def compare(
    runs: Runs, base: Runs, noise: SeedNoise | None = None
) -> tuple[dict[str, Difference], list[str]]:
    """Compute the differences of two recipes by task, with notes on scores that could not be compared.

    Scores on other data, or that start from a baseline of another budget or precision, are not compared.
    """
    kept: dict[str, dict[int, Quality]] = {}
    notes = []
    for task, seeds in base.items():
        for seed, record in seeds.items():
            other = runs.get(task, {}).get(seed)
            if other is None or record.quality is None:
                continue
            data, base_data = other.provenance.data, record.provenance.data
            own, theirs = Terms.of(other), Terms.of(record)
            if data is not None and base_data is not None and data != base_data:
                notes.append(f"not compared: {task}, seed {seed}: its data differ from the baseline's")
            elif own.baseline_budget != theirs.baseline_budget or not own.precise_as(theirs):
                notes.append(
                    f"not compared: {task}, seed {seed}: the baseline was trained with another budget or precision"
                )
            else:
                kept.setdefault(task, {})[seed] = record.quality
    found, unpaired = differences(qualities(runs), kept, None, noise or SeedNoise(""))
    return found, [*notes, *(f"not compared: {line}" for line in unpaired)]


def _drops(recipe: str, runs: Runs, setting: Setting) -> tuple[dict[str, Difference], list[str]]:
    """Compute the differences from the baseline by task, in the board's order."""
    base = setting.baseline
    if not base:
        return {}, ["no drop: the baseline was not measured on this base model"] if runs else []
    found, notes = compare(runs, base, _noise(recipe, setting))
    return {task: found[task] for task in setting.declaration.tasks if task in found}, notes


def _average(recipe: str, drops: Mapping[str, Difference], setting: Setting) -> Drop | None:
    return averaged({task: drops[task] for task in setting.compared}, _noise(recipe, setting))


def _noise(recipe: str, setting: Setting) -> SeedNoise:
    """The noise of a row's difference from the baseline; the baseline differs from itself by nothing."""
    return SeedNoise(recipe, {} if recipe == BASELINE else setting.drop_variances)


def _over_control(recipe: str, runs: Runs, control: Runs, setting: Setting) -> Drop | None:
    """Compute the difference from the control of equal budget; None for a recipe that trains nothing."""
    if recipe == FINE_TUNING or not control or not trains(runs):
        return None
    if setting.declaration.protocol is None:
        control = _of_equal_budget(runs, control)
    noise = SeedNoise(recipe, setting.drop_variances, against=FINE_TUNING)
    found, _ = compare(runs, control, noise)
    if any(task not in found for task in setting.compared):
        return None
    return averaged({task: found[task] for task in setting.compared}, noise)


def _of_equal_budget(runs: Runs, control: Runs) -> Runs:
    """Keep the scores of the control that have the budget of the recipe's; a protocol gives all recipes the same."""
    return {
        task: {
            seed: record
            for seed, record in seeds.items()
            if seed in runs.get(task, {}) and Terms.of(record).budget == Terms.of(runs[task][seed]).budget
        }
        for task, seeds in control.items()
    }


def _on(seeds: Sequence[int] | None, scores: Mapping[int, Quality]) -> Mapping[int, Quality]:
    """Keep the scores of the seeds that the drop uses; all scores if there is no drop."""
    return scores if seeds is None else {seed: scores[seed] for seed in seeds}


def _places(runs: Runs) -> list[str]:
    """Say on which device a row was trained, unless it was the processor."""
    places = {
        str(record.cell["trained_on"])
        for seeds in runs.values()
        for record in seeds.values()
        if "trained_on" in record.cell
    }
    return [f"trained on {', '.join(sorted(places))}"] if places else []
