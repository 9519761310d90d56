"""`skyline board`: print a board or a table beside it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.options import Json, Profiles
from harness.cli.record_folders import other_records, profiles_folder, read_whole, say_folder
from harness.common.errors import SkylineError, unknown_name
from harness.common.lazy import lazy_imports

with lazy_imports():
    from leaderboard.boards import architecture, claims, measured, published
    from leaderboard.findings import curves, findings
    from leaderboard.survey import (
        artifacts,
        breakdown,
        breakdown_chart,
        claims_ledger,
        reproduction,
        roofline,
        workload_grid,
    )
    from leaderboard.tables import boards as board_text
    from leaderboard.tables import plain, terminal


if TYPE_CHECKING:
    pass


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
        tables = profiles_folder(profiles, "published")
        made = published.published_board(tables, "ganesh2021" if table is None else table, axis)
    else:
        folder = profiles_folder(profiles, "measured")
        records, whole = read_whole(folder)
        cards, axis = claims.installed_cards(), "disk" if axis is None else axis
        try:
            if kind == "architecture":
                base = "bert-base" if model is None else model
                made = architecture.architecture_board(records, base, cards=cards, axis=axis)
            else:
                made = measured.measured_board(records, model, task, cards=cards, axis=axis)
        except SkylineError as error:
            raise SkylineError(f"{error}{other_records(profiles, folder)}") from None
    if front:
        made = made.front()
    if readme is not None:
        marker = "-".join(part for part in (kind, table, "front" if front else None) if part)
        board_text.update_readme(readme, marker, board_text.to_markdown(made))
    elif json_:
        typer.echo(board_text.to_json(made))
    elif markdown:
        typer.echo(board_text.to_markdown(made), nl=False)
    elif csv:
        typer.echo(board_text.to_csv(made), nl=False)
    else:
        terminal.print_board(made)
    say_folder(profiles, folder)
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
    if table not in SMALL_TABLES[kind]:
        raise unknown_name(f"table of the {kind} board", table, SMALL_TABLES[kind])
    folder = profiles_folder(profiles, "measured")
    records, whole = read_whole(folder)
    if table == "findings":
        made = findings.findings_table(records)
    elif table == "curves":
        made = curves.curves_table(records, cards=claims.installed_cards())
    elif table == "realised":
        made = roofline.realisation_table(records, cards=claims.installed_cards())
    elif table == "breakdown":
        costs = breakdown.breakdown_of(records)
        made = breakdown.breakdown_table(costs)
        if chart is not None:
            breakdown_chart.write_chart(costs, chart)
            typer.echo(f"wrote {chart}", err=True)
    elif table == "reproduction":
        usual = [record for record in records if record.kind == "profile" and reproduction.is_usual(record)]
        made = reproduction.reproduction_table(usual, profiles_folder(profiles, "published"))
    elif table == "grid":
        made = workload_grid.grid_table(records, profiles_folder(profiles, "published"))
    elif table == "claims":
        made = claims_ledger.claims_table(
            claims_ledger.measured_claims(records, profiles_folder(profiles, "published"))
        )
    else:
        made = artifacts.sizes_table(
            records, profiles_folder(profiles, "published"), claims.installed_cards()
        )
    if readme is not None:
        board_text.update_readme(readme, table, plain.to_markdown(made))
    elif form == "json":
        typer.echo(json.dumps(made.to_dict(), indent=1, ensure_ascii=False))
    else:
        write = {"markdown": plain.to_markdown, "csv": plain.to_csv}.get(form, plain.to_text)
        typer.echo(write(made), nl=False)
    say_folder(profiles, folder)
    if not whole:
        raise typer.Exit(1)


def _only_for(kind: str, allowed: Sequence[str], option: str, value: object) -> None:
    """Refuse an option that this kind of board does not have."""
    if value not in (None, []) and kind not in allowed:
        raise SkylineError(
            f"--{option} is for the {' or '.join(allowed)} board; leave it out of 'board {kind}'"
        )
