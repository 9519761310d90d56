"""A board as tables for people: one for each section, with a legend of its marks and its notes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from harness.records.costs import Cost
from leaderboard.boards.axes import Axis, main_axis, workload_words
from leaderboard.boards.board import Board
from leaderboard.boards.names import family_title, task_title
from leaderboard.boards.row import CostRatio, Row
from leaderboard.tables.board_figures import claimed_tasks, row_figures
from leaderboard.tables.board_notes import (
    FRONT_MARK,
    NO_DIFFERENCE_MARK,
    SIMULATED_MARK,
    notes,
    shared_flags,
)
from leaderboard.tables.formatting import gigaflops, megabytes, number, points, score, speedup
from leaderboard.tables.model import MISSING, Cell, Column, Line, Table

BEFORE_SCORES = (
    Column("rank", "Rank", numeric=True),
    Column("title", "Method"),
    Column("family", "Family"),
    Column("model", "Base model"),
    Column("terms", "Budget and precision"),
    Column("drop", "Drop", "points", numeric=True),
    Column("over_control", "Over control", "points", numeric=True),
    Column("drop_published", "Drop as printed", "points", numeric=True),
    Column("pareto", "Front", numeric=True),
)
AFTER_SCORES = (
    Column("disk_bytes", "Disk", "MB", numeric=True),
    Column("disk_pct", "Disk, of its baseline", "%", numeric=True),
    Column("size", "Size", "%", numeric=True),
    Column("flops", "FLOPs", "GFLOPs", numeric=True),
    Column("speedup", "Speedup", "×", numeric=True, unit_in_cells=True),
    Column("peak_memory_bytes", "Memory", "MB", numeric=True),
    Column("kept", "Weights kept", "%", numeric=True),
    Column("size_pct", "Size, survey", "%", numeric=True),
    Column("size_pct_without_embeddings", "without emb.", "%", numeric=True),
    Column("latency_ms", "Median", "ms", numeric=True),
    Column("records", "Records", numeric=True),
    Column("tasks", "Tasks × seeds", numeric=True),
    Column("flags", "Flags"),
)
README_COLUMNS = frozenset(
    {"rank", "title", "drop", "over_control", "drop_published", "tasks", "size_pct", "disk_bytes", "flops"}
    | {
        "disk_pct",
        "size",
        "speedup",
        "peak_memory_bytes",
        "pareto",
        "kept",
        "flags",
        "model",
        "terms",
        "records",
    }
)
"""The columns that fit a page, for Markdown. Scores are shown too."""
ONLY_ON: dict[str, tuple[str, ...]] = {
    "disk_bytes": ("published", "architecture", "archive"),
    "disk_pct": ("published", "archive"),
    "size": ("measured",),
    "size_pct": ("published", "architecture"),
    "size_pct_without_embeddings": ("published", "architecture"),
    "latency_ms": ("architecture",),
    "tasks": ("published", "measured"),
    "model": ("archive",),
}
"""The kinds of board that show a column, where that is not all. A measured board shows costs as ratios."""
SECTIONS = {
    "ranked": "",
    "incomplete": "Incomplete: rows without a score on every compared task; they have no average, rank or front",
    "": "",
}
MARKS = {"simulated": SIMULATED_MARK, "no difference": NO_DIFFERENCE_MARK}
IN_CELLS = {"simulated": "simulated:{cost}", "no verdict": "no-verdict"}
"""The flag that the cell of a cost says too, by the state of its ratio."""


def board_table(board: Board) -> Table:
    """Make one table of all rows of a board: the columns that have figures, with legend and notes below."""
    return _table(board, board.rows, notes(board))


def section_tables(board: Board) -> list[Table]:
    """Make a table of each section that has rows. Legend and notes stand below the last one."""
    found: list[Table] = []
    for name, title in SECTIONS.items():
        rows = [row for row in board.rows if row.section == name]
        if rows:
            table = _table(board, rows, ())
            found.append(replace(table, title=title or board.title))
    if not found:
        return [board_table(board)]
    return [*found[:-1], replace(found[-1], notes=tuple(notes(board)))]


def for_readme(table: Table) -> Table:
    """Keep the columns of a board's table that fit a page."""
    return table.only(
        lambda column: column.key in README_COLUMNS or column.key.startswith(("score_", "claimed_", "drop_"))
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


def _table(board: Board, rows: Sequence[Row], said: Sequence[str]) -> Table:
    figures = dict(zip((row.id for row in board.rows), row_figures(board), strict=True))
    shared = shared_flags(rows)
    cells = [_cells(row, figures[row.id], board, shared) for row in rows]
    columns = tuple(column for column in _columns(board) if _is_filled(column.key, board, rows, cells))
    lines = (
        Line(
            tuple(own[column.key] for column in columns),
            mark=FRONT_MARK if board.on_front(row) else "",
            faded=bool(row.failures) and not row.scores and not row.costs.by_axis,
        )
        for row, own in zip(rows, cells, strict=True)
    )
    return Table(board.name or board.kind, board.title, columns, tuple(lines), tuple(said))


def _columns(board: Board) -> list[Column]:
    """List all columns that this board can have, in order."""
    scores = [
        Column(f"score_{task}", task_title(task), "points", numeric=True, unit_in_cells=True)
        for task in board.tasks
    ]
    drops = [
        Column(f"drop_{task}", f"{task_title(task)}, drop", "points", numeric=True)
        for task in board.tasks
        if board.kind == "archive"
    ]
    claims = [
        Column(f"claimed_{task}", task_title(task), "points, as published", numeric=True)
        for task in claimed_tasks(board)
    ]
    before = [column for column in BEFORE_SCORES if board.kind in ONLY_ON.get(column.key, (board.kind,))]
    after = [column for column in AFTER_SCORES if board.kind in ONLY_ON.get(column.key, (board.kind,))]
    if board.kind == "measured":
        after = [_as_ratio(column, board) for column in after]
    return [*before, *scores, *drops, *claims, *after]


def _as_ratio(column: Column, board: Board) -> Column:
    """Name the workload of a cost's column, and the unit of a ratio."""
    costs: dict[str, tuple[Cost, str]] = {
        "size": ("disk", "Size"),
        "flops": ("flops", "FLOPs"),
        "speedup": ("latency", "Speedup"),
        "peak_memory_bytes": ("memory", "Memory"),
    }
    if column.key not in costs:
        return column
    cost, title = costs[column.key]
    axis = main_axis(cost, board.axes)
    where = "" if axis is None or axis.workload is None else f", {workload_words(axis.workload)}"
    return replace(column, heading=title + where, unit="×" if cost == "latency" else "%")


def _is_filled(key: str, board: Board, rows: Sequence[Row], cells: Sequence[dict[str, Cell]]) -> bool:
    if key in ("title", "family"):
        return True
    if key == "drop" and board.kind == "measured":
        return any(row.section == "ranked" for row in rows)
    return any(own[key].value not in (None, "") for own in cells)


def _cells(row: Row, figures: dict[str, Any], board: Board, shared: frozenset[str]) -> dict[str, Cell]:
    """Make a row's cells by column key. `figures` come from `row_figures`; `shared` flags are left out."""

    def cell(key: str, text: str, cost: str = "") -> Cell:
        """Make a figure's cell, with a mark if the method claims to reduce `cost` but does not here."""
        marked = cost in row.simulated and text != MISSING
        return Cell(f"{text}{SIMULATED_MARK}" if marked else text, figures[key])

    drop_ci95 = None if row.baseline else figures["drop_ci95"]
    kept, disk_pct = row.costs.by_axis.get("kept"), figures["disk_pct"]
    scores, drops = figures["scores"], figures["drops"]
    cells = {
        "rank": Cell(_rank(row), None if row.rank is None else row.rank.best),
        "title": Cell(row.title, row.title.lower()),
        "family": Cell(family_title(row.family), row.family),
        "model": Cell(row.model, row.model),
        "terms": Cell(str(row.terms or ""), str(row.terms or "")),
        "drop": cell("drop", points(figures["drop"], drop_ci95)),
        "over_control": cell("over_control", points(figures["over_control"], figures["over_control_ci95"])),
        "drop_published": cell("drop_published", points(figures["drop_published"])),
        "pareto": front_cell(row, board.axis),
        "disk_bytes": cell("disk_bytes", megabytes(figures["disk_bytes"]), "disk"),
        "disk_pct": cell("disk_pct", _percent(disk_pct)),
        "kept": Cell(number(kept, 0), kept),
        "size_pct": cell("size_pct", number(figures["size_pct"], 1), "parameters"),
        "size_pct_without_embeddings": cell(
            "size_pct_without_embeddings", number(figures["size_pct_without_embeddings"], 1), "parameters"
        ),
        "latency_ms": cell("latency_ms", number(figures["latency_ms"], 1)),
        "records": Cell(str(row.records), row.records or None),
        "tasks": Cell(_tasks_and_seeds(row), len(figures["tasks"]) or None),
        "flags": _flags(row, board, shared),
        **{
            f"score_{task}": Cell(score(scores.get(task), figures["scores_ci95"].get(task)), scores.get(task))
            for task in board.tasks
        },
        **{f"drop_{task}": Cell(points(drops.get(task)), drops.get(task)) for task in board.tasks},
        **{
            f"claimed_{task}": Cell(score(row.claimed.get(task)), row.claimed.get(task))
            for task in claimed_tasks(board)
        },
    }
    return cells | (_ratios(row, board) if board.kind == "measured" else _absolute_costs(figures, cell))


def _absolute_costs(figures: dict[str, Any], cell: Any) -> dict[str, Cell]:
    """Write the costs of one profile."""
    speed = speedup(figures["speedup"], figures["speedup_ci95"], figures["speedup_verdict"])
    return {
        "flops": cell("flops", gigaflops(figures["flops"]), "flops"),
        "speedup": cell("speedup", speed, "latency"),
        "peak_memory_bytes": cell("peak_memory_bytes", megabytes(figures["peak_memory_bytes"]), "memory"),
    }


def _ratios(row: Row, board: Board) -> dict[str, Cell]:
    """Write the ratios of the board's main axes."""

    def ratio(cost: Cost) -> CostRatio:
        axis = main_axis(cost, board.axes)
        missing = CostRatio("missing")
        return missing if axis is None else row.costs.ratios.get(axis.key, missing)

    def percent(found: CostRatio) -> Cell:
        value = None if found.ratio is None else 100 * found.ratio
        text = "no verdict" if found.state == "no verdict" else _percent(value)
        return Cell(text + MARKS.get(found.state, ""), value)

    latency = ratio("latency")
    speed = row.costs.speedup
    text = MISSING if speed is None else speedup(speed.value, speed.ci95, speed.verdict)
    size = None if row.costs.size is None else row.costs.size.disk_pct
    # An incomplete row has no mean; its first artifact's size is known.
    disk = percent(ratio("disk")) if row.section == "ranked" else Cell(_percent(size), size)
    return {
        "size": disk,
        "flops": percent(ratio("flops")),
        "speedup": Cell(text + MARKS.get(latency.state, ""), None if speed is None else speed.value),
        "peak_memory_bytes": percent(ratio("memory")),
    }


def _main_axes(board: Board) -> list[Axis]:
    costs: tuple[Cost, ...] = ("disk", "flops", "latency", "memory")
    return [axis for cost in costs if (axis := main_axis(cost, board.axes)) is not None]


def _percent(value: float | None) -> str:
    return number(value, 1 if value is None or value >= 1 else 2)


def _rank(row: Row) -> str:
    """Write the ranks that the row may have, such as `1–12`."""
    if row.rank is None:
        return MISSING
    best, worst = row.rank.best, row.rank.worst
    return f"{best}" if best == worst else f"{best}–{worst}"


def _tasks_and_seeds(row: Row) -> str:
    """Write the number of tasks in the drop × the number of seeds of each, such as `2 × 1–3`."""
    tasks = row.drop.by_task if row.drop is not None else row.drops
    if not tasks:
        return MISSING
    counts = [len(row.scores[task].seeds) for task in tasks if row.scores[task].seeds]
    if not counts:
        return str(len(tasks))
    return f"{len(tasks)} × {'–'.join(str(count) for count in sorted({min(counts), max(counts)}))}"


def _flags(row: Row, board: Board, shared: frozenset[str]) -> Cell:
    """Write the flags that neither all rows have nor a cell of the costs shows: the cells are of the main axes only."""
    shown = {
        IN_CELLS[ratio.state].format(cost=axis.cost)
        for axis in _main_axes(board)
        if (ratio := row.costs.ratios.get(axis.key)) is not None and ratio.state in IN_CELLS
    }
    words = ["control"] if row.control else []
    words += [flag.words for flag in row.flags if flag.code not in shown and flag.words not in shared]
    return Cell("; ".join(words) or MISSING, "; ".join(words))
