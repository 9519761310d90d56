"""`skyline methods`: list the installed methods."""

from __future__ import annotations

import typer

from harness.cli.options import Json, print_json
from harness.common.lazy import lazy_imports

with lazy_imports():
    from harness.recipes import discovery


def methods(json_: Json = False) -> None:
    """List the methods with their cards. Exit status 1 if an adapter cannot be loaded."""
    registry = discovery.discover()
    if json_:
        cards = [found.method.card.to_dict() for found in registry.methods.values()]
        print_json({"methods": cards, "problems": dict(registry.problems)})
    else:
        for found in registry.methods.values():
            card = found.method.card
            source = f"{card.paper.authors}, {card.paper.year}"
            typer.echo(f"{card.id:18} {card.family:22} {card.fidelity:12} {card.title} ({source})")
    for source, problem in registry.problems.items():
        typer.echo(f"{source}: {problem}", err=True)
    if registry.problems:
        raise typer.Exit(1)
