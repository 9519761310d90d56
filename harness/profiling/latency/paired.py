"""The speed of an artifact and its baseline: one fresh process loads both, times them in pairs, then the components."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import torch

from harness.common.processes import run_isolated
from harness.models.artifacts import read_config
from harness.models.batch import Batch
from harness.profiling.costs.cached import executed_with_cache
from harness.profiling.costs.ceilings import executed_precision, measure_ceilings
from harness.profiling.costs.components import ComponentTimes, time_components
from harness.profiling.inputs import Inputs
from harness.profiling.latency.pairs import PairedTimes, Plan, latency_record, measure_pairs
from harness.profiling.latency.timers import PassTimer, steady_process
from harness.profiling.stopwatch import Stopwatch, watched
from harness.records.schema import PRECISIONS, Ceilings, Latency
from harness.runtimes import Executable, Execution, get_runtime, load

COMPONENTS_S, COMPONENTS_SHARE = 6.0, 1 / 3
"""The most seconds for the components, and the largest share of the pairs' time cap."""
ENOUGH_PAIRS = 42
"""30 pairs of candidate and baseline, and the time of 12 for 6 of the baseline against itself."""
LEAST_BATCHES, LEAST_VARYING = 4, 16
"""The fewest batches in a sample of real rows, and if rows exit early."""


@dataclass(frozen=True)
class Speed:
    """The paired latency and its single times, the candidate's components, and the machine's ceilings.

    `components` is None if they were not asked for or the runtime does not show them; `ceilings` if not asked for.
    """

    latency: Latency
    components: ComponentTimes | None
    times: PairedTimes
    ceilings: Ceilings | None = None

    @property
    def passes(self) -> tuple[float, ...]:
        """Seconds of each pass of the candidate in the used pairs."""
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
    """Time two executions in pairs in one child process, on one device, with the same threads and inputs.

    The same execution twice is an A/A run. Pairs of `earlier` sittings count too. This process sleeps meanwhile. The
    pairs take at most the plan's cap, which includes starting and loading, but not compiling; one pair is always taken.
    The components take up to six seconds more, and the machine's ceilings, measured first, a quarter of a second.
    `watch` books the time. Raises the errors of `Runtime.load`.
    """
    # All processes share the system's clock, so the child can count from this reading.
    started = time.perf_counter()
    speed: Speed
    asked = (candidate, baseline, inputs, plan or Plan(), components, ceilings, earlier, started)
    speed, child_watch = run_isolated(watched, _time_both, *asked)
    if watch is not None:
        watch.add(child_watch)
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
            reference, run = load(baseline), load(candidate)
            # Its own batches are shorter than the baseline's if second segments are cached.
            run, own = executed_with_cache(run, batches, inputs.workload.cached)
        if any(get_runtime(each.runtime).compiles for each in (candidate, baseline)):
            with watch.on("loading"):
                for batch, own_batch in zip(batches, own, strict=True):
                    reference(batch)
                    run(own_batch)
            started = time.perf_counter()
        groups = 1
        if inputs.rows is not None:
            with watch.on("passes"):
                round_s = _round_seconds(reference, batches) + _round_seconds(run, own)
            left_s = plan.cap_s * (1 - plan.warmup_share) - (time.perf_counter() - started)
            varies = any(
                getattr(read_config(each.folder).model, "exit_rule", None) for each in (candidate, baseline)
            )
            groups = groups_of_batches(len(batches), round_s, left_s, varies)
        timer = PassTimer(
            {"baseline": reference, "candidate": run},
            {"baseline": batches, "candidate": own},
            together=inputs.rows is not None,
            groups=groups,
        )
        with watch.on("passes"):
            times = measure_pairs(timer, time.perf_counter, plan, started, earlier)
        latency = latency_record(times, torch.get_num_threads())
        shown = components and run.model is not None
        with watch.on("passes"):
            timed = (
                time_components(run, own, min(COMPONENTS_S, COMPONENTS_SHARE * plan.cap_s)) if shown else None
            )
        return Speed(latency, timed, times, found)


def groups_of_batches(batches: int, round_s: float, left_s: float, varies: bool) -> int:
    """Return into how many groups a number of batches is dealt, so that enough pairs fit into the seconds left.

    Enough are those that give intervals of the candidate and of the baseline against itself. `round_s` is the time of
    both sides over all batches. A group has at least 4 batches, or 16 if the cost `varies` with the input.
    """
    wanted = ceil(ENOUGH_PAIRS * round_s / max(left_s, 1e-9))
    return max(1, min(wanted, batches // (LEAST_VARYING if varies else LEAST_BATCHES)))


def _round_seconds(run: Executable, batches: Sequence[Batch]) -> float:
    """Estimate the seconds of one pass over each batch from a few of them, after a first pass over each of these."""
    few = batches[:: max(1, len(batches) // LEAST_BATCHES)]
    for batch in few:
        run(batch)
    began = time.perf_counter()
    for batch in few:
        run(batch)
    return (time.perf_counter() - began) * len(batches) / len(few)


def _ceilings(candidate: Execution) -> Ceilings:
    """Measure the machine's ceilings in the precisions that the candidate's runtime has on this device."""
    runtime, device = get_runtime(candidate.runtime), candidate.device
    executed = executed_precision(read_config(candidate.folder), candidate.precision)
    has = [each for each in PRECISIONS if runtime.lacks(each, device) is None]
    return measure_ceilings(device, executed, has)
