"""A run: the execution of what is missing or stale among cells, with progress and time left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.records.cells import Cell
from harness.records.schema import Record, Status
from harness.records.store import Store
from harness.runs.engines.base import BUILDS_ON, Engine
from harness.runs.engines.local import LocalEngine
from harness.runs.planning import check_engine, make_plan, resolve_cells
from harness.runs.progress import Display


@dataclass(frozen=True)
class Outcome:
    """What a run did: the records that it wrote, and the records that were up to date before."""

    records: list[Record]
    fresh: list[Record]

    @property
    def recorded(self) -> list[Record]:
        """The records of the cells that gave figures."""
        return self._with("ok")

    @property
    def failed(self) -> list[Record]:
        """Those of the cells that gave none."""
        return self._with("failed", "oom")

    @property
    def skipped(self) -> list[Record]:
        """Those of the cells that were not tried: what they build on failed, or their runtime cannot run them."""
        return self._with("skipped")

    @property
    def unsupported(self) -> list[Record]:
        """Of the skipped ones, those that their runtime cannot run."""
        return [record for record in self.skipped if not record.reason.startswith(BUILDS_ON)]

    def _with(self, *statuses: Status) -> list[Record]:
        return [record for record in self.records if record.status in statuses]


def run_cells(
    cells: Sequence[Cell],
    out: Path,
    data_dir: Path | None = None,
    *,
    engine: str = "local",
    workers: int = 1,
    sittings: int = 1,
    further_s: float = 0.0,
    quiet: bool = False,
) -> Outcome:
    """Run what is missing or stale among `cells` and record it under `out`; profiles in so many `sittings`.

    `further_s` seconds more go to sittings of profiles whose intervals are wide then, those recorded without a verdict
    among them.

    Raises SkylineError before anything is run for an unknown engine and for cells that cannot run (see
    `planning.resolve_cells`), and where another run holds `out`.
    """
    check_engine(engine, workers)
    jobs = resolve_cells(cells, data_dir)
    store = Store(out)
    with store.lock():
        plan = make_plan(jobs, store, want_verdicts=further_s > 0)
        with Display(plan, quiet) as display:
            chosen: Engine = LocalEngine(store, data_dir, workers, sittings, further_s, display.listener)
            records = chosen.run(plan.jobs)
    return Outcome(records, plan.fresh)
