"""The comparison of a board's rows: ranks by drop, Pareto fronts by cost, and each family's hypervolume.

A row's cost is drawn in each bootstrap replicate if it is uncertain: the counted ratio times exp(d z), where d is its
`log_deviation` and z the standard normal numbers of `seed_noise.drawn(recipe, axis)`. The axis of the best runtime has
the numbers of the runtime that was chosen. A cost that is reduced on no task is at least the baseline's in every draw.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from leaderboard.boards import pareto
from leaderboard.boards.axes import BEST, Axis
from leaderboard.boards.rank_ranges import rank_ranges
from leaderboard.boards.row import Front, Row
from leaderboard.boards.seed_noise import Floats, drawn

QUALITY_FLOOR = 10.0
"""The reference quality of the hypervolume, in points below the baseline."""


def ranked(rows: Sequence[Row]) -> list[Row]:
    """Sort the complete rows by drop and give them the range of their ranks; incomplete rows come last, by name.

    Rows whose records have no replicates get no rank, since nothing says how certain their drops are.
    """
    complete = [row for row in rows if row.drop is not None]
    complete.sort(key=lambda row: (-_mean(row), not row.baseline, row.id))
    compared = [row for row in complete if row.drop is not None and row.drop.replicates is not None]
    if len(compared) > 1:
        ranges = rank_ranges([_mean(row) for row in compared], _stacked(compared))
        found = {row.id: each for row, each in zip(compared, ranges, strict=True)}
        complete = [replace(row, rank=found.get(row.id)) for row in complete]
    others = [row for row in rows if row.drop is None]
    return complete + sorted(others, key=lambda row: (not row.baseline, row.title.lower(), row.id))


def with_fronts(rows: Sequence[Row], axes: Iterable[Axis], *, shared_tasks: bool = False) -> list[Row]:
    """Add to each row whether it is on the front of each axis.

    Only rows with a drop and a cost on the axis compete. With `shared_tasks`, rows with different tasks compete as
    `pareto.front_on_shared_tasks` says, and P(front) is not computed.
    """
    fronts: list[dict[str, Front]] = [{} for _ in rows]
    for axis in axes:
        competing = [
            (place, drop, row.costs.by_axis[axis.key])
            for place, row in enumerate(rows)
            if (drop := row.drop) is not None and axis.key in row.costs.by_axis
        ]
        drops, costs = [drop for _, drop, _ in competing], [cost for _, _, cost in competing]
        if shared_tasks:
            flags = pareto.front_on_shared_tasks([drop.by_task for drop in drops], costs)
            shares: Sequence[float | None] = [None] * len(competing)
        else:
            flags = pareto.front([drop.mean for drop in drops], costs)
            shares = pareto.front_probability(
                [drop.mean if drop.replicates is None else drop.replicates for drop in drops],
                [_drawn_cost(rows[place], axis, cost) for place, _, cost in competing],
            )
        for (place, _, _), flag, share in zip(competing, flags, shares, strict=True):
            fronts[place][axis.key] = Front(flag, share)
    return [replace(row, fronts=own) for row, own in zip(rows, fronts, strict=True)]


def _drawn_cost(row: Row, axis: Axis, cost: float) -> Floats | float:
    """Draw a row's cost in each of its replicates; one number if the cost is certain."""
    ratio = row.costs.ratios.get(axis.key)
    replicates = None if row.drop is None else row.drop.replicates
    if ratio is None or replicates is None or not ratio.log_deviation:
        return cost
    key = axis.key.removesuffix(BEST) + ratio.runtime if ratio.runtime else axis.key
    draws: Floats = cost * np.exp(ratio.log_deviation * drawn(row.recipe, key, count=len(replicates)))
    # Noise must not make a row cheaper than the baseline if no measurement does.
    return draws if ratio.realised_somewhere else np.maximum(draws, 1.0)


def hypervolumes(rows: Sequence[Row], axes: Iterable[Axis]) -> tuple[dict[str, dict[str, float]], str]:
    """Compute each family's hypervolume by axis, and describe the reference point.

    The reference point is the baseline's cost and `QUALITY_FLOOR` points below the baseline's score. A model without
    cost and without loss would have 1; scores above the baseline's can give more.
    """
    found: dict[str, dict[str, float]] = {}
    base = next((row for row in rows if row.baseline), None)
    for axis in axes:
        worst = base.costs.by_axis.get(axis.key) if base is not None else None
        if not worst:
            continue
        families: dict[str, list[tuple[float, float]]] = {}
        for row in rows:
            drop, cost = row.drop, row.costs.by_axis.get(axis.key)
            if drop is not None and cost is not None and not row.baseline:
                families.setdefault(row.family, []).append((drop.mean, cost / worst))
        found[axis.key] = {
            family: pareto.hypervolume(
                [drop for drop, _ in points], [cost for _, cost in points], -QUALITY_FLOOR, 1.0
            )
            / QUALITY_FLOOR
            for family, points in sorted(families.items())
        }
    return found, f"the baseline's cost, {QUALITY_FLOOR:g} points below the baseline"


def _mean(row: Row) -> float:
    return 0.0 if row.drop is None else row.drop.mean


def _stacked(rows: Sequence[Row]) -> Floats:
    """Stack the replicates of all rows, as many as all have: (replicates, rows)."""
    columns = [row.drop.replicates for row in rows if row.drop and row.drop.replicates is not None]
    count = min(len(column) for column in columns)
    return np.stack([column[:count] for column in columns], axis=1)
