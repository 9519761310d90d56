"""The local engine: each cell in a process of its own on this machine; trainings side by side, measurements
alone.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import partial
from graphlib import TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING

from harness.common.errors import SkylineError, Unsupported
from harness.common.lazy import lazy_imports
from harness.common.processes import CellTimeout, ChildDied, ChildRaised, run_isolated
from harness.recipes.recipe import Recipe
from harness.records.cells import Cell, ProfileCell, QualityCell
from harness.records.schema import Record, Status, parse_record
from harness.records.store import Store
from harness.runs.cell_execution import execute_quality
from harness.runs.prebuilding import build_ahead, untrained_artifacts
from harness.runs.profile_run import ProfileRun, execute_profile
from harness.runs.record_making import make_record

with lazy_imports():
    from harness.profiling.latency import sittings as latency_sittings


if TYPE_CHECKING:
    from harness.profiling.latency.paired import Speed
from harness.runs.job import Job

BUILDS_ON = "it builds on"
"""How the reason begins of what is skipped since something else failed."""

Message = tuple[str, int, int, float]
"""(stage, step, steps, loss) of a training cell."""


@dataclass
class LocalEngine:
    """Runs jobs and writes their records. `workers` trainings run side by side, each with its share of the
    cores; so many untrained artifacts are built at once, before the first is timed.
    """

    store: Store
    data_dir: Path | None
    workers: int = 1
    sittings: int = 1
    """In how many parts the pairs of a profile are timed, one part of every profile after the other (see
    `harness.profiling.latency.sittings`).
    """
    further_s: float = 0.0
    """Seconds for further sittings of the profiles whose interval is still wide before their last one."""
    started: Callable[[Cell], None] = lambda cell: None
    message: Callable[[Cell, Message], None] = lambda cell, message: None
    building: Callable[[int], None] = lambda count: None
    """Is given the number of artifacts before several are built at once."""
    finished: Callable[[Cell, Record], None] = lambda cell, record: None
    timed: Callable[[ProfileCell, Speed], None] = lambda cell, speed: None
    """Is given the paired run of a profile cell, with its single passes, before its record."""
    _failed: dict[str, str] = field(default_factory=dict, init=False)
    """Why the quality cells of this run that failed did so, by key."""

    def run(self, jobs: Iterable[Job]) -> list[Record]:
        """Run all jobs, parents first, then the measurements one by one. An interrupt leaves what is
        recorded.

        What is built on an artifact whose own cell failed in this run, or what a runtime cannot run, is not tried: it
        is recorded as skipped.
        """
        jobs = list(jobs)
        self._failed.clear()
        trainings = [job for job in jobs if isinstance(job.cell, QualityCell)]
        records = self._train(trainings)
        with ProfileRun(self.store.workspace) as run:
            self._build_ahead(jobs, run)
            for _ in range(self.sittings - 1):
                self._sit(jobs, run)
            self._sit_further(jobs, run)
            for job in jobs:
                if isinstance(job.cell, ProfileCell):
                    records.append(self._keep(job, self._skipped(job) or self._profile(job, job.cell, run)))
        return records

    def _build_ahead(self, jobs: list[Job], run: ProfileRun) -> None:
        cells = [job.cell for job in jobs if job.unsupported is None]
        wanted = untrained_artifacts(cells)
        # One by one, they are as well built in their own cells.
        if self.workers > 1 and len(wanted) > 1:
            self.building(len(wanted))
            build_ahead(cells, run, self.workers, self.data_dir)

    def _sit(self, jobs: list[Job], run: ProfileRun) -> None:
        for job in jobs:
            if isinstance(job.cell, ProfileCell) and self._skipped(job) is None:
                self.started(job.cell)
                run.sit(job.cell, self.data_dir, self._threads, 1 / self.sittings)

    def _sit_further(self, jobs: list[Job], run: ProfileRun) -> None:
        """In rounds, so that a profile's pairs stay minutes apart, and the widest intervals first, for whom the last
        round may be too short.
        """
        ends = time.monotonic() + self.further_s
        while time.monotonic() < ends:
            widths = [run.half_width(job.cell) if isinstance(job.cell, ProfileCell) else 0.0 for job in jobs]
            widest_first = sorted(zip(widths, jobs, strict=True), key=lambda each: -each[0])
            wide = [job for width, job in widest_first if width > latency_sittings.WIDE]
            if not wide:
                break
            for job in wide:
                if time.monotonic() < ends:
                    self._sit([job], run)

    def _train(self, jobs: list[Job]) -> list[Record]:
        by_key = {job.cell.key: job for job in jobs}
        graph = {job.cell.key: {key for key in built_on(job.cell) if key in by_key} for job in jobs}
        first: dict[str, str] = {}
        for job in jobs:
            # Cells of one artifact, as the baseline of two budgets for recipes: side by side, both would train it.
            if (trains := first.setdefault(job.fingerprint, job.cell.key)) != job.cell.key:
                graph[job.cell.key].add(trains)
        order = TopologicalSorter(graph)
        order.prepare()
        records: list[Record] = []
        pool = ThreadPoolExecutor(self.workers)
        running: dict[Future[Record], Job] = {}
        try:
            while order.is_active():
                for key in order.get_ready():
                    running[pool.submit(self._quality, by_key[key])] = by_key[key]
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    job = running.pop(future)
                    records.append(self._keep(job, future.result()))
                    order.done(job.cell.key)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
        return records

    def _keep(self, job: Job, record: Record) -> Record:
        if record.kind == "quality" and record.status in ("failed", "oom"):
            ended = "ran out of memory" if record.status == "oom" else "failed"
            self._failed[job.cell.key] = f"{BUILDS_ON} '{record.recipe}', which {ended}: {record.reason}"
        self.store.put(job.cell, record)
        self.finished(job.cell, record)
        return record

    def _skipped(self, job: Job) -> Record | None:
        """The record of a cell that builds on a failed one or has no runtime for it; None where it can be run."""
        failed = (self._failed[key] for key in built_on(job.cell) if key in self._failed)
        reason = job.unsupported or next(failed, None)
        return (
            None if reason is None else make_record(job.cell, job.fingerprint, time.time(), "skipped", reason)
        )

    def _quality(self, job: Job) -> Record:
        if (skipped := self._skipped(job)) is not None:
            return skipped
        self.started(job.cell)
        data_dir = None if self.data_dir is None else str(self.data_dir)

        def work() -> Record:
            text = run_isolated(
                execute_quality,
                job.cell.model_dump_json(),
                str(self.store.workspace),
                data_dir,
                job.fingerprint,
                self._threads,
                on_message=lambda message: self.message(job.cell, message),
            )
            return parse_record(text, "the cell's process")

        return self._guard(job, work)

    def _profile(self, job: Job, cell: ProfileCell, run: ProfileRun) -> Record:
        self.started(cell)
        return self._guard(
            job,
            lambda: execute_profile(
                cell,
                self.store.workspace,
                self.data_dir,
                job.fingerprint,
                self._threads,
                partial(self.timed, cell),
                run,
                1 / self.sittings,
            ),
        )

    @property
    def _threads(self) -> int:
        """Of each training: its share of the cores. Sums are rounded by it, so an artifact that has to be trained
        again for its profile comes out bit-equal only with as many.
        """
        return max(1, len(os.sched_getaffinity(0)) // self.workers)

    def _guard(self, job: Job, work: Callable[[], Record]) -> Record:
        started = time.time()
        try:
            return work()
        except SkylineError as error:
            ended: Status = "skipped" if isinstance(error, Unsupported) else "failed"
            return make_record(job.cell, job.fingerprint, started, ended, str(error))
        except (ChildDied, ChildRaised) as error:
            status: Status = "oom" if error.out_of_memory else "failed"
            return make_record(job.cell, job.fingerprint, started, status, str(error))
        except CellTimeout as error:
            return make_record(job.cell, job.fingerprint, started, "failed", str(error))


def built_on(cell: Cell) -> list[str]:
    """Keys of the quality cells whose artifacts this one builds on, or measures, the nearest first."""
    if cell.task is None or cell.budget is None:
        return []
    recipe = Recipe.parse(cell.recipe)
    chain = [] if isinstance(cell, QualityCell) else [recipe]
    while (parent := recipe.parent) is not None:
        chain.append(parent)
        recipe = parent
    same = {name: getattr(cell, name) for name in QualityCell.model_fields if name != "recipe"}
    return [QualityCell(recipe=str(each), **same).key for each in chain]
