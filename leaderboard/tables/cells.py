"""What the cells of a table say: figures with their units, and a dash for what was not measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal

from leaderboard.boards.board import Board, Row
from leaderboard.boards.names import family_title, task_title

MISSING = "–"
MINUS = "\u2212"
FRONT_MARK = "◆"
SIMULATED_MARK = "†"


def number(value: float | None, decimals: int, sign: bool = False) -> str:
    """A figure with separators and a true minus, halves rounded away from zero; a dash for None."""
    if value is None:
        return MISSING
    rounded = Decimal(repr(value)).quantize(Decimal(1).scaleb(-decimals), rounding=ROUND_HALF_UP)
    if rounded == 0:
        return f"{abs(rounded):.{decimals}f}"
    return f"{rounded:{'+' if sign else ''},.{decimals}f}".replace("-", MINUS)


def points(value: float | None, ci95: tuple[float, float] | None = None) -> str:
    """A drop such as `−0.46 [−0.92, 0.00]`, in points."""
    if value is None:
        return MISSING
    return number(value, 2) + (f" [{number(ci95[0], 2)}, {number(ci95[1], 2)}]" if ci95 else "")


def score(value: float | None, ci95: tuple[float, float] | None = None) -> str:
    """A score such as `91.3 ± 1.9`: half the width of its interval stands behind the sign."""
    if value is None:
        return MISSING
    return number(value, 1) + (f" ± {number((ci95[1] - ci95[0]) / 2, 1)}" if ci95 else "")


def megabytes(value: int | None) -> str:
    """Bytes as MB (10^6), with two decimals below 10 MB."""
    if value is None:
        return MISSING
    return number(value / 1e6, 2 if value < 10e6 else 1)


def gigaflops(value: int | None) -> str:
    """FLOPs as GFLOPs."""
    return MISSING if value is None else number(value / 1e9, 2)


def speedup(row: Row) -> str:
    """A speedup such as `2.31× [2.27, 2.36]`; `no verdict` where its interval stayed too wide."""
    if row.speedup is None:
        return "no verdict" if row.speedup_verdict == "none" else MISSING
    interval = row.speedup_ci95
    return f"{number(row.speedup, 2)}×" + (
        f" [{number(interval[0], 2)}, {number(interval[1], 2)}]" if interval else ""
    )


def rank(row: Row) -> str:
    """The rank, with an equals sign where rows share it."""
    return MISSING if row.rank is None else f"{row.rank}{'=' if row.tied else ''}"


def front(row: Row, axis: str) -> str:
    """The front's mark on one axis and the share of resamples in which the row is on that front."""
    if axis not in row.fronts:
        return MISSING
    probability = row.front_probabilities.get(axis)
    share = "" if probability is None else f"{100 * probability:.0f} %"
    return f"{FRONT_MARK if row.fronts[axis] else ''} {share}".strip()


def front_order(row: Row, axis: str) -> float | None:
    """Sorts rows on a front before the others, the surer first; None for a row that does not compete."""
    if axis not in row.fronts:
        return None
    return float(row.fronts[axis]) + row.front_probabilities.get(axis, 0.0)


def tasks_and_seeds(row: Row) -> str:
    """How many tasks the drop averages over and how many seeds each has, such as `2 × 1–3`."""
    if not row.tasks:
        return MISSING
    counts = sorted({len(row.seeds[task]) for task in row.tasks if task in row.seeds})
    if not counts:
        return str(len(row.tasks))
    return f"{len(row.tasks)} × {'–'.join(str(count) for count in dict.fromkeys((counts[0], counts[-1])))}"


def marked(text: str, row: Row, cost: str) -> str:
    """`text` with the mark of a cost that the method claims to reduce but that is not realised here."""
    return f"{text}{SIMULATED_MARK}" if cost in row.simulated and text != MISSING else text


@dataclass(frozen=True)
class Column:
    """A column of a table: its heading, its cells' text, and the value that sorts it (None sorts last)."""

    key: str
    heading: str
    unit: str
    text: Callable[[Row], str]
    value: Callable[[Row], float | str | None]
    numeric: bool = True


def columns(board: Board) -> list[Column]:
    """The columns that a board has figures for, in order."""
    return [column for column in _all(board) if _filled(column, board)]


ALWAYS = frozenset({"rank", "title", "family", "drop"})


def _filled(column: Column, board: Board) -> bool:
    if column.key == "rank":
        return any(row.rank is not None for row in board.rows)
    if column.key in ALWAYS and not (column.key == "drop" and board.kind != "measured"):
        return True
    if column.key == "disk_pct" and board.kind != "published":
        return False
    return any(column.value(row) is not None for row in board.rows)


def _all(board: Board) -> list[Column]:
    found = [
        Column("rank", "Rank", "", rank, lambda row: row.rank),
        Column("title", "Method", "", lambda row: row.title, lambda row: row.title.lower(), numeric=False),
        Column(
            "family",
            "Family",
            "",
            lambda row: family_title(row.family),
            lambda row: row.family,
            numeric=False,
        ),
        Column(
            "drop",
            "Drop",
            "points",
            lambda row: points(row.drop, None if row.baseline else row.drop_ci95),
            lambda row: row.drop,
        ),
        Column(
            "drop_published",
            "Drop as printed",
            "points",
            lambda row: points(row.drop_published),
            lambda row: row.drop_published,
        ),
    ]
    axis = board.axis
    found.append(
        Column("pareto", "Front", "", lambda row: front(row, axis), lambda row: front_order(row, axis))
    )
    found += [_score_column(task) for task in board.tasks]
    found += [_claim_column(task) for task in claimed_tasks(board)]
    found += [
        Column(
            "disk_bytes",
            "Disk",
            "MB",
            lambda row: marked(megabytes(row.disk_bytes), row, "disk"),
            lambda row: row.disk_bytes,
        ),
        Column(
            "disk_pct",
            "Disk, of its baseline",
            "%",
            lambda row: number(row.disk_pct, 1 if row.disk_pct is None or row.disk_pct >= 1 else 2),
            lambda row: row.disk_pct,
        ),
        Column(
            "flops",
            "FLOPs",
            "GFLOPs",
            lambda row: marked(gigaflops(row.flops), row, "flops"),
            lambda row: row.flops,
        ),
        Column(
            "speedup",
            "Speedup",
            "×",
            lambda row: marked(speedup(row), row, "latency"),
            lambda row: row.speedup,
        ),
        Column(
            "peak_memory_bytes",
            "Memory",
            "MB",
            lambda row: marked(megabytes(row.peak_memory_bytes), row, "memory"),
            lambda row: row.peak_memory_bytes,
        ),
        Column(
            "kept",
            "Weights kept",
            "%",
            lambda row: number(row.costs.get("kept"), 0),
            lambda row: row.costs.get("kept"),
        ),
        Column(
            "size_pct",
            "Size, survey",
            "%",
            lambda row: marked(number(row.size_pct, 1), row, "parameters"),
            lambda row: row.size_pct,
        ),
        Column(
            "size_pct_without_embeddings",
            "without emb.",
            "%",
            lambda row: marked(number(row.size_pct_without_embeddings, 1), row, "parameters"),
            lambda row: row.size_pct_without_embeddings,
        ),
        Column(
            "latency_ms", "Median", "ms", lambda row: number(row.latency_ms, 1), lambda row: row.latency_ms
        ),
        Column("tasks", "Tasks × seeds", "", tasks_and_seeds, lambda row: len(row.tasks) or None),
    ]
    return found


def _score_column(task: str) -> Column:
    return Column(
        f"score_{task}",
        task_title(task),
        "points",
        lambda row: score(row.scores.get(task), row.scores_ci95.get(task)),
        lambda row: row.scores.get(task),
    )


def _claim_column(task: str) -> Column:
    return Column(
        f"claimed_{task}",
        task_title(task),
        "points, as published",
        lambda row: score(row.claimed.get(task)),
        lambda row: row.claimed.get(task),
    )


def claimed_tasks(board: Board) -> list[str]:
    """The tasks that any row has a published score of."""
    return list(dict.fromkeys(task for row in board.rows for task in row.claimed))
