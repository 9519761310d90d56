"""The cost axes of boards: each names its cost and, for measured costs, the workload and the runtime."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from harness.common.errors import unknown_name
from harness.records.costs import Cost
from harness.records.schema import Workload

BEST = "best"
"""Stands for two runtimes: that in which the row's own passes are fastest, and that in which the baseline's are."""


@dataclass(frozen=True)
class Axis:
    """A cost on which rows can be compared; less is better. A printed figure is the row's cost × `scale`.

    `workload` and `runtime` are None if the cost does not depend on them; `runtime` may be `BEST`.
    """

    key: str
    title: str
    unit: str
    scale: float = 1.0
    decimals: int = 1
    cost: Cost | None = None
    workload: Workload | None = None
    runtime: str | None = None

    @property
    def label(self) -> str:
        """The title and the unit, such as `Size on disk (MB)`."""
        return f"{self.title} ({self.unit})"


AXES: Mapping[str, Axis] = MappingProxyType(
    {
        axis.key: axis
        for axis in (
            Axis("disk", "Size on disk", "MB", scale=1e-6, cost="disk"),
            Axis("flops", "FLOPs of one pass", "GFLOPs", scale=1e-9, decimals=2, cost="flops"),
            Axis("latency", "Latency", "% of the baseline's", scale=100.0, cost="latency"),
            Axis("memory", "Peak memory", "MB", scale=1e-6, cost="memory"),
            Axis("size", "Size as published", "% of the baseline's"),
            Axis("gpu-latency", "GPU latency as published", "% of the baseline's", scale=100.0),
            Axis("cpu-latency", "CPU latency as published", "% of the baseline's", scale=100.0),
            Axis("kept", "Weights kept", "% of the pruned matrices"),
        )
    }
)
"""Axes of published tables and of architectures, by key."""
ARCHITECTURE_AXES = tuple(AXES[key] for key in ("disk", "flops", "latency", "memory"))
"""Axes of profiles without scores. For each, a profile's `realised` has a flag of the same name."""


def ratio_axes(workloads: Sequence[Workload], runtimes: Sequence[str]) -> tuple[Axis, ...]:
    """Make the axes of a measured board: ratios to the baseline by workload and runtime.

    Of each cost the first axis is the board's main one. `BEST` is added if there are several runtimes.
    """
    return tuple(_ratio_axes(workloads, runtimes))


def _ratio_axes(workloads: Sequence[Workload], runtimes: Sequence[str]) -> Iterator[Axis]:
    yield _ratio("size", "Size on disk", "disk")
    for workload in workloads:
        yield _ratio(f"flops-{workload_name(workload)}", "FLOPs", "flops", workload)
    for workload in workloads:
        for runtime in [BEST, *runtimes] if len(runtimes) > 1 else runtimes:
            key = f"latency-{workload_name(workload)}-{runtime}"
            yield _ratio(key, "Latency", "latency", workload, runtime)
    for workload in workloads:
        for runtime in runtimes:
            key = f"memory-{workload_name(workload)}-{runtime}"
            yield _ratio(key, "Peak memory", "memory", workload, runtime)


def _ratio(
    key: str, title: str, cost: Cost, workload: Workload | None = None, runtime: str | None = None
) -> Axis:
    words = [title]
    if workload is not None:
        words.append(workload_words(workload))
    if runtime is not None:
        words.append("best runtime" if runtime == BEST else runtime)
    return Axis(key, ", ".join(words), "% of the baseline's", 100.0, 1, cost, workload, runtime)


def workload_name(workload: Workload) -> str:
    """Name a workload in an axis's key: `real` and `128` for batch 1 at 128 tokens, `8x128` for a batch of 8."""
    usual = workload.batch == 1 and (workload.length == 128 or workload.inputs == "synthetic")
    shape = f"{workload.length}" if workload.batch == 1 else f"{workload.batch}x{workload.length}"
    name = shape if workload.inputs == "synthetic" else "real" if usual else f"real-{shape}"
    return name + ("" if workload.cached is None else f"-{workload.cached}cached")


def workload_words(workload: Workload) -> str:
    """Describe a workload for a title: `real rows`, `128 tokens`, `8 × 128 tokens`."""
    many = "" if workload.batch == 1 else f"{workload.batch} × "
    if workload.inputs == "real":
        short = "" if workload.length == 128 else f" of at most {workload.length} tokens"
        return f"{many}real rows{short}"
    cached = "" if workload.cached is None else f", {workload.cached} of them cached"
    return f"{many}{workload.length} tokens{cached}"


def pick_axis(axis: str | None, known: Sequence[Axis]) -> str:
    """Return `axis` if it is one of `known`, or the first if it is None.

    Raises SkylineError (unknown-name) with the nearest one otherwise.
    """
    keys = [each.key for each in known]
    if axis is None:
        return keys[0]
    if axis not in keys:
        raise unknown_name("axis", axis, keys)
    return axis


def main_axis(cost: Cost, axes: Sequence[Axis]) -> Axis | None:
    """Return a board's main axis of a cost: the first."""
    return next((axis for axis in axes if axis.cost == cost), None)
