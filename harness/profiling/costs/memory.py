"""Peak memory: what a fresh process needs to load an artifact and run a workload, less what it had before."""

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
NARROW = 64
"""Width and tokens of an artifact that is loaded for the libraries' sake."""


@dataclass(frozen=True)
class PeakMemory:
    """Bytes: `resident` of the process, `accelerator` of CUDA's allocator (None on the processor)."""

    resident: int
    accelerator: int | None


def measure_memory(
    execution: Execution, inputs: Inputs, *, narrow: Execution | None = None, watch: Stopwatch | None = None
) -> PeakMemory:
    """Peak resident set of a fresh process that loads the artifact and runs the workload, less that process's
    before it.

    Before the first reading the process loads and runs an artifact of one narrow layer, so that the
    libraries' own pages are not charged to the artifact. What an artifact needs to be prepared is no part of it: the
    narrow one is prepared in another process, unless it is given as `narrow`. `watch` is told what the time went to.
    Raises SkylineError as loading does.
    """
    with tempfile.TemporaryDirectory(prefix="skyline-") as temporary:
        if execution.prepared is not None and narrow is None:
            narrow = run_isolated(narrow_execution, execution, Path(temporary))
        peak: PeakMemory
        peak, own = run_isolated(watched, _load_and_run, execution, inputs, narrow)
    if watch is not None:
        watch.add(own)
    return peak


def _load_and_run(
    execution: Execution, inputs: Inputs, narrow: Execution | None, watch: Stopwatch
) -> PeakMemory:
    """Runs in the child: bytes of the resident set's growth and of CUDA's peak."""
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
    """An artifact of one narrow layer, saved and prepared in a folder, to be executed in the same way. Runs in a
    process of its own where there is something to prepare.
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
    """Begin a new peak where the system can, and return the resident set now, in bytes."""
    try:
        _CLEAR_REFS.write_text(_RESET_PEAK, encoding="ascii")
    except OSError:
        return int(psutil.Process().memory_info().rss)
    return _peak_resident()


def _peak_resident() -> int:
    """The highest resident set since the last reset (or the process's start), in bytes."""
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
