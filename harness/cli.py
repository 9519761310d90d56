"""The command `skyline`. Each command imports what it needs when it runs, so that `--help` answers at once."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from harness import limits
from harness.errors import SkylineError, unknown_name
from harness.version import __version__

if TYPE_CHECKING:
    from harness.cells import Cell
    from harness.records import Record
    from leaderboard import Board

app = typer.Typer(
    name="skyline",
    help="Measure ways to compress BERT-like encoders side by side: size, FLOPs, memory, latency and accuracy.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

USAGE_ERROR: Any = typer.BadParameter.__bases__[0]
"""The usage error of the click that this typer stands on (newer ones carry their own copy)."""

INTERRUPTED = 130
"""What typer turns an interrupt into; older ones raise Abort."""

RUNS = Path("runs")
"""Where `run` writes unless it is told otherwise."""

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", help="Folder in GLUE's layout [default: SKYLINE_DATA_DIR, else the hub]."),
]
Profiles = Annotated[
    Path | None,
    typer.Option("--profiles", help="Folder of records [default: ./profiles, else ./runs]."),
]


def _version(show: bool) -> None:
    if show:
        typer.echo(f"skyline {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True)] = False,
) -> None:
    pass


@app.command()
def methods(json_: Json = False) -> None:
    """List the methods with their cards."""
    from harness.discovery import discover

    registry = discover()
    if json_:
        cards = [found.method.card.to_dict() for found in registry.methods.values()]
        typer.echo(
            json.dumps({"methods": cards, "problems": dict(registry.problems)}, indent=1, ensure_ascii=False)
        )
    else:
        for found in registry.methods.values():
            card = found.method.card
            source = f"{card.paper.authors}, {card.paper.year}"
            typer.echo(f"{card.id:18} {card.family:22} {card.fidelity:12} {card.title} ({source})")
    for source, problem in registry.problems.items():
        typer.echo(f"{source}: {problem}", err=True)
    if registry.problems:
        raise typer.Exit(1)


@app.command()
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
    runtime: Annotated[str, typer.Option(help="What executes the artifact.")] = "eager",
    time_cap: Annotated[float, typer.Option(help="Seconds that the paired timing may take.")] = 20.0,
    seed: Annotated[int, typer.Option(help="Seed of random weights.")] = 0,
    json_: Json = False,
) -> None:
    """Measure a recipe against its baseline, without training: size, FLOPs, memory, latency, components."""
    import tempfile

    from harness.cells import ProfileCell
    from harness.execute import execute_profile, fingerprint
    from harness.planning import check_cells
    from harness.profiling.inputs import make_workload
    from harness.profiling.report import print_profile
    from harness.recipe import Recipe

    _within("batch", batch, 1, limits.MAX_BATCH)
    _within("time-cap", time_cap, limits.MIN_TIME_CAP_S, limits.MAX_TIME_CAP_S)
    _within("seed", seed, 0, limits.MAX_SEED)
    cell = ProfileCell(
        recipe=str(Recipe.parse(recipe)),
        model=model,
        seed=seed,
        runtime=runtime,
        device=device,
        workload=make_workload(seq, batch),
        time_cap_s=time_cap,
    )
    check_cells([cell])
    stamp = fingerprint(cell, None)
    with tempfile.TemporaryDirectory(prefix="skyline-") as workspace:
        record = execute_profile(cell, Path(workspace), None, stamp)
    assert record.profile is not None
    if json_:
        typer.echo(record.profile.model_dump_json(indent=1))
    else:
        print_profile(record.profile)


@app.command()
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
    out: Annotated[Path, typer.Option(help="Where records and artifacts go.")] = Path("runs"),
    engine: Annotated[str, typer.Option(help="Where cells run: local.")] = "local",
    workers: Annotated[
        int, typer.Option(help="Trainings side by side; each gets its share of the cores.")
    ] = 1,
    profile_: Annotated[
        bool, typer.Option("--profile/--no-profile", help="Profile each recipe's artifact too.")
    ] = True,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List what would be done.")] = False,
    json_: Json = False,
) -> None:
    """Train, score and profile the cells of a suite; what is recorded and up to date is not done again."""
    from harness.hardware import hardware
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
    data = _data_dir(data_dir)
    chosen = chosen_suite(
        suite, recipe, model, task, seeds, {k: v for k, v in budget.items() if v is not None}, profile_
    )
    cells = chosen.cells(data)
    if dry_run:
        check_cells(cells, data)
        store = Store(out, hardware().id)
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
        counts |= {"failed": len(outcome.failed), "skipped": len(outcome.skipped)}
        typer.echo(_run_text(counts, _board_commands(cells, out)))
    if outcome.failed:
        raise typer.Exit(1)


def _within(option: str, value: float, low: float, high: float) -> None:
    """Refuse a number out of range, or none at all."""
    if not low <= value <= high:
        raise SkylineError(f"--{option} {value} is out of range: use {low:,} to {high:,}")


def _data_dir(given: Path | None) -> Path | None:
    named = given or (Path(os.environ["SKYLINE_DATA_DIR"]) if os.environ.get("SKYLINE_DATA_DIR") else None)
    if named is not None and not named.is_dir():
        raise SkylineError(f"there is no data folder {named}; name a folder in GLUE's layout with --data-dir")
    return named


def _run_text(counts: dict[str, int], commands: list[str]) -> str:
    said = f"{counts['recorded']} cells recorded, {counts['fresh']} were up to date"
    if counts["failed"]:
        said += f", {counts['failed']} failed, {counts['skipped']} that build on them skipped"
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


def _profiles_dir(given: Path | None, holding: str) -> Path | None:
    """The folder given, else the first of ./profiles, that of `run` and the checkout's with a subfolder `holding`."""
    if given is not None:
        if not given.is_dir():
            raise SkylineError(
                f"there is no folder {given}; name one that 'skyline run --out' wrote, or profiles"
            )
        return given
    beside = Path(__file__).resolve().parent.parent / "profiles"
    return next((folder for folder in (Path("profiles"), RUNS, beside) if (folder / holding).is_dir()), None)


def _say_folder(given: Path | None, folder: Path | None) -> None:
    """Say which folder was read where none was named."""
    if given is None and folder is not None:
        typer.echo(f"records of {folder}{_other_records(given, folder)}", err=True)


def _other_records(given: Path | None, folder: Path | None) -> str:
    """That `run` wrote records which stayed out, where no folder was named."""
    if given is None and folder != RUNS and any((RUNS / "measured").glob("*/*.json")):
        return f"; {RUNS} has others: add --profiles {RUNS}"
    return ""


def _read_records(folder: Path | None) -> tuple[list[Record], bool]:
    """The records of a folder, and whether all are whole; a line on stderr for each file that is none."""
    from harness.store import read_records

    records, problems = read_records(folder) if folder is not None else ([], [])
    for problem in problems:
        typer.echo(f"left out: {' '.join(problem.split())}", err=True)
    return records, not problems


def _only_for(kind: str, allowed: Sequence[str], option: str, value: object) -> None:
    """Refuse an option that this kind of board does not have."""
    if value not in (None, []) and kind not in allowed:
        raise SkylineError(
            f"--{option} is for the {' or '.join(allowed)} board; leave it out of 'board {kind}'"
        )


@app.command()
def board(
    kind: Annotated[str, typer.Argument(help="published, architecture or measured.")] = "measured",
    profiles: Profiles = None,
    table: Annotated[
        str | None,
        typer.Option(
            help="Published table: ganesh2021 [default], gordon2020, movva2022, movva2022-ratios or lilbobby."
        ),
    ] = None,
    task: Annotated[list[str] | None, typer.Option(help="Only these tasks.")] = None,
    model: Annotated[str | None, typer.Option(help="Only this base model.")] = None,
    axis: Annotated[
        str | None,
        typer.Option(help="The front's cost: disk, flops, latency or memory; of a published table its own."),
    ] = None,
    json_: Json = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown.")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    readme: Annotated[
        Path | None, typer.Option(help="Write the Markdown table into this file, between its markers.")
    ] = None,
) -> None:
    """Print a board. Exit status 1: a file among the records is none and was left out."""
    from leaderboard import (
        architecture_board,
        installed_cards,
        measured_board,
        print_board,
        published_board,
        to_csv,
        to_json,
        to_markdown,
        update_readme,
    )

    kinds = ("published", "architecture", "measured")
    if kind not in kinds:
        raise unknown_name("board", kind, kinds)
    if json_ + markdown + csv > 1:
        raise SkylineError("--json, --markdown and --csv exclude each other; choose one")
    if readme is not None and (json_ or csv):
        raise SkylineError("--readme writes Markdown into a file; leave out --json and --csv")
    _only_for(kind, ["published"], "table", table)
    _only_for(kind, ["measured"], "task", task)
    _only_for(kind, ["measured", "architecture"], "model", model)
    whole, folder = True, None
    if kind == "published":
        tables = _profiles_dir(profiles, "published")
        made = published_board(tables, "ganesh2021" if table is None else table, axis)
    else:
        folder = _profiles_dir(profiles, "measured")
        records, whole = _read_records(folder)
        cards, axis = installed_cards(), "disk" if axis is None else axis
        try:
            if kind == "architecture":
                base = "bert-base" if model is None else model
                made = architecture_board(records, base, cards=cards, axis=axis)
            else:
                made = measured_board(records, model, task, cards=cards, axis=axis)
        except SkylineError as error:
            raise SkylineError(f"{error}{_other_records(profiles, folder)}") from None
    if readme is not None:
        update_readme(readme, f"{kind}-{table}" if table else kind, to_markdown(made))
    elif json_:
        typer.echo(to_json(made))
    elif markdown:
        typer.echo(to_markdown(made), nl=False)
    elif csv:
        typer.echo(to_csv(made), nl=False)
    else:
        print_board(made)
    _say_folder(profiles, folder)
    if not whole:
        raise typer.Exit(1)


@app.command()
def site(
    out: Annotated[Path, typer.Option(help="Folder for index.html.")] = Path("site"),
    profiles: Profiles = None,
) -> None:
    """Write the leaderboard as one self-contained page. Exit status 1: a file among the records is none."""
    from leaderboard import (
        architecture_board,
        installed_cards,
        measured_board,
        published_board,
        read_ledger,
        write_page,
    )
    from leaderboard.published_boards import TABLES

    folder, tables = _profiles_dir(profiles, "measured"), _profiles_dir(profiles, "published")
    records, whole = _read_records(folder)
    cards, boards = installed_cards(), []
    kinds: dict[str, Callable[..., Board]] = {"measured": measured_board, "architecture": architecture_board}
    for kind, make in kinds.items():
        try:
            boards.append(make(records, cards=cards))
        except SkylineError as error:
            typer.echo(f"no {kind} board: {error}", err=True)
    boards += [published_board(tables, table) for table in TABLES]
    write_page(out / "index.html", boards, read_ledger(tables))
    typer.echo(f"wrote {out / 'index.html'}")
    _say_folder(profiles, folder)
    if not whole:
        raise typer.Exit(1)


@app.command()
def check(
    paths: Annotated[
        list[Path], typer.Argument(help="Records, artifacts, suites, task descriptions or adapter files.")
    ],
) -> None:
    """Check records, artifacts, suites, tasks' descriptions and adapter files."""
    from harness.check import check_path

    bad = False
    for path in paths:
        problems = check_path(path)
        bad = bad or bool(problems)
        for problem in problems:
            typer.echo(f"{path}: {problem}", err=True)
        if not problems:
            typer.echo(f"{path}: ok")
    if bad:
        raise typer.Exit(2)


@app.command("new-method")
def new_method(
    identity: Annotated[str, typer.Argument(metavar="ID", help="The method's id, such as 'my-pruning'.")],
    family: Annotated[str, typer.Option(help="One of the families, such as 'quantization'.")],
    folder: Annotated[Path, typer.Option(help="The folder that holds the families.")] = Path("methods"),
) -> None:
    """Write a new adapter file to fill in."""
    from harness.scaffold import write_adapter

    typer.echo(
        f"wrote {write_adapter(identity, family, folder)}; fill in the card, then run 'skyline check' on it"
    )


def main() -> None:
    """Run the command: one line on stderr and status 2 for a user's mistake, 1 where cells failed."""
    try:
        status = app(standalone_mode=False)
    except SkylineError as error:
        _stop(str(error), 2)
    except USAGE_ERROR as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            typer.echo(error, err=True)
            raise SystemExit(2) from None
        _stop(_usage(error), 2)
    except (typer.Abort, KeyboardInterrupt):
        _interrupted()
    except BrokenPipeError:
        os._exit(1)
    except Exception as error:
        known = _in_words(error)
        if known is None:
            raise
        _stop(*known)
    if status == INTERRUPTED:
        _interrupted()
    raise SystemExit(status if isinstance(status, int) else 0)


def _interrupted() -> NoReturn:
    line = "skyline: interrupted; what is recorded stays, run the same command to go on"
    print(line, file=sys.stderr, flush=True)
    # Cells' processes end with this one; waiting for their threads would wait for their trainings.
    os._exit(1)


def _in_words(error: Exception) -> tuple[str, int] | None:
    """The line and exit status for an error that no command words itself; None for a fault of this program."""
    from pydantic import ValidationError

    from harness.isolation import IsolationError
    from harness.validation import first_fault

    if isinstance(error, OSError):
        what = error.filename or "the folders that this command writes to"
        return f"cannot use {what} ({error.strerror or error}); check path, permissions and space", 2
    if isinstance(error, ValidationError):
        return f"{error.title}: {first_fault(error).line}", 2
    if isinstance(error, IsolationError):
        hint = "; use a smaller --batch or --seq" if getattr(error, "out_of_memory", False) else ""
        return f"the measurement failed: {error}{hint}", 1
    return None


def _usage(error: Any) -> str:
    from harness.validation import plain

    command = error.ctx.command_path if error.ctx is not None else "skyline"
    option, colon, problem = error.format_message().rstrip(".").partition("': ")
    return f"{option}{colon}{plain(problem)}; see '{command} --help'"


def _stop(message: str, status: int) -> NoReturn:
    print(f"skyline: {' '.join(message.split())}", file=sys.stderr)
    raise SystemExit(status)
