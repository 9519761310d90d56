"""`skyline lock`: record the behaviour of methods in the lock file again."""

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
        typer.Argument(metavar="[ID]...", help="Methods [default: all methods, and the training loop]."),
    ] = None,
) -> None:
    """Accept changed behaviour of methods. It goes into the lock file, and their versions stay as they are."""
    torch.set_num_threads(1)  # more threads would not speed up the tiny encoders
    path = locking.lock_file()
    old = locking.read_lock(path) if identities else None
    locking.write_lock(path, locking.renewed(old, discovery.discover(), identities or []))
    typer.echo(f"wrote {path}; commit it with the change")
