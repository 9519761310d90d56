"""Peak memory: what a fresh process needs to load an artifact and run a workload, less what it had before."""

from __future__ import annotations

import gc
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import torch

from harness.artifacts import read_config, save_artifact
from harness.config import EncoderConfig
from harness.encoder import Batch, Encoder
from harness.isolation import run_isolated
from harness.profiling.inputs import Inputs
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


def measure_memory(execution: Execution, inputs: Inputs) -> PeakMemory:
    """Peak resident set of a fresh process that loads the artifact and runs the workload, less that process's
    before it.

    Before the first reading the process loads and runs an artifact of one narrow layer, so that the
    libraries' own pages are not charged to the artifact. What an artifact needs to be prepared is no part of it: the
    narrow one is prepared in another process. Raises SkylineError as loading does.
    """
    with tempfile.TemporaryDirectory(prefix="skyline-") as temporary:
        narrow = None
        if execution.prepared is not None:
            narrow = run_isolated(_narrow, execution, Path(temporary))
        resident, accelerator = run_isolated(_load_and_run, execution, inputs, narrow)
    return PeakMemory(resident, accelerator)


def _load_and_run(
    execution: Execution, inputs: Inputs, narrow: Execution | None = None
) -> tuple[int, int | None]:
    """Runs in the child: bytes of the resident set's growth and of CUDA's peak."""
    device = execution.device
    cuda = device.startswith("cuda")
    _touch_libraries(execution, narrow)
    gc.collect()
    if cuda:
        torch.cuda.reset_peak_memory_stats(device)
    before = _reset_peak_resident()
    run = load(execution)
    for batch in inputs.batches(read_config(execution.folder).model.vocab_size, device)[:PASSES] * PASSES:
        run(batch)
    peak = _peak_resident()
    return max(0, peak - before), torch.cuda.max_memory_allocated(device) if cuda else None


def _narrow(execution: Execution, into: Path) -> Execution:
    """An artifact of one narrow layer, saved and prepared in a folder, to be executed in the same way."""
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


def _touch_libraries(execution: Execution, narrow: Execution | None) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        ready = narrow or _narrow(execution, Path(temporary))
        load(ready)(Batch.synthetic(1, NARROW, 8).to(execution.device))


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
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
