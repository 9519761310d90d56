"""Tests of the papers' findings on the records: which of two recipes is better, by how much, how certainly."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from statistics import fmean

from harness.common.errors import Code, SkylineError
from harness.recipes.recipe import Recipe
from harness.records.schema import Record
from leaderboard.boards.names import task_title
from leaderboard.findings.one_answer import is_constant
from leaderboard.findings.scored_runs import BySeed, ScoredRuns, qualities, quality_of
from leaderboard.findings.significance import LEVEL, holm, paired_difference
from leaderboard.findings.statements import (
    CONTROL,
    FINDINGS,
    MASKS,
    MATCHED,
    MODEL,
    Comparison,
    Finding,
    Share,
)
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
    Column("p", "p, Holm", digits=3),
    Column("verdict", "Verdict"),
    Column("reason", "Reason"),
)

NO_RECORD = "no record"


@dataclass(frozen=True)
class Trial:
    """One comparison on one task: what was found, and the verdict with its reason.

    `shift` is the difference in the expected direction, the margin added. `p` is None if the trial has no test.
    """

    finding: str
    setting: str
    task: str = ""
    seeds: int | None = None
    first: float | None = None
    second: float | None = None
    difference: float | None = None
    ci95: tuple[float, float] | None = None
    shift: float = 0.0
    p: float | None = None
    verdict: str = NO_RECORD
    reason: str = ""

    def cells(self) -> list[Value]:
        """The values of the table's columns."""
        low, high = self.ci95 or (None, None)
        figures = (self.seeds, self.first, self.second, self.difference, low, high, self.p)
        return [self.finding, self.setting, self.task, *figures, self.verdict, self.reason]


def findings_table(records: Iterable[Record], model: str = MODEL, protocol: str | None = None) -> Table:
    """Make the table of all findings, with one line for each comparison whose recipes were both scored on a task.

    Only recipes with equal budgets are compared. With a `protocol`, its records alone are read; a finding without any
    says `no record`. Without one, all records are read, and SkylineError (no-data) is raised if none can be compared.
    """
    runs = ScoredRuns.of(records, model, protocol)
    trials = _judged([trial for finding in FINDINGS for trial in _tried(finding, runs)])
    trials += _shares(MASKS, runs)
    if protocol is None and all(trial.verdict == NO_RECORD for trial in trials):
        raise SkylineError(
            f"no finding can be tested on the records of {model} yet; run `skyline run measured --out profiles`",
            Code.NO_DATA,
        )
    return Table.of(
        name="findings",
        title=f"The papers' findings, tested on {model}"
        + (f" under protocol {protocol}" if protocol else ""),
        columns=COLUMNS,
        rows=[trial.cells() for trial in trials],
        notes=_notes(runs, sum(trial.p is not None for trial in trials)),
    )


def _notes(runs: ScoredRuns, tested: int) -> list[str]:
    unknown = [task_title(task) for task in runs.tasks if runs.seed_variance(task) is None]
    return [
        "first, second: the task's metric on the dev split, mean over the seeds that both have; compared are recipes "
        "of one protocol (or none), equal budget and equal precision",
        "the interval contains the dev examples, paired, and the randomness of training: the variance over seeds is "
        "pooled over all recipes of a task that have several seeds"
        + (f"; it is unknown on {', '.join(unknown)}, where intervals are too narrow" if unknown else ""),
        f"p, Holm: two-sided, corrected for the {tested} comparisons that were tested; reproduced, contradicted: it is "
        f"at most {LEVEL:g}; agrees, differs: it is not, and the difference is on the expected side or on the other",
        "void: a recipe gives one answer to at least 99 % of the examples, so the comparison says nothing about the "
        "finding",
    ]


def verdict(shift: float, p: float | None) -> str:
    """Judge an expectation by the difference in the expected direction, in points, and its adjusted p-value."""
    if p is None:
        return "no verdict"
    if p <= LEVEL:
        return "reproduced" if shift > 0 else "contradicted"
    return "agrees" if shift > 0 else "differs"


def _canonical(recipe: str) -> str:
    """Write a recipe as records do."""
    return recipe if recipe == CONTROL else str(Recipe.parse(recipe))


def _tried(finding: Finding, runs: ScoredRuns) -> Iterator[Trial]:
    """Make the trials of a finding, with p-values before the correction."""
    statement, found = f"{finding.statement} ({finding.source})", False
    for comparison in finding.comparisons:
        for task in runs.tasks if comparison.task is None else [comparison.task]:
            trial = _compared(comparison, task, runs)
            if trial is not None:
                found = True
                yield replace(trial, finding=statement, task=task_title(task))
    if not found:
        yield Trial(statement, "all")


def _compared(comparison: Comparison, task: str, runs: ScoredRuns) -> Trial | None:
    """Compare two recipes on a task. None if a recipe has no score there, or if the setting does not apply."""
    pair = [_canonical(comparison.first), _canonical(comparison.second)]
    if not all(runs.scored(recipe, task) for recipe in pair):
        return None
    shared = runs.shared(task, *pair)
    if shared is None:
        reason = "no seed and budget that both recipes share"
        return Trial("", comparison.first, verdict="not comparable", reason=reason)
    first, second = shared
    if not _applies(comparison, first, second):
        return None
    difference = paired_difference(qualities(first), qualities(second), runs.seed_variance(task))
    sign = 1 if comparison.expected == "above" else -1
    trial = Trial(
        "",
        _label(comparison, first),
        seeds=len(first),
        first=_mean(first),
        second=_mean(second),
        difference=difference.mean,
        ci95=difference.ci95,
        shift=sign * difference.mean + comparison.margin,
        p=difference.p_value(sign * comparison.margin),
        verdict="no verdict",
    )
    constant = _constant_sides(task, first, second)
    return replace(trial, p=None, verdict="void", reason=f"one answer: {constant}") if constant else trial


def _judged(trials: list[Trial]) -> list[Trial]:
    """Correct the p-values of all tested trials together, and judge these trials."""
    corrected = iter(holm([trial.p for trial in trials if trial.p is not None]))
    return [
        trial
        if trial.p is None
        else replace(trial, p=(p := next(corrected)), verdict=verdict(trial.shift, p))
        for trial in trials
    ]


def _constant_sides(task: str, first: BySeed, second: BySeed) -> str:
    """Name the sides with a seed whose model gives one answer."""
    return " and ".join(
        name
        for name, runs in (("first", first), ("second", second))
        if any(is_constant(task, quality_of(record)) for record in runs.values())
    )


def _applies(comparison: Comparison, first: BySeed, second: BySeed) -> bool:
    """Check whether the records have the figure of the comparison, and whether it is in the range that it tests."""
    if comparison.figure is None:
        return True
    ours, theirs = (_figures(runs, comparison.figure) for runs in (first, second))
    if not ours or (comparison.matched and not theirs):
        return False
    if comparison.matched and abs(fmean(theirs) / fmean(ours) - 1) > MATCHED:
        return False
    low, high = comparison.between or (float("-inf"), float("inf"))
    return low <= fmean(ours) <= high


def _label(comparison: Comparison, first: BySeed) -> str:
    if comparison.figure is None:
        return comparison.label
    # In tables a space separates a figure from its percent sign.
    return comparison.label.format(fmean(_figures(first, comparison.figure))).replace("%", " %")


def _figures(runs: BySeed, figure: str) -> list[float]:
    """Collect a training figure from each seed that has it."""
    return [
        stage.figures[figure]
        for record in runs.values()
        for stage in quality_of(record).training
        if figure in stage.figures
    ]


def _mean(runs: BySeed) -> float:
    return fmean(quality.scores[quality.metric] for quality in qualities(runs).values())


def _shares(share: Share, runs: ScoredRuns) -> list[Trial]:
    """Make a trial for each recipe and task that has the share. It is not a test, so it has no p-value."""
    statement = f"{share.statement} ({share.source})"
    trials = []
    for recipe in map(_canonical, share.recipes):
        for task in runs.tasks:
            own = runs.shared(task, recipe)
            values = [] if own is None else _figures(own[0], share.figure)
            if values:
                mean, limit = 100 * fmean(values), 100 * share.limit
                said = "reproduced" if mean < limit else "contradicted"
                figures = (len(values), mean, limit, mean - limit)
                trials.append(Trial(statement, recipe, task_title(task), *figures, verdict=said))
    return trials or [Trial(statement, "all")]
