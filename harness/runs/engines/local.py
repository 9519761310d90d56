"""The local engine: each cell in a process of its own on this machine; trainings side by side, measurements
alone.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING

from harness.common.errors import SkylineError, Unsupported
from harness.common.lazy import lazy_imports
from harness.common.processes import CellTimeout, ChildDied, ChildRaised, run_isolated
from harness.records.cells import ProfileCell, QualityCell
from harness.records.schema import Record, Status, parse_record
from harness.records.store import Store
from harness.runs.cell_execution import execute_quality
from harness.runs.engines.base import BUILDS_ON, Listener
from harness.runs.job import Build, Job
from harness.runs.prebuilding import build_ahead, untrained_artifacts
from harness.runs.profile_run import ProfileRun, execute_profile
from harness.runs.record_making import make_record

with lazy_imports():
    from harness.profiling.latency import sittings as latency_sittings

if TYPE_CHECKING:
    from harness.profiling.latency.paired import Speed


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
    listener: Listener = field(default_factory=Listener)
    _failed: dict[str, str] = field(default_factory=dict, init=False)
    """Why trainings of this run failed, by the artifact's fingerprint."""

    def run(self, jobs: Iterable[Job]) -> list[Record]:
        """See `Engine.run`: all trainings, then the measurements one by one."""
        jobs = list(jobs)
        profiles = [job for job in jobs if isinstance(job.cell, ProfileCell)]
        self._failed.clear()
        records = self._train([job for job in jobs if isinstance(job.cell, QualityCell)])
        with ProfileRun(self.store.workspace, self.data_dir) as run:
            self._build_ahead(profiles, run)
            for _ in range(self.sittings - 1):
                self._sit(profiles, run)
            self._sit_further(profiles, run)
            records += [self._keep(job, self._skipped(job) or self._profile(job, run)) for job in profiles]
        return records

    def _build_ahead(self, profiles: Sequence[Job], run: ProfileRun) -> None:
        cells = [job.cell for job in profiles if job.unsupported is None]
        wanted = untrained_artifacts(cells)
        # One by one, they are as well built in their own cells.
        if self.workers > 1 and len(wanted) > 1:
            self.listener.building(len(wanted))
            build_ahead(cells, run, self.workers)

    def _sit(self, profiles: Sequence[Job], run: ProfileRun) -> None:
        for job in profiles:
            if self._skipped(job) is None:
                self.listener.started(job.cell)
                run.sit(job, self._threads, 1 / self.sittings)

    def _sit_further(self, profiles: Sequence[Job], run: ProfileRun) -> None:
        """In rounds, so that a profile's pairs stay minutes apart, and the widest intervals first, for whom the last
        round may be too short.
        """
        ends = time.monotonic() + self.further_s
        while time.monotonic() < ends:
            widths = [run.half_width(job) for job in profiles]
            widest_first = sorted(zip(widths, profiles, strict=True), key=lambda each: -each[0])
            wide = [job for width, job in widest_first if width > latency_sittings.WIDE]
            if not wide:
                break
            for job in wide:
                if time.monotonic() < ends:
                    self._sit([job], run)

    def _train(self, jobs: list[Job]) -> list[Record]:
        by_artifact: dict[str, list[int]] = {}
        for place, job in enumerate(jobs):
            by_artifact.setdefault(job.lineage[0].fingerprint, []).append(place)
        graph: dict[int, set[int]] = {}
        for place, job in enumerate(jobs):
            # Cells of one artifact, as the baseline of two budgets for recipes: side by side, both would train it.
            first = by_artifact[job.lineage[0].fingerprint][0]
            graph[place] = {first} - {place}
            graph[place] |= {
                other for build in built_on(job) for other in by_artifact.get(build.fingerprint, ())
            }
        order = TopologicalSorter(graph)
        order.prepare()
        records: list[Record] = []
        pool = ThreadPoolExecutor(self.workers)
        running: dict[Future[Record], int] = {}
        try:
            while order.is_active():
                for place in order.get_ready():
                    running[pool.submit(self._quality, jobs[place])] = place
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    place = running.pop(future)
                    records.append(self._keep(jobs[place], future.result()))
                    order.done(place)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
        return records

    def _keep(self, job: Job, record: Record) -> Record:
        if record.kind == "quality" and record.status in ("failed", "oom"):
            ended = "ran out of memory" if record.status == "oom" else "failed"
            self._failed[job.lineage[0].fingerprint] = (
                f"{BUILDS_ON} '{record.recipe}', which {ended}: {record.reason}"
            )
        elif record.kind == "quality":
            self._failed.pop(job.lineage[0].fingerprint, None)
        self.store.put(job.cell, record)
        self.listener.finished(job.cell, record)
        return record

    def _skipped(self, job: Job) -> Record | None:
        """The record of a job that builds on a failed one or has no runtime for it; None if it can be run."""
        failed = (
            self._failed[each.fingerprint] for each in built_on(job) if each.fingerprint in self._failed
        )
        reason = job.unsupported or next(failed, None)
        return None if reason is None else _without_figures(job, time.time(), "skipped", reason)

    def _quality(self, job: Job) -> Record:
        if (skipped := self._skipped(job)) is not None:
            return skipped
        self.listener.started(job.cell)

        def work() -> Record:
            text = run_isolated(
                execute_quality,
                job.cell,
                self.store.workspace,
                self.data_dir,
                job.fingerprint,
                job.hardware,
                self._threads,
                on_message=lambda message: self.listener.message(job.cell, message),
            )
            return parse_record(text, "the cell's process")

        return _guarded(job, work)

    def _profile(self, job: Job, run: ProfileRun) -> Record:
        self.listener.started(job.cell)

        def timed(speed: Speed) -> None:
            self.listener.timed(job.cell, speed)

        return _guarded(job, lambda: execute_profile(job, run, self._threads, timed, 1 / self.sittings))

    @property
    def _threads(self) -> int:
        """Of each training: its share of the cores. Sums are rounded by it, so an artifact that has to be trained
        again for its profile comes out bit-equal only with as many.
        """
        return max(1, len(os.sched_getaffinity(0)) // self.workers)


def _guarded(job: Job, work: Callable[[], Record]) -> Record:
    """The record that `work` makes, or one that says why it made none."""
    started = time.time()
    try:
        return work()
    except SkylineError as error:
        return _without_figures(
            job, started, "skipped" if isinstance(error, Unsupported) else "failed", str(error)
        )
    except CellTimeout as error:
        return _without_figures(job, started, "failed", str(error))
    except (ChildDied, ChildRaised) as error:
        return _without_figures(job, started, "oom" if error.out_of_memory else "failed", str(error))


def _without_figures(job: Job, started: float, status: Status, reason: str) -> Record:
    return make_record(job.cell, job.recipe, job.fingerprint, job.hardware, started, status, reason)


def built_on(job: Job) -> tuple[Build, ...]:
    """The trained artifacts that a score's own is built on, or that a profile measures, the nearest first."""
    if not job.trained:
        return ()
    return job.lineage[1:] if isinstance(job.cell, QualityCell) else job.lineage
