"""`skyline reproduce`: measure the rows of a published table again."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from harness.cli.options import RUNS, DataDir, Json
from harness.common.lazy import lazy_imports

with lazy_imports():
    from harness.runs import progress
    from leaderboard.survey import claims_ledger, reproducing
    from leaderboard.tables import plain


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
    reproducing.check_table(table)
    if against is not None:
        repeated, problems = reproducing.repeat(out, against)
        for problem in problems:
            typer.echo(f"left out: {' '.join(problem.split())}", err=True)
        typer.echo(_json(repeated.to_dict()) if json_ else plain.to_text(repeated))
        return
    request = reproducing.Request(
        rows=row or (),
        quick=quick,
        runtimes=runtime or (),
        precisions=precision or (),
        batch=batch,
        seq=seq,
        grid=grid,
        task=task,
        data_dir=data_dir,
        device=device,
        model=model,
        time_cap_s=time_cap,
        sittings=sittings,
        further_min=further,
    )
    done = reproducing.reproduce(request, out, len(os.sched_getaffinity(0)), quiet=json_)
    failed = done.outcome.failed
    if json_:
        typer.echo(_json({**done.to_dict(), "failed": [progress.record_name(record) for record in failed]}))
        for record in failed:
            typer.echo(f"{progress.record_name(record)}: {progress.describe_failure(record)}", err=True)
    else:
        typer.echo(plain.to_text(done.table))
        typer.echo(plain.to_text(claims_ledger.claims_table(done.claims)))
        for line in done.notes:
            typer.echo(line)
        typer.echo(
            f"{len(done.outcome.recorded)} profiles recorded, {len(done.outcome.fresh)} were up to date, "
            f"{len(failed)} failed, {len(done.outcome.skipped)} skipped"
        )
    if failed:
        raise typer.Exit(1)


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False)
