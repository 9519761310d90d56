"""A run: which of a suite's cells are missing or stale, and their execution with progress and time left."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from harness.cells import Cell, ProfileCell, QualityCell
from harness.engines.local import Job, LocalEngine, Message
from harness.errors import SkylineError, unknown_name
from harness.execute import fingerprint
from harness.hardware import hardware
from harness.records import Record
from harness.store import Store

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

ENGINES = ("local",)


@dataclass
class Plan:
    """What a run has to do: `jobs` to run, `fresh` cells whose records stand."""

    jobs: list[Job] = field(default_factory=list)
    fresh: list[Cell] = field(default_factory=list)

    @property
    def trainings(self) -> int:
        """Trainings among the jobs: a stage in which no method trains is none, and a parent's is its own
        cell's.
        """
        from harness.recipe import Recipe

        recipes = [Recipe.parse(job.cell.recipe) for job in self.jobs if isinstance(job.cell, QualityCell)]
        return sum(recipe.is_baseline or recipe.stages[-1].trains for recipe in recipes)


def make_plan(cells: Sequence[Cell], store: Store, data_dir: Path | None) -> Plan:
    """Compare the cells with the store: a record that failed, or whose fingerprint differs, is made again."""
    plan = Plan()
    for cell in cells:
        stamp = fingerprint(cell, data_dir)
        record = store.find(cell)
        if (
            record is not None
            and record.status in ("ok", "skipped")
            and record.provenance.fingerprint == stamp
        ):
            plan.fresh.append(cell)
        else:
            plan.jobs.append(Job(cell, stamp))
    return plan


@dataclass(frozen=True)
class Outcome:
    """What a run did."""

    recorded: list[Record]
    fresh: int

    @property
    def failed(self) -> list[Record]:
        """The records of the cells that gave no figures."""
        return [record for record in self.recorded if record.status in ("failed", "oom")]


def run_cells(
    cells: Sequence[Cell],
    out: Path,
    data_dir: Path | None = None,
    *,
    engine: str = "local",
    workers: int = 1,
    quiet: bool = False,
) -> Outcome:
    """Run what is missing or stale among `cells` and record it under `out`.

    Raises SkylineError for an unknown engine, and where another run holds `out`.
    """
    if engine not in ENGINES:
        raise unknown_name("engine", engine, ENGINES)
    if workers < 1:
        raise SkylineError(f"--workers {workers} is out of range: use at least 1")
    store = Store(out, hardware().id)
    with store.lock():
        plan = make_plan(cells, store, data_dir)
        with Display(plan, quiet) as display:
            local = LocalEngine(
                store,
                data_dir,
                workers,
                started=display.started,
                message=display.message,
                finished=display.finished,
            )
            records = local.run(plan.jobs)
    return Outcome(records, len(plan.fresh))


class Display:
    """Progress on stderr: a bar over all cells with the time left, and one for each training under way.

    It draws only when something is reported. Nothing is reported while a cell is timed, so this process then
    sleeps.
    """

    def __init__(self, plan: Plan, quiet: bool) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self.console = Console(stderr=True, quiet=quiet, highlight=False)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(24),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        self.progress: Progress = Progress(*columns, console=self.console, auto_refresh=False, transient=True)
        self.count = len(plan.jobs)
        self.overall = self.progress.add_task("cells", total=self.count)
        self.bars: dict[str, TaskID] = {}
        self.drawn = 0.0
        if plan.fresh:
            self.console.print(f"{len(plan.fresh)} cells are recorded and up to date", markup=False)

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
            self.bars[cell.key] = self.progress.add_task(_name(cell), total=None)
        self.progress.refresh()

    def message(self, cell: Cell, message: Message) -> None:
        """A training reports (stage, step, steps, loss); drawn twice a second at most."""
        stage, step, steps, loss = message
        if cell.key in self.bars:
            self.progress.update(
                self.bars[cell.key],
                completed=step,
                total=steps,
                description=f"{_name(cell)}, stage '{stage}', loss {loss:.3f}",
            )
        if time.monotonic() - self.drawn > 0.5:
            self.drawn = time.monotonic()
            self.progress.refresh()

    def finished(self, cell: Cell, record: Record) -> None:
        """A cell is recorded."""
        if cell.key in self.bars:
            self.progress.remove_task(self.bars.pop(cell.key))
        self.progress.advance(self.overall)
        self.console.print(f"{_name(cell)}: {_result(record)}", markup=False, soft_wrap=True)
        self.progress.refresh()


def _name(cell: Cell) -> str:
    if isinstance(cell, QualityCell):
        return f"{cell.recipe} on {cell.task}, seed {cell.seed}"
    return f"profile of {cell.recipe} ({cell.task or 'untrained'}) at {cell.workload}"


def _result(record: Record) -> str:
    if record.quality is not None:
        return ", ".join(f"{name} {value:.2f}" for name, value in record.quality.scores.items())
    if record.profile is not None and record.profile.latency is not None:
        latency = record.profile.latency
        speedup = "no verdict" if latency.speedup is None else f"{latency.speedup:.2f} × the baseline's speed"
        return f"{latency.median_ms:.1f} ms, {speedup}"
    return f"{record.status}: {record.reason}"
