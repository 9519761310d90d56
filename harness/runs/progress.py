"""Progress of a run on stderr, and cells and results in words."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from harness.common.lazy import lazy_imports
from harness.records.cells import Cell, ProfileCell, QualityCell
from harness.records.schema import Record, executed_by
from harness.runs.engines.base import BUILDS_ON, Listener, Message
from harness.runs.planning import Plan

with lazy_imports():
    import rich.console
    import rich.progress


if TYPE_CHECKING:
    from rich.progress import TaskID


class Display:
    """Progress on stderr: a bar over all cells with the time left, and one for each training under way.

    It draws only when something is reported. Nothing is reported while a cell is timed, so this process then
    sleeps.
    """

    def __init__(self, plan: Plan, quiet: bool) -> None:
        self.console = rich.console.Console(stderr=True, quiet=quiet, highlight=False, emoji=False)
        columns = (
            rich.progress.TextColumn("{task.description}"),
            rich.progress.BarColumn(24),
            rich.progress.MofNCompleteColumn(),
            rich.progress.TimeRemainingColumn(),
        )
        self.progress: rich.progress.Progress = rich.progress.Progress(
            *columns,
            console=self.console,
            auto_refresh=False,
            transient=True,
            # Off a terminal no bar can be drawn, and rich would end with a blank line.
            disable=not self.console.is_interactive,
        )
        self.count = len(plan.jobs)
        self.overall = self.progress.add_task("cells", total=self.count)
        self.bars: dict[str, TaskID] = {}
        self.drawn = 0.0
        if plan.fresh:
            self.console.print(f"{len(plan.fresh)} cells are recorded and up to date", markup=False)

    @property
    def listener(self) -> Listener:
        """What an engine tells this display."""
        return Listener(self.started, self.message, self.building, self.finished)

    def __enter__(self) -> Display:
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def started(self, cell: Cell) -> None:
        """A cell begins."""
        if isinstance(cell, ProfileCell):
            self.progress.update(self.overall, description=f"cells, now timing {cell.recipe}")
        else:
            self.bars[cell.key] = self.progress.add_task(cell_name(cell), total=None)
        self.progress.refresh()

    def message(self, cell: Cell, message: Message) -> None:
        """A training reports (stage, step, steps, loss); drawn twice a second at most."""
        stage, step, steps, loss = message
        if cell.key in self.bars:
            self.progress.update(
                self.bars[cell.key],
                completed=step,
                total=steps,
                description=f"{cell_name(cell)}, stage '{stage}', loss {loss:.3f}",
            )
        if time.monotonic() - self.drawn > 0.5:
            self.drawn = time.monotonic()
            self.progress.refresh()

    def building(self, count: int) -> None:
        """Several artifacts are built at once, or found to be whole."""
        self.console.print(
            f"building what is missing of {count} artifacts, before anything is timed", markup=False
        )

    def finished(self, cell: Cell, record: Record) -> None:
        """A cell is recorded."""
        if cell.key in self.bars:
            self.progress.remove_task(self.bars.pop(cell.key))
        self.progress.advance(self.overall)
        self.console.print(f"{cell_name(cell)}: {_result(record)}", markup=False, soft_wrap=True)
        self.progress.refresh()


def cell_name(cell: Cell) -> str:
    """A cell in words."""
    if isinstance(cell, QualityCell):
        return f"{cell.recipe} on {cell.task}, seed {cell.seed}"
    return f"profile of {cell.recipe} ({cell.task or 'untrained'}) at {cell.workload}{_way(cell)}"


def _way(cell: ProfileCell) -> str:
    """How a cell is executed, where that is not the usual way."""
    way = executed_by(cell.runtime, cell.precision)
    return "" if way == "eager" else f" under {way}"


def _result(record: Record) -> str:
    if record.quality is not None:
        return ", ".join(f"{name} {value:.2f}" for name, value in record.quality.scores.items())
    if record.profile is not None and record.profile.latency is not None:
        latency = record.profile.latency
        speedup = "no verdict" if latency.speedup is None else f"{latency.speedup:.2f} × the baseline's speed"
        return f"{latency.median_ms:.1f} ms, {speedup}"
    # Where what it builds on failed, the reason is that cell's, and was printed with it.
    waits = record.status == "skipped" and record.reason.startswith(BUILDS_ON)
    return "skipped, since what it builds on failed" if waits else describe_failure(record)


def record_name(record: Record) -> str:
    """The cell of a record in words."""
    kind = QualityCell if record.kind == "quality" else ProfileCell
    return cell_name(kind.model_validate(record.cell))


def describe_failure(record: Record) -> str:
    """Why a cell gave no figures."""
    return f"{record.status}: {' '.join(record.reason.split())}"
