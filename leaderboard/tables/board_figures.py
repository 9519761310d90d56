"""All figures of a board, unrounded: as a document for JSON and as a table for CSV."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

from leaderboard.boards.board import Board
from leaderboard.boards.bootstrap import Drop, Interval
from leaderboard.boards.row import CostRatio, Execution, Row, Size, Speedup
from leaderboard.tables.model import Cell, Column, Line, Table, Value


def board_document(board: Board) -> dict[str, Any]:
    """Return the board as JSON values, with each row's parts in one object; None if nothing was measured."""
    document = {field.name: getattr(board, field.name) for field in fields(board)}
    return {**document, "axes": [asdict(axis) for axis in board.axes], "rows": row_figures(board)}


def row_figures(board: Board) -> list[dict[str, Any]]:
    """Return the figures of each row by name."""
    return [_figures(row, board) for row in board.rows]


def figures_table(board: Board) -> Table:
    """Make the table for CSV: an interval takes two columns, and the items of a list are joined by spaces."""
    rows = [_flat(figures, row, board) for figures, row in zip(row_figures(board), board.rows, strict=True)]
    keys = rows[0] if rows else ()
    lines = (Line(tuple(Cell(str(value), value) for value in row.values())) for row in rows)
    return Table(board.kind, board.title, tuple(Column(key, key) for key in keys), tuple(lines))


def claimed_tasks(board: Board) -> list[str]:
    """List the tasks on which any row has a published score."""
    return list(dict.fromkeys(task for row in board.rows for task in row.claimed))


def drops_by_task(row: Row) -> dict[str, float]:
    """Return a row's drops by task, also those of a row without an average."""
    if row.drops:
        return {task: each.mean for task, each in row.drops.items()}
    return {} if row.drop is None else dict(row.drop.by_task)


def _figures(row: Row, board: Board) -> dict[str, Any]:
    drop, over, rank = row.drop or Drop(0.0, {}), row.over_control, row.rank
    size, run, speedup = row.costs.size or Size(), row.costs.execution, row.costs.speedup or Speedup(None)
    front = row.fronts.get(board.axis)
    execution = dict.fromkeys(field.name for field in fields(Execution)) if run is None else vars(run)
    drops = drops_by_task(row)
    return {
        "id": row.id,
        "title": row.title,
        "family": row.family,
        "recipe": row.recipe,
        "model": row.model,
        "baseline": row.baseline,
        "control": row.control,
        "section": row.section,
        "rank": None if rank is None else (rank.best, rank.worst),
        "in_best_set": row.in_best_set,
        "scores": {task: score.mean for task, score in row.scores.items()},
        "scores_ci95": {task: score.ci95 for task, score in row.scores.items() if score.ci95 is not None},
        "metrics": {task: score.metric for task, score in row.scores.items() if score.metric},
        "drop": None if row.drop is None else drop.mean,
        "drop_ci95": drop.ci95,
        "drops": drops,
        "drops_ci95": {task: each.ci95 for task, each in row.drops.items() if each.ci95 is not None},
        "drop_published": drop.printed,
        "over_control": None if over is None else over.mean,
        "over_control_ci95": None if over is None else over.ci95,
        "tasks": list(drops),
        "seeds": {task: score.seeds for task, score in row.scores.items() if score.seeds},
        "evidence": {task: asdict(evidence) for task, evidence in row.evidence.items()},
        "complete": row.section != "incomplete",
        "flags": [asdict(flag) for flag in row.flags],
        "size_pct": size.survey_pct,
        "size_pct_without_embeddings": size.survey_pct_without_embeddings,
        "disk_bytes": size.disk_bytes,
        "disk_pct": size.disk_pct,
        "flops": execution["flops"],
        "speedup": speedup.value,
        "speedup_ci95": speedup.ci95,
        "speedup_verdict": speedup.verdict,
        "latency_ms": execution["latency_ms"],
        "peak_memory_bytes": execution["peak_memory_bytes"],
        "pareto": front is not None and front.on,
        "pareto_probability": None if front is None else front.probability,
        "fronts": {axis: each.on for axis, each in row.fronts.items()},
        "front_probabilities": {
            axis: each.probability for axis, each in row.fronts.items() if each.probability is not None
        },
        "costs": row.costs.by_axis,
        "ratios": {axis: _ratio(ratio) for axis, ratio in row.costs.ratios.items()},
        "realised": execution["realised"] or {},
        "simulated": row.simulated,
        "workload": execution["workload"],
        "hardware": execution["hardware"],
        "runtime": execution["runtime"],
        "device": execution["device"],
        "terms": None if row.terms is None else asdict(row.terms),
        "records": row.records or None,
        "claimed": row.claimed,
        "failures": [asdict(failure) for failure in row.failures],
        "notes": row.notes,
        "source": row.costs.source,
    }


def _ratio(ratio: CostRatio) -> dict[str, Any]:
    return {
        "state": ratio.state,
        "ratio": ratio.ratio,
        "ci95": ratio.ci95,
        "counted": ratio.counted,
        "runtime": ratio.runtime,
        "by_task": {task: {"state": each.state, "ratio": each.ratio} for task, each in ratio.by_task.items()},
    }


def _flat(figures: Mapping[str, Any], row: Row, board: Board) -> dict[str, Value]:
    def ends(name: str, interval: Interval | None) -> dict[str, Value]:
        low, high = interval or (None, None)
        return {f"{name}_low": low, f"{name}_high": high}

    def some(*names: str) -> dict[str, Value]:
        return {name: figures[name] for name in names}

    best, worst = figures["rank"] or (None, None)
    flat = some("id", "title", "family", "recipe", "model", "section", "control")
    flat |= {"rank_best": best, "rank_worst": worst} | some("drop") | ends("drop", figures["drop_ci95"])
    flat |= some("over_control") | ends("over_control", figures["over_control_ci95"])
    flat |= some("drop_published")
    flat |= {"tasks": " ".join(figures["tasks"]), "seeds": row.seed_count, "complete": figures["complete"]}
    for task in board.tasks:
        flat[f"score_{task}"] = figures["scores"].get(task)
        flat |= ends(f"score_{task}", figures["scores_ci95"].get(task))
        flat[f"drop_{task}"] = figures["drops"].get(task)
    flat |= {f"claimed_{task}": row.claimed.get(task) for task in claimed_tasks(board)}
    flat |= some("size_pct", "size_pct_without_embeddings", "disk_bytes", "disk_pct", "flops", "speedup")
    flat |= ends("speedup", figures["speedup_ci95"]) | some("latency_ms", "peak_memory_bytes")
    if board.kind == "measured":
        for axis in board.axes:
            ratio = row.costs.ratios.get(axis.key, CostRatio("missing"))
            flat |= {f"ratio_{axis.key}": ratio.ratio, f"state_{axis.key}": ratio.state}
            flat[f"front_{axis.key}"] = axis.key in row.fronts and row.fronts[axis.key].on
    flat |= {"weights_kept_pct": row.costs.by_axis.get("kept")} | some("pareto", "pareto_probability")
    if board.kind == "archive":
        flat |= {"terms": str(row.terms), "records": row.records}
    return flat | {
        "flags": " ".join(flag.code for flag in row.flags),
        "simulated": " ".join(row.simulated),
        "source": row.costs.source,
        "failures": "; ".join(map(str, row.failures)),
        "notes": "; ".join(row.notes),
    }
