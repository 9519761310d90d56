"""The command `skyline`. Each command imports what it needs when it runs, so that `--help` answers at once."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from harness.cli.boards import board, site
from harness.cli.options import Json
from harness.cli.reproduce import reproduce
from harness.cli.running import profile, run
from harness.errors import SkylineError
from harness.version import __version__

app = typer.Typer(
    name="skyline",
    help="Measure ways to compress BERT-like encoders side by side: size, FLOPs, memory, latency and accuracy.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

USAGE_ERROR: Any = typer.BadParameter.__bases__[0]
"""The usage error of the click that this typer stands on (newer ones carry their own copy)."""

INTERRUPTED = 130
"""What typer turns an interrupt into; older ones raise Abort."""


def _version(show: bool) -> None:
    if show:
        typer.echo(f"skyline {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True)] = False,
) -> None:
    pass


@app.command()
def methods(json_: Json = False) -> None:
    """List the methods with their cards."""
    from harness.discovery import discover

    registry = discover()
    if json_:
        cards = [found.method.card.to_dict() for found in registry.methods.values()]
        typer.echo(
            json.dumps({"methods": cards, "problems": dict(registry.problems)}, indent=1, ensure_ascii=False)
        )
    else:
        for found in registry.methods.values():
            card = found.method.card
            source = f"{card.paper.authors}, {card.paper.year}"
            typer.echo(f"{card.id:18} {card.family:22} {card.fidelity:12} {card.title} ({source})")
    for source, problem in registry.problems.items():
        typer.echo(f"{source}: {problem}", err=True)
    if registry.problems:
        raise typer.Exit(1)


for command in (profile, run, board, reproduce, site):
    app.command()(command)


@app.command()
def check(
    paths: Annotated[
        list[Path], typer.Argument(help="Records, artifacts, suites, task descriptions or adapter files.")
    ],
) -> None:
    """Check records, artifacts, suites, tasks' descriptions and adapter files."""
    from harness.check import check_path

    bad = False
    for path in paths:
        problems = check_path(path)
        bad = bad or bool(problems)
        for problem in problems:
            typer.echo(f"{path}: {problem}", err=True)
        if not problems:
            typer.echo(f"{path}: ok")
    if bad:
        raise typer.Exit(2)


@app.command("new-method")
def new_method(
    identity: Annotated[str, typer.Argument(metavar="ID", help="The method's id, such as 'my-pruning'.")],
    family: Annotated[str, typer.Option(help="One of the families, such as 'quantization'.")],
    folder: Annotated[Path, typer.Option(help="The folder that holds the families.")] = Path("methods"),
) -> None:
    """Write a new adapter file to fill in."""
    from harness.scaffold import write_adapter

    typer.echo(
        f"wrote {write_adapter(identity, family, folder)}; fill in the card, then run 'skyline check' on it"
    )


def main() -> None:
    """Run the command: one line on stderr and status 2 for a user's mistake, 1 where cells failed."""
    try:
        status = app(standalone_mode=False)
    except SkylineError as error:
        _stop(str(error), 2)
    except USAGE_ERROR as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            typer.echo(error, err=True)
            raise SystemExit(2) from None
        _stop(_usage(error), 2)
    except (typer.Abort, KeyboardInterrupt):
        _interrupted()
    except BrokenPipeError:
        os._exit(1)
    except Exception as error:
        known = _in_words(error)
        if known is None:
            raise
        _stop(*known)
    if status == INTERRUPTED:
        _interrupted()
    raise SystemExit(status if isinstance(status, int) else 0)


def _interrupted() -> NoReturn:
    line = "skyline: interrupted; what is recorded stays, run the same command to go on"
    print(line, file=sys.stderr, flush=True)
    # Cells' processes end with this one; waiting for their threads would wait for their trainings.
    os._exit(1)


def _in_words(error: Exception) -> tuple[str, int] | None:
    """The line and exit status for an error that no command words itself; None for a fault of this program."""
    from pydantic import ValidationError

    from harness.isolation import IsolationError
    from harness.validation import first_fault

    if isinstance(error, OSError):
        what = error.filename or "the folders that this command writes to"
        return f"cannot use {what} ({error.strerror or error}); check path, permissions and space", 2
    if isinstance(error, ValidationError):
        return f"{error.title}: {first_fault(error).line}", 2
    if isinstance(error, IsolationError):
        hint = "; use a smaller --batch or --seq" if getattr(error, "out_of_memory", False) else ""
        return f"the measurement failed: {error}{hint}", 1
    return None


def _usage(error: Any) -> str:
    from harness.validation import plain

    command = error.ctx.command_path if error.ctx is not None else "skyline"
    option, colon, problem = error.format_message().rstrip(".").partition("': ")
    return f"{option}{colon}{plain(problem)}; see '{command} --help'"


def _stop(message: str, status: int) -> NoReturn:
    print(f"skyline: {' '.join(message.split())}", file=sys.stderr)
    raise SystemExit(status)
