"""Boards as text: as Markdown, CSV and JSON, and inside a README."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from harness.common.errors import SkylineError
from harness.common.files import write_atomically
from harness.common.lazy import lazy_imports
from leaderboard.boards.board import Axis, Board, Row
from leaderboard.tables import cells
from leaderboard.tables.cells import Column, columns

with lazy_imports():
    import pandas
    import tabulate


README_COLUMNS = frozenset(
    {"rank", "title", "drop", "drop_published", "tasks", "size_pct", "disk_bytes", "flops", "speedup"}
    | {"disk_pct", "peak_memory_bytes", "pareto", "kept"}
)
"""The columns of a Markdown table, the scores aside: what fits a page."""
WHOLE_NUMBERS = ("rank", "seeds", "disk_bytes", "flops", "peak_memory_bytes")


def to_json(board: Board) -> str:
    """The board as indented JSON."""
    return board.to_json()


def to_markdown(board: Board) -> str:
    """The board as a Markdown table with its legend, notes and failed cells below."""
    chosen = [
        c for c in columns(board) if c.key in README_COLUMNS or c.key.startswith(("score_", "claimed_"))
    ]
    body = [[_markdown_cell(column, row) for column in chosen] for row in board.rows]
    heads = [escape_markdown(heading(column)) for column in chosen]
    align = ["right" if column.numeric else "left" for column in chosen]
    table = tabulate.tabulate(body, headers=heads, tablefmt="pipe", colalign=align, disable_numparse=True)
    lines = "\n".join(f"- {escape_markdown(note)}" for note in notes(board))
    return f"{table}\n\n{lines}\n"


def to_csv(board: Board) -> str:
    """The board as CSV, one line a row: every figure unrounded, an empty field for what was not measured."""
    lines = [_flat(row, board) for row in board.rows]
    frame = pandas.DataFrame(lines).astype(dict.fromkeys(WHOLE_NUMBERS, "Int64"))
    text = frame.to_csv(index=False, lineterminator="\n")
    return str(text)


def update_readme(path: Path, marker: str, markdown: str) -> None:
    """Replace what stands between `<!-- board:MARKER -->` and `<!-- /board:MARKER -->` in the file at `path`.

    Raises SkylineError where the file cannot be read or does not hold the two markers once, in order.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SkylineError(f"{path} cannot be read ({error}); name a Markdown file") from None
    start, end = f"<!-- board:{marker} -->", f"<!-- /board:{marker} -->"
    if text.count(start) != 1 or text.count(end) != 1 or text.index(start) > text.index(end):
        raise SkylineError(f"{path} needs the lines '{start}' and '{end}' once each, in this order; add them")
    before, rest = text.split(start)
    after = rest.split(end)[1]
    write_atomically(path, f"{before}{start}\n\n{markdown.strip()}\n\n{end}{after}")


def escape_markdown(text: str) -> str:
    """Text that stays text in a Markdown table: no cell borders, tags, links, emphasis or line breaks."""
    text = " ".join(text.split())
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_|\[\]])", r"\\\1", text)


def legend(board: Board, against: str | None = None) -> list[str]:
    """What the marks of this board's tables mean.

    `against` names the front's cost, which is by default the board's axis.
    """
    cost = against or axis_words(board.chosen_axis)
    lines = []
    if any(row.fronts for row in board.rows):
        share = any(row.pareto_probability is not None for row in board.rows)
        lines.append(
            f"{cells.FRONT_MARK}: on the Pareto front of drop against {cost}"
            + ("; the share of bootstrap resamples in which a row is on it stands beside" if share else "")
        )
    if any(row.tied for row in board.rows):
        lines.append("=: a statistical tie, the 95 % interval overlaps that of the rank's first row")
    if any(row.simulated for row in board.rows):
        lines.append(
            f"{cells.SIMULATED_MARK}: simulated, the method claims to reduce this cost but the artifact, "
            "under this runtime, does not; on that axis it counts as no cheaper than the baseline"
        )
    if board.kind == "measured":
        lines.append("scores: the task's metric on its dev split, 0 to 100, ± half of its 95 % interval")
        lines.append(
            "drop: mean of method minus baseline in points with its 95 % interval; negative is worse"
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
    """An axis's title inside a sentence."""
    return axis.title if axis.title[:2].isupper() else axis.title[0].lower() + axis.title[1:]


def notes(board: Board) -> list[str]:
    """What stands below a board's table: its legend, its notes, each failed cell, its rows' notes, what is left out."""
    return [
        *legend(board),
        *board.notes,
        *(f"{row.title}: {failure}" for row in board.rows for failure in row.failures),
        *(_row_notes(board.rows) if board.kind != "published" else []),
        *(f"left out: {line}" for line in board.skipped),
    ]


def _row_notes(rows: Sequence[Row]) -> list[str]:
    """The rows' own notes; one that several rows have names them all."""
    titles: dict[str, list[str]] = {}
    for row in rows:
        for note in row.notes:
            titles.setdefault(note, []).append(row.title)
    return [f"{'; '.join(named)}: {note}" for note, named in titles.items()]


def heading(column: Column) -> str:
    """A column's heading with its unit, where figures do not carry it or all know it."""
    plain = not column.unit or column.unit == "×" or column.key.startswith("score_")
    return column.heading if plain else f"{column.heading} ({column.unit})"


def _markdown_cell(column: Column, row: Row) -> str:
    text = column.text(row) if column.numeric else escape_markdown(column.text(row))
    return f"**{text}**" if column.key == "title" and row.pareto else text


def _flat(row: Row, board: Board) -> dict[str, object]:
    """A row's figures under one name each."""
    flat: dict[str, object] = {
        "id": row.id,
        "title": row.title,
        "family": row.family,
        "recipe": row.recipe,
        "model": row.model,
        "rank": row.rank,
        "tied": row.tied,
        "drop": row.drop,
        "drop_low": row.drop_ci95[0] if row.drop_ci95 else None,
        "drop_high": row.drop_ci95[1] if row.drop_ci95 else None,
        "drop_published": row.drop_published,
        "tasks": " ".join(row.tasks),
        "seeds": row.seed_count,
        "complete": row.complete,
    }
    for task in board.tasks:
        ci95 = row.scores_ci95.get(task)
        flat[f"score_{task}"] = row.scores.get(task)
        flat[f"score_{task}_low"] = ci95[0] if ci95 else None
        flat[f"score_{task}_high"] = ci95[1] if ci95 else None
    flat |= {f"claimed_{task}": row.claimed.get(task) for task in cells.claimed_tasks(board)}
    flat |= {
        "size_pct": row.size_pct,
        "size_pct_without_embeddings": row.size_pct_without_embeddings,
        "disk_bytes": row.disk_bytes,
        "disk_pct": row.disk_pct,
        "flops": row.flops,
        "speedup": row.speedup,
        "speedup_low": row.speedup_ci95[0] if row.speedup_ci95 else None,
        "speedup_high": row.speedup_ci95[1] if row.speedup_ci95 else None,
        "latency_ms": row.latency_ms,
        "peak_memory_bytes": row.peak_memory_bytes,
        "weights_kept_pct": row.costs.get("kept"),
        "pareto": row.pareto,
        "pareto_probability": row.pareto_probability,
        "simulated": " ".join(row.simulated),
        "source": row.source,
        "failures": "; ".join(str(failure) for failure in row.failures),
        "notes": "; ".join(row.notes),
    }
    return flat
