"""`skyline new-method`: write an adapter file to fill in."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.common.lazy import lazy_imports

with lazy_imports():
    from harness.conformance import scaffold


def new_method(
    identity: Annotated[str, typer.Argument(metavar="ID", help="The method's id, such as 'my-pruning'.")],
    family: Annotated[str, typer.Option(help="One of the families, such as 'quantization'.")],
    folder: Annotated[Path, typer.Option(help="The folder that holds the families.")] = Path("methods"),
) -> None:
    """Write a new adapter file to fill in."""
    typer.echo(
        f"wrote {scaffold.write_adapter(identity, family, folder)}; fill in the card, then run 'skyline check' on it"
    )
