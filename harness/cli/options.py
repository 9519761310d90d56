"""Options that several commands take, and what their values must be."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from harness.common.errors import SkylineError

RUNS = Path("runs")
"""Where `run` writes unless it is told otherwise."""

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
    """The folder given or that of SKYLINE_DATA_DIR. Raises SkylineError where it is none."""
    named = given or (Path(os.environ["SKYLINE_DATA_DIR"]) if os.environ.get("SKYLINE_DATA_DIR") else None)
    if named is not None and not named.is_dir():
        raise SkylineError(f"there is no data folder {named}; name a folder in GLUE's layout with --data-dir")
    return named
