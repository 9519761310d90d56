"""`skyline run`: train, score and profile the cells of a suite."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.options import RUNS, DataDir, Json, data_folder, print_json
from harness.common.lazy import lazy_imports

with lazy_imports():
    from harness.records import store as records_store
    from harness.runs import planning, progress, suites
    from harness.runs import run as runs


if TYPE_CHECKING:
    from harness.records.cells import Cell


def run(
    suite: Annotated[str | None, typer.Argument(help="A built-in suite or a TOML file.")] = None,
    recipe: Annotated[list[str] | None, typer.Option(help="A recipe; repeat the option to add more.")] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="Base model to train or, in a suite without training, to profile "
            "[default: the suite's, or minilm-l6]."
        ),
    ] = None,
    task: Annotated[list[str] | None, typer.Option(help="A task; repeat the option to add more.")] = None,
    seeds: Annotated[
        int | None,
        typer.Option(help="Number of seeds; they are 0, 1, … [default: the suite's, or 1]."),
    ] = None,
    epochs: Annotated[
        float | None, typer.Option(help="Epochs of each stage, for all its trainings together.")
    ] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak learning rate.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Batch size of training.")] = None,
    precision: Annotated[
        str | None, typer.Option(help="Precision of training: auto, float32 or bfloat16.")
    ] = None,
    examples: Annotated[
        int | None, typer.Option(help="Largest number of training examples [default: the suite's, or all].")
    ] = None,
    data_dir: DataDir = None,
    out: Annotated[Path, typer.Option(help="Folder for records and artifacts.")] = RUNS,
    engine: Annotated[str, typer.Option(help="Engine that runs the cells: local.")] = "local",
    workers: Annotated[
        int,
        typer.Option(
            help="Trainings that run in parallel, each with its share of the cores. Untrained artifacts are built with "
            "the same number of workers."
        ),
    ] = 1,
    profile_: Annotated[
        bool, typer.Option("--profile/--no-profile", help="Whether to profile the trained artifacts too.")
    ] = True,
    train: Annotated[
        bool,
        typer.Option(
            "--train/--no-train",
            help="Whether to train. Without it, only cells run whose artifacts are there.",
        ),
    ] = True,
    device: Annotated[
        str | None,
        typer.Option(help="Device for profiles: cpu or cuda [default: the suite's, or cpu]."),
    ] = None,
    train_on: Annotated[
        str | None, typer.Option(help="Device for training: cpu or cuda [default: the suite's, or cpu].")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Run nothing: list the cells, and count the trainings.")
    ] = False,
    json_: Json = False,
) -> None:
    """Train, score and profile the cells of a suite. Cells with an up-to-date record are not run again.

    Exit status 1 if cells failed; the records of the others are written.
    """
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
        if not train:
            plan = planning.without_training(plan, store)
        summary: dict[str, Any] = {
            "cells": [job.cell.slug for job in plan.jobs],
            "fresh": len(plan.fresh),
            "trainings": planning.count_trainings(plan, store),
        }
        if json_:
            print_json(summary)
        else:
            for name in summary["cells"]:
                typer.echo(f"would run {name}")
            typer.echo(
                f"{len(plan.jobs)} cells, {summary['trainings']} trainings; {summary['fresh']} up to date"
            )
        return
    outcome = runs.run_cells(cells, out, data, engine=engine, workers=workers, train=train, quiet=json_)
    counts: dict[str, Any] = {"recorded": len(outcome.recorded), "fresh": len(outcome.fresh)}
    if json_:
        for outcomes, records in (("failed", outcome.failed), ("skipped", outcome.skipped)):
            counts[outcomes] = [
                {"cell": progress.record_name(record), "status": record.status, "reason": record.reason}
                for record in records
            ]
        print_json(counts)
        for record in outcome.failed:
            typer.echo(f"{progress.record_name(record)}: {progress.describe_failure(record)}", err=True)
    else:
        # The display has printed the reason of each failure.
        unsupported = len(outcome.unsupported)
        counts |= {
            "failed": len(outcome.failed),
            "skipped": len(outcome.skipped) - unsupported,
            "unsupported": unsupported,
        }
        typer.echo(_run_text(counts, _board_commands(cells, out)))
    if outcome.failed:
        raise typer.Exit(1)


def _run_text(counts: dict[str, int], commands: list[str]) -> str:
    text = f"{counts['recorded']} cells recorded, {counts['fresh']} were up to date"
    if counts["failed"]:
        text += f", {counts['failed']} failed, {counts['skipped']} that build on them skipped"
    if counts["unsupported"]:
        text += f", {counts['unsupported']} skipped that their runtime cannot run"
    if not counts["recorded"] + counts["fresh"]:
        return text
    return "\n".join([text + "; see them with", *(f"  {command}" for command in commands)])


def _board_commands(cells: Sequence[Cell], out: Path) -> list[str]:
    """Return the commands that show the records of these cells."""
    boards = {("measured" if cell.task else "architecture", cell.model) for cell in cells}
    return [
        f"skyline board {kind} --profiles {shlex.quote(str(out))} --model {shlex.quote(model)}"
        for kind, model in sorted(boards, reverse=True)
    ]
