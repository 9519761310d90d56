"""The command `skyline`: its subcommands, exit statuses and one-line errors."""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any, NoReturn

import typer

from harness.cli.board import board
from harness.cli.check import check
from harness.cli.lock import lock
from harness.cli.methods import methods
from harness.cli.new_method import new_method
from harness.cli.profile import profile
from harness.cli.reproduce import reproduce
from harness.cli.run import run
from harness.cli.site import site
from harness.common.errors import SkylineError
from harness.common.lazy import lazy_imports
from harness.version import __version__

with lazy_imports():
    import pydantic

    from harness.common import processes, validation

app = typer.Typer(
    name="skyline",
    help="Compare ways to compress BERT-like encoders by size, FLOPs, memory, latency and accuracy.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

USAGE_ERROR: Any = typer.BadParameter.__bases__[0]
"""UsageError of the click that typer uses. Newer versions of typer contain their own copy of click."""

INTERRUPTED = 130
"""Status that typer returns after an interrupt. Older versions raise Abort instead."""


def _version(show: bool) -> None:
    if show:
        typer.echo(f"skyline {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True)] = False,
) -> None:
    pass


for command in (methods, profile, run, board, reproduce, site, check, lock):
    app.command()(command)
app.command("new-method")(new_method)


def main() -> None:
    """Run the command. Exit status 0: it worked; 1: a cell or the measurement failed, or it was interrupted; 2: the
    user made a mistake, which one line on stderr explains.
    """
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
        explained = _explain(error)
        if explained is None:
            raise
        _stop(*explained)
    if status == INTERRUPTED:
        _interrupted()
    raise SystemExit(status if isinstance(status, int) else 0)


def _interrupted() -> NoReturn:
    line = "skyline: interrupted; records are kept, run the same command to continue"
    print(line, file=sys.stderr, flush=True)
    # Child processes end with this process. A normal exit would wait for the threads that wait for them.
    os._exit(1)


def _explain(error: Exception) -> tuple[str, int] | None:
    """Return message and exit status for an error that is not a SkylineError, or None for a bug in this program."""
    if isinstance(error, OSError):
        path = error.filename or "the folders that this command writes to"
        return f"cannot use {path} ({error.strerror or error}); check path, permissions and disk space", 2
    if isinstance(error, pydantic.ValidationError):
        return f"{error.title}: {validation.first_fault(error).line}", 2
    if isinstance(error, processes.IsolationError):
        hint = "; use a smaller --batch or --seq" if getattr(error, "out_of_memory", False) else ""
        return f"the measurement failed: {error}{hint}", 1
    return None


def _usage(error: Any) -> str:
    command = error.ctx.command_path if error.ctx is not None else "skyline"
    option, colon, problem = error.format_message().rstrip(".").partition("': ")
    return f"{option}{colon}{validation.plain(problem)}; see '{command} --help'"


def _stop(message: str, status: int) -> NoReturn:
    print(f"skyline: {' '.join(message.split())}", file=sys.stderr)
    raise SystemExit(status)
