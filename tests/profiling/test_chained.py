"""A speedup over another baseline: the product of two speedups, with the interval that both leave."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.profiling.latency.chained import chained
from tests.support.paired_latency import paired_latency, without_verdict


def test_the_speedups_multiply() -> None:
    own = paired_latency(
        median_ms=2.0, baseline_median_ms=4.0, speedup=2.0, speedup_ci95=(1.98, 2.02), samples=40
    )
    base = paired_latency(
        median_ms=4.0,
        baseline_median_ms=6.0,
        speedup=1.5,
        speedup_ci95=(1.47, 1.53),
        aa_floor=0.03,
        samples=30,
    )
    found = chained(own, base)
    assert found.speedup == 3.0
    assert (found.median_ms, found.baseline_median_ms) == (2.0, 6.0)
    assert (found.samples, found.aa_floor, found.verdict) == (30, 0.03, "measured")
    assert found.speedup_ci95 is not None
    # 1 % and 2 % add up as squares.
    assert found.speedup_ci95 == pytest.approx((3 * (1 - 0.0224), 3 * (1 + 0.0224)), rel=1e-3)


def test_the_interval_is_that_of_a_product_of_independent_estimates() -> None:
    rng = np.random.default_rng(0)
    logs = [rng.normal(math.log(ratio), spread, 200_000) for ratio, spread in ((1.7, 0.011), (0.9, 0.006))]
    estimates = [
        paired_latency(
            speedup=float(np.exp(np.median(each))),
            speedup_ci95=tuple(float(end) for end in np.exp(np.quantile(each, [0.025, 0.975]))),
        )
        for each in logs
    ]
    expected = np.exp(np.quantile(logs[0] + logs[1], [0.025, 0.975]))
    assert chained(*estimates).speedup_ci95 == pytest.approx(expected.tolist(), rel=1e-3)


@pytest.mark.parametrize("place", [0, 1])
def test_no_verdict_of_either_is_none_of_both(place: int) -> None:
    parts = [paired_latency(speedup=2.0, speedup_ci95=(1.99, 2.01))] * 2
    parts[place] = without_verdict(1.0, 3.0)
    found = chained(*parts)
    assert (found.speedup, found.speedup_ci95, found.verdict) == (None, None, "none")


@given(st.floats(0.001, 0.05), st.floats(0.001, 0.05))
def test_a_verdict_needs_a_narrow_product(first: float, second: float) -> None:
    own, base = (
        paired_latency(speedup=1.0, speedup_ci95=(math.exp(-each), math.exp(each)))
        for each in (first, second)
    )
    found = chained(own, base)
    width = math.hypot(first, second)
    assert (found.verdict == "measured") == (math.sinh(width) <= 0.05)
