"""Run the cells whose records are missing or stale, and show progress."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.records.cells import Cell
from harness.records.schema import Record, Status
from harness.records.store import Store
from harness.runs.engines.base import BUILDS_ON, Engine
from harness.runs.engines.local import LocalEngine
from harness.runs.planning import check_engine, make_plan, resolve_cells, without_training
from harness.runs.progress import Display


@dataclass(frozen=True)
class Outcome:
    """The result of a run: the `records` that it wrote, and the `fresh` records that were up to date before."""

    records: list[Record]
    fresh: list[Record]

    @property
    def recorded(self) -> list[Record]:
        """Records of the cells that were measured."""
        return self._with("ok")

    @property
    def failed(self) -> list[Record]:
        """Records of the cells that failed or ran out of memory."""
        return self._with("failed", "oom")

    @property
    def skipped(self) -> list[Record]:
        """Records of the cells that were not tried: a cell that they build on failed, or their runtime does not
        support them.
        """
        return self._with("skipped")

    @property
    def unsupported(self) -> list[Record]:
        """Records of the skipped cells that their runtime does not support."""
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
    train: bool = True,
    quiet: bool = False,
) -> Outcome:
    """Run the cells whose records are missing or stale, and write their records under `out`.

    Each profile is timed in `sittings` parts. After them, profiles whose interval is still wide get further sittings
    for `further_s` seconds; profiles that were recorded without a verdict are then measured again. Without `train`
    only cells run whose artifacts are there.

    Raises SkylineError before anything runs: for an unknown engine, for cells that cannot run (see
    `planning.resolve_cells`), and if another run holds `out` or `out` cannot be written (see `Store.lock`).
    """
    check_engine(engine, workers)
    jobs = resolve_cells(cells, data_dir)
    store = Store(out)
    with store.lock():
        plan = make_plan(jobs, store, want_verdicts=further_s > 0)
        if not train:
            plan = without_training(plan, store)
        with Display(plan, quiet) as display:
            chosen: Engine = LocalEngine(store, data_dir, workers, sittings, further_s, display.listener)
            records = chosen.run(plan.jobs)
    return Outcome(records, plan.fresh)
