"""Runtimes: what executes an artifact. One file each; `eager` is PyTorch as it stands."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from harness.common.errors import unknown_name
from harness.runtimes.base import Executable, Execution, Runtime

__all__ = ["Executable", "Execution", "Runtime", "get_runtime", "load", "refused_exits", "runtime_names"]

_HOME = {
    "compile": ("harness.runtimes.compiled", "CompiledRuntime"),
    "cuda-graphs": ("harness.runtimes.cuda_graphs", "CudaGraphsRuntime"),
    "eager": ("harness.runtimes.eager", "EagerRuntime"),
    "onnxruntime": ("harness.runtimes.onnx_runtime", "OnnxRuntime"),
    "openvino": ("harness.runtimes.openvino_runtime", "OpenvinoRuntime"),
}
"""Where each runtime lives: imported on first use, since each needs a library of its own."""


def runtime_names() -> tuple[str, ...]:
    """The names of all runtimes."""
    return tuple(sorted(_HOME))


def get_runtime(name: str) -> Runtime:
    """The runtime of that name, installed or not. Raises SkylineError (with the nearest name) where there is none."""
    if name not in _HOME:
        raise unknown_name("runtime", name, _HOME)
    module, attribute = _HOME[name]
    runtime = getattr(import_module(module), attribute)()
    assert isinstance(runtime, Runtime)
    return runtime


def load(execution: Execution) -> Executable:
    """An artifact, ready to run as `execution` says. Raises what `Runtime.load` raises."""
    runtime = get_runtime(execution.runtime)
    return runtime.load(execution.folder, execution.device, execution.precision, execution.prepared)


def refused_exits(runtime: Runtime, config: Any) -> str | None:
    """Why a runtime cannot run a model of this configuration: rows would leave early, but it runs all of them to the
    end. None where it can.
    """
    if getattr(config, "exit_rule", None) is None or runtime.exits_early:
        return None
    able = " or ".join(name for name in runtime_names() if get_runtime(name).exits_early)
    return f"runtime '{runtime.name}' cannot let rows exit early, as this recipe's artifact does; use {able}"
