"""Scores, drops and their bootstrap intervals, paired with the baseline by task, seed and example.

Replicate i of two records of one task resampled the same examples (see `harness.records.schema.Quality`), so their
difference is paired by example. The replicates of a row are the mean over its seeds; the noise of training is added to
them as `leaderboard.boards.seed_noise` says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from harness.records.schema import Quality
from leaderboard.boards.seed_noise import NO_NOISE, Floats, SeedNoise

Interval: TypeAlias = tuple[float, float]
FEWEST_REPLICATES = 2
"""A single replicate has no spread: intervals and ranks made of it would be certain."""
BySeed: TypeAlias = Mapping[int, Quality]
"""The scores of one recipe on one task, by seed."""


@dataclass(frozen=True)
class Score:
    """One task's score in points: the mean over seeds, and its 95 % interval (None without replicates).

    A score from a paper's table has no metric ("") and no seeds.
    """

    mean: float
    ci95: Interval | None = None
    metric: str = ""
    seeds: tuple[int, ...] = ()


@dataclass(frozen=True)
class Difference:
    """The difference of two recipes on one task in points: the mean over `seeds`, which both have.

    `by_seed` has a value for each seed. `replicates`, of shape (replicates,), is the bootstrap distribution of the mean
    over examples alone, or None if a record has no replicates to pair.
    """

    mean: float
    seeds: tuple[int, ...]
    by_seed: tuple[float, ...]
    replicates: Floats | None = field(default=None, compare=False, repr=False)
    ci95: Interval | None = None
    """Contains the noise of training if it was known."""


@dataclass(frozen=True)
class Drop:
    """The average drop in points over the tasks of `by_task`; negative means below the baseline.

    `seeds` lists, by task, the seeds that method and baseline share. `replicates`, of shape (replicates,), is the
    drop's bootstrap distribution, or None if a record has no replicates to pair. `printed` is the drop that the paper's
    table prints.
    """

    mean: float
    by_task: Mapping[str, float]
    ci95: Interval | None = None
    seeds: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    replicates: Floats | None = field(default=None, compare=False, repr=False)
    printed: float | None = None


def score(task: str, runs: BySeed, noise: SeedNoise = NO_NOISE) -> Score:
    """Compute the mean score over at least one seed, in points, with its interval."""
    seeds = tuple(sorted(runs))
    metric = runs[seeds[0]].metric
    mean = float(np.mean([_points(runs[seed]) for seed in seeds]))
    replicates = _mean_of([np.asarray(runs[seed].replicates) for seed in seeds])
    return Score(mean, interval(noise.added(replicates, task, len(seeds))), metric, seeds)


def differences(
    method: Mapping[str, BySeed],
    baseline: Mapping[str, BySeed],
    tasks: Sequence[str] | None = None,
    noise: SeedNoise = NO_NOISE,
) -> tuple[dict[str, Difference], list[str]]:
    """Compute method minus baseline on each task that both have (and `tasks` names), over the seeds that both have.

    Scores of different metrics, or on dev sets of different sizes, are not compared; the second result has a line for
    each of them.
    """
    found: dict[str, Difference] = {}
    unpaired = []
    for task, runs in method.items():
        if task not in baseline or (tasks is not None and task not in tasks):
            continue
        base = baseline[task]
        shared = sorted(runs.keys() & base.keys())
        obstacles = {seed: _obstacle(runs[seed], base[seed]) for seed in shared}
        unpaired += [f"{task}, seed {seed}: {obstacle}" for seed, obstacle in obstacles.items() if obstacle]
        seeds = tuple(seed for seed in shared if not obstacles[seed])
        if not shared:
            unpaired.append(f"{task}: none of its seeds is shared")
        if not seeds:
            continue
        by_seed = tuple(_points(runs[seed]) - _points(base[seed]) for seed in seeds)
        replicates = _mean_of([_paired(runs[seed], base[seed]) for seed in seeds])
        with_seeds = interval(noise.added(replicates, task, len(seeds)))
        found[task] = Difference(float(np.mean(by_seed)), seeds, by_seed, replicates, with_seeds)
    return found, unpaired


def averaged(found: Mapping[str, Difference], noise: SeedNoise = NO_NOISE) -> Drop | None:
    """Average the differences over their tasks, with the noise of training; None if there are none."""
    if not found:
        return None
    replicates = _mean_of(
        [noise.added(each.replicates, task, len(each.seeds)) for task, each in found.items()]
    )
    by_task = {task: each.mean for task, each in found.items()}
    mean = float(np.mean(list(by_task.values())))
    seeds = {task: each.seeds for task, each in found.items()}
    return Drop(mean, by_task, interval(replicates), seeds, replicates)


def average_drop(
    method: Mapping[str, BySeed],
    baseline: Mapping[str, BySeed],
    tasks: Sequence[str] | None = None,
    noise: SeedNoise = NO_NOISE,
) -> tuple[Drop | None, list[str]]:
    """Compute the average drop: method minus baseline, averaged over shared seeds and then over shared tasks.

    `tasks` restricts the comparison to these tasks. The drop is None if nothing can be compared; the second result has
    a line for each score that could not be compared.
    """
    found, unpaired = differences(method, baseline, tasks, noise)
    return averaged(found, noise), unpaired


def interval(replicates: Floats | None) -> Interval | None:
    """Return the 2.5th and 97.5th percentiles of a bootstrap distribution; None if it is not one."""
    if replicates is None or len(replicates) < FEWEST_REPLICATES:
        return None
    low, high = np.percentile(replicates, [2.5, 97.5])
    return float(low), float(high)


def _points(run: Quality) -> float:
    return run.scores[run.metric]


def _obstacle(run: Quality, base: Quality) -> str:
    if run.metric != base.metric:
        return f"scored by {run.metric}, the baseline by {base.metric}"
    if run.examples != base.examples:
        return f"scored on {run.examples} examples, the baseline on {base.examples}"
    return ""


def _paired(run: Quality, base: Quality) -> Floats:
    """Subtract replicate by replicate, as far as both have replicates. Shape (replicates,)."""
    count = min(len(run.replicates), len(base.replicates))
    difference: Floats = np.asarray(run.replicates[:count]) - np.asarray(base.replicates[:count])
    return difference


def _mean_of(distributions: Sequence[Floats | None]) -> Floats | None:
    """Average distributions replicate by replicate; None if one of them is missing or too short."""
    found = [each for each in distributions if each is not None and len(each) >= FEWEST_REPLICATES]
    if not found or len(found) < len(distributions):
        return None
    count = min(len(each) for each in found)
    means: Floats = np.stack([each[:count] for each in found]).mean(axis=0)  # (replicates,)
    return means
