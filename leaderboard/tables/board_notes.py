"""What stands below a board's table: the legend of its marks, its notes, and what was left out."""

from __future__ import annotations

from collections.abc import Sequence

from leaderboard.boards.axes import Axis, main_axis
from leaderboard.boards.board import Board
from leaderboard.boards.cost_ratios import MEMORY_FLOOR
from leaderboard.boards.row import CostState, Row
from leaderboard.tables.formatting import gigaflops, megabytes, number

FRONT_MARK = "◆"
SIMULATED_MARK = "†"
NO_DIFFERENCE_MARK = "≈"
FEW = 4
"""A note of many rows names this many of them; JSON and CSV have the notes of each row."""
P_FRONT = "P(front), the share of bootstrap resamples in which the row is on the front"


def legend(board: Board, against: str | None = None) -> list[str]:
    """Explain the marks in this board's tables. `against` names the front's cost, by default the board's axis."""
    cost = against or axis_words(board.chosen_axis)
    lines = []
    ranked = [row for row in board.rows if row.section == "ranked"]
    if shared_flags(ranked):
        lines.append(f"every ranked row: {'; '.join(sorted(shared_flags(ranked)))}")
    fronts = [front for row in board.rows for axis, front in row.fronts.items() if axis == board.axis]
    if any(row.fronts for row in board.rows):
        share = any(front.probability is not None for front in fronts)
        lines.append(
            f"{FRONT_MARK}: on the Pareto front of drop against {cost}"
            + (f"; in %: {P_FRONT}" if share else "")
        )
    states = _states(board)
    if "simulated" in states or any(row.simulated for row in board.rows):
        lines.append(
            f"{SIMULATED_MARK}: simulated: the method claims to reduce this cost, but the artifact does not reduce it "
            "under this runtime; on the front it counts as no cheaper than the baseline"
        )
    if "no difference" in states:
        lines.append(
            f"{NO_DIFFERENCE_MARK}: no difference: a latency within the noise of the baseline against itself, or a "
            f"memory within the spread of equal processes ({MEMORY_FLOOR:.0%} if it was not measured); on the front it "
            "counts as the baseline's".replace("%", " %")
        )
    if "no verdict" in states:
        lines.append("no verdict: it was timed, but its interval stayed too wide for a figure")
    if board.kind in ("measured", "archive"):
        lines.append("scores: the task's metric on the dev split in points, ± half of its 95 % interval")
    if board.kind == "measured":
        lines.append(
            "drop: method minus baseline in points, averaged, with its 95 % interval; negative is worse; scores are on "
            "the seeds of the drop"
        )
        lines += _of_baseline(board)
    if (
        board.kind == "architecture"
        and board.rows
        and board.workload is not None
        and board.hardware is not None
    ):
        place = board.hardware.accelerator or board.hardware.processor
        lines.append(
            f"FLOPs, speedup and memory at (batch, length) = {board.workload}, {board.runtime} on "
            f"{board.device}: "
            f"{place}, {board.hardware.cores} cores"
        )
    return lines


def shared_flags(rows: Sequence[Row]) -> frozenset[str]:
    """Find the words of the flags that all rows have: they say nothing about one of them."""
    if len(rows) < 2:
        return frozenset()
    return frozenset.intersection(*(frozenset(flag.words for flag in row.flags) for row in rows))


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


def _states(board: Board) -> set[CostState]:
    """Collect the states of the costs that the board's tables show."""
    shown = {
        axis.key for cost in ("disk", "flops", "latency", "memory") if (axis := main_axis(cost, board.axes))
    }
    return {ratio.state for row in board.rows for key, ratio in row.costs.ratios.items() if key in shown}


def _of_baseline(board: Board) -> list[str]:
    """Give the absolute costs of the baseline, over which the columns are ratios."""
    row = next((row for row in board.rows if row.baseline), None)
    size = None if row is None else row.costs.size
    if row is None or size is None:
        return []
    said = [f"{megabytes(size.disk_bytes)} MB"]
    run = row.costs.execution
    if run is not None:
        said.append(f"{gigaflops(run.flops)} GFLOPs")
        if run.latency_ms is not None:
            said.append(f"{number(run.latency_ms, 1)} ms")
        if run.peak_memory_bytes is not None:
            said.append(f"{megabytes(run.peak_memory_bytes)} MB of memory")
        said.append(f"at {run.workload}, {run.workload.inputs} rows, {run.runtime}")
    return [f"the baseline: {', '.join(said)}"]


def _row_notes(rows: Sequence[Row]) -> list[str]:
    """List the notes of rows. A note that several rows have is written once, with the titles of the first ones."""
    titles: dict[str, list[str]] = {}
    for row in rows:
        for note in row.notes:
            titles.setdefault(note, []).append(row.title)
    return [f"{_few(named)}: {note}" for note, named in titles.items()]


def _few(titles: Sequence[str]) -> str:
    if len(titles) <= FEW + 1:
        return "; ".join(titles)
    return f"{'; '.join(titles[:FEW])} and {len(titles) - FEW} others"
