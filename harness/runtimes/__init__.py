"""Runtimes: what executes an artifact. One file each; `eager` is PyTorch as it stands."""

from __future__ import annotations

from importlib import import_module

from harness.errors import unknown_name
from harness.runtimes.base import Executable, Runtime

__all__ = ["Executable", "Runtime", "get_runtime", "runtime_names"]

_HOME = {"eager": ("harness.runtimes.eager", "EagerRuntime")}
"""Where each runtime lives: imported on first use, since each needs a library of its own."""


def runtime_names() -> tuple[str, ...]:
    """The names of all runtimes."""
    return tuple(sorted(_HOME))


def get_runtime(name: str) -> Runtime:
    """The runtime of that name. Raises SkylineError (with the nearest name) where there is none."""
    if name not in _HOME:
        raise unknown_name("runtime", name, _HOME)
    module, attribute = _HOME[name]
    runtime = getattr(import_module(module), attribute)()
    assert isinstance(runtime, Runtime)
    return runtime
