"""The average drop and its bootstrap interval, paired with the baseline by task, seed and example.

Replicate i of two records of one task resampled the same examples (see `harness.records.schema.Quality`), so their
difference is paired by example. Seeds are resampled too (hierarchical bootstrap): each replicate draws seeds with
replacement and averages over them. Method and baseline use the same draw, and so do all rows with the same seeds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from harness.records.schema import Quality

Floats: TypeAlias = npt.NDArray[np.float64]
Interval: TypeAlias = tuple[float, float]
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
class Drop:
    """The average drop in points over the tasks of `by_task`; negative means below the baseline.

    `seeds` lists, by task, the seeds that method and baseline share. `replicates`, of shape (replicates,), is the
    drop's bootstrap distribution, or None if a record has no replicates to pair. `complete` is False if a compared task
    is missing. `printed` is the drop that the paper's table prints.
    """

    mean: float
    by_task: Mapping[str, float]
    ci95: Interval | None = None
    seeds: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    replicates: Floats | None = field(default=None, compare=False, repr=False)
    complete: bool = True
    printed: float | None = None


def score(task: str, runs: BySeed) -> Score:
    """Compute the mean score over at least one seed, in points, with its hierarchical bootstrap interval."""
    seeds = tuple(sorted(runs))
    metric = runs[seeds[0]].metric
    mean = float(np.mean([runs[seed].scores[runs[seed].metric] for seed in seeds]))
    replicates = _over_seeds(task, seeds, [np.asarray(runs[seed].replicates) for seed in seeds])
    return Score(mean, interval(replicates), metric, seeds)


def average_drop(
    method: Mapping[str, BySeed], baseline: Mapping[str, BySeed], tasks: Sequence[str] | None = None
) -> tuple[Drop | None, list[str]]:
    """Compute the average drop: method minus baseline, averaged over shared seeds and then over shared tasks.

    `tasks` restricts the comparison to these tasks. The drop is None if nothing can be compared. Scores of different
    metrics, or on dev sets of different sizes, are not compared; the second result has a line for each of them.
    """
    by_task: dict[str, float] = {}
    shared_seeds: dict[str, tuple[int, ...]] = {}
    distributions: list[Floats | None] = []
    unpaired = []
    for task, runs in method.items():
        if task not in baseline or (tasks is not None and task not in tasks):
            continue
        base = baseline[task]
        seeds = []
        for seed in sorted(runs.keys() & base.keys()):
            obstacle = _obstacle(runs[seed], base[seed])
            if obstacle:
                unpaired.append(f"{task}, seed {seed}: {obstacle}")
            else:
                seeds.append(seed)
        if not seeds:
            if not runs.keys() & base.keys():
                unpaired.append(f"{task}: the baseline has none of its seeds")
            continue
        by_task[task] = float(np.mean([_points(runs[seed]) - _points(base[seed]) for seed in seeds]))
        shared_seeds[task] = tuple(seeds)
        pairs = [_paired(runs[seed], base[seed]) for seed in seeds]
        distributions.append(_over_seeds(task, seeds, pairs))
    if not by_task:
        return None, unpaired
    replicates = _mean_of(distributions)
    mean = float(np.mean(list(by_task.values())))
    return Drop(mean, by_task, interval(replicates), shared_seeds, replicates), unpaired


def interval(replicates: Floats | None) -> Interval | None:
    """Return the 2.5th and 97.5th percentiles of a bootstrap distribution; None without replicates."""
    if replicates is None or not len(replicates):
        return None
    low, high = np.percentile(replicates, [2.5, 97.5])
    return float(low), float(high)


def seed_draws(task: str, seeds: Sequence[int], replicates: int) -> npt.NDArray[np.int64]:
    """Draw seeds for each replicate, with replacement: indices into the sorted seeds, of shape (replicates, seeds).

    The draw depends only on the task and the seeds, so rows with the same seeds get the same draw.
    """
    name = f"{task}:{','.join(str(seed) for seed in sorted(seeds))}"
    digest = hashlib.sha256(name.encode()).digest()
    generator = np.random.Generator(np.random.PCG64(int.from_bytes(digest[:8], "big")))
    return generator.integers(0, len(seeds), size=(replicates, len(seeds)))


def overlap(first: Interval, second: Interval) -> bool:
    """Check whether two closed intervals share a point."""
    return first[0] <= second[1] and second[0] <= first[1]


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


def _over_seeds(task: str, seeds: Sequence[int], runs: Sequence[Floats]) -> Floats | None:
    """Compute the distribution of the mean over seeds; None if a seed has no replicates."""
    count = min(len(run) for run in runs)
    if count == 0:
        return None
    stacked = np.stack([run[:count] for run in runs])  # (seeds, replicates)
    drawn = seed_draws(task, seeds, count)  # (replicates, seeds)
    means: Floats = stacked[drawn, np.arange(count)[:, None]].mean(axis=1)  # (replicates,)
    return means


def _mean_of(distributions: Sequence[Floats | None]) -> Floats | None:
    found = [each for each in distributions if each is not None]
    if not found or len(found) < len(distributions):
        return None
    count = min(len(each) for each in found)
    means: Floats = np.stack([each[:count] for each in found]).mean(axis=0)  # over tasks: (replicates,)
    return means
