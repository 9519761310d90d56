"""The papers' findings, tried on the records: which of two recipes is better, by how much, and whether the interval
says so.
"""

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
    """Every comparison of which both sides are recorded on a task. Raises SkylineError where there is none."""
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
            f"no finding can be tried on the records of {model} yet; `skyline run findings --out profiles` does",
            Code.NO_DATA,
        )
    return Table.of(
        name="findings",
        title=f"Findings of the papers, tried on {model}",
        columns=COLUMNS,
        rows=rows,
        notes=[
            "first and second: the task's metric on dev, mean over seeds; the difference's 95 % interval is paired",
            "reproduced: the interval lies on the expected side of zero; agrees: the difference does, the interval not",
            "one answer: that side answers every example alike, so the difference says what the other learnt, no more",
            "with one seed an interval covers the choice of dev examples only, not training's chance",
        ],
    )


def _canonical(recipe: str) -> str:
    """A recipe as records spell it."""
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
    # Percentages stand apart from their sign here, as in all tables.
    return comparison.label.format(fmean(values)).replace("%", " %") if values else comparison.first


def _figures(seeds: dict[int, Quality], figure: str) -> list[float]:
    """A training figure of each seed that has it."""
    return [
        stage.figures[figure]
        for quality in seeds.values()
        for stage in quality.training
        if figure in stage.figures
    ]


def verdict(
    expected: Expected, mean: float | None, low: float | None, high: float | None, margin: float = 0.0
) -> str:
    """What an interval of a difference says of an expectation: reproduced, agrees, differs or contradicted. With a
    margin, so much less than zero is still as expected.
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
