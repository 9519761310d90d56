"""`skyline profile` and `skyline run`."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness import limits
from harness.cli.options import RUNS, DataDir, Json, data_folder
from harness.limits import within

if TYPE_CHECKING:
    from harness.cells import Cell


def profile(
    recipe: Annotated[
        str, typer.Argument(help="A recipe, such as 'dynamic-int8' or 'kd-logits:layers=6 > dynamic-int8'.")
    ],
    model: Annotated[
        str, typer.Option(help="Base model, hub name or local Hugging Face folder.")
    ] = "bert-base",
    seq: Annotated[int, typer.Option(help="Sequence length in tokens.")] = 256,
    batch: Annotated[int, typer.Option(help="Sequences in one pass.")] = 1,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    runtime: Annotated[
        str,
        typer.Option(
            help="What executes the artifact: eager, compile, cuda-graphs, onnxruntime or openvino."
        ),
    ] = "eager",
    precision: Annotated[
        str, typer.Option(help="Of the maps that the artifact leaves in float32: float32, bfloat16 or int8.")
    ] = "float32",
    time_cap: Annotated[float, typer.Option(help="Seconds that the paired timing may take.")] = 20.0,
    seed: Annotated[int, typer.Option(help="Seed of random weights.")] = 0,
    json_: Json = False,
) -> None:
    """Measure a recipe against its baseline, without training: size, FLOPs, memory, latency, components."""
    import tempfile

    from harness.cells import ProfileCell
    from harness.errors import SkylineError
    from harness.execute import execute_profile, fingerprint
    from harness.planning import check_cells, unsupported
    from harness.profiling.inputs import make_workload
    from harness.profiling.report import print_profile
    from harness.recipe import Recipe
    from harness.records import precision_named

    chosen = precision_named(precision)
    within("batch", batch, 1, limits.MAX_BATCH)
    within("time-cap", time_cap, limits.MIN_TIME_CAP_S, limits.MAX_TIME_CAP_S)
    within("seed", seed, 0, limits.MAX_SEED)
    cell = ProfileCell(
        recipe=str(Recipe.parse(recipe)),
        model=model,
        seed=seed,
        runtime=runtime,
        precision=chosen,
        device=device,
        workload=make_workload(seq, batch),
        time_cap_s=time_cap,
    )
    check_cells([cell])
    if why := unsupported(cell):
        raise SkylineError(why)
    stamp = fingerprint(cell, None)
    with tempfile.TemporaryDirectory(prefix="skyline-") as workspace:
        record = execute_profile(cell, Path(workspace), None, stamp)
    assert record.profile is not None
    if json_:
        typer.echo(record.profile.model_dump_json(indent=1))
    else:
        print_profile(record.profile)


def run(
    suite: Annotated[str | None, typer.Argument(help="A built-in suite or a TOML file.")] = None,
    recipe: Annotated[list[str] | None, typer.Option(help="A recipe; several times for several.")] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="Base model of the trainings, or of a suite that only profiles [default: the suite's, or minilm-l6]."
        ),
    ] = None,
    task: Annotated[list[str] | None, typer.Option(help="A task; several times for several.")] = None,
    seeds: Annotated[
        int | None,
        typer.Option(help="Number of seeds: 0, 1, … [default: the suite's, or 1]."),
    ] = None,
    epochs: Annotated[float | None, typer.Option(help="Epochs of each training.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak learning rate.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Sequences in one training step.")] = None,
    precision: Annotated[str | None, typer.Option(help="auto, float32 or bfloat16.")] = None,
    examples: Annotated[int | None, typer.Option(help="Use so many training examples at most.")] = None,
    data_dir: DataDir = None,
    out: Annotated[Path, typer.Option(help="Where records and artifacts go.")] = RUNS,
    engine: Annotated[str, typer.Option(help="Where cells run: local.")] = "local",
    workers: Annotated[
        int,
        typer.Option(
            help="Trainings, and untrained artifacts, made side by side; each gets its share of the cores."
        ),
    ] = 1,
    profile_: Annotated[
        bool, typer.Option("--profile/--no-profile", help="Profile each recipe's artifact too.")
    ] = True,
    device: Annotated[
        str | None,
        typer.Option(help="Where artifacts are profiled: cpu or cuda [default: the suite's, or cpu]."),
    ] = None,
    train_on: Annotated[
        str | None, typer.Option(help="Where they are trained: cpu or cuda [default: the suite's, or cpu].")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List what would be done.")] = False,
    json_: Json = False,
) -> None:
    """Train, score and profile the cells of a suite; what is recorded and up to date is not done again."""
    from harness.planning import check_cells, check_engine, count_trainings, make_plan
    from harness.run import describe_failure, record_name, run_cells
    from harness.store import Store
    from harness.suites import chosen_suite

    budget = {
        "epochs": epochs,
        "learning_rate": learning_rate,
        "batch_size": batch_size,
        "precision": precision,
        "examples": examples,
    }
    check_engine(engine, workers)
    data = data_folder(data_dir)
    chosen = chosen_suite(
        suite,
        recipe,
        model,
        task,
        seeds,
        {k: v for k, v in budget.items() if v is not None},
        profile_,
        device,
        train_on,
    )
    cells = chosen.cells(data)
    if dry_run:
        check_cells(cells, data)
        store = Store(out)
        plan = make_plan(cells, store, data)
        summary: dict[str, Any] = {
            "cells": [job.cell.slug for job in plan.jobs],
            "fresh": len(plan.fresh),
            "trainings": count_trainings(plan, store, data),
        }
        typer.echo(json.dumps(summary, indent=1) if json_ else _dry_run_text(summary))
        return
    outcome = run_cells(cells, out, data, engine=engine, workers=workers, quiet=json_)
    counts: dict[str, Any] = {"recorded": len(outcome.recorded), "fresh": outcome.fresh}
    if json_:
        for outcomes, records in (("failed", outcome.failed), ("skipped", outcome.skipped)):
            counts[outcomes] = [
                {"cell": record_name(record), "status": record.status, "reason": record.reason}
                for record in records
            ]
        typer.echo(json.dumps(counts, indent=1, ensure_ascii=False))
        for record in outcome.failed:
            typer.echo(f"{record_name(record)}: {describe_failure(record)}", err=True)
    else:
        # Why cells failed was printed when they did.
        idle = len(outcome.unsupported)
        counts |= {
            "failed": len(outcome.failed),
            "skipped": len(outcome.skipped) - idle,
            "unsupported": idle,
        }
        typer.echo(_run_text(counts, _board_commands(cells, out)))
    if outcome.failed:
        raise typer.Exit(1)


def _run_text(counts: dict[str, int], commands: list[str]) -> str:
    said = f"{counts['recorded']} cells recorded, {counts['fresh']} were up to date"
    if counts["failed"]:
        said += f", {counts['failed']} failed, {counts['skipped']} that build on them skipped"
    if counts["unsupported"]:
        said += f", {counts['unsupported']} skipped that their runtime cannot run"
    if not counts["recorded"] + counts["fresh"]:
        return said
    return "\n".join([said + "; see them with", *(f"  {command}" for command in commands)])


def _board_commands(cells: Sequence[Cell], out: Path) -> list[str]:
    """The commands that show the records of these cells."""
    boards = {("measured" if cell.task else "architecture", cell.model) for cell in cells}
    return [
        f"skyline board {kind} --profiles {shlex.quote(str(out))} --model {shlex.quote(model)}"
        for kind, model in sorted(boards, reverse=True)
    ]


def _dry_run_text(summary: dict[str, Any]) -> str:
    lines = [f"would run {name}" for name in summary["cells"]]
    return "\n".join(
        [*lines, f"{len(lines)} cells, {summary['trainings']} trainings; {summary['fresh']} up to date"]
    )
