from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from harness.profiling.latency.statistics import (
    FEWEST_PAIRS,
    log_ratio,
    median_ratio,
    samples_needed,
    sign_test_rank,
    tail_percentile,
)


def test_samples_that_a_tail_percentile_needs() -> None:
    assert samples_needed(90) == samples_needed(10) == 64
    assert samples_needed(99) == 662
    for percentile in (75, 90, 95, 99):
        needed, tail = samples_needed(percentile), 1 - percentile / 100
        assert stats.binom.cdf(1, needed, tail) <= 0.01 < stats.binom.cdf(1, needed - 1, tail)


@pytest.mark.parametrize("percentile", [0, 50, 100])
def test_what_is_not_a_tail(percentile: float) -> None:
    with pytest.raises(ValueError, match=str(percentile)):
        samples_needed(percentile)


def test_a_tail_percentile_is_withheld_until_there_are_enough_samples() -> None:
    values = np.arange(1.0, 65.0)
    assert tail_percentile(values[:63], 90) is None
    assert tail_percentile(values, 90) == pytest.approx(np.percentile(values, 90))
    assert tail_percentile(values, 99) is None


@given(st.integers(FEWEST_PAIRS, 400))
def test_rank_of_the_sign_test(count: int) -> None:
    rank = sign_test_rank(count)
    assert stats.binom.cdf(rank - 1, count, 0.5) <= 0.025 < stats.binom.cdf(rank, count, 0.5)


def test_too_few_values_for_an_interval() -> None:
    with pytest.raises(ValueError, match="at least 6"):
        median_ratio([0.0] * 5)


@given(st.lists(st.floats(-1, 1), min_size=FEWEST_PAIRS, max_size=40))
def test_the_interval_holds_the_median_and_stays_within_the_values(values: list[float]) -> None:
    found = median_ratio(values)
    assert min(values) - 1e-9 <= np.log(found.low) <= np.log(found.ratio) + 1e-9
    assert np.log(found.ratio) - 1e-9 <= np.log(found.high) <= max(values) + 1e-9
    assert np.log(found.ratio) == pytest.approx(np.median(values), abs=1e-9)


@given(st.lists(st.floats(-1, 1), min_size=FEWEST_PAIRS, max_size=40))
def test_order_does_not_matter_and_exchanging_the_sides_inverts_the_ratio(values: list[float]) -> None:
    found = median_ratio(values)
    assert median_ratio(values[::-1]) == found
    assert median_ratio([-v for v in values]).ratio == pytest.approx(1 / found.ratio)


def test_the_interval_agrees_with_scipys_bootstrap() -> None:
    values = np.random.default_rng(1).normal(0.5, 0.1, 301)
    found = median_ratio(values)
    other = stats.bootstrap(
        (values,), np.median, n_resamples=4000, method="percentile", random_state=2
    ).confidence_interval
    width = other.high - other.low
    assert np.log(found.low) == pytest.approx(other.low, abs=0.1 * width)
    assert np.log(found.high) == pytest.approx(other.high, abs=0.1 * width)


@pytest.mark.parametrize("count", [6, 9, 15, 60])
def test_coverage_of_heavy_tails(count: int) -> None:
    """The ratios follow Student's t with two degrees of freedom: its variance is infinite, its median 0."""
    rng = np.random.default_rng(count)
    intervals = [median_ratio(0.02 * rng.standard_t(2, count)) for _ in range(300)]
    held = sum(i.low <= 1 <= i.high for i in intervals)
    assert held >= 0.93 * 300


def test_widths() -> None:
    found = median_ratio(np.log([0.98, 0.99, 1.0, 1.0, 1.01, 1.04]))
    assert found.half_width == pytest.approx((1.04 - 0.98) / 2 / found.ratio)
    assert found.distance_from_one == pytest.approx(0.04)


def test_sign_of_the_ratio() -> None:
    assert np.exp(log_ratio(3.0, 1.5)) == pytest.approx(2.0)
