"""The local engine: each cell in a process of its own on this machine; trainings side by side, measurements
alone.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path

from harness.cells import Cell, ProfileCell, QualityCell
from harness.errors import SkylineError
from harness.execute import execute_profile, execute_quality, make_record
from harness.isolation import CellTimeout, ChildDied, ChildRaised, run_isolated
from harness.recipe import Recipe
from harness.records import Record, Status, parse_record
from harness.store import Store

Message = tuple[str, int, int, float]
"""(stage, step, steps, loss) of a training cell."""


@dataclass(frozen=True)
class Job:
    """A cell to run, and the fingerprint that its record will carry."""

    cell: Cell
    fingerprint: str


@dataclass
class LocalEngine:
    """Runs jobs and writes their records. `workers` trainings run side by side, each with its share of the
    cores.
    """

    store: Store
    data_dir: Path | None
    workers: int = 1
    started: Callable[[Cell], None] = lambda cell: None
    message: Callable[[Cell, Message], None] = lambda cell, message: None
    finished: Callable[[Cell, Record], None] = lambda cell, record: None

    def run(self, jobs: Iterable[Job]) -> list[Record]:
        """Run all jobs, parents first, then the measurements one by one. An interrupt leaves what is
        recorded.
        """
        jobs = list(jobs)
        trainings = [job for job in jobs if isinstance(job.cell, QualityCell)]
        records = self._train(trainings)
        for job in jobs:
            if isinstance(job.cell, ProfileCell):
                self.started(job.cell)
                records.append(self._keep(job, self._profile(job, job.cell)))
        return records

    def _train(self, jobs: list[Job]) -> list[Record]:
        by_key = {job.cell.key: job for job in jobs}
        graph = {job.cell.key: {key for key in _parents(job.cell) if key in by_key} for job in jobs}
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
        self.store.put(job.cell, record)
        self.finished(job.cell, record)
        return record

    def _quality(self, job: Job) -> Record:
        self.started(job.cell)
        threads = max(1, len(os.sched_getaffinity(0)) // self.workers)
        data_dir = None if self.data_dir is None else str(self.data_dir)

        def work() -> Record:
            text = run_isolated(
                execute_quality,
                job.cell.model_dump_json(),
                str(self.store.workspace),
                data_dir,
                job.fingerprint,
                threads,
                on_message=lambda message: self.message(job.cell, message),
            )
            return parse_record(text, "the cell's process")

        return self._guard(job, work)

    def _profile(self, job: Job, cell: ProfileCell) -> Record:
        return self._guard(
            job, lambda: execute_profile(cell, self.store.workspace, self.data_dir, job.fingerprint)
        )

    def _guard(self, job: Job, work: Callable[[], Record]) -> Record:
        started = time.time()
        try:
            return work()
        except SkylineError as error:
            return make_record(job.cell, job.fingerprint, started, "failed", str(error))
        except (ChildDied, ChildRaised) as error:
            status: Status = "oom" if error.out_of_memory else "failed"
            return make_record(job.cell, job.fingerprint, started, status, str(error))
        except CellTimeout as error:
            return make_record(job.cell, job.fingerprint, started, "failed", str(error))


def _parents(cell: Cell) -> list[str]:
    """Keys of the quality cells whose artifacts this one builds on."""
    assert isinstance(cell, QualityCell)
    keys = []
    recipe = Recipe.parse(cell.recipe)
    while (parent := recipe.parent) is not None:
        keys.append(cell.model_copy(update={"recipe": str(parent)}).key)
        recipe = parent
    return keys
