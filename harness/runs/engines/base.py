"""The interface of engines. An engine runs jobs, writes their records and reports progress to a listener."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from harness.profiling.latency.paired import Speed
    from harness.records.cells import Cell
    from harness.records.schema import Record
    from harness.runs.job import Job

BUILDS_ON = "it builds on"
"""A record's reason begins with these words if the job was skipped because a job before it failed."""

Message = tuple[str, int, int, float]
"""Progress of a training: (stage, step, steps, loss)."""


@dataclass(frozen=True)
class Listener:
    """Functions that an engine calls during a run."""

    started: Callable[[Cell], None] = lambda cell: None
    message: Callable[[Cell, Message], None] = lambda cell, message: None
    """Called after some steps of a training."""
    building: Callable[[int], None] = lambda count: None
    """Called before several artifacts are built in parallel, with their number."""
    finished: Callable[[Cell, Record], None] = lambda cell, record: None
    """Called after the cell's record was written."""
    timed: Callable[[Cell, Speed], None] = lambda cell, speed: None
    """Called after the paired timing of a profile, before its record is made. `speed` has the single passes."""


class Engine(Protocol):
    """Runs jobs, on this machine or elsewhere."""

    def run(self, jobs: Iterable[Job]) -> list[Record]:
        """Run all jobs, parents first, and return their records. Each record is written as soon as its job ends, so
        an interrupt loses only the jobs that are running.

        A job is recorded as skipped if its runtime does not support it, or if a job that it builds on failed.
        """
        ...
