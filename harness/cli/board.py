"""`skyline board`: print a board, or a table that goes with it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from harness.cli import record_folders
from harness.cli.options import Json, Profiles
from harness.common.errors import Code, SkylineError
from harness.common.lazy import lazy_imports
from leaderboard import registry

with lazy_imports():
    from leaderboard.boards import board as boards
    from leaderboard.site import chart_files
    from leaderboard.tables import plain, printing


def board(
    kind: Annotated[
        str,
        typer.Argument(
            help="measured, archive, architecture or published, or NAME for the board that boards/NAME.toml in the "
            "folder declares."
        ),
    ] = "measured",
    profiles: Profiles = None,
    table: Annotated[
        str | None, typer.Option(help=f"Print this table instead of the board; {registry.tables_in_words()}.")
    ] = None,
    task: Annotated[list[str] | None, typer.Option(help="Only these tasks.")] = None,
    model: Annotated[str | None, typer.Option(help="Only this base model.")] = None,
    axis: Annotated[
        str | None,
        typer.Option(
            help="The cost of the front: size, or a cost with its workload and runtime, such as flops-real or "
            "latency-real-best; for architecture disk, flops, latency or memory; a published table has its own."
        ),
    ] = None,
    front: Annotated[
        bool, typer.Option("--front", help="Only the rows on the Pareto front, and the baseline.")
    ] = False,
    json_: Json = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown.")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    readme: Annotated[
        Path | None, typer.Option(help="Write the Markdown table between the markers in this file.")
    ] = None,
    chart: Annotated[
        Path | None,
        typer.Option(help="Write the board's front, or the chart of breakdown, to this SVG or PNG file."),
    ] = None,
) -> None:
    """Print a board. Exit status 1: a record could not be read and was left out."""
    known = kind in registry.ENTRIES
    entry = registry.find(kind, table, () if known else record_folders.boards_declared(profiles))
    if json_ + markdown + csv > 1:
        raise SkylineError("--json, --markdown and --csv exclude each other; choose one", Code.CONFLICT)
    if readme is not None and (json_ or csv):
        raise SkylineError("--readme writes Markdown; leave out --json and --csv", Code.CONFLICT)
    choice = registry.Choice(task, model, axis, front)
    entry.check(choice, chart)
    if chart is not None:
        chart_files.check_format(chart)
    found = record_folders.read_sources(profiles, entry.needs)
    try:
        made = entry.build(found.sources, choice)
    except SkylineError as error:
        raise SkylineError(f"{error}{found.others if found.folder else ''}", error.code) from None
    if front and isinstance(made, boards.Board):
        made = made.front()
    if chart is not None and entry.draw is not None:
        chart_files.write_chart(entry.draw(found.sources, made), chart)
        typer.echo(f"wrote {chart}", err=True)
    if readme is not None:
        plain.update_readme(readme, _marker(kind, entry, table, front), printing.to_markdown(made))
    elif json_:
        typer.echo(printing.to_json(made))
    elif markdown:
        typer.echo(printing.to_markdown(made), nl=False)
    elif csv:
        typer.echo(printing.to_csv(made), nl=False)
    else:
        printing.print_to_terminal(made)
    found.finish()


def _marker(kind: str, entry: registry.Entry[Any], table: str | None, front: bool) -> str:
    """Name the markers: a table's name, or the board's with `--table` and `--front` after it."""
    if entry.name and not entry.options:
        return entry.name
    return "-".join([kind, *([table] if table else []), *(["front"] if front else [])])
