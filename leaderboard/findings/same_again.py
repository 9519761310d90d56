"""A/A of a measured board: the baseline made twice, with another seed and in another sitting, as a row beside itself.

A board that calls a difference where nothing was changed would call others too.
"""

from __future__ import annotations

from collections.abc import Iterable

from harness.common.errors import Code, SkylineError
from harness.recipes.recipe import BASELINE
from harness.records.schema import Record
from leaderboard.boards.declaration import Declaration
from leaderboard.boards.measured import measured_board
from leaderboard.boards.names import Cards
from leaderboard.boards.row import Row
from leaderboard.tables.model import Column, Table, Value

AGAIN = "baseline-again"
"""The recipe under which the second baseline is entered."""


def again_table(records: Iterable[Record], declaration: Declaration, cards: Cards | None = None) -> Table:
    """Make the table of what a board says of a second baseline: its drop, its rank, and its ratio on every axis.

    The second baseline is that of the declaration's second seed. Raises SkylineError (no-data) if it was not scored on
    every task.
    """
    found = list(records)
    if len(declaration.seeds) < 2:
        raise SkylineError(
            "the board is declared for one seed, so no baseline was made twice; add a seed", Code.NO_DATA
        )
    first, second = declaration.seeds[:2]
    again = [
        _renamed(record, first) for record in found if record.recipe == BASELINE and record.seed == second
    ]
    # The board may name other recipes only; the baseline always belongs to it.
    wider = declaration.model_copy(update={"recipes": (*declaration.recipes, AGAIN)})
    board = measured_board([*found, *again], wider, cards=cards)
    row = next((row for row in board.rows if row.recipe == AGAIN), None)
    if row is None or row.drop is None or row.rank is None:
        raise SkylineError(
            f"the baseline of seed {second} was not scored on every task of the board yet; "
            "run `skyline run measured --out profiles`",
            Code.NO_DATA,
        )
    rows: list[list[Value]] = [
        ["drop (points)", row.drop.mean, *(row.drop.ci95 or (None, None)), _verdict(row)],
        ["rank", float(row.rank.best), float(row.rank.best), float(row.rank.worst), ""],
    ]
    for axis in board.axes:
        ratio = row.costs.ratios.get(axis.key)
        if ratio is not None:
            rows.append([axis.title, ratio.ratio, *(ratio.ci95 or (None, None)), ratio.state])
    return Table.of(
        name="again",
        title=f"The baseline made again: '{board.title}' about a row that changes nothing",
        columns=[
            Column("what", "What"),
            Column("value", "Value", digits=3),
            Column("low", "from", digits=3),
            Column("high", "to", digits=3),
            Column("verdict", "Verdict"),
        ],
        rows=rows,
        notes=[
            f"the baseline of seed {second} as a row beside that of seed {first}; costs are ratios to the baseline",
            "from, to: the 95 % interval; of the rank, the range that cannot be told apart",
        ],
    )


def _renamed(record: Record, seed: int) -> Record:
    return record.model_copy(update={"recipe": AGAIN, "seed": seed, "key": f"{AGAIN} {record.key}"})


def _verdict(row: Row) -> str:
    interval = None if row.drop is None else row.drop.ci95
    if interval is None:
        return "no interval"
    return "no difference" if interval[0] <= 0 <= interval[1] else "a difference"
