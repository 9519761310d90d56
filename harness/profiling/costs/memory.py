"""Peak memory: how much a fresh process grows when it loads an artifact and runs a workload.

The figure of one artifact scattered by a third for three reasons, all of them outside the artifact. Each is removed:

- Weights are mapped from their file. Which pages of a mapped file are resident depends on what the page cache holds and
  on how large its pages are, not only on what is read. So all pages of the artifact's mapped files are made resident.
- Pages of libraries, caches of kernels and threads' buffers appear with the first pass. So the process first loads and
  runs the artifact once, and lets go of it.
- The C allocator fills holes that the process's start left in the heap, and returns freed memory or keeps it by rules
  that adapt. So the artifact runs in a thread of its own, for which glibc makes a new heap, the rules are fixed, and
  free pages are returned before the growth is measured.

What remains is known from samples: each is of another fresh process, until the range of the samples settles.
"""

from __future__ import annotations

import ctypes
import gc
import resource
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

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
_MAPS = Path("/proc/self/maps")
_RESET_PEAK = "5"

PASSES = 2
"""Batches that are run, the longest first; the first one runs again at the end."""
NARROW = 64
"""Hidden size and tokens of the small artifact that warms up a runtime that compiles."""
FEWEST_SAMPLES, MOST_SAMPLES = 3, 6
"""Fresh processes for one figure."""
SETTLED = 0.001
"""The range of the samples is known if the last one widened it by at most this share of their median."""
STRAY_BYTES = 1 << 18
"""Bytes by which figures of two runs can differ although the samples of each agree.

Processes of one run begin with the same heap of Python objects, and Linux adds up resident pages by batches of 32 on
each processor. Medians of four runs of one artifact of MiniLM lay up to 0.10 MB apart (0.02 MB under ONNX Runtime).
"""


@dataclass(frozen=True)
class PeakMemory:
    """Peak bytes: `samples` of fresh processes' resident sets, `accelerator` of CUDA's allocator (None on the
    processor).
    """

    samples: tuple[int, ...]
    accelerator: int | None

    @property
    def resident(self) -> int:
        """The median of the samples."""
        return round(statistics.median(self.samples))

    @property
    def range(self) -> int:
        """The largest sample less the smallest one: the difference that two measurements of one artifact can show."""
        return max(self.samples) - min(self.samples)


def memory_floor(own: PeakMemory, base: PeakMemory) -> float:
    """Return the difference of two artifacts that can be noise, as a share of the baseline's peak: at most 1.

    It is the larger range of their samples, but at least `STRAY_BYTES`.
    """
    return min(1.0, max(own.range, base.range, STRAY_BYTES) / max(base.resident, 1))


def settled(samples: Sequence[int]) -> bool:
    """Whether enough processes were measured: at least three, and the last did not widen the range; or six."""
    if len(samples) < FEWEST_SAMPLES:
        return False
    widened = (max(samples) - min(samples)) - (max(samples[:-1]) - min(samples[:-1]))
    return len(samples) >= MOST_SAMPLES or widened <= SETTLED * statistics.median(samples)


def measure_memory(execution: Execution, inputs: Inputs, *, watch: Stopwatch | None = None) -> PeakMemory:
    """Measure how much the peak resident set of a fresh process grows when it loads the artifact and runs the workload.

    It is measured in one fresh process after another until the samples have `settled`. Exporting a graph is not charged
    if the execution is prepared; compiling is charged. `watch` books the time. Raises the errors of `Runtime.load`.
    """
    samples: list[int] = []
    accelerator: int | None = None
    while not settled(samples):
        (peak, on_device), child_watch = run_isolated(watched, _load_and_run, execution, inputs)
        samples.append(peak)
        if on_device is not None:
            accelerator = max(on_device, accelerator or 0)
        if watch is not None:
            watch.add(child_watch)
    return PeakMemory(tuple(samples), accelerator)


def _load_and_run(execution: Execution, inputs: Inputs, watch: Stopwatch) -> tuple[int, int | None]:
    """Runs in the child: measures the growth of the resident set, and CUDA's peak."""
    device, cached = execution.device, inputs.workload.cached
    cuda = device.startswith("cuda")
    batches = inputs.batches(read_config(execution.folder).model.vocab_size, device)[:PASSES]
    _fix_allocator()
    with ThreadPoolExecutor(1) as thread:
        if get_runtime(execution.runtime).compiles:
            # It would not compile the artifact a second time, so one of a narrow layer warms it up.
            with tempfile.TemporaryDirectory(prefix="skyline-") as temporary:
                narrow = _narrow_execution(execution, Path(temporary))
                synthetic = [Batch.synthetic(1, NARROW, 8).to(device)]
                thread.submit(_run, narrow, synthetic, None, watch).result()
        else:
            thread.submit(_run, execution, batches[:1], cached, watch).result()
        gc.collect()
        if cuda:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(device)
        _return_freed_memory()
        before = _reset_peak_resident()
        thread.submit(_run, execution, [*batches, batches[0]], cached, watch).result()
        peak = _peak_resident()
    return max(0, peak - before), torch.cuda.max_memory_allocated(device) if cuda else None


def _run(execution: Execution, batches: Sequence[Batch], cached: int | None, watch: Stopwatch) -> None:
    """Load an artifact, make all of its mapped pages resident, run it, and let go of it."""
    with watch.on("loading"):
        run = load(execution)
    run, own = executed_with_cache(run, batches[: len(batches) if cached is None else 1], cached)
    _make_resident([execution.folder, *([] if execution.prepared is None else [execution.prepared])])
    with watch.on("passes"):
        for batch in own:
            run(batch)


def _narrow_execution(execution: Execution, into: Path) -> Execution:
    """Save an artifact of one narrow layer in a folder, and return how to run it as `execution` is run."""
    config = EncoderConfig.bert(1, NARROW, heads=1, vocab_size=8, positions=NARROW)
    folder = into / "artifact"
    save_artifact(Encoder(config).initialize(torch.Generator().manual_seed(0)), folder)
    return replace(execution, folder=folder)


def _c_function(name: str) -> Callable[..., Any] | None:
    """Return a function of the C library, or None: another library, or another system."""
    try:
        found: Callable[..., Any] = getattr(ctypes.CDLL(None), name)
    except (AttributeError, OSError, TypeError):
        return None
    return found


def _fix_allocator() -> None:
    """Fix glibc's thresholds, which otherwise adapt to what was freed before."""
    trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
    if (mallopt := _c_function("mallopt")) is not None:
        mallopt(mmap_threshold, 128 << 10)
        mallopt(trim_threshold, 128 << 10)


def _return_freed_memory() -> None:
    """Return all free pages of the heap to the system, so that memory which is taken again counts as growth."""
    if (malloc_trim := _c_function("malloc_trim")) is not None:
        malloc_trim(0)


def _make_resident(folders: Iterable[Path]) -> None:
    """Make all pages resident that this process maps from files in these folders, if the system can (Linux 5.14)."""
    madvise, populate_read = _c_function("madvise"), 22  # MADV_POPULATE_READ of mman.h
    inside = tuple(f"{folder.resolve()}/" for folder in folders)
    try:
        lines = _MAPS.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        place, *_, path = line.split(None, 5)
        if madvise is not None and path.startswith(inside):
            start, end = (int(address, 16) for address in place.split("-"))
            madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), populate_read)


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
