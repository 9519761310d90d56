"""How far the tasks of a board agree: Kendall's τ between their rankings, and what each would conclude alone."""

from __future__ import annotations

import math
from collections.abc import Mapping

from scipy.stats import kendalltau

from harness.common.errors import Code, SkylineError
from leaderboard.boards.board import Board
from leaderboard.boards.names import task_title
from leaderboard.tables.model import Column, Table, Value

AVERAGE = "average"
BEST = 10
"""The number of best rows that are compared."""


def agreement_table(board: Board) -> Table:
    """Make the table of a measured board's tasks: a line for each task and one for their average.

    Only rows with a rank count, without the baseline. Raises SkylineError (no-data) for fewer than three of them.
    """
    rows = [
        row for row in board.rows if row.section == "ranked" and not row.baseline and row.drop is not None
    ]
    if len(rows) < 3:
        raise SkylineError(
            f"'{board.title}' ranks {len(rows)} rows; rankings can be compared from three on", Code.NO_DATA
        )
    drops: dict[str, dict[str, float]] = {
        task: {row.recipe: row.drops[task].mean for row in rows} for task in board.compared
    }
    drops[AVERAGE] = {row.recipe: row.drop.mean for row in rows if row.drop is not None}
    titles = {name: AVERAGE if name == AVERAGE else task_title(name) for name in drops}
    best = {name: _best(own) for name, own in drops.items()}
    lines: list[list[Value]] = []
    for name, own in drops.items():
        line: list[Value] = [titles[name]]
        line += [None if other == name else _tau(own, drops[other]) for other in drops]
        first = best[name][0]
        line += [first, drops[AVERAGE][first], len(set(best[name]) & set(best[AVERAGE]))]
        lines.append(line)
    return Table.of(
        name="tasks",
        title=f"How far the tasks of '{board.title}' agree",
        columns=[
            Column("task", "Ranked by"),
            *(Column(f"tau_{name}", f"τ with {title}", digits=2) for name, title in titles.items()),
            Column("best", "Best row alone"),
            Column("best_drop", "its average drop", "points", digits=2),
            Column("shared", f"of its {BEST} best, among the average's"),
        ],
        rows=lines,
        notes=[
            f"τ: Kendall's rank correlation (τ-b) of the drops of {len(rows)} ranked rows: 1 for one order, 0 for none "
            "in common",
        ],
    )


def _best(drops: Mapping[str, float]) -> list[str]:
    return sorted(drops, key=lambda recipe: (-drops[recipe], recipe))[:BEST]


def _tau(one: Mapping[str, float], other: Mapping[str, float]) -> float | None:
    """Compute Kendall's τ-b; None if all rows of a ranking are equal, because it has no order then."""
    tau = float(kendalltau([one[recipe] for recipe in one], [other[recipe] for recipe in one]).statistic)
    return None if math.isnan(tau) else tau
