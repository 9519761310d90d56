"""One benchmark: a profile cell measured and recorded as `skyline run` does, its passes handed to pytest-benchmark."""

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
    """A cell's record, and the seconds of the candidate's passes in the paired run that the record's latency is made
    of (none where the cell gave no figures).
    """

    cell: Cell
    record: Record
    passes: tuple[float, ...] = ()


@dataclass
class Bench:
    """Measures cells one after the other, each anew, and keeps their records in a store whose lock is held."""

    store: Store
    done: list[Benchmark] = field(default_factory=list)

    @classmethod
    @contextmanager
    def opened(cls, folder: Path) -> Iterator[Bench]:
        """A bench whose records go to `folder`. Raises SkylineError where that cannot be written to, or another run
        does so.
        """
        store = Store(folder)
        with store.lock():
            yield cls(store)

    def measure(self, job: Job) -> Benchmark:
        """Measure a profile and record it, whatever there was before. What the runtime cannot run is recorded as
        skipped; what fails or runs out of memory, as that.
        """
        runs: list[Speed] = []
        listener = Listener(timed=lambda cell, speed: runs.append(speed))
        (record,) = LocalEngine(self.store, None, listener=listener).run([job])
        passes = runs[0].passes if record.status == "ok" else ()
        self.done.append(Benchmark(job.cell, record, passes))
        return self.done[-1]


def extra_info(benchmark: Benchmark) -> dict[str, Any]:
    """What pytest-benchmark's JSON says of a cell beside its times: the costs against the baseline's, and which record
    has the rest.
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
    left_out = {"median_ms", "p10_ms", "p90_ms"}  # pytest-benchmark says these itself
    return latency.model_dump(mode="json", exclude=left_out)


def summary_line(benchmark: Benchmark) -> str:
    """A benchmark in one line."""
    profile = benchmark.record.profile
    if profile is None or profile.latency is None:
        found = describe_failure(benchmark.record)
    else:
        found = _figures(profile, profile.latency)
    return f"{cell_name(benchmark.cell)}: {found}"


def _figures(profile: Profile, latency: Latency) -> str:
    said = f"{latency.median_ms:.2f} ms"
    if latency.speedup is None or latency.speedup_ci95 is None:
        return f"{said}, no verdict on the speedup"
    low, high = latency.speedup_ci95
    said += f", {latency.speedup:.2f} × the baseline's speed (95 % {low:.2f}–{high:.2f})"
    if profile.flops_ratio is not None:
        said += f", {profile.flops_ratio:.2f} by FLOPs"
    return said
