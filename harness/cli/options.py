"""Options and output that several commands share."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from harness.common.errors import Code, SkylineError

RUNS = Path("runs")
"""Default output folder of `run`."""

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", help="Folder in GLUE's layout [default: SKYLINE_DATA_DIR, else the hub]."),
]
Profiles = Annotated[
    Path | None,
    typer.Option("--profiles", help="Folder of records [default: ./profiles, else ./runs]."),
]


def data_folder(given: Path | None) -> Path | None:
    """Return the folder given, else SKYLINE_DATA_DIR's, else None. Raises SkylineError (`not-found`) if it does not
    exist.
    """
    variable = os.environ.get("SKYLINE_DATA_DIR")
    named = given or (Path(variable) if variable else None)
    if named is not None and not named.is_dir():
        raise SkylineError(
            f"there is no data folder {named}; name a folder in GLUE's layout with --data-dir", Code.NOT_FOUND
        )
    return named


def print_json(value: dict[str, Any]) -> None:
    """Print a value as JSON on standard output."""
    typer.echo(json.dumps(value, indent=1, ensure_ascii=False))
