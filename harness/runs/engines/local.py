"""The local engine runs each cell in a child process on this machine. Trainings run in parallel, profiles alone."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING

from harness.common.errors import SkylineError, Unsupported
from harness.common.lazy import lazy_imports
from harness.common.processes import IsolationError, run_isolated
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


ROUND = 4
"""Trainings of each worker between two rounds of profiles."""


@dataclass
class LocalEngine:
    """Runs jobs and writes their records."""

    store: Store
    data_dir: Path | None
    workers: int = 1
    """Trainings that run in parallel, each with its share of the cores. Before the first profile is timed, untrained
    artifacts are built with the same number of workers.
    """
    sittings: int = 1
    """Parts of each profile's timing. One part of every profile is timed before the next part of any (see
    `harness.profiling.latency.sittings`).
    """
    further_s: float = 0.0
    """Seconds for further sittings of profiles whose interval is still wide. They come before each profile's last part.
    """
    listener: Listener = field(default_factory=Listener)
    _failed: dict[str, str] = field(default_factory=dict, init=False)
    """Reasons why trainings of this run failed, by the fingerprint of the artifact."""

    def run(self, jobs: Iterable[Job]) -> list[Record]:
        """Run trainings in rounds, and after each round the profiles of its artifacts, one by one; at last all other
        profiles (see `Engine.run`).
        """
        jobs = list(jobs)
        profiles = [job for job in jobs if isinstance(job.cell, ProfileCell)]
        self._failed.clear()
        records: list[Record] = []
        with ProfileRun(self.store.workspace, self.data_dir) as run:
            for trained in self._rounds([job for job in jobs if isinstance(job.cell, QualityCell)]):
                records += self._train(trained)
                done = {job.lineage[0].fingerprint for job in trained}
                own = [job for job in profiles if job.lineage[0].fingerprint in done]
                records += [self._keep(job, self._skipped(job) or self._profile(job, run)) for job in own]
                profiles = [job for job in profiles if job not in own]
            self._build_ahead(profiles, run)
            for _ in range(self.sittings - 1):
                self._sit(profiles, run)
            self._sit_further(profiles, run)
            records += [self._keep(job, self._skipped(job) or self._profile(job, run)) for job in profiles]
        return records

    def _rounds(self, jobs: list[Job]) -> Iterator[list[Job]]:
        """Split trainings into rounds. A run that is stopped has lost at most one round of unprofiled artifacts."""
        size = ROUND * self.workers
        for start in range(0, len(jobs), size):
            yield jobs[start : start + size]

    def _build_ahead(self, profiles: Sequence[Job], run: ProfileRun) -> None:
        cells = [job.cell for job in profiles if job.unsupported is None]
        wanted = untrained_artifacts(cells)
        # Building one after the other would save no time: each cell can build its own artifact.
        if self.workers > 1 and len(wanted) > 1:
            self.listener.building(len(wanted))
            build_ahead(cells, run, self.workers)

    def _sit(self, profiles: Sequence[Job], run: ProfileRun) -> None:
        for job in profiles:
            if self._skipped(job) is None:
                self.listener.started(job.cell)
                run.sit(job, self._threads, 1 / self.sittings)

    def _sit_further(self, profiles: Sequence[Job], run: ProfileRun) -> None:
        """Take further sittings of profiles with wide intervals until the time is over.

        They are taken in rounds, so that the pairs of one profile stay minutes apart. Each round begins with the widest
        intervals, because the last round may be cut short.
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
            # Two cells can share an artifact (a baseline, if only the recipe's budget differs). In parallel, both would
            # train it, so the second waits for the first.
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
        """Return a record if a job cannot run: its runtime does not support it, or a parent failed. Else None."""
        failed = (
            self._failed[each.fingerprint] for each in built_on(job) if each.fingerprint in self._failed
        )
        reason = job.unsupported or next(failed, None)
        return None if reason is None else _unmeasured(job, time.time(), "skipped", reason)

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
        """Threads of each training: its share of the cores.

        They change how sums are rounded. An artifact that is trained again for its profile is bit-equal only with the
        same number of threads.
        """
        return max(1, len(os.sched_getaffinity(0)) // self.workers)


def _guarded(job: Job, work: Callable[[], Record]) -> Record:
    """Return the record that `work` makes, or, if it raises, a record with the reason."""
    started = time.time()
    status: Status
    try:
        return work()
    except (SkylineError, IsolationError) as error:
        if isinstance(error, Unsupported):
            status = "skipped"
        else:
            status = "oom" if getattr(error, "out_of_memory", False) else "failed"
        return _unmeasured(job, started, status, str(error))


def _unmeasured(job: Job, started: float, status: Status, reason: str) -> Record:
    return make_record(job.cell, job.recipe, job.fingerprint, job.hardware, started, status, reason)


def built_on(job: Job) -> tuple[Build, ...]:
    """Return the trained artifacts that a job needs, the nearest parent first.

    A quality cell needs its artifact's parents. A profile needs also the artifact itself.
    """
    if not job.trained:
        return ()
    return job.lineage[1:] if isinstance(job.cell, QualityCell) else job.lineage
