"""Run one cell in a process of its own: a fresh child, forked from a warm server that has torch and the
harness imported.

The parent sleeps in one blocking call until the child has something to say, so that it takes no processor
time while the child is timed. A child never outlives its parent, however the parent ends.
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
    "torch._dynamo",  # what torch imports when it first counts on shapes alone, or makes an optimizer
    "harness.recipes.builder",
    "harness.runs.cell_execution",
    "harness.profiling.profile",
    "harness.profiling.costs.size",
    "harness.runtimes.eager",
    "numpy.ctypeslib",
    "numpy.ma",
    "harness.common.preload",  # the last
)
"""What the server imports once for all children. None may start threads, as onnxruntime and openvino do: they would
not survive the fork. Nor may it import methods: a file that is edited would stay as it was.
"""

OUT_OF_MEMORY = (
    "not enough memory",
    "bad_alloc",
    "bad allocation",
    "failed to allocate memory",
    "out of memory",
)
"""What torch, ONNX Runtime and OpenVINO say, whatever the exception's class."""

_HIDING = threading.Lock()
"""Of two threads that start a child at once, one would keep the other's stand-in for the main module."""

_LINGER_S = 5.0
"""How long a child may take to end after it has handed over its result."""


class IsolationError(Exception):
    """A child failed for a reason that is no user's mistake; its message is one line."""


class ChildDied(IsolationError):
    """The child ended without a result. `exitcode` is negative where a signal killed it (then `signal` names
    that).
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
        """Whether it looks as if the system killed the child for its memory."""
        return self.signal == "SIGKILL"


class ChildRaised(IsolationError):
    """The function raised. `type_name` is the exception's class, `details` the child's traceback."""

    def __init__(self, type_name: str, message: str, details: str) -> None:
        self.type_name, self.said, self.details = type_name, message, details
        first = message.strip().splitlines()[0] if message.strip() else "no message"
        super().__init__(f"{type_name}: {first}")

    @property
    def out_of_memory(self) -> bool:
        """Whether the child ran out of memory, its own or an accelerator's."""
        if self.type_name in ("MemoryError", "OutOfMemoryError"):
            return True
        return any(phrase in self.said.lower() for phrase in OUT_OF_MEMORY)


class CellTimeout(IsolationError):
    """The child was ended because it ran longer than allowed."""


def run_isolated(
    function: Callable[..., T],
    /,
    *args: Any,
    timeout_s: float | None = None,
    on_message: Callable[[Any], None] | None = None,
    **kwargs: Any,
) -> T:
    """Run `function(*args, **kwargs)` in a fresh child and return its result.

    `function` must stand at the top of an importable module. Arguments, result and messages travel through a
    pipe: plain values and NumPy arrays, no tensors (these would be shared, not sent). A function with a
    parameter `report` is given a callable that hands messages to `on_message` in this process. The child has
    this process's environment and working directory; it ends with it.

    Raises what the function raises where that is a SkylineError, else ChildRaised; ChildDied where the child
    ends without a result; CellTimeout after `timeout_s` seconds. An interrupt here ends the child.
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
    """Start the server, unless it runs, and return at once: it imports meanwhile. A child is told this process's
    environment in any case.
    """
    multiprocessing.get_context("forkserver").set_forkserver_preload(list(PRELOAD))
    multiprocessing.forkserver.ensure_running()


def await_server() -> None:
    """Start the server, unless it runs, and return when it has imported what it imports: the next child is there at
    once.
    """
    run_isolated(_nothing)


def _nothing() -> None:
    """Runs in the child."""


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
            raise CellTimeout(f"it ran longer than {timeout_s:g} s and was ended")
        if reader not in ready:
            raise _death(process)
        try:
            kind, content = reader.recv()
        except (EOFError, OSError):
            raise _death(process) from None
        if kind == "result":
            return content
        if kind == "error":
            raise _users_mistake(*content)
        if kind == "raised":
            raise ChildRaised(*content)
        if on_message is not None:
            on_message(content)


def _users_mistake(type_name: str, message: str, code: errors.Code) -> SkylineError:
    """The error under its own class where `harness.common.errors` has that."""
    known = getattr(errors, type_name, SkylineError)
    mistake: SkylineError = (known if issubclass(known, SkylineError) else SkylineError)(message, code)
    return mistake


def _death(process: BaseProcess) -> ChildDied:
    process.join()
    return ChildDied(process.exitcode if process.exitcode is not None else 1)


def _end(process: ForkServerProcess) -> None:
    """End the child and whatever it started, if it still runs."""
    if process.pid is None:
        return
    if process.is_alive():
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:  # it has not come as far as making its own group
            process.kill()
    process.join()
    process.close()


@contextmanager
def _hidden_main() -> Iterator[None]:
    """Keep multiprocessing from running the user's main script again in the child: nothing in it is needed
    there.
    """
    with _HIDING:
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
    # A group of its own: an interrupt at the terminal goes to the parent alone, which then ends the group.
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
    """Watch the parent from a sleeping thread; when it is gone, by kill -9 too, kill this process and all it
    started.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    sentinel = parent.sentinel

    def watch() -> None:
        connection.wait([sentinel])
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()
