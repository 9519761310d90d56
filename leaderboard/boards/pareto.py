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
    return [bool(flag) for flag in _fronts(values[None, :], costs[None, :])[0]]


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


def front_probability(
    replicates: Sequence[Floats | float], cost: Sequence[Floats | float]
) -> list[float | None]:
    """Compute P(front): the share of bootstrap replicates in which each point is on the front.

    `replicates` has an entry for each point: its quality in every replicate (shape (replicates,), paired across
    points), or one number if its quality is certain or has no replicates; `cost` likewise. Without any replicates of a
    quality all results are None.
    """
    lengths = [len(values) for values in replicates if isinstance(values, np.ndarray)]
    if not lengths:
        return [None] * len(replicates)
    count = min(lengths)
    flags = _fronts(_columns(replicates, count), _columns(cost, count))  # (replicates, points)
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


def _columns(values: Sequence[Floats | float], count: int) -> Floats:
    """Stack values of points: (count, points)."""
    columns = [v[:count] if isinstance(v, np.ndarray) else np.full(count, float(v)) for v in values]
    return np.stack(columns, axis=1)


def _fronts(quality: Floats, cost: Floats) -> npt.NDArray[np.bool_]:
    """Flag the front of each replicate; all shapes are (replicates, points)."""
    # By cost, and of equal cost the best first: a point that starts a group of equal cost is the best of it.
    order = np.lexsort((-quality, cost), axis=1)
    costs, qualities = np.take_along_axis(cost, order, 1), np.take_along_axis(quality, order, 1)
    starts = np.ones_like(costs, dtype=bool)
    starts[:, 1:] = costs[:, 1:] > costs[:, :-1]
    first = np.maximum.accumulate(np.where(starts, np.arange(costs.shape[1]), 0), axis=1)
    best = np.take_along_axis(qualities, first, 1)  # of the own group
    cheaper = np.full_like(qualities, -np.inf)  # the best of all cheaper points
    cheaper[:, 1:] = np.maximum.accumulate(qualities, axis=1)[:, :-1]
    cheaper = np.take_along_axis(cheaper, first, 1)
    flags = (qualities == best) & (qualities > cheaper)
    result: npt.NDArray[np.bool_] = np.empty_like(flags)
    np.put_along_axis(result, order, flags, 1)
    return result
