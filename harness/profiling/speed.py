"""Speed of an artifact against its baseline: both loaded in one fresh process, timed in pairs, then component
by component.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from harness.artifacts import read_config
from harness.isolation import run_isolated
from harness.profiling.components import ComponentTimes, time_components
from harness.profiling.inputs import Inputs
from harness.profiling.latency import Plan, latency_record, measure_pairs
from harness.profiling.timers import PassTimer, steady_process
from harness.records import Latency
from harness.runtimes import Execution, get_runtime, load


@dataclass(frozen=True)
class Speed:
    """The paired latency, and the candidate's components (None where not asked for or not shown by the
    runtime).
    """

    latency: Latency
    components: ComponentTimes | None


def measure_speed(
    candidate: Execution,
    baseline: Execution,
    inputs: Inputs,
    *,
    plan: Plan | None = None,
    components: bool = True,
) -> Speed:
    """Time two executions, on one device, against each other in a process of their own, with the same threads and the
    same inputs.

    The same one twice is an A/A run. This process sleeps meanwhile. The pairs take no longer than the
    plan's cap, start and loading included, compiling not (one pair is taken in any case); the components take about
    six seconds more. Raises SkylineError as loading does.
    """
    # The clock is the system's, so the child can go on from this process's reading.
    started = time.perf_counter()
    return run_isolated(_time_both, candidate, baseline, inputs, plan or Plan(), components, started)


def _time_both(
    candidate: Execution,
    baseline: Execution,
    inputs: Inputs,
    plan: Plan,
    components: bool,
    started: float,
) -> Speed:
    """Runs in the child."""
    vocab_size = min(read_config(each.folder).model.vocab_size for each in (candidate, baseline))
    batches = inputs.batches(vocab_size, candidate.device)
    with steady_process():
        slow, fast = load(baseline), load(candidate)
        if any(get_runtime(each.runtime).compiles for each in (candidate, baseline)):
            for batch in batches:
                slow(batch)
                fast(batch)
            started = time.perf_counter()
        timer = PassTimer(
            {"baseline": slow, "candidate": fast},
            {"baseline": batches, "candidate": batches},
            together=inputs.rows is not None,
        )
        times = measure_pairs(timer, time.perf_counter, plan, started)
        latency = latency_record(times, torch.get_num_threads())
        shown = components and fast.model is not None
        return Speed(latency, time_components(fast, batches) if shown else None)
