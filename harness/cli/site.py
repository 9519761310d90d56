"""`skyline site`: write the page."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.options import Profiles
from harness.cli.record_folders import profiles_folder, read_whole, say_folder
from harness.common.errors import SkylineError
from harness.common.lazy import lazy_imports

with lazy_imports():
    from leaderboard.boards import architecture, claims, measured, published
    from leaderboard.site import page
    from leaderboard.survey import (
        breakdown,
        published_ledger,
    )


if TYPE_CHECKING:
    from leaderboard import Board


def site(
    out: Annotated[Path, typer.Option(help="Folder for index.html.")] = Path("site"),
    profiles: Profiles = None,
) -> None:
    """Write the leaderboard as one self-contained page. Exit status 1: a file among the records is none."""
    folder, tables = profiles_folder(profiles, "measured"), profiles_folder(profiles, "published")
    records, whole = read_whole(folder)
    cards, boards = claims.installed_cards(), []
    kinds: dict[str, Callable[..., Board]] = {
        "measured": measured.measured_board,
        "architecture": architecture.architecture_board,
    }
    for kind, make in kinds.items():
        try:
            boards.append(make(records, cards=cards))
        except SkylineError as error:
            typer.echo(f"no {kind} board: {error}", err=True)
    boards += [published.published_board(tables, table) for table in published.TABLES]
    try:
        costs = breakdown.breakdown_of(records)
    except SkylineError as error:
        typer.echo(f"no breakdown: {error}", err=True)
        costs = None
    page.write_page(out / "index.html", boards, published_ledger.read_ledger(tables), costs=costs)
    typer.echo(f"wrote {out / 'index.html'}")
    say_folder(profiles, folder)
    if not whole:
        raise typer.Exit(1)
