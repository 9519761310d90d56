"""Measure profile cells and write their records as `skyline run` does, and describe them for pytest-benchmark."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.profiling.latency.paired import Speed
from harness.records.cells import Cell
from harness.records.schema import Latency, Profile, Record
from harness.records.store import Store
from harness.runs.engines.base import Listener
from harness.runs.engines.local import LocalEngine
from harness.runs.job import Job
from harness.runs.progress import cell_name, describe_failure


@dataclass(frozen=True)
class Benchmark:
    """A measured cell, with its record."""

    cell: Cell
    record: Record
    passes: tuple[float, ...] = ()
    """Seconds of the candidate's passes in the paired timing. Empty if the cell was not measured."""


@dataclass
class Bench:
    """Measures cells one by one, and writes their records to a locked store."""

    store: Store
    done: list[Benchmark] = field(default_factory=list)

    @classmethod
    @contextmanager
    def opened(cls, folder: Path) -> Iterator[Bench]:
        """Open a bench that writes its records to `folder`. Raises the errors of `Store.lock`."""
        store = Store(folder)
        with store.lock():
            yield cls(store)

    def measure(self, job: Job) -> Benchmark:
        """Measure a profile and write its record, even if one exists.

        The record's status is `skipped` if the runtime does not support the job, and `failed` or `oom` if it fails.
        """
        runs: list[Speed] = []
        listener = Listener(timed=lambda cell, speed: runs.append(speed))
        (record,) = LocalEngine(self.store, None, listener=listener).run([job])
        passes = runs[0].passes if record.status == "ok" else ()
        self.done.append(Benchmark(job.cell, record, passes))
        return self.done[-1]


def extra_info(benchmark: Benchmark) -> dict[str, Any]:
    """Return the fields that pytest-benchmark's JSON gets in addition to times: costs, their ratios to the baseline's,
    and the name of the record with all other figures. Empty if the cell was not measured.
    """
    profile = benchmark.record.profile
    if profile is None or profile.latency is None:
        return {}
    found: dict[str, Any] = {"record": benchmark.cell.slug, "key": benchmark.cell.key}
    found |= _speed(profile.latency)
    if profile.over_eager is not None:
        found["over_eager"] = _speed(profile.over_eager)
    total, baseline = profile.total, profile.baseline
    names = ("flops", "params", "disk_bytes", "weight_bytes", "peak_memory_bytes", "mean_depth")
    found |= {name: getattr(total, name) for name in names}
    if baseline is not None:
        found |= {
            "flops_ratio": profile.flops_ratio,
            "disk_ratio": baseline.disk_bytes / total.disk_bytes,
        }
    if profile.agreement is not None:
        found["agreement"] = profile.agreement.model_dump()
    return found | {"realised": dict(profile.realised), "hardware": profile.hardware.id}


def _speed(latency: Latency) -> dict[str, Any]:
    # pytest-benchmark computes the excluded fields itself.
    return latency.model_dump(mode="json", exclude={"median_ms", "p10_ms", "p90_ms"})


def summary_line(benchmark: Benchmark) -> str:
    """Describe a benchmark in one line: the cell, its median latency in ms, and its speedup with interval."""
    profile = benchmark.record.profile
    if profile is None or profile.latency is None:
        found = describe_failure(benchmark.record)
    else:
        found = _figures(profile, profile.latency)
    return f"{cell_name(benchmark.cell)}: {found}"


def _figures(profile: Profile, latency: Latency) -> str:
    text = f"{latency.median_ms:.2f} ms"
    if latency.speedup is None or latency.speedup_ci95 is None:
        return f"{text}, no verdict on the speedup"
    low, high = latency.speedup_ci95
    text += f", {latency.speedup:.2f} × the baseline's speed (95 % {low:.2f}–{high:.2f})"
    if profile.flops_ratio is not None:
        text += f", {profile.flops_ratio:.2f} by FLOPs"
    return text
