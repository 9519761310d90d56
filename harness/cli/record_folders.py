"""Where `board` and `site` find records."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from harness.cli.options import RUNS
from harness.common.errors import SkylineError
from harness.common.lazy import lazy_imports

with lazy_imports():
    from harness.records import store


if TYPE_CHECKING:
    from harness.records.schema import Record


def profiles_folder(given: Path | None, holding: str) -> Path | None:
    """The folder given, else the first of ./profiles, that of `run` and the checkout's with a subfolder `holding`."""
    if given is not None:
        if not given.is_dir():
            raise SkylineError(
                f"there is no folder {given}; name one that 'skyline run --out' wrote, or profiles"
            )
        return given
    beside = Path(__file__).resolve().parents[2] / "profiles"
    return next((folder for folder in (Path("profiles"), RUNS, beside) if (folder / holding).is_dir()), None)


def say_folder(given: Path | None, folder: Path | None) -> None:
    """Say which folder was read where none was named."""
    if given is None and folder is not None:
        typer.echo(f"records of {folder}{other_records(given, folder)}", err=True)


def other_records(given: Path | None, folder: Path | None) -> str:
    """That `run` wrote records which stayed out, where no folder was named."""
    if given is None and folder != RUNS and any((RUNS / "measured").glob("*/*.json")):
        return f"; {RUNS} has others: add --profiles {RUNS}"
    return ""


def read_whole(folder: Path | None) -> tuple[list[Record], bool]:
    """The records of a folder, and whether all are whole; a line on stderr for each file that is none."""
    records, problems = store.read_records(folder) if folder is not None else ([], [])
    for problem in problems:
        typer.echo(f"left out: {' '.join(problem.split())}", err=True)
    return records, not problems
