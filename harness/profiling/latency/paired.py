"""Speed of an artifact against its baseline: both loaded in one fresh process, timed in pairs, then component
by component.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from harness.common.processes import run_isolated
from harness.models.artifacts import read_config
from harness.profiling.costs.cached import executed_with_cache
from harness.profiling.costs.ceilings import executed_precision, measure_ceilings
from harness.profiling.costs.components import ComponentTimes, time_components
from harness.profiling.inputs import Inputs
from harness.profiling.latency.pairs import PairedTimes, Plan, latency_record, measure_pairs
from harness.profiling.latency.timers import PassTimer, steady_process
from harness.profiling.stopwatch import Stopwatch, watched
from harness.records.schema import PRECISIONS, Ceilings, Latency
from harness.runtimes import Execution, get_runtime, load

COMPONENTS_S, COMPONENTS_SHARE = 6.0, 1 / 3
"""Seconds for the components; no more than this share of what the pairs are given."""


@dataclass(frozen=True)
class Speed:
    """The paired latency, the candidate's components (None where not asked for or not shown by the
    runtime), the paired times that the latency is made of, and the machine's ceilings where asked for.
    """

    latency: Latency
    components: ComponentTimes | None
    times: PairedTimes
    ceilings: Ceilings | None = None

    @property
    def passes(self) -> tuple[float, ...]:
        """The seconds of each pass of the candidate in the pairs used."""
        return tuple(self.times.calls("candidate").tolist())


def measure_speed(
    candidate: Execution,
    baseline: Execution,
    inputs: Inputs,
    *,
    plan: Plan | None = None,
    components: bool = True,
    ceilings: bool = False,
    earlier: PairedTimes | None = None,
    watch: Stopwatch | None = None,
) -> Speed:
    """Time two executions, on one device, against each other in a process of their own, with the same threads and the
    same inputs; pairs of `earlier` sittings of the same two are counted in.

    The same one twice is an A/A run. This process sleeps meanwhile. The pairs take no longer than the
    plan's cap, start and loading included, compiling not (one pair is taken in any case); the components take up to
    six seconds more, and the machine's ceilings, measured before anything is loaded, a quarter of one. `watch` is told
    what the time went to. Raises SkylineError as loading does.
    """
    # The clock is the system's, so the child can go on from this process's reading.
    started = time.perf_counter()
    speed: Speed
    asked = (candidate, baseline, inputs, plan or Plan(), components, ceilings, earlier, started)
    speed, own = run_isolated(watched, _time_both, *asked)
    if watch is not None:
        watch.add(own)
    return speed


def _time_both(
    candidate: Execution,
    baseline: Execution,
    inputs: Inputs,
    plan: Plan,
    components: bool,
    ceilings: bool,
    earlier: PairedTimes | None,
    started: float,
    watch: Stopwatch,
) -> Speed:
    """Runs in the child."""
    vocab_size = min(read_config(each.folder).model.vocab_size for each in (candidate, baseline))
    batches = inputs.batches(vocab_size, candidate.device)
    with steady_process():
        began = time.perf_counter()
        with watch.on("passes"):
            found = _ceilings(candidate) if ceilings else None
        started += time.perf_counter() - began
        with watch.on("loading"):
            slow, fast = load(baseline), load(candidate)
            fast, own = executed_with_cache(fast, batches, inputs.workload.cached)
        if any(get_runtime(each.runtime).compiles for each in (candidate, baseline)):
            with watch.on("loading"):
                for batch, read in zip(batches, own, strict=True):
                    slow(batch)
                    fast(read)
            started = time.perf_counter()
        timer = PassTimer(
            {"baseline": slow, "candidate": fast},
            {"baseline": batches, "candidate": own},
            together=inputs.rows is not None,
        )
        with watch.on("passes"):
            times = measure_pairs(timer, time.perf_counter, plan, started, earlier)
        latency = latency_record(times, torch.get_num_threads())
        shown = components and fast.model is not None
        with watch.on("passes"):
            timed = (
                time_components(fast, own, min(COMPONENTS_S, COMPONENTS_SHARE * plan.cap_s))
                if shown
                else None
            )
        return Speed(latency, timed, times, found)


def _ceilings(candidate: Execution) -> Ceilings:
    """The machine's, in the precisions that the candidate's runtime has there."""
    runtime, device = get_runtime(candidate.runtime), candidate.device
    executed = executed_precision(read_config(candidate.folder), candidate.precision)
    has = [each for each in PRECISIONS if runtime.lacks(each, device) is None]
    return measure_ceilings(device, executed, has)
