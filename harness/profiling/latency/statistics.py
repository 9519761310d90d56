"""Statistics of timings: the median of paired ratios with its interval, and tail percentiles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from math import comb, exp, log

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

RESAMPLES = 2000
"""Resamples of the bootstrap."""
FEWEST_PAIRS = 6
"""With fewer pairs, even the range from the smallest to the largest contains the median in less than 95 % of cases."""

TAIL_CONFIDENCE = 0.99
"""Confidence with which the samples show more than one value beyond a tail percentile."""


@dataclass(frozen=True)
class Interval:
    """A ratio and its 95 % interval."""

    ratio: float
    low: float
    high: float

    @property
    def half_width(self) -> float:
        """Half the interval's width, as a share of the ratio."""
        return (self.high - self.low) / 2 / self.ratio

    @property
    def distance_from_one(self) -> float:
        """The distance from 1 of the interval's farther end."""
        return max(abs(self.low - 1), abs(self.high - 1))


def median_ratio(log_ratios: Sequence[float] | Floats, seed: int = 0) -> Interval:
    """Return the median of ratios, given by their logarithms, with its 95 % percentile interval by bootstrap.

    Source: Efron 1979. With few ratios this interval is too narrow, so it is widened to the interval of the sign test,
    from the k-th smallest to the k-th largest, which contains the median in at least 95 % of cases for any
    distribution. Pairs may be treated as independent: the order within pairs is drawn and balanced, so a disturbance
    that lasts longer than a pair (drift, a neighbour's rhythm) has signs that cancel. Raises ValueError for fewer than
    six ratios.
    """
    values = np.sort(np.asarray(log_ratios, dtype=np.float64))
    rank = sign_test_rank(len(values))
    rng = np.random.default_rng(seed)
    medians = np.median(values[rng.integers(0, len(values), (RESAMPLES, len(values)))], axis=1)  # (2000,)
    low, high = np.quantile(medians, (0.025, 0.975))
    low, high = min(low, values[rank - 1]), max(high, values[-rank])
    return Interval(exp(float(np.median(values))), exp(float(low)), exp(float(high)))


@cache
def sign_test_rank(count: int) -> int:
    """Return the largest k for which the k-th smallest to the k-th largest value contain the median at 95 %.

    That is P(Binomial(count, 1/2) < k) ≤ 2.5 %. Raises ValueError for fewer than six values.
    """
    if count < FEWEST_PAIRS:
        raise ValueError(f"an interval needs at least {FEWEST_PAIRS} values, not {count}")
    rank, below = 0, 0
    while (below + comb(count, rank)) * 40 <= 2**count:
        below += comb(count, rank)
        rank += 1
    return rank


@cache
def samples_needed(percentile: float) -> int:
    """Return the fewest samples from which a tail percentile is read: 64 for p90 (and p10), 662 for p99.

    With that number, more than one sample lies beyond the percentile at 99 % confidence: P(Binomial(n, tail) ≤ 1) ≤
    1 %, the bound of MLPerf Inference's early stopping. Raises ValueError if the percentile is not in a tail.
    """
    tail = min(percentile, 100 - percentile) / 100
    if not 0 < tail < 0.5:
        raise ValueError(f"{percentile} is not a tail percentile")
    count = 2
    while sum(comb(count, k) * tail**k * (1 - tail) ** (count - k) for k in (0, 1)) > 1 - TAIL_CONFIDENCE:
        count += 1
    return count


def tail_percentile(values: Sequence[float] | Floats, percentile: float) -> float | None:
    """Return a tail percentile of values, or None if there are too few of them."""
    if len(values) < samples_needed(percentile):
        return None
    return float(np.percentile(np.asarray(values, dtype=np.float64), percentile))


def log_ratio(baseline_s: float, candidate_s: float) -> float:
    """Return the logarithm of baseline / candidate, which is positive if the candidate is faster."""
    return log(baseline_s) - log(candidate_s)
