"""`skyline check`: find mistakes in files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.common.lazy import lazy_imports

with lazy_imports():
    from harness.conformance import check as checking


def check(
    paths: Annotated[
        list[Path], typer.Argument(help="Records, artifacts, suites, task descriptions or adapter files.")
    ],
) -> None:
    """Find mistakes in files. Exit status 2 if there are any."""
    bad = False
    for path in paths:
        problems = checking.check_path(path)
        bad = bad or bool(problems)
        for problem in problems:
            typer.echo(f"{path}: {problem}", err=True)
        if not problems:
            typer.echo(f"{path}: ok")
    if bad:
        raise typer.Exit(2)
