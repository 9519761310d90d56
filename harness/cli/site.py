"""`skyline site`: write the page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.options import Profiles
from harness.cli.record_folders import read_sources
from harness.common.errors import SkylineError
from harness.common.files import write_atomically
from harness.common.lazy import lazy_imports
from leaderboard import registry

with lazy_imports():
    from leaderboard.site import page
    from leaderboard.survey import breakdown, published_ledger


def site(
    out: Annotated[Path, typer.Option(help="Folder for index.html.")] = Path("site"),
    profiles: Profiles = None,
) -> None:
    """Write the leaderboard as one self-contained page. Exit status 1: a record could not be read and was left out."""
    found = read_sources(profiles, ("records", "cards", "tables"))
    boards, costs = [], None
    for entry in (registry.MEASURED, registry.ARCHITECTURE, *registry.PUBLISHED):
        try:
            boards.append(entry.build(found.sources, registry.Choice()))
        except SkylineError as error:
            if entry.kind == "published":
                raise
            typer.echo(f"no {entry.kind} board: {error}", err=True)
    try:
        costs = breakdown.breakdown_of(found.sources.records)
    except SkylineError as error:
        typer.echo(f"no breakdown: {error}", err=True)
    ledger = published_ledger.read_ledger(found.sources.tables)
    path = out / "index.html"
    write_atomically(path, page.render_page(boards, ledger, costs=costs))
    typer.echo(f"wrote {path}")
    found.finish()
