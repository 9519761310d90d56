"""Real timers: wall time of passes on the processor, events on CUDA, and a watch on time that other processes take."""

from __future__ import annotations

import ctypes
import gc
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from math import ceil
from pathlib import Path

import torch

from harness.models.batch import Batch
from harness.profiling.latency.pairs import Arm, Sample
from harness.runtimes import Executable

SHORTEST_SAMPLE_S = 2e-3
"""A sample repeats shorter passes until it lasts this long; one wake-up of a kernel thread takes as long as they do."""

_TASKS = Path("/proc/self/task")
_STAT = Path("/proc/stat")
_STEAL_FIELD = 8


class Disturbance:
    """Says whether other processes took the processor between `start` and `disturbed`.

    Linux books for each thread how long it was ready but waited for a processor (second field of
    /proc/self/task/*/schedstat), and how much time the host kept (steal in /proc/stat, in ticks). A pass is disturbed
    if both together exceed 4 % of its time. On a quiet machine with two cores this holds for about one pair in eleven
    (BERT-base against itself at (1, 128), twenty runs); next to a process that keeps one core busy half of the time, it
    holds for every pair.

    Neither shows the load of the host's other guests: with it, passes took 119 or 146 ms for seconds. Both sides of a
    pair fall into the same phase, so their ratio does not change.

    Other systems use involuntary context switches: a quiet machine showed about 35 a second, one that shares its
    processors 170 and more, so 100 is the limit.
    """

    LIMIT = 0.04
    SWITCHES_PER_SECOND = 100

    def __init__(self) -> None:
        self._tick_s = 1 / os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 0.01
        self._exact = self._waits() is not None
        self.start()

    def start(self) -> None:
        """Start to watch."""
        self._before = (self._waits() or {}, _stolen_ticks(), _involuntary_switches())

    def disturbed(self, seconds: float) -> bool:
        """Whether this process lost more time since `start`, `seconds` ago, than on a quiet machine."""
        waits, stolen, switches = self._waits() or {}, _stolen_ticks(), _involuntary_switches()
        waits_before, stolen_before, switches_before = self._before
        lost = (stolen - stolen_before) * self._tick_s
        if not self._exact:
            allowed = 1 + self.SWITCHES_PER_SECOND * seconds
            return lost > self.LIMIT * seconds or switches - switches_before > allowed
        lost += sum(wait - waits_before.get(thread, 0) for thread, wait in waits.items()) * 1e-9
        return lost > self.LIMIT * seconds

    @staticmethod
    def _waits() -> dict[str, int] | None:
        """Return the nanoseconds that each thread has waited for a processor; None if the system does not book it."""
        waits = {}
        try:
            for task in os.scandir(_TASKS):
                # A thread may end after it was listed.
                with suppress(FileNotFoundError, ProcessLookupError):
                    waits[task.name] = int((_TASKS / task.name / "schedstat").read_text().split()[1])
        except (OSError, IndexError, ValueError):
            return None
        return waits or None


def _stolen_ticks() -> int:
    try:
        with _STAT.open() as file:
            return int(file.readline().split()[_STEAL_FIELD])
    except (OSError, IndexError, ValueError):
        return 0


def _involuntary_switches() -> int:
    try:
        import resource
    except ImportError:
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


class PassTimer:
    """Times passes of executables on given inputs: batch i mod len(batches) in pair i, the same for both sides.

    With `together`, each sample is one pass over every batch: if the cost depends on the input, most passes may be fast
    and the mean slow, so only samples of all inputs can be compared. If that takes too long, the batches are dealt out
    to `groups`, and pair i takes group i mod groups. Short passes are repeated within a sample. On CUDA a pass lasts
    from one event to another, synchronised; on the processor it is the wall time of the call.
    """

    def __init__(
        self,
        executables: Mapping[Arm, Executable],
        batches: Mapping[Arm, Sequence[Batch]],
        together: bool = False,
        groups: int = 1,
    ) -> None:
        self._executables, self._batches, self._together = executables, batches, together
        self._groups = groups
        self._cuda = next(iter(batches.values()))[0].input_ids.is_cuda
        self._fastest: dict[Arm, float] = {}
        self._disturbance = Disturbance()

    def __call__(self, arm: Arm, pair: int) -> Sample:
        """Time one sample of one side (see `pairs.Timer`)."""
        run = self._executables[arm]
        batches = self._batches[arm]
        batches = (
            batches[pair % self._groups :: self._groups] if self._together else [batches[pair % len(batches)]]
        )
        shortest = self._fastest.get(arm, float("inf")) * len(batches)
        count = max(1, ceil(SHORTEST_SAMPLE_S / shortest))
        self._disturbance.start()
        began = time.perf_counter()
        time_pass = time_on_cuda if self._cuda else time_on_cpu
        calls = tuple(time_pass(run, batch) for _ in range(count) for batch in batches)
        disturbed = self._disturbance.disturbed(time.perf_counter() - began)
        self._fastest[arm] = min(*calls, self._fastest.get(arm, float("inf")))
        return Sample(sum(calls) / len(calls), disturbed, calls)


def time_on_cpu(run: Executable, batch: Batch) -> float:
    """Return the wall time of one pass in seconds."""
    began = time.perf_counter_ns()
    run(batch)
    return (time.perf_counter_ns() - began) * 1e-9


def time_on_cuda(run: Executable, batch: Batch) -> float:
    """Return the seconds between two events around one pass on the current CUDA stream."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    torch.cuda.synchronize()
    start.record()
    run(batch)
    end.record()
    torch.cuda.synchronize()
    return float(start.elapsed_time(end)) * 1e-3


@contextmanager
def steady_process() -> Iterator[None]:
    """Keep Python's garbage collector and the C allocator from adding noise to timings in this process.

    glibc returns freed activations to the system, and the next pass faults them in again, some passes more than others.
    Keeping them reduced the spread of paired ratios from 6 % to 1.4 %, and both sides profit alike. The allocator's
    setting stays after the block, so use it in a child process.
    """
    _keep_freed_memory()
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _keep_freed_memory() -> None:
    trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another allocator, or another system
        return
    mallopt(mmap_threshold, 1 << 30)
    mallopt(trim_threshold, (1 << 31) - 1)
