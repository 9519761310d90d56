"""The page: one HTML file with charts, tables, ledger and provenance. It opens from disk without a network."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.common.lazy import lazy_imports
from harness.version import __version__
from leaderboard.boards.board import Board
from leaderboard.boards.names import METRIC_TITLES, cost_title, family_title, task_title
from leaderboard.boards.row import Row
from leaderboard.site import charts
from leaderboard.site.chart_files import picture
from leaderboard.site.marks import mark
from leaderboard.survey import breakdown_chart
from leaderboard.survey.breakdown import Breakdown, breakdown_table
from leaderboard.survey.published_ledger import Entry, tally
from leaderboard.tables.board_notes import legend
from leaderboard.tables.board_table import board_table, front_cell
from leaderboard.tables.formatting import number
from leaderboard.tables.model import Cell, Column, Table

with lazy_imports():
    import jinja2
    import markupsafe


TEMPLATES = Path(__file__).resolve().parent / "templates"

KIND_TITLES = {
    "measured": "Measured",
    "archive": "Archive",
    "architecture": "Architectures",
    "published": "As published",
}


@dataclass(frozen=True)
class Costs:
    """A breakdown for the template: its chart as an SVG element, and its table."""

    table: Table
    picture: str


@dataclass(frozen=True)
class Section:
    """A board for the template."""

    id: str
    heading: str
    link: str
    subtitle: str
    board: Board
    columns: tuple[Column, ...]
    lines: list[tuple[Row, tuple[Cell, ...], dict[str, dict[str, str]]]]
    families: dict[str, int]
    axes: list[Any]
    picture: str
    charts: dict[str, Any]
    floor: float
    lowest: float
    below: int
    legend: list[str]
    facts: list[tuple[str, str]]
    costs: Costs | None = None


def render_page(
    boards: Sequence[Board], entries: Sequence[Entry] = (), *, costs: Breakdown | None = None
) -> str:
    """Write the page as HTML: every board with its chart, the ledger, and the provenance of the figures.

    The first architecture board of `costs.model` also shows that model's costs by component. The page contains Vega,
    and its content security policy forbids requests to a network.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["cost_title"] = cost_title
    environment.filters["sort_key"] = sort_key
    # Only for our own pictures, scripts and styles.
    environment.filters["raw"] = markupsafe.Markup
    place = next(
        (b for b in boards if costs is not None and b.kind == "architecture" and b.model == costs.model), None
    )
    sections = [_section(board, boards, costs if board is place else None) for board in boards]
    drawn = any(section.charts for section in sections)
    return environment.get_template("page.html.j2").render(
        lead=_lead(boards),
        sections=sections,
        entries=sorted(
            (entry for entry in entries if entry.verdict != "adds up"),
            key=lambda entry: entry.verdict == "noted",
        ),
        tallies=tally(entries),
        version=__version__,
        vega=charts.vega_bundle() if drawn else "",
        script=(TEMPLATES / "page.js").read_text(encoding="utf-8"),
        style=(TEMPLATES / "page.css").read_text(encoding="utf-8"),
        number=number,
        mark=mark,
        family_title=family_title,
    )


def _section(board: Board, boards: Sequence[Board], costs: Breakdown | None = None) -> Section:
    label = board.label or board.title
    alike = [other for other in boards if other.kind == board.kind]
    suffix = f"-{board.name or alike.index(board) + 1}" if len(alike) > 1 else ""
    shown = board_table(board).only(lambda column: column.key != "family")
    axes = charts.drawn_axes(board)
    specifications = {axis.key: charts.specification(board, axis) for axis in axes}
    floor = charts.floor(board)
    return Section(
        id=re.sub(r"[^a-z0-9-]", "-", f"{board.kind}{suffix}"),
        heading=KIND_TITLES[board.kind] + (f": {label}" if suffix else ""),
        link=label if suffix else KIND_TITLES[board.kind],
        subtitle=board.title.removeprefix(f"{label}: ") if suffix else board.title,
        board=board,
        columns=shown.columns,
        lines=[
            (row, line.cells, _fronts(row, board)) for row, line in zip(board.rows, shown.lines, strict=True)
        ],
        families=_families(board),
        axes=axes,
        picture=picture(specifications[axes[0].key]) if axes else "",
        charts=specifications,
        floor=floor,
        lowest=charts.lowest(board),
        below=sum(row.drop is not None and row.drop.mean < floor for row in board.rows),
        legend=[*legend(board, "the chosen cost"), *board.notes],
        facts=_facts(board),
        costs=None if costs is None else _costs(costs),
    )


def _costs(made: Breakdown) -> Costs:
    return Costs(breakdown_table(made), picture(breakdown_chart.specification(made)))


def _fronts(row: Row, board: Board) -> dict[str, dict[str, str]]:
    """Make the text and the sorting value of the front's column for each axis."""
    found = {}
    for axis in board.axes:
        cell = front_cell(row, axis.key)
        on = axis.key in row.fronts and row.fronts[axis.key].on
        found[axis.key] = {"text": cell.text, "value": sort_key(cell), "on": "yes" if on else ""}
    return found


def sort_key(cell: Cell) -> str:
    """Return the text by which the page sorts a cell; an empty string sorts last."""
    return "" if cell.value is None else str(cell.value)


def _families(board: Board) -> dict[str, int]:
    """Count the rows of each family, in the order of the legend, which is also the filter."""
    counts = Counter(row.family for row in board.rows)
    return {name: counts[name] for name in sorted(counts, key=lambda name: (name != "baseline", name))}


def _lead(boards: Sequence[Board]) -> str:
    """Describe the first board in a sentence."""
    if not boards:
        return ""
    board = boards[0]
    count = len(board.rows)
    text = f"{count} {'row' if count == 1 else 'rows'}"
    if board.kind == "measured":
        tasks = ", ".join(task_title(task) for task in board.compared)
        text = f"{count} {'recipe' if count == 1 else 'recipes'} on {board.model}, measured on {tasks}"
    fronts = sum(board.on_front(row) for row in board.rows)
    return text + (f"; {fronts} on the Pareto front" if fronts else "") + "."


def _facts(board: Board) -> list[tuple[str, str]]:
    """List the provenance of a board's figures as terms and descriptions."""
    facts: list[tuple[str, str]] = []
    if board.date:
        facts.append(("Last measured" if board.kind != "published" else "Published", board.date[:10]))
    if board.model:
        facts.append(("Base model", board.model))
    metrics = {task: score.metric for row in board.rows for task, score in row.scores.items() if score.metric}
    if metrics:
        said = (f"{task_title(task)}: {METRIC_TITLES.get(m, m)}" for task, m in metrics.items())
        facts.append(("Metrics, dev split", "; ".join(said)))
    machine = board.hardware
    if machine is not None:
        place = f"{machine.processor}, {machine.cores} cores, {machine.memory_gib} GiB"
        facts.append(("Hardware", place + (f", {machine.accelerator}" if machine.accelerator else "")))
    if board.workload is not None:
        text = f"batch {board.workload.batch}, {board.workload.length} tokens, {board.workload.inputs} inputs"
        facts.append(("Workload", text))
    if board.runtime and board.device:
        facts.append(("Runtime", f"{board.runtime} on {board.device}"))
    if board.versions:
        facts.append(("Versions", ", ".join(f"{name} {version}" for name, version in board.versions.items())))
    for axis, families in board.hypervolume.items():
        title = next((known.title for known in board.axes if known.key == axis), axis)
        said = (f"{family_title(family)} {value:.3f}" for family, value in families.items())
        if families:
            facts.append((f"Hypervolume: {title}", "; ".join(said)))
    if board.hypervolume:
        facts.append(("Hypervolume's reference point", f"{board.hypervolume_reference} (0 to 1)"))
    return facts
