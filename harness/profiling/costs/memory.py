"""Peak memory: how much a fresh process grows when it loads an artifact and runs a workload."""

from __future__ import annotations

import gc
import resource
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import torch

from harness.common.processes import run_isolated
from harness.models.artifacts import read_config, save_artifact
from harness.models.batch import Batch
from harness.models.config import EncoderConfig
from harness.models.encoder.encoder import Encoder
from harness.profiling.costs.cached import executed_with_cache
from harness.profiling.inputs import Inputs
from harness.profiling.stopwatch import Stopwatch, watched
from harness.runtimes import Execution, get_runtime, load

_CLEAR_REFS = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")
_RESET_PEAK = "5"

PASSES = 2
"""Batches that are run, and how often each."""
NARROW = 64
"""Hidden size and tokens of the small artifact that is run first, so that libraries load their pages."""


@dataclass(frozen=True)
class PeakMemory:
    """Peak bytes: `resident` of the process, `accelerator` of CUDA's allocator (None on the processor)."""

    resident: int
    accelerator: int | None


def measure_memory(
    execution: Execution, inputs: Inputs, *, narrow: Execution | None = None, watch: Stopwatch | None = None
) -> PeakMemory:
    """Measure how much the peak resident set of a fresh process grows when it loads the artifact and runs the workload.

    First the process loads and runs an artifact of one narrow layer, so that the libraries' pages are not charged to
    the artifact. Preparing (exporting a graph) is not charged either: the narrow artifact is prepared in another
    process, unless `narrow` is given. `watch` books the time. Raises the errors of `Runtime.load`.
    """
    with tempfile.TemporaryDirectory(prefix="skyline-") as temporary:
        if execution.prepared is not None and narrow is None:
            narrow = run_isolated(narrow_execution, execution, Path(temporary))
        peak: PeakMemory
        peak, child_watch = run_isolated(watched, _load_and_run, execution, inputs, narrow)
    if watch is not None:
        watch.add(child_watch)
    return peak


def _load_and_run(
    execution: Execution, inputs: Inputs, narrow: Execution | None, watch: Stopwatch
) -> PeakMemory:
    """Runs in the child: measures the growth of the resident set, and CUDA's peak."""
    device = execution.device
    cuda = device.startswith("cuda")
    _touch_libraries(execution, narrow, watch)
    gc.collect()
    if cuda:
        torch.cuda.reset_peak_memory_stats(device)
    before = _reset_peak_resident()
    with watch.on("loading"):
        run = load(execution)
    batches = inputs.batches(read_config(execution.folder).model.vocab_size, device)[:PASSES]
    run, batches = executed_with_cache(run, batches, inputs.workload.cached)
    with watch.on("passes"):
        for batch in batches * PASSES:
            run(batch)
    peak = _peak_resident()
    return PeakMemory(max(0, peak - before), torch.cuda.max_memory_allocated(device) if cuda else None)


def narrow_execution(execution: Execution, into: Path) -> Execution:
    """Save an artifact of one narrow layer in a folder, and return how to run it as `execution` is run.

    It is prepared if `execution` is. Then call this in another process than the measured one.
    """
    config = EncoderConfig.bert(1, NARROW, heads=1, vocab_size=8, positions=NARROW)
    model = Encoder(config).initialize(torch.Generator().manual_seed(0))
    folder = into / "artifact"
    save_artifact(model, folder)
    if execution.prepared is None:
        return replace(execution, folder=folder)
    prepared = into / "prepared"
    prepared.mkdir()
    get_runtime(execution.runtime).prepare(folder, execution.precision, NARROW, prepared)
    return replace(execution, folder=folder, prepared=prepared)


def _touch_libraries(execution: Execution, narrow: Execution | None, watch: Stopwatch) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        ready = narrow or narrow_execution(execution, Path(temporary))
        with watch.on("loading"):
            run = load(ready)
        with watch.on("passes"):
            run(Batch.synthetic(1, NARROW, 8).to(execution.device))


def _reset_peak_resident() -> int:
    """Reset the peak if the system can (Linux), and return the present resident set in bytes."""
    try:
        _CLEAR_REFS.write_text(_RESET_PEAK, encoding="ascii")
    except OSError:
        return int(psutil.Process().memory_info().rss)
    return _peak_resident()


def _peak_resident() -> int:
    """Return the highest resident set since the last reset, or the process's start, in bytes."""
    try:
        for line in _STATUS.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
