"""Ranks, fronts and hypervolumes of the rows of one board."""

from __future__ import annotations

from collections.abc import Sequence

from leaderboard.boards import bootstrap as statistics
from leaderboard.boards import pareto
from leaderboard.boards.board import Axis, Row

QUALITY_FLOOR = 10.0
"""Points below the baseline at which a hypervolume starts to count."""


def rank(rows: Sequence[Row]) -> list[Row]:
    """Set each complete row's rank by drop; return the rows: ranked, then incomplete, then without a drop.

    A row shares the leader's rank where their intervals overlap; the first row below the leader's interval
    leads the next rank, whose number is its position. Without intervals only equal drops tie.
    """
    ranked = sorted(
        (row for row in rows if row.complete and row.drop is not None),
        key=lambda row: (-(row.drop or 0.0), not row.baseline, row.id),
    )
    leader: Row | None = None
    for position, row in enumerate(ranked, start=1):
        if leader is None or not statistics.overlap(_interval(leader), _interval(row)):
            leader = row
            row.rank = position
        else:
            row.rank = leader.rank
            row.tied = leader.tied = True
    others = sorted(
        (row for row in rows if row.rank is None),
        key=lambda row: (row.drop is None, -(row.drop or 0.0), not row.baseline, row.id),
    )
    return [*ranked, *others]


def mark_fronts(
    rows: Sequence[Row], axes: Sequence[Axis], chosen: str, *, shared_tasks: bool = False
) -> None:
    """Set `fronts`, `front_probabilities`, `pareto` and `pareto_probability` of every row.

    On an axis only complete rows with a drop and a cost compete; with `shared_tasks`, rows of different
    task sets compete on the tasks that both have (`pareto.front_on_shared_tasks`), and no probability is
    given.
    """
    for axis in axes:
        competing = [row for row in rows if row.complete and row.drop is not None and axis.key in row.costs]
        costs = [row.costs[axis.key] for row in competing]
        if shared_tasks:
            flags = pareto.front_on_shared_tasks([row.drops for row in competing], costs)
            shares: Sequence[float | None] = [None] * len(competing)
        else:
            drops = [row.drop if row.drop is not None else 0.0 for row in competing]
            flags = pareto.front(drops, costs)
            replicates = [
                row.replicates if row.replicates is not None else drop
                for row, drop in zip(competing, drops, strict=True)
            ]
            shares = pareto.front_probability(replicates, costs)
        for row, flag, share in zip(competing, flags, shares, strict=True):
            row.fronts[axis.key] = flag
            if share is not None:
                row.front_probabilities[axis.key] = share
    for row in rows:
        row.pareto = row.fronts.get(chosen, False)
        row.pareto_probability = row.front_probabilities.get(chosen)


def hypervolumes(rows: Sequence[Row], axes: Sequence[Axis]) -> tuple[dict[str, dict[str, float]], str]:
    """Each family's hypervolume by axis, from 0 to 1, and the reference point in words.

    The reference point is the baseline's cost at `QUALITY_FLOOR` points below the baseline; 1 would be a
    model that costs nothing and loses nothing. What exceeds the baseline's score counts beyond.
    """
    found: dict[str, dict[str, float]] = {}
    base = next((row for row in rows if row.baseline), None)
    for axis in axes:
        if base is None or not base.costs.get(axis.key):
            continue
        worst = base.costs[axis.key]
        families: dict[str, list[Row]] = {}
        for row in rows:
            if row.complete and not row.baseline and row.drop is not None and axis.key in row.costs:
                families.setdefault(row.family, []).append(row)
        found[axis.key] = {
            family: pareto.hypervolume(
                [row.drop if row.drop is not None else 0.0 for row in group],
                [row.costs[axis.key] / worst for row in group],
                -QUALITY_FLOOR,
                1.0,
            )
            / QUALITY_FLOOR
            for family, group in sorted(families.items())
        }
    return found, f"the baseline's cost, {QUALITY_FLOOR:g} points below the baseline"


def _interval(row: Row) -> tuple[float, float]:
    drop = row.drop if row.drop is not None else 0.0
    return row.drop_ci95 or (drop, drop)
