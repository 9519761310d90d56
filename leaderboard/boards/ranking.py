"""Ranks, fronts and hypervolumes of the rows of a board."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from leaderboard.boards import pareto
from leaderboard.boards.board import Axis
from leaderboard.boards.bootstrap import Interval, overlap
from leaderboard.boards.row import Front, Rank, Row

QUALITY_FLOOR = 10.0
"""The reference quality of the hypervolume, in points below the baseline."""


def ranked(rows: Iterable[Row]) -> list[Row]:
    """Sort the rows by drop and rank them; incomplete rows and rows without a drop come last, without a rank.

    A row shares the rank of the rank's first row if their 95 % intervals overlap. Otherwise it starts the next rank,
    whose number is the row's position. Without intervals only equal drops tie.
    """
    groups: list[list[Row]] = []
    others = []
    for row in sorted(rows, key=lambda row: (row.drop is None, -_mean(row), not row.baseline, row.id)):
        if row.compared is None:
            others.append(row)
        elif groups and overlap(_interval(groups[-1][0]), _interval(row)):
            groups[-1].append(row)
        else:
            groups.append([row])
    found: list[Row] = []
    for group in groups:
        rank = Rank(len(found) + 1, tied=len(group) > 1)
        found += [replace(row, rank=rank) for row in group]
    return found + others


def with_fronts(rows: Sequence[Row], axes: Iterable[Axis], *, shared_tasks: bool = False) -> list[Row]:
    """Add to each row whether it is on the front of each axis.

    Only complete rows with a cost on the axis compete. With `shared_tasks`, rows with different tasks compete as
    `pareto.front_on_shared_tasks` says, and P(front) is not computed.
    """
    fronts: list[dict[str, Front]] = [{} for _ in rows]
    for axis in axes:
        competing = [
            (place, drop, row.costs.by_axis[axis.key])
            for place, row in enumerate(rows)
            if (drop := row.compared) is not None and axis.key in row.costs.by_axis
        ]
        drops, costs = [drop for _, drop, _ in competing], [cost for _, _, cost in competing]
        if shared_tasks:
            flags = pareto.front_on_shared_tasks([drop.by_task for drop in drops], costs)
            shares: Sequence[float | None] = [None] * len(competing)
        else:
            flags = pareto.front([drop.mean for drop in drops], costs)
            shares = pareto.front_probability(
                [drop.mean if drop.replicates is None else drop.replicates for drop in drops], costs
            )
        for (place, _, _), flag, share in zip(competing, flags, shares, strict=True):
            fronts[place][axis.key] = Front(flag, share)
    return [replace(row, fronts=own) for row, own in zip(rows, fronts, strict=True)]


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
            drop, cost = row.compared, row.costs.by_axis.get(axis.key)
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


def _interval(row: Row) -> Interval:
    drop = row.drop
    return (0.0, 0.0) if drop is None else drop.ci95 or (drop.mean, drop.mean)
