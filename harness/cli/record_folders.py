"""Where `board` and `site` find records and published tables."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import typer

from harness.cli.options import RUNS
from harness.common.errors import Code, SkylineError
from harness.common.lazy import lazy_imports

with lazy_imports():
    from harness.records import store
    from leaderboard import registry
    from leaderboard.boards import claims


@dataclass(frozen=True)
class Found:
    """What was read. `folder` holds the records, None where none were asked for; `whole`: every file is a record."""

    given: Path | None
    folder: Path | None
    sources: registry.Sources
    whole: bool

    @property
    def others(self) -> str:
        """Where no folder was named: that `run` wrote records which stayed out."""
        if self.given is None and self.folder != RUNS and any((RUNS / "measured").glob("*/*.json")):
            return f"; {RUNS} has others: add --profiles {RUNS}"
        return ""

    def finish(self) -> None:
        """Say which folder was read where none was named. Exit with status 1 if a file was not a record."""
        if self.given is None and self.folder is not None:
            typer.echo(f"records of {self.folder}{self.others}", err=True)
        if not self.whole:
            raise typer.Exit(1)


def read_sources(given: Path | None, needs: Collection[registry.Need]) -> Found:
    """Read what `needs` names from a folder. Each file that is not a record gets a line on stderr."""
    folder = _profiles_folder(given, "measured") if "records" in needs else None
    records, problems = store.read_records(folder) if folder is not None else ([], [])
    for problem in problems:
        typer.echo(f"left out: {' '.join(problem.split())}", err=True)
    sources = registry.Sources(
        records=records,
        cards=claims.installed_cards() if "cards" in needs else {},
        tables=_profiles_folder(given, "published") if "tables" in needs else None,
    )
    return Found(given, folder, sources, not problems)


def _profiles_folder(given: Path | None, holding: str) -> Path | None:
    """The folder given, else the first of ./profiles, `run`'s and the checkout's with a subfolder `holding`."""
    if given is not None:
        if not given.is_dir():
            raise SkylineError(
                f"there is no folder {given}; name one that 'skyline run --out' wrote, or profiles",
                Code.NOT_FOUND,
            )
        return given
    checkout = Path(__file__).resolve().parents[2] / "profiles"
    return next(
        (folder for folder in (Path("profiles"), RUNS, checkout) if (folder / holding).is_dir()), None
    )
