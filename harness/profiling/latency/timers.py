"""Real timers: wall time of passes on the processor, events on CUDA, and a watch on what others take
meanwhile.
"""

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
"""Shorter passes are timed several to a sample: below this, one wake-up of a kernel thread weighs as much as
a pass.
"""

_TASKS = Path("/proc/self/task")
_STAT = Path("/proc/stat")
_STEAL_FIELD = 8


class Disturbance:
    """Says whether others took the processor between `start` and `disturbed`.

    On Linux the scheduler books, for each thread, how long it was ready to run but waited for a processor
    (second field of /proc/self/task/*/schedstat), and the system how much time the host kept (steal in
    /proc/stat, in ticks). A pass is disturbed when both together exceed 4 % of its time. On a quiet machine
    of two cores about one pair in eleven is (BERT-base against itself at (1, 128), twenty runs); beside a
    process that keeps one core busy half of the time every pair is.

    What a host's own neighbours do shows in neither: passes there took 119 or 146 ms for seconds on end. Both
    sides of a pair fall into one such phase, so their ratio does not change.

    Elsewhere involuntary context switches stand in: a quiet machine showed about 35 a second, one that shares
    its processors 170 and more, so 100 is the limit.
    """

    LIMIT = 0.04
    SWITCHES_PER_SECOND = 100

    def __init__(self) -> None:
        self._tick_s = 1 / os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 0.01
        self._exact = self._waits() is not None
        self.start()

    def start(self) -> None:
        """Begin to watch."""
        self._before = (self._waits() or {}, _stolen_ticks(), _involuntary_switches())

    def disturbed(self, seconds: float) -> bool:
        """Whether more was taken from this process since `start`, `seconds` ago, than on a quiet machine."""
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
        """Nanoseconds that each thread has waited for a processor so far; None where the system does not book
        it.
        """
        waits = {}
        try:
            for task in os.scandir(_TASKS):
                # A thread may end between its listing and its reading.
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
    """Times passes of executables on given inputs: batch i mod len(batches) in pair i, the same for both
    sides; `together`, all of them in each pair.

    Where the cost depends on the input, most single passes may be fast and the mean slow, so only samples of all inputs
    can be compared. Passes shorter than a sample should be are repeated within it. On CUDA a pass lasts from an event
    before it to one after it, synchronised; elsewhere it is the wall time of the call.
    """

    def __init__(
        self,
        executables: Mapping[Arm, Executable],
        batches: Mapping[Arm, Sequence[Batch]],
        together: bool = False,
    ) -> None:
        self._executables, self._batches, self._together = executables, batches, together
        self._cuda = next(iter(batches.values()))[0].input_ids.is_cuda
        self._fastest: dict[Arm, float] = {}
        self._disturbance = Disturbance()

    def __call__(self, arm: Arm, pair: int) -> Sample:
        """Time one sample of one side."""
        run = self._executables[arm]
        batches = self._batches[arm]
        if not self._together:
            batches = [batches[pair % len(batches)]]
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
    """Seconds of wall time of one pass."""
    began = time.perf_counter_ns()
    run(batch)
    return (time.perf_counter_ns() - began) * 1e-9


def time_on_cuda(run: Executable, batch: Batch) -> float:
    """Seconds between two events around one pass on the current CUDA stream."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    torch.cuda.synchronize()
    start.record()
    run(batch)
    end.record()
    torch.cuda.synchronize()
    return float(start.elapsed_time(end)) * 1e-3


@contextmanager
def steady_process() -> Iterator[None]:
    """Keep Python's collector and the C allocator from adding their own noise to timings in this process.

    glibc hands freed activations back to the system and faults them in again a pass later, some passes more
    than others; keeping them cut the spread of paired ratios from 6 % to 1.4 %. Both sides of a pair profit
    alike. The allocator stays so afterwards: use it in a process of its own.
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
