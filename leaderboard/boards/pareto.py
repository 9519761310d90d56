"""The Pareto front (skyline) of quality against one cost, its bootstrap probability, and its hypervolume."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def dominates(quality: float, cost: float, other_quality: float, other_cost: float) -> bool:
    """Check whether the first point dominates: at least as good and as cheap as the other, and better in one."""
    return quality >= other_quality and cost <= other_cost and (quality > other_quality or cost < other_cost)


def front(quality: Sequence[float], cost: Sequence[float]) -> list[bool]:
    """Flag the points that no other point dominates; more `quality` and less `cost` are better.

    Values are not rounded. A point is on the front if it is better than every cheaper point and no point of the same
    cost is better; exact ties are all on the front or all off it.
    """
    values, costs = np.asarray(quality, dtype=np.float64), np.asarray(cost, dtype=np.float64)
    if not len(values):
        return []
    return [bool(flag) for flag in _fronts(values[None, :], costs)[0]]


def front_on_shared_tasks(drops: Sequence[Mapping[str, float]], cost: Sequence[float]) -> list[bool]:
    """Flag the front among points that were not all measured on the same tasks.

    A point competes only with points that have all of its tasks, by the mean of `drops` over its own tasks. If all
    points have the same tasks, this is `front`.
    """
    flags = []
    for index, own in enumerate(drops):
        beaten = False
        for other, theirs in enumerate(drops):
            if other == index or not own or not own.keys() <= theirs.keys():
                continue
            mine = math.fsum(own.values()) / len(own)
            rival = math.fsum(theirs[task] for task in own) / len(own)
            beaten = beaten or dominates(rival, cost[other], mine, cost[index])
        flags.append(not beaten)
    return flags


def front_probability(replicates: Sequence[Floats | float], cost: Sequence[float]) -> list[float | None]:
    """Compute P(front): the share of bootstrap replicates in which each point is on the front.

    `replicates` has an entry for each point: its quality in every replicate (shape (replicates,), paired across
    points), or one number if its quality is certain or has no replicates. Without any replicates all results are None.
    """
    lengths = [len(values) for values in replicates if isinstance(values, np.ndarray)]
    if not lengths:
        return [None] * len(replicates)
    count = min(lengths)
    columns = [
        values[:count] if isinstance(values, np.ndarray) else np.full(count, float(values))
        for values in replicates
    ]
    flags = _fronts(np.stack(columns, axis=1), np.asarray(cost, dtype=np.float64))  # (replicates, points)
    return [float(share) for share in flags.mean(axis=0)]


def hypervolume(
    quality: Sequence[float], cost: Sequence[float], worst_quality: float, worst_cost: float
) -> float:
    """Compute the area that the points dominate, bounded by the reference point (worst_quality, worst_cost).

    The unit is quality × cost. Points worse than the reference in quality or cost add nothing.
    """
    points = sorted(
        (c, q) for q, c in zip(quality, cost, strict=True) if q > worst_quality and c < worst_cost
    )
    area, best = 0.0, worst_quality
    for c, q in points:
        if q > best:
            area += (q - best) * (worst_cost - c)
            best = q
    return area


def _fronts(quality: Floats, cost: Floats) -> npt.NDArray[np.bool_]:
    """Flag the front of each replicate: `quality` (replicates, points), `cost` (points,) -> (replicates, points)."""
    order = np.argsort(cost, kind="stable")
    sorted_cost, sorted_quality = cost[order], quality[:, order]
    # Points of equal cost form a group. The best of a group must beat the best of all cheaper groups.
    starts = np.flatnonzero(np.diff(sorted_cost, prepend=-np.inf) > 0)
    group = np.cumsum(np.isin(np.arange(len(cost)), starts)) - 1  # (points,)
    best = np.maximum.reduceat(sorted_quality, starts, axis=1)  # (replicates, groups)
    cheaper = np.maximum.accumulate(best, axis=1)
    before = np.concatenate([np.full((len(quality), 1), -np.inf), cheaper[:, :-1]], axis=1)
    flags = (sorted_quality == best[:, group]) & (sorted_quality > before[:, group])
    result: npt.NDArray[np.bool_] = np.empty_like(flags)
    result[:, order] = flags
    return result
