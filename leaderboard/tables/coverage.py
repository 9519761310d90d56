"""The coverage of a measured board: which seeds of each recipe were scored on each task, and which profiles exist."""

from __future__ import annotations

from harness.common.errors import Code, SkylineError
from leaderboard.boards.board import Board
from leaderboard.boards.names import task_title
from leaderboard.boards.row import Evidence
from leaderboard.tables.model import Column, Table, Value


def coverage_table(board: Board) -> Table:
    """Make the table of a measured board's evidence: a line for each recipe, two columns for each task.

    Raises SkylineError (wrong-kind) for a board of another kind.
    """
    if board.kind != "measured":
        raise SkylineError(
            f"'{board.title}' compares nothing, so it has no coverage; leave out --table coverage",
            Code.WRONG_KIND,
        )
    columns = [Column("recipe", "Recipe"), Column("complete", "Complete")]
    for task in board.tasks:
        columns.append(Column(f"{task}_seeds", f"{task_title(task)}, seeds"))
        columns.append(Column(f"{task}_profiles", f"{task_title(task)}, profiles of {board.profiles_wanted}"))
    rows: list[list[Value]] = []
    for row in board.rows:
        line: list[Value] = [row.recipe, row.section == "ranked"]
        for task in board.tasks:
            found = row.evidence.get(task, Evidence())
            line += [" ".join(map(str, found.seeds)) or None, found.profiles]
        rows.append(line)
    return Table.of(
        name="coverage",
        title=f"Coverage of '{board.title}'",
        columns=columns,
        rows=rows,
        notes=[
            board.coverage,
            "seeds: those that were scored; profiles: those of a scored artifact, one for each workload and runtime",
        ],
    )
