"""What every engine is: it runs jobs, writes their records and says how far it is."""

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
"""The beginning of a record's reason if the job was skipped because another one failed."""

Message = tuple[str, int, int, float]
"""(stage, step, steps, loss) of a training."""


@dataclass(frozen=True)
class Listener:
    """Functions that an engine calls during a run."""

    started: Callable[[Cell], None] = lambda cell: None
    message: Callable[[Cell, Message], None] = lambda cell, message: None
    """A training has done some steps."""
    building: Callable[[int], None] = lambda count: None
    """Several artifacts are about to be built at once."""
    finished: Callable[[Cell, Record], None] = lambda cell, record: None
    timed: Callable[[Cell, Speed], None] = lambda cell, speed: None
    """A profile's paired run, with its single passes, is done; its record follows."""


class Engine(Protocol):
    """Runs jobs somewhere."""

    def run(self, jobs: Iterable[Job]) -> list[Record]:
        """Run all jobs, parents first, and write their records. An interrupt leaves what is recorded.

        A job is recorded as skipped if its runtime is not made for it, or if what it builds on failed in this run.
        """
        ...
