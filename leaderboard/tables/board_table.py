"""A board as a table for people, with a legend of its marks and its notes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from leaderboard.boards.board import Axis, Board
from leaderboard.boards.names import family_title, task_title
from leaderboard.boards.row import Row
from leaderboard.tables.board_figures import claimed_tasks, row_figures
from leaderboard.tables.formatting import gigaflops, megabytes, number, points, score, speedup
from leaderboard.tables.model import MISSING, Cell, Column, Line, Table

FRONT_MARK = "◆"
SIMULATED_MARK = "†"
P_FRONT = "P(front), the share of bootstrap resamples in which the row is on the front"
BEFORE_SCORES = (
    Column("rank", "Rank", numeric=True),
    Column("title", "Method"),
    Column("family", "Family"),
    Column("drop", "Drop", "points", numeric=True),
    Column("drop_published", "Drop as printed", "points", numeric=True),
    Column("pareto", "Front", numeric=True),
)
AFTER_SCORES = (
    Column("disk_bytes", "Disk", "MB", numeric=True),
    Column("disk_pct", "Disk, of its baseline", "%", numeric=True),
    Column("flops", "FLOPs", "GFLOPs", numeric=True),
    Column("speedup", "Speedup", "×", numeric=True, unit_in_cells=True),
    Column("peak_memory_bytes", "Memory", "MB", numeric=True),
    Column("kept", "Weights kept", "%", numeric=True),
    Column("size_pct", "Size, survey", "%", numeric=True),
    Column("size_pct_without_embeddings", "without emb.", "%", numeric=True),
    Column("latency_ms", "Median", "ms", numeric=True),
    Column("tasks", "Tasks × seeds", numeric=True),
)
README_COLUMNS = frozenset(
    {"rank", "title", "drop", "drop_published", "tasks", "size_pct", "disk_bytes", "flops", "speedup"}
    | {"disk_pct", "peak_memory_bytes", "pareto", "kept"}
)
"""The columns that fit a page, for Markdown. Scores are shown too."""


def board_table(board: Board) -> Table:
    """Make the table of a board: the columns that have figures, with legend and notes below."""
    cells = [_cells(row, figures, board) for row, figures in zip(board.rows, row_figures(board), strict=True)]
    columns = tuple(column for column in _columns(board) if _is_filled(column.key, board, cells))
    lines = (
        Line(
            tuple(own[column.key] for column in columns),
            mark=FRONT_MARK if board.on_front(row) else "",
            faded=bool(row.failures) and row.drop is None,
        )
        for row, own in zip(board.rows, cells, strict=True)
    )
    return Table(board.name or board.kind, board.title, columns, tuple(lines), tuple(notes(board)))


def readme_table(board: Board) -> Table:
    """Make the table of a board with the columns that fit a page."""
    return board_table(board).only(
        lambda column: column.key in README_COLUMNS or column.key.startswith(("score_", "claimed_"))
    )


def front_cell(row: Row, axis: str) -> Cell:
    """Write the front's mark on one axis, and P(front).

    Rows on the front sort before the others, and then by P(front). Rows that do not compete have no value.
    """
    front = row.fronts.get(axis)
    if front is None:
        return Cell(MISSING, None)
    share = "" if front.probability is None else f"{100 * front.probability:.0f} %"
    text = f"{FRONT_MARK if front.on else ''} {share}".strip()
    return Cell(text, float(front.on) + (front.probability or 0.0))


def _columns(board: Board) -> list[Column]:
    """List all columns that this board can have, in order."""
    scores = [
        Column(f"score_{task}", task_title(task), "points", numeric=True, unit_in_cells=True)
        for task in board.tasks
    ]
    claims = [
        Column(f"claimed_{task}", task_title(task), "points, as published", numeric=True)
        for task in claimed_tasks(board)
    ]
    return [*BEFORE_SCORES, *scores, *claims, *AFTER_SCORES]


def _is_filled(key: str, board: Board, cells: Sequence[dict[str, Cell]]) -> bool:
    if key in ("title", "family") or (key == "drop" and board.kind == "measured"):
        return True
    if key == "disk_pct" and board.kind != "published":
        return False
    return any(own[key].value is not None for own in cells)


def _cells(row: Row, figures: dict[str, Any], board: Board) -> dict[str, Cell]:
    """Make a row's cells by column key. `figures` come from `row_figures`."""

    def cell(key: str, text: str, cost: str = "") -> Cell:
        """Make a figure's cell, with a mark if the method claims to reduce `cost` but does not here."""
        marked = cost in row.simulated and text != MISSING
        return Cell(f"{text}{SIMULATED_MARK}" if marked else text, figures[key])

    drop_ci95 = None if row.baseline else figures["drop_ci95"]
    speed = speedup(figures["speedup"], figures["speedup_ci95"], figures["speedup_verdict"])
    disk_pct, kept = figures["disk_pct"], row.costs.by_axis.get("kept")
    size, without = figures["size_pct"], figures["size_pct_without_embeddings"]
    scores = {
        f"score_{task}": Cell(
            score(figures["scores"].get(task), figures["scores_ci95"].get(task)), figures["scores"].get(task)
        )
        for task in board.tasks
    }
    claims = {
        f"claimed_{task}": Cell(score(row.claimed.get(task)), row.claimed.get(task))
        for task in claimed_tasks(board)
    }
    return {
        "rank": cell("rank", _rank(row)),
        "title": Cell(row.title, row.title.lower()),
        "family": Cell(family_title(row.family), row.family),
        "drop": cell("drop", points(figures["drop"], drop_ci95)),
        "drop_published": cell("drop_published", points(figures["drop_published"])),
        "pareto": front_cell(row, board.axis),
        **scores,
        **claims,
        "disk_bytes": cell("disk_bytes", megabytes(figures["disk_bytes"]), "disk"),
        "disk_pct": cell("disk_pct", number(disk_pct, 1 if disk_pct is None or disk_pct >= 1 else 2)),
        "flops": cell("flops", gigaflops(figures["flops"]), "flops"),
        "speedup": cell("speedup", speed, "latency"),
        "peak_memory_bytes": cell("peak_memory_bytes", megabytes(figures["peak_memory_bytes"]), "memory"),
        "kept": Cell(number(kept, 0), kept),
        "size_pct": cell("size_pct", number(size, 1), "parameters"),
        "size_pct_without_embeddings": cell("size_pct_without_embeddings", number(without, 1), "parameters"),
        "latency_ms": cell("latency_ms", number(figures["latency_ms"], 1)),
        "tasks": Cell(_tasks_and_seeds(row), len(figures["tasks"]) or None),
    }


def _rank(row: Row) -> str:
    """Write the rank, with an equals sign if several rows share it."""
    return MISSING if row.rank is None else f"{row.rank.position}{'=' if row.rank.tied else ''}"


def _tasks_and_seeds(row: Row) -> str:
    """Write the number of tasks in the drop × the number of seeds of each, such as `2 × 1–3`."""
    if row.drop is None:
        return MISSING
    tasks = row.drop.by_task
    counts = [len(seeds) for task in tasks if (seeds := row.scores[task].seeds)]
    if not counts:
        return str(len(tasks))
    return f"{len(tasks)} × {'–'.join(str(count) for count in sorted({min(counts), max(counts)}))}"


def legend(board: Board, against: str | None = None) -> list[str]:
    """Explain the marks in this board's tables. `against` names the front's cost, by default the board's axis."""
    cost = against or axis_words(board.chosen_axis)
    lines = []
    fronts = [front for row in board.rows for axis, front in row.fronts.items() if axis == board.axis]
    if any(row.fronts for row in board.rows):
        share = any(front.probability is not None for front in fronts)
        lines.append(
            f"{FRONT_MARK}: on the Pareto front of drop against {cost}"
            + (f"; in %: {P_FRONT}" if share else "")
        )
    if any(row.rank is not None and row.rank.tied for row in board.rows):
        lines.append("=: a statistical tie; the 95 % interval overlaps the interval of the rank's first row")
    if any(row.simulated for row in board.rows):
        lines.append(
            f"{SIMULATED_MARK}: simulated: the method claims to reduce this cost, but the artifact does not reduce it "
            "under this runtime; on the front it counts as no cheaper than the baseline"
        )
    if board.kind == "measured":
        lines.append("scores: the task's metric on the dev split in points, ± half of its 95 % interval")
        lines.append(
            "drop: method minus baseline in points, averaged, with its 95 % interval; negative is worse"
        )
    if board.kind != "published" and board.rows and board.workload is not None and board.hardware is not None:
        place = board.hardware.accelerator or board.hardware.processor
        lines.append(
            f"FLOPs, speedup and memory at (batch, length) = {board.workload}, {board.runtime} on "
            f"{board.device}: "
            f"{place}, {board.hardware.cores} cores"
        )
    return lines


def axis_words(axis: Axis) -> str:
    """Write an axis's title for the middle of a sentence."""
    return axis.title if axis.title[:2].isupper() else axis.title[0].lower() + axis.title[1:]


def notes(board: Board) -> list[str]:
    """List the notes below a board's table: legend, board, failed cells, rows, and everything that was left out."""
    return [
        *legend(board),
        *board.notes,
        *(f"{row.title}: {failure}" for row in board.rows for failure in row.failures),
        *(_row_notes(board.rows) if board.kind != "published" else []),
        *(f"left out: {line}" for line in board.skipped),
    ]


def _row_notes(rows: Sequence[Row]) -> list[str]:
    """List the notes of rows. A note that several rows have is written once, with all their titles."""
    titles: dict[str, list[str]] = {}
    for row in rows:
        for note in row.notes:
            titles.setdefault(note, []).append(row.title)
    return [f"{'; '.join(named)}: {note}" for note, named in titles.items()]
