"""Show the progress of a run on stderr, and describe cells and their results in words."""

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
    """Progress bars on stderr: one for all cells with the time left, and one for each running training.

    It draws only when an engine reports something. While a cell is timed, engines report nothing, so this process
    sleeps and does not disturb the timing.
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
            # Without a terminal there are no bars, and rich would end with a blank line.
            disable=not self.console.is_interactive,
        )
        self.overall = self.progress.add_task("cells", total=len(plan.jobs))
        self.bars: dict[str, TaskID] = {}
        self.drawn = 0.0
        if plan.fresh:
            self.console.print(f"{len(plan.fresh)} cells are recorded and up to date", markup=False)

    @property
    def listener(self) -> Listener:
        """The listener that passes an engine's reports to this display."""
        return Listener(self.started, self.message, self.building, self.finished)

    def __enter__(self) -> Display:
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def started(self, cell: Cell) -> None:
        """Show that a cell begins."""
        if isinstance(cell, ProfileCell):
            self.progress.update(self.overall, description=f"cells, now timing {cell.recipe}")
        else:
            self.bars[cell.key] = self.progress.add_task(cell_name(cell), total=None)
        self.progress.refresh()

    def message(self, cell: Cell, message: Message) -> None:
        """Show the progress of a training. The bars are drawn at most twice per second."""
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
        """Say that `count` artifacts are built in parallel, unless they exist already."""
        self.console.print(
            f"building the missing ones of {count} artifacts before any is timed", markup=False
        )

    def finished(self, cell: Cell, record: Record) -> None:
        """Print the result of a recorded cell."""
        if cell.key in self.bars:
            self.progress.remove_task(self.bars.pop(cell.key))
        self.progress.advance(self.overall)
        self.console.print(f"{cell_name(cell)}: {_result(record)}", markup=False, soft_wrap=True)
        self.progress.refresh()


def cell_name(cell: Cell) -> str:
    """Describe a cell in words: recipe, task, seed or workload, and the runtime if it is not `eager`."""
    if isinstance(cell, QualityCell):
        return f"{cell.recipe} on {cell.task}, seed {cell.seed}"
    runtime = executed_by(cell.runtime, cell.precision)
    under = "" if runtime == "eager" else f" under {runtime}"
    return f"profile of {cell.recipe} ({cell.task or 'untrained'}) at {cell.workload}{under}"


def _result(record: Record) -> str:
    """Return the scores or the latency of a record, or the reason why it has none."""
    if record.quality is not None:
        return ", ".join(f"{name} {value:.2f}" for name, value in record.quality.scores.items())
    if record.profile is not None and record.profile.latency is not None:
        latency = record.profile.latency
        speedup = "no verdict" if latency.speedup is None else f"{latency.speedup:.2f} × the baseline's speed"
        return f"{latency.median_ms:.1f} ms, {speedup}"
    # The reason of a failed parent was printed with the parent.
    orphan = record.status == "skipped" and record.reason.startswith(BUILDS_ON)
    return "skipped, because a cell that it builds on failed" if orphan else describe_failure(record)


def record_name(record: Record) -> str:
    """Describe the cell of a record in words (see `cell_name`)."""
    kind = QualityCell if record.kind == "quality" else ProfileCell
    return cell_name(kind.model_validate(record.cell))


def describe_failure(record: Record) -> str:
    """Return status and reason of a cell that was not measured, in one line."""
    return f"{record.status}: {' '.join(record.reason.split())}"
