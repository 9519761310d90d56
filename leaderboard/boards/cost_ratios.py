"""Cost ratios: a scored artifact's costs over its own baseline's, and their geometric mean over a board's tasks.

A ratio that fronts compare (`counted`) claims no more than was measured: it is 1 if the difference lies inside the
noise of the baseline against itself, and at least 1 if the profile says that the cost is not realised.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from harness.records.schema import ArtifactFacts, Profile, Total
from leaderboard.boards.bootstrap import Interval
from leaderboard.boards.row import CostRatio, CostState

Z95 = 1.959963984540054
"""The 97.5th percentile of the standard normal distribution: half of a 95 % interval in standard deviations."""
MEMORY_FLOOR = 0.02
"""The relative spread of peak memory for profiles that did not measure it."""
MISSING = CostRatio("missing")
NO_VERDICT = CostRatio("no verdict")


def size_ratio(own: ArtifactFacts | None, base: ArtifactFacts | None, claimed: bool) -> CostRatio:
    """Compute the ratio of bytes on disk. `claimed` says whether the recipe's methods claim to reduce the cost."""
    if own is None or base is None or not own.disk_bytes or not base.disk_bytes:
        return MISSING
    return _certain(own.disk_bytes / base.disk_bytes, own.disk_bytes < base.disk_bytes, claimed)


def flops_ratio(profile: Profile, claimed: bool) -> CostRatio:
    """Compute the ratio of FLOPs."""
    if profile.baseline is None or not profile.baseline.flops or not profile.total.flops:
        return MISSING
    ratio = profile.total.flops / profile.baseline.flops
    return _certain(ratio, profile.realised.get("flops", ratio < 1), claimed)


def latency_ratio(profile: Profile, claimed: bool) -> CostRatio:
    """Compute the ratio of latencies: 1 / speedup. There is no difference if its interval lies within the A/A floor."""
    latency = profile.latency
    if latency is None:
        return MISSING
    if latency.verdict == "none" or not latency.speedup:
        return NO_VERDICT
    interval, deviation = None, 0.0
    if latency.speedup_ci95 is not None:
        low, high = latency.speedup_ci95
        interval, deviation = (1 / high, 1 / low), math.log(high / low) / (2 * Z95)
        floor = latency.aa_floor
        if floor is not None and 1 - floor <= low and high <= 1 + floor:
            return _no_difference(1 / latency.speedup, interval)
    realised = profile.realised.get("latency", latency.speedup > 1)
    return _uncertain(1 / latency.speedup, interval, deviation, realised, claimed)


def memory_ratio(profile: Profile, claimed: bool) -> CostRatio:
    """Compute the ratio of peak memory. There is no difference if it is within the spread of equal processes."""
    own, base = (peak_memory(profile.device, total) for total in (profile.total, profile.baseline))
    if not own or not base:  # a process that did not grow says nothing
        return MISSING
    floor = MEMORY_FLOOR if profile.memory_floor is None else profile.memory_floor
    ratio = own / base
    interval = (ratio / (1 + floor), ratio * (1 + floor))
    if abs(ratio - 1) <= floor:
        return _no_difference(ratio, interval)
    deviation = math.log1p(floor) / Z95
    return _uncertain(ratio, interval, deviation, profile.realised.get("memory", ratio < 1), claimed)


def peak_memory(device: str, total: Total | None) -> int | None:
    """Return the accelerator's peak memory in bytes if it was measured on one, else the process's."""
    if total is None:
        return None
    accelerator = total.accelerator_memory_bytes
    return accelerator if device != "cpu" and accelerator is not None else total.peak_memory_bytes


def scaled(ratio: CostRatio, factor: float, runtime: str | None) -> CostRatio:
    """Return a ratio under `runtime` times a factor of at least 1. A factor of 1 leaves its state."""
    interval = None if ratio.ci95 is None else (ratio.ci95[0] * factor, ratio.ci95[1] * factor)
    return replace(
        ratio,
        state="measured" if factor > 1 else ratio.state,
        ratio=None if ratio.ratio is None else ratio.ratio * factor,
        ci95=interval,
        counted=None if ratio.counted is None else ratio.counted * factor,
        runtime=runtime,
    )


def mean_over_tasks(by_task: Mapping[str, CostRatio], tasks: Sequence[str]) -> CostRatio:
    """Compute the geometric mean over all of `tasks`. It is missing if one is missing, and no verdict if one has none.

    Tasks are independent, so the ends of the interval lie at the root of the summed squares of the tasks' distances, in
    logarithms and over the number of tasks.
    """
    own = [by_task.get(task, MISSING) for task in tasks]
    states = {each.state for each in own}
    if not own or "missing" in states:
        return replace(MISSING, by_task=by_task)
    if "no verdict" in states:
        return replace(NO_VERDICT, by_task=by_task)
    count = len(own)
    centre = math.fsum(math.log(each.ratio or 1.0) for each in own) / count
    return CostRatio(
        _state_of_mean(states),
        math.exp(centre),
        _interval_of_mean(own, centre),
        math.exp(math.fsum(math.log(each.counted or 1.0) for each in own) / count),
        math.hypot(*(each.log_deviation for each in own)) / count,
        all(each.realised for each in own),
        by_task=by_task,
    )


def _state_of_mean(states: set[CostState]) -> CostState:
    if states == {"no difference"}:
        return "no difference"
    return "simulated" if "measured" not in states else "measured"


def _interval_of_mean(own: Sequence[CostRatio], centre: float) -> Interval | None:
    ends = [(each.ratio, each.ci95) for each in own]
    known = [(math.log(ratio), math.log(ci[0]), math.log(ci[1])) for ratio, ci in ends if ratio and ci]
    if len(known) < len(own):
        return None
    below = math.hypot(*(middle - low for middle, low, _ in known)) / len(own)
    above = math.hypot(*(high - middle for middle, _, high in known)) / len(own)
    return math.exp(centre - below), math.exp(centre + above)


def _certain(ratio: float, realised: bool, claimed: bool) -> CostRatio:
    return _uncertain(ratio, None, 0.0, realised, claimed)


def _uncertain(
    ratio: float, interval: Interval | None, deviation: float, realised: bool, claimed: bool
) -> CostRatio:
    state: CostState = "simulated" if claimed and not realised else "measured"
    counted = ratio if realised else max(ratio, 1.0)
    return CostRatio(state, ratio, interval, counted, deviation, realised)


def _no_difference(ratio: float, interval: Interval | None) -> CostRatio:
    return CostRatio("no difference", ratio, interval, 1.0)
