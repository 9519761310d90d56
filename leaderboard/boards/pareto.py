"""The Pareto front (the skyline) of quality against one cost, how sure it is, and the area below it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def dominates(quality: float, cost: float, other_quality: float, other_cost: float) -> bool:
    """Whether the first point is as good and as cheap as the other, and better in one of the two."""
    return quality >= other_quality and cost <= other_cost and (quality > other_quality or cost < other_cost)


def front(quality: Sequence[float], cost: Sequence[float]) -> list[bool]:
    """Which points no other dominates: more `quality` and less `cost` are better. Exact ties stay together.

    Values are compared as they are, without rounding. Sorted by cost, a point is on the front when its
    quality exceeds that of every cheaper point, and is the best at its own cost.
    """
    values, costs = np.asarray(quality, dtype=np.float64), np.asarray(cost, dtype=np.float64)
    if not len(values):
        return []
    return [bool(flag) for flag in _fronts(values[None, :], costs)[0]]


def front_on_shared_tasks(drops: Sequence[Mapping[str, float]], cost: Sequence[float]) -> list[bool]:
    """The front of points that were not all measured on the same tasks.

    A point can only be beaten by one that has all of its tasks, and on these: the mean of `drops` over the
    tasks of the beaten. Where all have the same tasks this is `front`.
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
    """The share of bootstrap replicates in which each point is on the front.

    `replicates` holds for each point its quality in every replicate (paired across points), or one number
    for a point whose quality is certain or has no replicates. None for every point where none has any.
    """
    lengths = [len(values) for values in replicates if isinstance(values, np.ndarray)]
    if not lengths:
        return [None] * len(replicates)
    count = min(lengths)
    columns = [
        values[:count] if isinstance(values, np.ndarray) else np.full(count, float(values))
        for values in replicates
    ]
    flags = _fronts(np.stack(columns, axis=1), np.asarray(cost, dtype=np.float64))
    return [float(share) for share in flags.mean(axis=0)]


def hypervolume(
    quality: Sequence[float], cost: Sequence[float], worst_quality: float, worst_cost: float
) -> float:
    """The area of the plane that the points dominate, up to the reference point (worst_quality, worst_cost).

    In units of quality × cost. Points beyond the reference in either direction add nothing.
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
    """The front of each row of `quality`, shape (replicates, points), at the same costs (points,)."""
    order = np.argsort(cost, kind="stable")
    sorted_cost, sorted_quality = cost[order], quality[:, order]
    # Points of one cost form a group: the best of a group has to beat the best of all cheaper groups.
    starts = np.flatnonzero(np.diff(sorted_cost, prepend=-np.inf) > 0)
    group = np.cumsum(np.isin(np.arange(len(cost)), starts)) - 1
    best = np.maximum.reduceat(sorted_quality, starts, axis=1)
    cheaper = np.maximum.accumulate(best, axis=1)
    before = np.concatenate([np.full((len(quality), 1), -np.inf), cheaper[:, :-1]], axis=1)
    flags = (sorted_quality == best[:, group]) & (sorted_quality > before[:, group])
    result: npt.NDArray[np.bool_] = np.empty_like(flags)
    result[:, order] = flags
    return result
