"""Find the folders of records and published tables, and read them, for `board` and `site`."""

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
    from leaderboard.boards import claims, declaration


@dataclass(frozen=True)
class Found:
    """What was read. `folder` held the records (None: no records were needed); `whole`: no file was left out."""

    given: Path | None
    folder: Path | None
    sources: registry.Sources
    whole: bool

    @property
    def others(self) -> str:
        """A hint for readers who named no folder: `run` wrote records that were not read. Otherwise empty."""
        if self.given is None and self.folder != RUNS and any((RUNS / "measured").glob("*/*.json")):
            return f"; {RUNS} has others: add --profiles {RUNS}"
        return ""

    def finish(self) -> None:
        """Print which folder was read if the reader named none. Exit with status 1 if a record was left out."""
        if self.given is None and self.folder is not None:
            typer.echo(f"records of {self.folder}{self.others}", err=True)
        if not self.whole:
            raise typer.Exit(1)


def read_sources(given: Path | None, needs: Collection[registry.Need]) -> Found:
    """Read the sources in `needs`. Prints a line to stderr for each file that is not a valid record.

    Raises SkylineError (not-found) if the folder `given` does not exist.
    """
    folder = _profiles_folder(given, "measured") if "records" in needs else None
    records, problems = store.read_records(folder) if folder is not None else ([], [])
    for problem in problems:
        typer.echo(f"left out: {' '.join(problem.split())}", err=True)
    sources = registry.Sources(
        records=records,
        boards=declaration.declared_boards(folder),
        cards=claims.installed_cards() if "cards" in needs else {},
        tables=_profiles_folder(given, "published") if "tables" in needs else None,
    )
    return Found(given, folder, sources, not problems)


def boards_declared(given: Path | None) -> list[str]:
    """List the boards that files of the records' folder declare. Raises as `read_sources` does."""
    return list(declaration.declared_boards(_profiles_folder(given, "measured")))


def _profiles_folder(given: Path | None, holding: str) -> Path | None:
    """Choose the folder given, else the first of ./profiles, ./runs and the checkout's that has a folder `holding`."""
    if given is not None:
        if not given.is_dir():
            raise SkylineError(
                f"the folder {given} does not exist; name one that 'skyline run --out' wrote, or profiles",
                Code.NOT_FOUND,
            )
        return given
    checkout = Path(__file__).resolve().parents[2] / "profiles"
    return next(
        (folder for folder in (Path("profiles"), RUNS, checkout) if (folder / holding).is_dir()), None
    )
