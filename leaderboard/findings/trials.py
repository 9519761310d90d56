"""Tests of the papers' findings on the records: which of two recipes is better, by how much, how certainly."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from statistics import fmean

from harness.common.errors import Code, SkylineError
from harness.recipes.recipe import Recipe
from harness.records.schema import Quality, Record
from leaderboard.boards.bootstrap import average_drop, score
from leaderboard.boards.names import task_title
from leaderboard.boards.record_selection import newest
from leaderboard.findings.one_answer import gives_one_answer
from leaderboard.findings.statements import FINDINGS, MASKS, MODEL, Comparison, Expected, Share
from leaderboard.tables.model import Column, Table, Value

COLUMNS = (
    Column("finding", "Finding"),
    Column("setting", "Setting"),
    Column("task", "Task"),
    Column("seeds", "Seeds"),
    Column("first", "First"),
    Column("second", "Second"),
    Column("difference", "Difference"),
    Column("low", "95 % from"),
    Column("high", "to"),
    Column("verdict", "Verdict"),
)


def findings_table(records: Iterable[Record], model: str = MODEL) -> Table:
    """Make the table of all comparisons whose two recipes were both scored on a task.

    Raises SkylineError (no-data) if there is none.
    """
    found, _ = newest(records)
    runs: dict[tuple[str, str], dict[int, Quality]] = {}
    for record in found:
        if record.quality is not None and record.model == model and record.task is not None:
            runs.setdefault((record.recipe, record.task), {})[record.seed or 0] = record.quality
    tasks = sorted({task for _, task in runs})
    rows: list[list[Value]] = []
    for finding in FINDINGS:
        for comparison in finding.comparisons:
            pair = [_canonical(comparison.first), _canonical(comparison.second)]
            for task in tasks:
                if comparison.task in (None, task) and all((recipe, task) in runs for recipe in pair):
                    row = _compared(comparison, task, runs[pair[0], task], runs[pair[1], task])
                    rows.append([f"{finding.statement} ({finding.source})", *row])
    rows += _shares(MASKS, runs, tasks)
    if not rows:
        raise SkylineError(
            f"no finding can be tested on the records of {model} yet; run `skyline run findings --out profiles`",
            Code.NO_DATA,
        )
    return Table.of(
        name="findings",
        title=f"The papers' findings, tested on {model}",
        columns=COLUMNS,
        rows=rows,
        notes=[
            "first, second: the task's metric on the dev split, mean over seeds; the interval is paired",
            "reproduced: the whole interval is on the expected side of zero; agrees: only the difference is",
            "one answer: this recipe gives all examples the same answer, so the difference shows only what the other "
            "recipe has learnt",
            "with one seed, an interval covers only the sampling of dev examples, not the randomness of training",
        ],
    )


def _canonical(recipe: str) -> str:
    """Write a recipe as records do."""
    return str(Recipe.parse(recipe))


def _compared(
    comparison: Comparison, task: str, first: dict[int, Quality], second: dict[int, Quality]
) -> list[Value]:
    shared = sorted(first.keys() & second.keys())
    first, second = {s: first[s] for s in shared}, {s: second[s] for s in shared}
    label = _label(comparison, first)
    if not shared:
        return [label, task_title(task), "none shared", None, None, None, None, None, "no verdict"]
    drop, _ = average_drop({task: first}, {task: second})
    mean = None if drop is None else drop.mean
    low, high = (None, None) if drop is None or drop.ci95 is None else drop.ci95
    said = verdict(comparison.expected, mean, low, high, comparison.margin) + _collapsed(task, first, second)
    scores = (score(task, first).mean, score(task, second).mean)
    return [label, task_title(task), len(shared), *scores, mean, low, high, said]


def _collapsed(task: str, first: dict[int, Quality], second: dict[int, Quality]) -> str:
    sides = [
        name
        for name, seeds in (("first", first), ("second", second))
        if all(gives_one_answer(task, quality) for quality in seeds.values())
    ]
    return f" ({' and '.join(sides)}: one answer)" if sides else ""


def _label(comparison: Comparison, first: dict[int, Quality]) -> str:
    if comparison.figure is None:
        return comparison.label
    values = _figures(first, comparison.figure)
    # In tables a space separates a figure from its percent sign.
    return comparison.label.format(fmean(values)).replace("%", " %") if values else comparison.first


def _figures(seeds: dict[int, Quality], figure: str) -> list[float]:
    """Collect a training figure from each seed that has it."""
    return [
        stage.figures[figure]
        for quality in seeds.values()
        for stage in quality.training
        if figure in stage.figures
    ]


def verdict(
    expected: Expected, mean: float | None, low: float | None, high: float | None, margin: float = 0.0
) -> str:
    """Judge an expectation by a difference and its interval: reproduced, agrees, differs, contradicted or no verdict.

    A difference as low as -`margin` (points) still counts as expected.
    """
    if mean is None or low is None or high is None:
        return "no verdict"
    mean, low, high = mean + margin, low + margin, high + margin
    if expected == "below":
        mean, low, high = -mean, -high, -low
    if low > 0:
        return "reproduced"
    if high < 0:
        return "contradicted"
    return "agrees" if mean > 0 else "differs"


def _shares(
    share: Share, runs: dict[tuple[str, str], dict[int, Quality]], tasks: list[str]
) -> Iterator[list[Value]]:
    for recipe in map(_canonical, share.recipes):
        for task in tasks:
            values = _figures(runs.get((recipe, task), {}), share.figure)
            if values:
                mean, limit = 100 * fmean(values), 100 * share.limit
                said = "reproduced" if mean < limit else "contradicted"
                figures = (len(values), mean, limit, mean - limit, None, None)
                yield [f"{share.statement} ({share.source})", recipe, task_title(task), *figures, said]
