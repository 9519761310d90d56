"""`skyline new-method`: write a template for an adapter."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.common.lazy import lazy_imports

with lazy_imports():
    from harness.conformance import scaffold


def new_method(
    identity: Annotated[str, typer.Argument(metavar="ID", help="Id of the method, such as 'my-pruning'.")],
    family: Annotated[str, typer.Option(help="Family of the method, such as 'quantization'.")],
    folder: Annotated[Path, typer.Option(help="Folder with one subfolder per family.")] = Path("methods"),
) -> None:
    """Write a template for the adapter of a new method."""
    path = scaffold.write_adapter(identity, family, folder)
    typer.echo(f"wrote {path}; fill in the card, then run 'skyline check' on it")
