"""Runtimes: the ways to execute an artifact, one in each file. `eager` is plain PyTorch."""

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
"""Module and class of each runtime. They are imported on first use, because most need an optional library."""


def runtime_names() -> tuple[str, ...]:
    """Return the names of all runtimes, sorted."""
    return tuple(sorted(_HOME))


def get_runtime(name: str) -> Runtime:
    """Return the runtime of that name, installed or not. Raises SkylineError (`UNKNOWN_NAME`) if there is none."""
    if name not in _HOME:
        raise unknown_name("runtime", name, _HOME)
    module, attribute = _HOME[name]
    runtime = getattr(import_module(module), attribute)()
    assert isinstance(runtime, Runtime)
    return runtime


def load(execution: Execution) -> Executable:
    """Load an artifact so that it runs as `execution` says. Raises what `Runtime.load` raises."""
    runtime = get_runtime(execution.runtime)
    return runtime.load(execution.folder, execution.device, execution.precision, execution.prepared)


def refused_exits(runtime: Runtime, config: Any) -> str | None:
    """Return why a runtime cannot run a model of this configuration, whose rows exit early; None if it can."""
    if getattr(config, "exit_rule", None) is None or runtime.exits_early:
        return None
    able = " or ".join(name for name in runtime_names() if get_runtime(name).exits_early)
    return f"runtime '{runtime.name}' cannot let rows exit early, as this recipe's artifact does; use {able}"
