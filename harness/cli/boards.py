"""`skyline board` and `skyline site`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.options import RUNS, Json, Profiles
from harness.errors import SkylineError, unknown_name

if TYPE_CHECKING:
    from harness.records import Record
    from leaderboard import Board


def board(
    kind: Annotated[str, typer.Argument(help="published, architecture or measured.")] = "measured",
    profiles: Profiles = None,
    table: Annotated[
        str | None,
        typer.Option(
            help="Of published: ganesh2021 [default], gordon2020, movva2022, movva2022-ratios or lilbobby; of "
            "architecture: sizes (beside the survey's), realised (speedups over FLOPs), breakdown (costs by "
            "component), reproduction (the survey's rows measured again), grid (them by workload) or claims (their "
            "ledger); of measured: findings, or curves (accuracy against speed)."
        ),
    ] = None,
    task: Annotated[list[str] | None, typer.Option(help="Only these tasks.")] = None,
    model: Annotated[str | None, typer.Option(help="Only this base model.")] = None,
    axis: Annotated[
        str | None,
        typer.Option(help="The front's cost: disk, flops, latency or memory; of a published table its own."),
    ] = None,
    front: Annotated[
        bool, typer.Option("--front", help="Only the rows on the Pareto front, and the baseline.")
    ] = False,
    json_: Json = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown.")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    readme: Annotated[
        Path | None, typer.Option(help="Write the Markdown table into this file, between its markers.")
    ] = None,
    chart: Annotated[
        Path | None, typer.Option(help="Of breakdown: write its chart into this file, SVG or PNG.")
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
    if chart is not None and (kind, table) != ("architecture", "breakdown"):
        raise SkylineError("--chart is for 'board architecture --table breakdown'; leave it out")
    if kind in SMALL_TABLES and table is not None:
        if axis or task or model or front:
            raise SkylineError(
                f"--axis, --task, --model and --front are for boards; leave them out of --table {table}"
            )
        _small_table(
            kind,
            table,
            profiles,
            readme,
            "json" if json_ else "csv" if csv else "markdown" if markdown else "",
            chart,
        )
        return
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
    if front:
        made = made.front()
    if readme is not None:
        marker = "-".join(part for part in (kind, table, "front" if front else None) if part)
        update_readme(readme, marker, to_markdown(made))
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


SMALL_TABLES = {
    "architecture": ("sizes", "realised", "breakdown", "reproduction", "grid", "claims"),
    "measured": ("findings", "curves"),
}
"""The tables beside these boards, by board."""


def _small_table(
    kind: str, table: str, profiles: Path | None, readme: Path | None, form: str, chart: Path | None = None
) -> None:
    """Print a table that is no board, or write it into a README; and its chart into a file."""
    import json

    from leaderboard import (
        breakdown_of,
        breakdown_table,
        claims_table,
        curves_table,
        findings_table,
        grid_table,
        installed_cards,
        is_usual,
        measured_claims,
        realisation_table,
        reproduction_table,
        sizes_table,
        update_readme,
        write_chart,
    )
    from leaderboard.plain_tables import to_csv, to_markdown, to_text

    if table not in SMALL_TABLES[kind]:
        raise unknown_name(f"table of the {kind} board", table, SMALL_TABLES[kind])
    folder = _profiles_dir(profiles, "measured")
    records, whole = _read_records(folder)
    if table == "findings":
        made = findings_table(records)
    elif table == "curves":
        made = curves_table(records, cards=installed_cards())
    elif table == "realised":
        made = realisation_table(records, cards=installed_cards())
    elif table == "breakdown":
        costs = breakdown_of(records)
        made = breakdown_table(costs)
        if chart is not None:
            write_chart(costs, chart)
            typer.echo(f"wrote {chart}", err=True)
    elif table == "reproduction":
        usual = [record for record in records if record.kind == "profile" and is_usual(record)]
        made = reproduction_table(usual, _profiles_dir(profiles, "published"))
    elif table == "grid":
        made = grid_table(records, _profiles_dir(profiles, "published"))
    elif table == "claims":
        made = claims_table(measured_claims(records, _profiles_dir(profiles, "published")))
    else:
        made = sizes_table(records, _profiles_dir(profiles, "published"), installed_cards())
    if readme is not None:
        update_readme(readme, table, to_markdown(made))
    elif form == "json":
        typer.echo(json.dumps(made.to_dict(), indent=1, ensure_ascii=False))
    else:
        write = {"markdown": to_markdown, "csv": to_csv}.get(form, to_text)
        typer.echo(write(made), nl=False)
    _say_folder(profiles, folder)
    if not whole:
        raise typer.Exit(1)


def site(
    out: Annotated[Path, typer.Option(help="Folder for index.html.")] = Path("site"),
    profiles: Profiles = None,
) -> None:
    """Write the leaderboard as one self-contained page. Exit status 1: a file among the records is none."""
    from leaderboard import (
        architecture_board,
        breakdown_of,
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
    try:
        costs = breakdown_of(records)
    except SkylineError as error:
        typer.echo(f"no breakdown: {error}", err=True)
        costs = None
    write_page(out / "index.html", boards, read_ledger(tables), costs=costs)
    typer.echo(f"wrote {out / 'index.html'}")
    _say_folder(profiles, folder)
    if not whole:
        raise typer.Exit(1)


def _profiles_dir(given: Path | None, holding: str) -> Path | None:
    """The folder given, else the first of ./profiles, that of `run` and the checkout's with a subfolder `holding`."""
    if given is not None:
        if not given.is_dir():
            raise SkylineError(
                f"there is no folder {given}; name one that 'skyline run --out' wrote, or profiles"
            )
        return given
    beside = Path(__file__).resolve().parents[2] / "profiles"
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
