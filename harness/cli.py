"""The command `skyline`. Each command imports what it needs when it runs, so that `--help` answers at once."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from harness.errors import SkylineError, nearest
from harness.version import __version__

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

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", help="Folder in GLUE's layout [default: SKYLINE_DATA_DIR, else the hub]."),
]
Profiles = Annotated[Path | None, typer.Option("--profiles", help="Folder of records [default: ./profiles].")]


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
    from harness.profiling.inputs import make_workload
    from harness.profiling.report import print_profile
    from harness.recipe import Recipe

    cell = ProfileCell(
        recipe=str(Recipe.parse(recipe)),
        model=model,
        seed=seed,
        runtime=runtime,
        device=device,
        workload=make_workload(seq, batch),
        time_cap_s=time_cap,
    )
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
        str | None, typer.Option(help="Base model [default: the suite's, or minilm-l6].")
    ] = None,
    task: Annotated[list[str] | None, typer.Option(help="A task; several times for several.")] = None,
    seeds: Annotated[
        int | None, typer.Option(help="Number of seeds: 0, 1, … [default: the suite's, or 1].")
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
    from harness.run import make_plan, run_cells
    from harness.store import Store
    from harness.suites import chosen_suite

    budget = {
        "epochs": epochs,
        "learning_rate": learning_rate,
        "batch_size": batch_size,
        "precision": precision,
        "examples": examples,
    }
    data = _data_dir(data_dir)
    chosen = chosen_suite(
        suite, recipe, model, task, seeds, {k: v for k, v in budget.items() if v is not None}, profile_
    )
    cells = chosen.cells(data)
    if dry_run:
        plan = make_plan(cells, Store(out, hardware().id), data)
        summary: dict[str, Any] = {
            "cells": [job.cell.slug for job in plan.jobs],
            "fresh": len(plan.fresh),
            "trainings": plan.trainings,
        }
        typer.echo(json.dumps(summary, indent=1) if json_ else _dry_run_text(summary))
        return
    outcome = run_cells(cells, out, data, engine=engine, workers=workers, quiet=json_)
    failed = [
        {"cell": f"{r.recipe} on {r.task}", "status": r.status, "reason": r.reason} for r in outcome.failed
    ]
    if json_:
        typer.echo(
            json.dumps(
                {"recorded": len(outcome.recorded), "fresh": outcome.fresh, "failed": failed}, indent=1
            )
        )
    else:
        typer.echo(
            f"{len(outcome.recorded)} cells recorded, {outcome.fresh} were up to date; records in {out}/measured"
        )
    for entry in failed:
        typer.echo(f"{entry['cell']}: {entry['status']}: {entry['reason']}", err=True)
    if failed:
        raise typer.Exit(1)


def _data_dir(given: Path | None) -> Path | None:
    named = given or (Path(os.environ["SKYLINE_DATA_DIR"]) if os.environ.get("SKYLINE_DATA_DIR") else None)
    if named is not None and not named.is_dir():
        raise SkylineError(f"there is no data folder {named}; name a folder in GLUE's layout with --data-dir")
    return named


def _dry_run_text(summary: dict[str, Any]) -> str:
    lines = [f"would run {name}" for name in summary["cells"]]
    return "\n".join(
        [*lines, f"{len(lines)} cells, {summary['trainings']} trainings; {summary['fresh']} up to date"]
    )


def _cards() -> dict[str, dict[str, Any]]:
    from harness.discovery import discover

    return {identity: found.method.card.to_dict() for identity, found in discover().methods.items()}


def _profiles_dir(given: Path | None) -> Path | None:
    """The folder of records: the one given, else ./profiles, else the one beside the packages (a checkout)."""
    if given is not None:
        if not given.is_dir():
            raise SkylineError(
                f"there is no folder {given}; name one that 'skyline run --out' wrote, or profiles"
            )
        return given
    beside = Path(__file__).resolve().parent.parent / "profiles"
    return next((folder for folder in (Path("profiles"), beside) if folder.is_dir()), None)


def _boards(
    kind: str, profiles: Path | None, tasks: list[str] | None, model: str | None, axis: str | None
) -> Any:
    from harness.store import read_records
    from leaderboard import architecture_board, measured_board, published_board

    kinds = ("published", "architecture", "measured")
    if kind not in kinds:
        close = nearest(kind, kinds)
        raise SkylineError(
            f"unknown board '{kind}'; "
            + (f"did you mean '{close}'?" if close else f"known: {', '.join(kinds)}")
        )
    folder = _profiles_dir(profiles)
    if kind == "published":
        return published_board(folder, axis=axis)
    records, problems = read_records(folder) if folder is not None else ([], [])
    for problem in problems:
        typer.echo(problem, err=True)
    if kind == "architecture":
        return architecture_board(records, model or "bert-base", cards=_cards(), axis=axis or "disk")
    return measured_board(records, model, tasks, cards=_cards(), axis=axis or "disk")


@app.command()
def board(
    kind: Annotated[str, typer.Argument(help="published, architecture or measured.")] = "measured",
    profiles: Profiles = None,
    task: Annotated[list[str] | None, typer.Option(help="Only these tasks.")] = None,
    model: Annotated[str | None, typer.Option(help="Only this base model.")] = None,
    axis: Annotated[
        str | None, typer.Option(help="The front's cost: disk, flops, latency or memory.")
    ] = None,
    json_: Json = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown.")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    readme: Annotated[
        Path | None, typer.Option(help="Write the Markdown table into this file, between its markers.")
    ] = None,
) -> None:
    """Print a board."""
    from leaderboard import print_board, to_csv, to_json, to_markdown, update_readme

    if json_ + markdown + csv > 1:
        raise SkylineError("--json, --markdown and --csv exclude each other; choose one")
    made = _boards(kind, profiles, task, model, axis)
    if readme is not None:
        update_readme(readme, kind, to_markdown(made))
    elif json_:
        typer.echo(to_json(made))
    elif markdown:
        typer.echo(to_markdown(made), nl=False)
    elif csv:
        typer.echo(to_csv(made), nl=False)
    else:
        print_board(made)


@app.command()
def site(
    out: Annotated[Path, typer.Option(help="Folder for index.html.")] = Path("site"),
    profiles: Profiles = None,
) -> None:
    """Write the leaderboard as one self-contained page."""
    from leaderboard import read_ledger, write_page

    boards = []
    for kind in ("measured", "architecture", "published"):
        try:
            boards.append(_boards(kind, profiles, None, None, None))
        except SkylineError as error:
            typer.echo(f"no {kind} board: {error}", err=True)
    if not boards:
        raise SkylineError("there is nothing to show; run 'skyline run' first or name --profiles")
    write_page(out / "index.html", boards, read_ledger(_profiles_dir(profiles)))
    typer.echo(f"wrote {out / 'index.html'}")


@app.command()
def check(
    paths: Annotated[list[Path], typer.Argument(help="Records, artifacts, suites or adapter files.")],
) -> None:
    """Check records, artifacts, suites and adapter files."""
    from harness.check import check_path

    failed = 0
    for path in paths:
        problems = check_path(path)
        failed += bool(problems)
        for problem in problems:
            typer.echo(f"{path}: {problem}", err=True)
        if not problems:
            typer.echo(f"{path}: ok")
    if failed:
        raise typer.Exit(1)


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
    if status == INTERRUPTED:
        _interrupted()
    raise SystemExit(status if isinstance(status, int) else 0)


def _interrupted() -> NoReturn:
    line = "skyline: interrupted; what is recorded stays, run the same command to go on"
    print(line, file=sys.stderr, flush=True)
    # Cells' processes end with this one; waiting for their threads would wait for their trainings.
    os._exit(1)


def _usage(error: Any) -> str:
    command = error.ctx.command_path if error.ctx is not None else "skyline"
    return f"{error.format_message().rstrip('.')}; see '{command} --help'"


def _stop(message: str, status: int) -> NoReturn:
    print(f"skyline: {' '.join(message.split())}", file=sys.stderr)
    raise SystemExit(status)
