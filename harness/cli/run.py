"""`skyline run`: train, score and profile the cells of a suite."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.options import RUNS, DataDir, Json, data_folder
from harness.common.lazy import lazy_imports

with lazy_imports():
    from harness.records import store as records_store
    from harness.runs import planning, progress, suites
    from harness.runs import run as runs


if TYPE_CHECKING:
    from harness.records.cells import Cell


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
    budget = {
        "epochs": epochs,
        "learning_rate": learning_rate,
        "batch_size": batch_size,
        "precision": precision,
        "examples": examples,
    }
    planning.check_engine(engine, workers)
    data = data_folder(data_dir)
    chosen = suites.chosen_suite(
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
        store = records_store.Store(out)
        plan = planning.make_plan(planning.resolve_cells(cells, data), store)
        summary: dict[str, Any] = {
            "cells": [job.cell.slug for job in plan.jobs],
            "fresh": len(plan.fresh),
            "trainings": planning.count_trainings(plan, store),
        }
        typer.echo(json.dumps(summary, indent=1) if json_ else _dry_run_text(summary))
        return
    outcome = runs.run_cells(cells, out, data, engine=engine, workers=workers, quiet=json_)
    counts: dict[str, Any] = {"recorded": len(outcome.recorded), "fresh": len(outcome.fresh)}
    if json_:
        for outcomes, records in (("failed", outcome.failed), ("skipped", outcome.skipped)):
            counts[outcomes] = [
                {"cell": progress.record_name(record), "status": record.status, "reason": record.reason}
                for record in records
            ]
        typer.echo(json.dumps(counts, indent=1, ensure_ascii=False))
        for record in outcome.failed:
            typer.echo(f"{progress.record_name(record)}: {progress.describe_failure(record)}", err=True)
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
