"""The work of `skyline reproduce`: make cells of the survey's rows, run them, and put their records into tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Literal

from harness.common.errors import Code, SkylineError, unknown_name
from harness.profiling.inputs import make_workload
from harness.records.cells import Cell, ProfileCell
from harness.records.schema import Precision, Record, Workload, precision_named
from harness.records.store import read_records
from harness.runs import limits
from harness.runs.planning import has_no_verdict
from harness.runs.run import Outcome, run_cells
from harness.runs.suites import load_suite
from harness.runtimes import get_runtime
from harness.tasks import built_in_name, load_task
from leaderboard.survey.artifacts import Reading
from leaderboard.survey.claims_ledger import MeasuredClaim, measured_claims, tally_speeds
from leaderboard.survey.reproduction import (
    chosen_rows,
    recipe_of,
    repeat_table,
    reproduction_table,
    with_published_speedup,
)
from leaderboard.tables.model import Table

SUITE = "ganesh2021"
LATER = ("gordon2020", "lilbobby", "movva2022")
"""Published tables that cannot be measured yet."""
GRID = tuple((batch, length) for batch in (1, 8, 32) for length in (32, 128, 256, 512))
QUICK_CAP_S = 3.0
SITTINGS = 2

Shapes = Sequence[tuple[int, int]]
"""(batch, length) pairs."""


def check_table(table: str) -> None:
    """Raise SkylineError for an unknown table (`unknown-name`), or one that cannot be measured yet (`unsupported`)."""
    if table in LATER:
        raise SkylineError(
            f"'{table}' cannot be reproduced yet, only {SUITE} can; 'skyline board published' shows its figures",
            Code.UNSUPPORTED,
        )
    if table != SUITE:
        raise unknown_name("table", table, [SUITE, *LATER])


@dataclass(frozen=True)
class Request:
    """The options of the command. None stands for the suite's value or the command's default."""

    rows: Sequence[str] = ()
    quick: bool = False
    runtimes: Sequence[str] = ()
    precisions: Sequence[str] = ()
    batch: int | None = None
    seq: int | None = None
    grid: bool = False
    task: str | None = None
    data_dir: Path | None = None
    device: str = "cpu"
    model: str | None = None
    time_cap_s: float | None = None
    sittings: int | None = None
    further_min: float = 0.0

    def readings(self) -> tuple[Reading, ...]:
        """Return the chosen rows. Raises SkylineError (`unknown-name`) for an unknown row."""
        chosen = chosen_rows(self.rows)
        return with_published_speedup(chosen) if self.quick and not self.rows else chosen

    def cells(self, readings: Sequence[Reading]) -> list[Cell]:
        """Return the cells of rows. Raises SkylineError for an unknown name or a value out of range."""
        task = None if self.task is None else _built_in(self.task, self.data_dir)
        shapes = self._shapes()
        runtimes = self.runtimes or ("eager",)
        for name in runtimes:
            get_runtime(name)
        precisions = [precision_named(name) for name in self.precisions or ("float32",)]
        cap = QUICK_CAP_S if self.quick and self.time_cap_s is None else self.time_cap_s
        if cap is not None:
            limits.within("time-cap", cap, limits.MIN_TIME_CAP_S, limits.MAX_TIME_CAP_S)
        return cells_of(
            readings,
            shapes,
            runtimes,
            precisions,
            task=task,
            device=self.device,
            model=self.model,
            time_cap_s=cap,
        )

    def parts(self) -> int:
        """Return the number of sittings per profile.

        Raises SkylineError for a number out of range, and for `--further` with a single sitting (`conflict`).
        """
        parts = self.sittings
        if parts is None:
            parts = 1 if self.quick and not self.further_min else SITTINGS
        limits.within("sittings", parts, 1, limits.MAX_SITTINGS)
        limits.within("further", self.further_min, 0, limits.MAX_FURTHER_MIN)
        if self.further_min and parts == 1:
            raise SkylineError(
                "--further needs at least 2 --sittings; raise --sittings, or leave out --further",
                Code.CONFLICT,
            )
        return parts

    def _shapes(self) -> Shapes | None:
        if self.grid and (self.batch is not None or self.seq is not None):
            raise SkylineError(
                "--grid sets batch and length itself; leave out --batch and --seq", Code.CONFLICT
            )
        if self.grid:
            return GRID
        if self.batch is None and self.seq is None and self.task is None:
            return None
        batch = 1 if self.batch is None else self.batch
        limits.within("batch", batch, 1, limits.MAX_BATCH)
        return ((batch, 128 if self.seq is None else self.seq),)


def _built_in(task: str, data_dir: Path | None) -> str:
    """Return the id of a built-in task. Raises SkylineError for a task without data or one that a user described."""
    load_task(task, data_dir)
    known = built_in_name(task)
    if known is None:
        raise SkylineError(
            f"--task {task} is not a built-in task; name a built-in one, such as mrpc", Code.WRONG_KIND
        )
    return known


def cells_of(
    readings: Iterable[Reading],
    shapes: Shapes | None,
    runtimes: Sequence[str],
    precisions: Sequence[Precision],
    *,
    task: str | None = None,
    device: str = "cpu",
    model: str | None = None,
    time_cap_s: float | None = None,
) -> list[Cell]:
    """Return the suite's profile cells of rows and of the baseline, for each runtime and precision, without repeats.

    `shapes` replace the workloads of the suite. They have synthetic rows, or rows of `task`. The suite's workloads with
    cached passages have a shape of their own, so `shapes` leave them out.
    """
    wanted = {"baseline", *map(recipe_of, readings)}
    own = [
        cell for cell in load_suite(SUITE).cells() if isinstance(cell, ProfileCell) and cell.recipe in wanted
    ]
    found: dict[str, Cell] = {}
    for runtime, precision, cell in product(runtimes, precisions, own):
        for workload in _workloads(cell.workload, shapes, task):
            made = cell.model_copy(
                update={
                    "runtime": runtime,
                    "precision": precision,
                    "device": device,
                    "model": model or cell.model,
                    "time_cap_s": time_cap_s or cell.time_cap_s,
                    "workload": workload,
                }
            )
            found.setdefault(made.key, made)
    return list(found.values())


def _workloads(own: Workload, shapes: Shapes | None, task: str | None) -> list[Workload]:
    if shapes is None:
        return [own]
    if own.cached is not None:
        return []
    inputs: Literal["synthetic", "real"] = "synthetic" if task is None else "real"
    return [make_workload(length, batch, inputs, task) for batch, length in shapes]


@dataclass(frozen=True)
class Reproduction:
    """The result: the table of the rows, the survey's claims compared with it, and the outcome of the run."""

    table: Table
    claims: list[MeasuredClaim]
    notes: list[str]
    outcome: Outcome

    def to_dict(self) -> dict[str, Any]:
        """Return the result as plain JSON values, without the failures."""
        return {
            "board": {**self.table.to_dict(), "notes": [*self.notes, *self.table.notes]},
            "claims": [{**claim.model_dump(mode="json"), "reached": claim.reached} for claim in self.claims],
            "speeds": tally_speeds(self.claims).model_dump(),
            "recorded": len(self.outcome.recorded),
            "fresh": len(self.outcome.fresh),
        }


def reproduce(request: Request, out: Path, workers: int, quiet: bool) -> Reproduction:
    """Measure the requested rows that have no up-to-date record under `out`. Raises the errors of `run_cells`."""
    readings = request.readings()
    cells, sittings = request.cells(readings), request.parts()
    outcome = run_cells(
        cells,
        out,
        request.data_dir,
        workers=workers,
        sittings=sittings,
        further_s=60 * request.further_min,
        quiet=quiet,
    )
    by_key = {record.key: record for record in (*outcome.fresh, *outcome.records)}
    records = [by_key[cell.key] for cell in cells]
    shared: dict[str, Any] = {"model": cells[0].model, "readings": readings}
    return Reproduction(
        reproduction_table(records, **shared),
        measured_claims(records, **shared),
        _notes(request.quick, records),
        outcome,
    )


def _notes(quick: bool, records: Sequence[Record]) -> list[str]:
    notes = []
    if quick:
        notes.append(
            "--quick leaves out rows without a published CPU speedup above 1, unless --row names them; "
            f"it times each profile for at most {QUICK_CAP_S:g} s, so intervals are wider or missing"
        )
    if count := sum(has_no_verdict(record) for record in records):
        notes.append(
            f"{count} of {len(records)} profiles have no verdict on their speed, because their pairs differ too much; "
            "use an idle machine, or time them for longer, for example with --further 20 (minutes)"
        )
    return notes


def repeat(out: Path, against: Path) -> tuple[Table, list[str]]:
    """Return a table of the speedups of two runs, and one line for each file that is not a record.

    Raises SkylineError (`no-data`) for a folder without records.
    """
    folders, problems = [], []
    for folder in (out, against):
        if not (folder / "measured").is_dir():
            raise SkylineError(
                f"there are no records in {folder}; name a folder that --out wrote", Code.NO_DATA
            )
        records, unread = read_records(folder)
        folders.append(records)
        problems += unread
    return repeat_table(*folders), problems
