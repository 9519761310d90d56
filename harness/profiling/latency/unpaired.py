"""Speedups as they are usually measured: the ratio of two means, each timed alone in a process after a warm-up.

No record uses it. `tests/benchmarks/test_pairing.py` compares paired latency with it: other load on the machine changes
one mean and not the other. The processes are as steady as those of pairs, so pairing is the only difference.
"""

from __future__ import annotations

from dataclasses import dataclass

from harness.common.processes import run_isolated
from harness.models.artifacts import read_config
from harness.profiling.inputs import Inputs
from harness.profiling.latency.timers import steady_process, time_on_cpu, time_on_cuda
from harness.runtimes import Execution, load

WARMUP = 10
"""Passes before the timed ones, as in optimum-benchmark."""


@dataclass(frozen=True)
class Unpaired:
    """The mean seconds of a pass of each artifact, each timed alone in a process."""

    baseline_s: float
    candidate_s: float

    @property
    def speedup(self) -> float:
        """The ratio of the means."""
        return self.baseline_s / self.candidate_s


def measure_unpaired(
    candidate: Execution, baseline: Execution, inputs: Inputs, passes: int, warmup: int = WARMUP
) -> Unpaired:
    """Time the baseline, then the candidate: each the mean of `passes` passes after `warmup` passes.

    This process sleeps meanwhile. Raises the errors of `Runtime.load`.
    """
    vocab_size = min(read_config(each.folder).model.vocab_size for each in (candidate, baseline))
    means = [
        run_isolated(_mean_seconds, each, inputs, vocab_size, passes, warmup)
        for each in (baseline, candidate)
    ]
    return Unpaired(*means)


def _mean_seconds(execution: Execution, inputs: Inputs, vocab_size: int, passes: int, warmup: int) -> float:
    """Runs in the child."""
    batches = inputs.batches(vocab_size, execution.device)
    time_pass = time_on_cuda if execution.device.startswith("cuda") else time_on_cpu
    with steady_process():
        run = load(execution)
        for number in range(warmup):
            run(batches[number % len(batches)])
        seconds = [time_pass(run, batches[number % len(batches)]) for number in range(passes)]
    return sum(seconds) / len(seconds)
