"""`skyline lock`: renew what the lock file holds of methods' behaviour."""

from __future__ import annotations

from typing import Annotated

import typer

from harness.common.lazy import lazy_imports

with lazy_imports():
    import torch

    from harness.conformance import lock as locking
    from harness.recipes import discovery


def lock(
    identities: Annotated[
        list[str] | None,
        typer.Argument(metavar="[ID]...", help="Methods; none: all of them, and the training itself."),
    ] = None,
) -> None:
    """Renew the lock of methods whose behaviour changed on purpose, without a new version of their results."""
    torch.set_num_threads(1)  # the encoders are tiny
    path = locking.lock_file()
    old = locking.read_lock(path) if identities else None
    locking.write_lock(path, locking.renewed(old, discovery.discover(), identities or []))
    typer.echo(f"wrote {path}; commit it with the change")
