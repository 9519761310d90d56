"""Run one cell in a fresh child process. A server that has already imported torch and the harness forks the child.

The parent waits for the child in one blocking call, so it uses no processor time while the child is timed. A child
never outlives its parent, even if the parent is killed.
"""

from __future__ import annotations

import inspect
import multiprocessing
import multiprocessing.forkserver
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import connection
from multiprocessing.context import ForkServerProcess
from multiprocessing.process import BaseProcess
from types import ModuleType
from typing import Any, TypeVar

from harness.common import errors
from harness.common.errors import SkylineError

T = TypeVar("T")

PRELOAD = (
    "torch",
    "torch._dynamo",  # torch imports it for its first meta tensors or its first optimizer
    "harness.recipes.builder",
    "harness.runs.cell_execution",
    "harness.profiling.profile",
    "harness.profiling.costs.size",
    "harness.runtimes.eager",
    "numpy.ctypeslib",
    "numpy.ma",
    "harness.common.preload",  # must be last
)
"""Modules that the server imports once for all children. They must not start threads (onnxruntime and openvino do), for
threads do not survive a fork. They must not import adapters, or a later edit of an adapter would have no effect.
"""

OUT_OF_MEMORY = (
    "not enough memory",
    "bad_alloc",
    "bad allocation",
    "failed to allocate memory",
    "out of memory",
)
"""Phrases by which torch, ONNX Runtime and OpenVINO report missing memory; the exception's class varies."""

_MAIN_LOCK = threading.Lock()
"""Only one thread at a time may replace the main module. Otherwise a thread could save another's placeholder."""

_LINGER_S = 5.0
"""Seconds that a child may take to end after it sent its result."""


class IsolationError(Exception):
    """A child failed, and not by a mistake of the user. The message is one line."""


class ChildDied(IsolationError):
    """The child ended without a result.

    `exitcode` is negative if a signal killed the child; `signal` then holds the signal's name.
    """

    def __init__(self, exitcode: int) -> None:
        self.exitcode = exitcode
        self.signal: str | None = None
        if exitcode < 0:
            with suppress(ValueError):
                self.signal = signal.Signals(-exitcode).name
            cause = f"was killed by {self.signal or f'signal {-exitcode}'}"
            hint = "; the machine may be out of memory" if self.out_of_memory else ""
        else:
            cause, hint = f"ended with status {exitcode} and no result", ""
        super().__init__(f"the child process {cause}{hint}")

    @property
    def out_of_memory(self) -> bool:
        """Whether the system probably killed the child for its memory: by SIGKILL."""
        return self.signal == "SIGKILL"


class ChildRaised(IsolationError):
    """The function raised an exception. `type_name` is its class, `details` the child's traceback."""

    def __init__(self, type_name: str, message: str, details: str) -> None:
        self.type_name, self.message, self.details = type_name, message, details
        first = message.strip().splitlines()[0] if message.strip() else "no message"
        super().__init__(f"{type_name}: {first}")

    @property
    def out_of_memory(self) -> bool:
        """Whether the child ran out of memory on the host or on the accelerator."""
        if self.type_name in ("MemoryError", "OutOfMemoryError"):
            return True
        return any(phrase in self.message.lower() for phrase in OUT_OF_MEMORY)


class CellTimeout(IsolationError):
    """The child ran longer than allowed and was killed."""


def run_isolated(
    function: Callable[..., T],
    /,
    *args: Any,
    timeout_s: float | None = None,
    on_message: Callable[[Any], None] | None = None,
    **kwargs: Any,
) -> T:
    """Run `function(*args, **kwargs)` in a fresh child and return its result.

    `function` must be defined at the top of an importable module (else TypeError). Arguments, result and messages go
    through a pipe, so they must be plain values or NumPy arrays, not tensors (torch would share their memory). If the
    function has a parameter `report`, it receives a callable that passes messages to `on_message` in this process.
    The child gets this process's environment and working directory. It ends when this process ends or is interrupted.

    Raises the function's own SkylineError with its class and code; ChildRaised for any other exception; ChildDied if
    the child ends without a result; CellTimeout after `timeout_s` seconds.
    """
    if "<locals>" in function.__qualname__ or function.__module__ == "__main__":
        raise TypeError(f"{function.__qualname__} must be a function at the top of an importable module")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOAD))
    reader, writer = context.Pipe(duplex=False)
    call = (function, args, kwargs, dict(os.environ))
    process = context.Process(target=_child, args=(writer, *call), name=f"skyline-{function.__name__}")
    try:
        with _hidden_main():
            process.start()
        writer.close()
        result: T = _receive(process, reader, timeout_s, on_message)
        process.join(_LINGER_S)
        return result
    finally:
        _end(process)
        reader.close()
        writer.close()


def start_server() -> None:
    """Start the server if it is not running, and return at once while it imports its modules."""
    multiprocessing.get_context("forkserver").set_forkserver_preload(list(PRELOAD))
    multiprocessing.forkserver.ensure_running()


def await_server() -> None:
    """Start the server if it is not running, and return after its imports. The next child then starts at once."""
    run_isolated(_nothing)


def _nothing() -> None:
    """Do nothing. The child that runs it can start only after the server's imports."""


def _receive(
    process: ForkServerProcess,
    reader: connection.Connection,
    timeout_s: float | None,
    on_message: Callable[[Any], None] | None,
) -> Any:
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    while True:
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        ready = connection.wait([reader, process.sentinel], left)
        if not ready:
            raise CellTimeout(f"it ran longer than {timeout_s:g} s and was killed")
        if reader not in ready:
            raise _death(process)
        try:
            kind, content = reader.recv()
        except (EOFError, OSError):
            raise _death(process) from None
        if kind == "result":
            return content
        if kind == "error":
            raise _same_error(*content)
        if kind == "raised":
            raise ChildRaised(*content)
        if on_message is not None:
            on_message(content)


def _same_error(type_name: str, message: str, code: errors.Code) -> SkylineError:
    """Make the child's error again, with its own class if `harness.common.errors` defines it."""
    known = getattr(errors, type_name, SkylineError)
    error: SkylineError = (known if issubclass(known, SkylineError) else SkylineError)(message, code)
    return error


def _death(process: BaseProcess) -> ChildDied:
    process.join()
    return ChildDied(process.exitcode if process.exitcode is not None else 1)


def _end(process: ForkServerProcess) -> None:
    """Kill the child and its own children if it is still running."""
    if process.pid is None:
        return
    if process.is_alive():
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:  # the child has not made its process group yet
            process.kill()
    process.join()
    process.close()


@contextmanager
def _hidden_main() -> Iterator[None]:
    """Keep multiprocessing from running the user's main script again in the child."""
    with _MAIN_LOCK:
        main = sys.modules["__main__"]
        sys.modules["__main__"] = ModuleType("__main__")
        try:
            yield
        finally:
            sys.modules["__main__"] = main


def _child(
    writer: connection.Connection,
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    environment: dict[str, str],
) -> None:
    # In its own process group, the child does not get Ctrl-C from the terminal: the parent does, and kills the group.
    os.setpgid(0, 0)
    _end_with_parent()
    os.environ.clear()
    os.environ.update(environment)
    try:
        if "report" in inspect.signature(function).parameters:
            kwargs = {**kwargs, "report": lambda message: writer.send(("message", message))}
        writer.send(("result", function(*args, **kwargs)))
    except SkylineError as error:
        writer.send(("error", (type(error).__name__, str(error), error.code)))
    except Exception as error:
        writer.send(("raised", (type(error).__name__, str(error), traceback.format_exc())))


def _end_with_parent() -> None:
    """Kill this process and its children when the parent ends, even by kill -9. A sleeping thread watches it."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    sentinel = parent.sentinel

    def watch() -> None:
        connection.wait([sentinel])
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()
