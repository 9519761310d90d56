"""Speedups in a chain: a candidate over its baseline, and that baseline over another one."""

from __future__ import annotations

import math

from harness.profiling.latency.pairs import Plan
from harness.records.schema import Latency


def chained(first: Latency, second: Latency) -> Latency:
    """Return the candidate of `first` over the baseline of `second`, whose candidate is the baseline of `first`.

    The speedups multiply. The two runs are independent, so the squares of both intervals' widths add up, in logarithms
    and on each side. There is a verdict if both have one and the interval of the product is narrow enough.
    """
    interval: tuple[float, float] | None = None
    speedup: float | None = None
    if first.speedup and second.speedup and first.speedup_ci95 and second.speedup_ci95:
        product = first.speedup * second.speedup
        low, high = (
            math.hypot(
                *(
                    math.log(ends[side] / middle)
                    for ends, middle in (
                        (first.speedup_ci95, first.speedup),
                        (second.speedup_ci95, second.speedup),
                    )
                )
            )
            for side in (0, 1)
        )
        interval = (product * math.exp(-low), product * math.exp(high))
        if (interval[1] - interval[0]) / 2 <= Plan.widest * product:
            speedup = product
    floors = [each.aa_floor for each in (first, second) if each.aa_floor is not None]
    return Latency(
        median_ms=first.median_ms,
        p10_ms=first.p10_ms,
        p90_ms=first.p90_ms,
        baseline_median_ms=second.baseline_median_ms,
        samples=min(first.samples, second.samples),
        disturbed=first.disturbed + second.disturbed,
        used="all" if "all" in (first.used, second.used) else "undisturbed",
        speedup=speedup,
        speedup_ci95=interval,
        verdict="none" if speedup is None else "measured",
        aa_floor=max(floors, default=None),
        stopped_by=first.stopped_by,
        threads=first.threads,
        sittings=first.sittings,
    )
