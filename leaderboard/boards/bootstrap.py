"""Average drop with its interval: paired with the baseline by task, by seed and by example.

Replicate i of two records of one task resampled the same examples (see `records.Quality`), so their
difference is paired example by example. Over seeds the resampling is hierarchical: seeds are drawn with
replacement, the same draw for method and baseline and for every row that has the same seeds, and averaged
within the replicate.
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
    """One task's score in points: the mean over seeds, and its 95 % interval where replicates allow one.

    A score from a paper's table has neither metric ("") nor seeds.
    """

    mean: float
    ci95: Interval | None = None
    metric: str = ""
    seeds: tuple[int, ...] = ()


@dataclass(frozen=True)
class Drop:
    """The average drop in points (negative: below the baseline) over the tasks of `by_task`.

    `seeds` are those that both sides have. `replicates` is the drop's bootstrap distribution, None where a record has
    no replicates to pair. `complete`: no compared task is missing. `printed` is what the paper's table says itself.
    """

    mean: float
    by_task: Mapping[str, float]
    ci95: Interval | None = None
    seeds: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    replicates: Floats | None = field(default=None, compare=False, repr=False)
    complete: bool = True
    printed: float | None = None


def score(task: str, runs: BySeed) -> Score:
    """The mean score over `runs`, which hold at least one seed, with its hierarchical bootstrap interval."""
    seeds = tuple(sorted(runs))
    metric = runs[seeds[0]].metric
    mean = float(np.mean([runs[seed].scores[runs[seed].metric] for seed in seeds]))
    replicates = _over_seeds(task, seeds, [np.asarray(runs[seed].replicates) for seed in seeds])
    return Score(mean, interval(replicates), metric, seeds)


def average_drop(
    method: Mapping[str, BySeed], baseline: Mapping[str, BySeed], tasks: Sequence[str] | None = None
) -> tuple[Drop | None, list[str]]:
    """Mean over the tasks that both have of the mean over the seeds that both have of method - baseline.

    `tasks` narrows the comparison to these tasks. The drop is None where nothing can be compared. Records of one task
    that were scored by different metrics or on dev sets of different sizes are not compared: the second result has a
    line for each.
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
                unpaired.append(f"{task}: no seed of it has a baseline")
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
    """The 2.5th and the 97.5th percentile of a bootstrap distribution; None where there is none."""
    if replicates is None or not len(replicates):
        return None
    low, high = np.percentile(replicates, [2.5, 97.5])
    return float(low), float(high)


def seed_draws(task: str, seeds: Sequence[int], replicates: int) -> npt.NDArray[np.int64]:
    """Which seeds each replicate draws, shape (replicates, seeds): indices into the sorted seeds.

    They depend on the task and the seeds alone, so that rows with the same seeds draw the same ones.
    """
    name = f"{task}:{','.join(str(seed) for seed in sorted(seeds))}"
    digest = hashlib.sha256(name.encode()).digest()
    generator = np.random.Generator(np.random.PCG64(int.from_bytes(digest[:8], "big")))
    return generator.integers(0, len(seeds), size=(replicates, len(seeds)))


def overlap(first: Interval, second: Interval) -> bool:
    """Whether two closed intervals share a point."""
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
    """The replicates of the difference; those that only one of the two has are left out."""
    count = min(len(run.replicates), len(base.replicates))
    difference: Floats = np.asarray(run.replicates[:count]) - np.asarray(base.replicates[:count])
    return difference


def _over_seeds(task: str, seeds: Sequence[int], runs: Sequence[Floats]) -> Floats | None:
    """The distribution of the mean over seeds; None where a seed has no replicates."""
    count = min(len(run) for run in runs)
    if count == 0:
        return None
    stacked = np.stack([run[:count] for run in runs])
    drawn = seed_draws(task, seeds, count)
    means: Floats = stacked[drawn, np.arange(count)[:, None]].mean(axis=1)
    return means


def _mean_of(distributions: Sequence[Floats | None]) -> Floats | None:
    found = [distribution for distribution in distributions if distribution is not None]
    if not found or len(found) < len(distributions):
        return None
    count = min(len(distribution) for distribution in found)
    means: Floats = np.stack([distribution[:count] for distribution in found]).mean(axis=0)
    return means
