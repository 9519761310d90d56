"""`skyline reproduce`."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from harness.cli.options import RUNS, DataDir, Json
from harness.common.errors import SkylineError, unknown_name
from harness.common.lazy import lazy_imports

with lazy_imports():
    from harness import runtimes as harness_runtimes
    from harness import tasks
    from harness.profiling import inputs as profiling_inputs
    from harness.records import cells as records_cells
    from harness.records import schema
    from harness.records import store as records_store
    from harness.runs import limits, planning, progress, suites
    from harness.runs import run as runs
    from leaderboard.survey import claims_ledger, reproduction
    from leaderboard.tables import plain


if TYPE_CHECKING:
    from harness.records.cells import Cell
    from harness.records.schema import Record, Workload
    from harness.runs.run import Outcome
    from leaderboard.survey.artifacts import Reading
    from leaderboard.tables.model import Table as PlainTable

SUITE = "ganesh2021"
LATER = ("gordon2020", "lilbobby", "movva2022")
"""Tables whose measuring is not built yet."""
GRID = tuple((batch, length) for batch in (1, 8, 32) for length in (32, 128, 256, 512))
QUICK_CAP_S = 3.0
SITTINGS = 2


def reproduce(
    table: Annotated[str, typer.Argument(help="The paper's table: ganesh2021.")],
    quick: Annotated[
        bool,
        typer.Option("--quick", help="Only the rows with a published CPU speedup above 1, timed shortly."),
    ] = False,
    row: Annotated[
        list[str] | None,
        typer.Option(help="A row by number (2 to 26) or name, such as tinybert; several times for several."),
    ] = None,
    runtime: Annotated[
        list[str] | None,
        typer.Option(
            help="eager, compile, onnxruntime or openvino; several times for several [default: eager]."
        ),
    ] = None,
    precision: Annotated[
        list[str] | None,
        typer.Option(help="float32, bfloat16 or int8; several times for several [default: float32]."),
    ] = None,
    batch: Annotated[int | None, typer.Option(help="Sequences in one pass [default: 1].")] = None,
    seq: Annotated[int | None, typer.Option(help="Sequence length in tokens [default: 128].")] = None,
    grid: Annotated[
        bool, typer.Option("--grid", help="Batch 1, 8 and 32 times length 32, 128, 256 and 512.")
    ] = False,
    task: Annotated[
        str | None,
        typer.Option(
            help="Rows of this task's dev split in the place of synthetic ones of one length; --seq, or 128, cuts them."
        ),
    ] = None,
    data_dir: DataDir = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    model: Annotated[str | None, typer.Option(help="Base model of the recipes [default: bert-base].")] = None,
    time_cap: Annotated[
        float | None, typer.Option(help="Seconds that the paired timing of one profile may take.")
    ] = None,
    sittings: Annotated[
        int | None,
        typer.Option(
            help="Parts of the paired timing; a part of every profile is taken before the next part of any. "
            "Runtimes that prepare or compile take one [default: 2, with --quick alone 1]."
        ),
    ] = None,
    further: Annotated[
        float,
        typer.Option(
            help="Minutes, after those parts, for more of them where the interval is wider than ±2 %, as on a machine "
            "that others use; what is recorded without a verdict is measured again."
        ),
    ] = 0.0,
    out: Annotated[Path, typer.Option(help="Where records and artifacts go.")] = RUNS,
    against: Annotated[
        Path | None,
        typer.Option(
            help="Run nothing: compare the speedups of --out with those of this folder, of a repeat."
        ),
    ] = None,
    json_: Json = False,
) -> None:
    """Build and measure the rows of a published table, and print them beside what was published.

    What is recorded and up to date is not measured again. Exit status 1: a profile failed; the others are there.
    """
    _check_table(table)
    if against is not None:
        _say_table(_repeat(out, against), json_)
        return

    if task is not None:
        task = _built_in(task, data_dir)
    readings, shapes, chosen = _chosen(row, quick, batch, seq, grid, runtime, precision)
    if task is not None and shapes is None:
        shapes = ((1, 128),)
    cap = QUICK_CAP_S if quick and time_cap is None else time_cap
    if cap is not None:
        limits.within("time-cap", cap, limits.MIN_TIME_CAP_S, limits.MAX_TIME_CAP_S)
    cells = cells_of(readings, shapes, *chosen, task=task, device=device, model=model, time_cap_s=cap)
    parts = (1 if quick and not further else SITTINGS) if sittings is None else sittings
    limits.within("sittings", parts, 1, limits.MAX_SITTINGS)
    limits.within("further", further, 0, limits.MAX_FURTHER_MIN)
    if further and parts == 1:
        raise SkylineError("--further adds to profiles of two --sittings or more; name at least 2")
    workers = len(os.sched_getaffinity(0))
    outcome = runs.run_cells(
        cells, out, data_dir, workers=workers, sittings=parts, further_s=60 * further, quiet=json_
    )
    _print(cells, readings, out, outcome, quick, json_)
    if outcome.failed:
        raise typer.Exit(1)


def _built_in(task: str, data_dir: Path | None) -> str:
    """The id of a task whose rows are there. Raises SkylineError for another, or a description of one's own."""
    tasks.load_task(task, data_dir)
    known = tasks.built_in_name(task)
    if known is None:
        raise SkylineError(f"--task {task}: rows of built-in tasks are read here; name one, such as mrpc")
    return known


def _check_table(table: str) -> None:
    """Raise SkylineError for a table that cannot be measured (yet)."""
    if table in LATER:
        raise SkylineError(
            f"measuring '{table}' again is not built yet; 'skyline board published' shows it, {SUITE} can be reproduced"
        )
    if table != SUITE:
        raise unknown_name("table", table, [SUITE, *LATER])


def _chosen(
    row: Sequence[str] | None,
    quick: bool,
    batch: int | None,
    seq: int | None,
    grid: bool,
    runtime: Sequence[str] | None,
    precision: Sequence[str] | None,
) -> tuple[tuple[Reading, ...], tuple[tuple[int, int], ...] | None, tuple[list[str], list[Any]]]:
    """Rows, workloads (None: the suite's) and the runtimes with the precisions that the options name."""
    readings = reproduction.chosen_rows(row or [])
    if quick and not row:
        readings = reproduction.with_published_speedup(readings)
    if grid and (batch is not None or seq is not None):
        raise SkylineError("--grid sets batch and length itself; leave out --batch and --seq")
    shapes: tuple[tuple[int, int], ...] | None = GRID if grid else None
    if batch is not None or seq is not None:
        limits.within("batch", batch or 1, 1, limits.MAX_BATCH)
        shapes = ((1 if batch is None else batch, 128 if seq is None else seq),)
    runtimes = list(dict.fromkeys(runtime or ["eager"]))
    for name in runtimes:
        harness_runtimes.get_runtime(name)
    precisions = [schema.precision_named(name) for name in dict.fromkeys(precision or ["float32"])]
    return readings, shapes, (runtimes, precisions)


def cells_of(
    readings: Iterable[Reading],
    shapes: Sequence[tuple[int, int]] | None,
    runtimes: Sequence[str],
    precisions: Sequence[str],
    *,
    task: str | None = None,
    device: str = "cpu",
    model: str | None = None,
    time_cap_s: float | None = None,
) -> list[Cell]:
    """The suite's profile cells of some rows and of the baseline, under each runtime and precision; `shapes` (batch,
    length) in the place of the suite's uncached ones, of synthetic rows or of a task's. Cached passages are for one
    shape, without a grid.
    """
    wanted = {"baseline", *map(reproduction.recipe_of, readings)}
    suite = suites.load_suite(SUITE)
    found: dict[str, Cell] = {}
    for runtime in runtimes:
        for precision in precisions:
            for cell in suite.cells():
                if not isinstance(cell, records_cells.ProfileCell) or cell.recipe not in wanted:
                    continue
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


def _workloads(own: Workload, shapes: Sequence[tuple[int, int]] | None, task: str | None) -> list[Workload]:
    if shapes is None:
        return [own]
    if own.cached is not None:
        return []
    inputs: Literal["synthetic", "real"] = "synthetic" if task is None else "real"
    return [profiling_inputs.make_workload(length, batch, inputs, task) for batch, length in shapes]


def _print(
    cells: Sequence[Cell],
    readings: Sequence[Reading],
    out: Path,
    outcome: Outcome,
    quick: bool,
    json_: bool,
) -> None:
    """The board and the ledger of the cells' records."""
    records = _records_of(cells, out)
    shared: dict[str, Any] = {"model": cells[0].model, "readings": readings}
    table = reproduction.reproduction_table(records, **shared)
    claims = claims_ledger.measured_claims(records, **shared)
    notes = [*_left_out(quick), *_without_verdict(records)]
    if json_:
        whole = {
            "board": {**table.to_dict(), "notes": [*notes, *table.notes]},
            "claims": [{**claim.model_dump(mode="json"), "reached": claim.reached} for claim in claims],
            "speeds": claims_ledger.tally_speeds(claims).model_dump(),
            "recorded": len(outcome.recorded),
            "fresh": outcome.fresh,
            "failed": [progress.record_name(record) for record in outcome.failed],
        }
        typer.echo(json.dumps(whole, indent=1, ensure_ascii=False))
        for record in outcome.failed:
            typer.echo(f"{progress.record_name(record)}: {progress.describe_failure(record)}", err=True)
        return
    typer.echo(plain.to_text(table))
    typer.echo(plain.to_text(claims_ledger.claims_table(claims)))
    for line in notes:
        typer.echo(line)
    typer.echo(
        f"{len(outcome.recorded)} profiles recorded, {outcome.fresh} were up to date, {len(outcome.failed)} failed, "
        f"{len(outcome.skipped)} skipped"
    )


def _left_out(quick: bool) -> list[str]:
    if not quick:
        return []
    return [
        "quick leaves out the rows without a published CPU speedup above 1, unless --row names them; "
        f"the pairs of a profile take {QUICK_CAP_S:g} s at most, so that intervals are wider or missing",
    ]


def _without_verdict(records: Sequence[Record]) -> list[str]:
    count = sum(planning.has_no_verdict(record) for record in records)
    if not count:
        return []
    return [
        f"{count} of {len(records)} profiles have no verdict on their speed, since their pairs differ too much; "
        "use a machine that nothing else loads, or time these for longer, as by --further 20 (minutes)"
    ]


def _records_of(cells: Sequence[Cell], out: Path) -> list[Record]:
    store = records_store.Store(out)
    return [record for cell in cells if (record := store.find(cell)) is not None]


def _repeat(out: Path, against: Path) -> PlainTable:
    folders = []
    for folder in (out, against):
        if not (folder / "measured").is_dir():
            raise SkylineError(f"there are no records in {folder}; name a folder that --out wrote")
        records, problems = records_store.read_records(folder)
        for problem in problems:
            typer.echo(f"left out: {' '.join(problem.split())}", err=True)
        folders.append(records)
    return reproduction.repeat_table(*folders)


def _say_table(table: PlainTable, json_: bool) -> None:
    text = json.dumps(table.to_dict(), indent=1, ensure_ascii=False) if json_ else plain.to_text(table)
    typer.echo(text)
