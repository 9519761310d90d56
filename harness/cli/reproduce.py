"""`skyline reproduce`: measure the rows of a published table again."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from harness.cli.options import RUNS, DataDir, Json, print_json
from harness.common.lazy import lazy_imports

with lazy_imports():
    from harness.runs import progress
    from leaderboard.survey import claims_ledger, reproducing
    from leaderboard.tables import plain


def reproduce(
    table: Annotated[str, typer.Argument(help="The published table: ganesh2021.")],
    quick: Annotated[
        bool,
        typer.Option(
            "--quick", help="Measure only rows with a published CPU speedup above 1, with a short timing."
        ),
    ] = False,
    row: Annotated[
        list[str] | None,
        typer.Option(
            help="A row by number (2 to 26) or name, such as tinybert; repeat the option to add more "
            "[default: all]."
        ),
    ] = None,
    runtime: Annotated[
        list[str] | None,
        typer.Option(
            help="eager, compile, onnxruntime or openvino; repeat the option to add more [default: eager]."
        ),
    ] = None,
    precision: Annotated[
        list[str] | None,
        typer.Option(help="float32, bfloat16 or int8; repeat the option to add more [default: float32]."),
    ] = None,
    batch: Annotated[int | None, typer.Option(help="Batch size [default: 1].")] = None,
    seq: Annotated[int | None, typer.Option(help="Sequence length in tokens [default: 128].")] = None,
    grid: Annotated[
        bool, typer.Option("--grid", help="Measure batches of 1, 8 and 32 at lengths 32, 128, 256 and 512.")
    ] = False,
    task: Annotated[
        str | None,
        typer.Option(
            help="Read dev rows of this task, cut at --seq tokens, instead of synthetic rows of one length."
        ),
    ] = None,
    data_dir: DataDir = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    model: Annotated[str | None, typer.Option(help="Base model of the recipes [default: bert-base].")] = None,
    time_cap: Annotated[
        float | None, typer.Option(help="Limit for the paired timing of one profile, in seconds.")
    ] = None,
    sittings: Annotated[
        int | None,
        typer.Option(
            help="Parts of the paired timing. One part of every profile is timed before the next part of any. Runtimes "
            "that compile are timed in one part [default: 2, or 1 with --quick alone]."
        ),
    ] = None,
    further: Annotated[
        float,
        typer.Option(
            help="Minutes for further parts of profiles whose interval is wider than ±2 %, as on a busy machine. "
            "Profiles recorded without a verdict are measured again."
        ),
    ] = 0.0,
    out: Annotated[Path, typer.Option(help="Folder for records and artifacts.")] = RUNS,
    against: Annotated[
        Path | None,
        typer.Option(help="Run nothing: compare the speedups in --out with the speedups in this folder."),
    ] = None,
    json_: Json = False,
) -> None:
    """Measure a published table again.

    Builds and measures its rows, and compares them with the published figures.

    Profiles with an up-to-date record are not measured again. Exit status 1 if a profile failed; the records of the
    others are written.
    """
    reproducing.check_table(table)
    if against is not None:
        repeated, problems = reproducing.repeat(out, against)
        for problem in problems:
            typer.echo(f"left out: {' '.join(problem.split())}", err=True)
        if json_:
            print_json(repeated.to_dict())
        else:
            typer.echo(plain.to_text(repeated))
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
        print_json({**done.to_dict(), "failed": [progress.record_name(record) for record in failed]})
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
