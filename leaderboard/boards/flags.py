"""Flags: what a reader must know before trusting a row, each with a code and in words."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache

import numpy as np

from harness.common.errors import SkylineError
from harness.common.lazy import lazy_imports
from harness.recipes.recipe import BASELINE
from harness.records.predictions import share_of_one_answer, unpack_correct
from harness.records.schema import Record
from harness.records.versions import EVALUATION_VERSION, PROFILING_VERSION
from leaderboard.boards.cost_ratios import Z95
from leaderboard.boards.names import Cards, cost_title, recipe_parts, task_title
from leaderboard.boards.record_selection import Runs
from leaderboard.boards.row import Costs, Flag

with lazy_imports():
    from harness.recipes import fingerprints, recipe

ONE_ANSWER = 0.99
"""The share of dev rows with the same answer from which a classifier is called constant."""
CORRELATIONS = ("pearson", "spearman", "matthews_correlation")
"""The metrics that are 0 for a model with one answer, whatever its accuracy."""
BUDGET_MARGIN = 1.05
"""The share of the control's examples from which a recipe is over budget."""


def row_flags(
    own: str,
    runs: Runs,
    profiles: Iterable[Record],
    costs: Costs,
    simulated: Sequence[str],
    control: Runs,
    seeds: Mapping[str, int],
    cards: Cards,
) -> tuple[Flag, ...]:
    """Collect the flags of the row of the recipe `own`.

    `runs` are its scores on the compared tasks, `control` those of the control of equal budget, and `seeds` the number
    of seeds that its drop uses by task.
    """
    records = [record for by_seed in runs.values() for record in by_seed.values()]
    return (
        *_answers(runs),
        *_one_seed(seeds),
        *(Flag(f"simulated:{cost}", f"simulated: {cost_title(cost)}") for cost in simulated),
        *_no_verdict(costs),
        *_fidelity(own, cards),
        *([Flag("stale", "stale")] if any(is_stale(record) for record in [*records, *profiles]) else []),
        *_over_budget(own, runs, control),
    )


def _answers(runs: Runs) -> Iterator[Flag]:
    constant = [task for task, seeds in runs.items() if any(is_constant(each) for each in seeds.values())]
    near = [
        task
        for task, seeds in runs.items()
        if task not in constant and not _correlates(seeds) and _is_near_majority(seeds)
    ]
    if constant:
        yield Flag("constant", f"one answer: {_titles(constant)}")
    if near:
        yield Flag("near-majority", f"near the majority class: {_titles(near)}")
    chance = [task for task, seeds in runs.items() if task not in constant and _is_near_chance(seeds)]
    if chance:
        yield Flag("near-chance", f"near no correlation: {_titles(chance)}")


def is_constant(record: Record) -> bool:
    """Check whether a model gave one answer to nearly all dev rows; False if the record keeps no predictions."""
    predictions = None if record.quality is None else record.quality.predictions
    share = None if predictions is None else share_of_one_answer(predictions)
    return share is not None and share >= ONE_ANSWER


def _is_near_majority(seeds: Mapping[int, Record]) -> bool:
    """Check whether the accuracy, less half of its 95 % interval, reaches no more than the majority class's."""
    shares = []
    for record in seeds.values():
        predictions = None if record.quality is None else record.quality.predictions
        correct = None if predictions is None else unpack_correct(predictions)
        if predictions is None or predictions.majority is None or correct is None:
            return False
        shares.append((float(correct.mean()), predictions.majority / 100, predictions.rows))
    accuracy, majority = (float(np.mean([share[place] for share in shares])) for place in (0, 1))
    half = Z95 * math.sqrt(accuracy * (1 - accuracy) / shares[0][2])
    return accuracy - half <= majority


def _correlates(seeds: Mapping[int, Record]) -> bool:
    return any(each.quality is not None and each.quality.metric in CORRELATIONS for each in seeds.values())


def _is_near_chance(seeds: Mapping[int, Record]) -> bool:
    """Check whether the interval of a correlation reaches zero, which is what one answer has."""
    lows = [
        record.quality.ci95[record.quality.metric][0]
        for record in seeds.values()
        if record.quality is not None
        and record.quality.metric in CORRELATIONS
        and record.quality.metric in record.quality.ci95
    ]
    return bool(lows) and float(np.mean(lows)) <= 0


def _one_seed(seeds: Mapping[str, int]) -> Iterator[Flag]:
    single = [task for task, count in seeds.items() if count == 1]
    if single:
        where = "" if len(single) == len(seeds) else f": {_titles(single)}"
        yield Flag("one-seed", f"one seed{where}")


def _no_verdict(costs: Costs) -> Iterator[Flag]:
    if any(ratio.state == "no verdict" for ratio in costs.ratios.values()):
        yield Flag("no-verdict", "no verdict on a latency")


def _fidelity(own: str, cards: Cards) -> Iterator[Flag]:
    found = {cards.get(part.method, {}).get("fidelity") for part in recipe_parts(own)}
    if "variant" in found:
        yield Flag("variant", "variant of the paper's")
    if "architecture" in found:
        yield Flag("architecture", "only the paper's architecture")


def is_stale(record: Record) -> bool:
    """Check whether a record was measured with other versions of the harness or its methods than the installed ones."""
    declared = _declared_now(record.recipe)
    if declared is None:
        return True
    measured_by = (
        {"evaluation": EVALUATION_VERSION} if record.kind == "quality" else {"profiling": PROFILING_VERSION}
    )
    return record.provenance.declared != {**declared, **measured_by}


@cache
def _declared_now(own: str) -> dict[str, int] | None:
    """Return the versions that a recipe's artifact has now; None if a method or an option is not installed."""
    try:
        return fingerprints.declared_versions(recipe.Recipe.parse(own))
    except SkylineError:
        return None


def _over_budget(own: str, runs: Runs, control: Runs) -> Iterator[Flag]:
    """Compare the examples that the recipe's stages saw with those of the control, task by task."""
    over = []
    for task, seeds in runs.items():
        allowed = max((_examples_seen(record) for record in control.get(task, {}).values()), default=0)
        seen = max((_examples_seen(record) for record in seeds.values()), default=0)
        if allowed and seen > BUDGET_MARGIN * allowed:
            over.append(task)
    if over and own != BASELINE:
        yield Flag("over-budget", f"over budget: {_titles(over)}")


def _examples_seen(record: Record) -> int:
    """Return the examples that all stages but the baseline's saw; 0 in records that do not say it."""
    stages = [] if record.quality is None else record.quality.training
    return sum(stage.seen for stage in stages if stage.stage != BASELINE)


def trains(runs: Runs) -> bool:
    """Check whether any stage of a recipe, after the baseline's, was trained."""
    return any(
        stage.steps > 0 and stage.stage != BASELINE
        for seeds in runs.values()
        for record in seeds.values()
        if record.quality is not None
        for stage in record.quality.training
    )


def _titles(tasks: Iterable[str]) -> str:
    return ", ".join(task_title(task) for task in tasks)
