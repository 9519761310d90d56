"""Statistics of timings: the median of paired ratios with its interval, and percentiles that have enough
samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from math import comb, exp, log

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

RESAMPLES = 2000
FEWEST_PAIRS = 6
"""Of fewer pairs not even the smallest and the largest enclose the median in 95 % of cases."""

TAIL_CONFIDENCE = 0.99


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
        """The largest departure from 1 that the interval holds."""
        return max(abs(self.low - 1), abs(self.high - 1))


def median_ratio(log_ratios: Sequence[float] | Floats, seed: int = 0) -> Interval:
    """The median of ratios given by their logarithms, with the bootstrap's 95 % percentile interval (Efron
    1979).

    Of few ratios that interval is too narrow, so it is widened to the one that the sign test gives: from the
    k-th smallest to the k-th largest, which hold the median in at least 95 % of cases whatever the
    distribution. Treating pairs as independent is right here: which side comes first is drawn, and balanced,
    so a disturbance that outlasts a pair (drift, a neighbour's rhythm) enters the pairs with signs that do
    not add up. Raises ValueError for fewer than six ratios.
    """
    values = np.sort(np.asarray(log_ratios, dtype=np.float64))
    rank = sign_test_rank(len(values))
    rng = np.random.default_rng(seed)
    medians = np.median(values[rng.integers(0, len(values), (RESAMPLES, len(values)))], axis=1)
    low, high = np.quantile(medians, (0.025, 0.975))
    low, high = min(low, values[rank - 1]), max(high, values[-rank])
    return Interval(exp(float(np.median(values))), exp(float(low)), exp(float(high)))


@cache
def sign_test_rank(count: int) -> int:
    """The largest k for which the k-th smallest to the k-th largest of `count` values hold their median at 95
    %.

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
    """The fewest samples that carry a tail percentile: 64 for p90 (and p10), 662 for p99.

    That many show, at 99 % confidence, more than one sample beyond the percentile: P(Binomial(n, tail) ≤ 1) ≤
    1 % (the bound of MLPerf Inference's early stopping).
    """
    tail = min(percentile, 100 - percentile) / 100
    if not 0 < tail < 0.5:
        raise ValueError(f"{percentile} is no tail percentile")
    count = 2
    while sum(comb(count, k) * tail**k * (1 - tail) ** (count - k) for k in (0, 1)) > 1 - TAIL_CONFIDENCE:
        count += 1
    return count


def tail_percentile(values: Sequence[float] | Floats, percentile: float) -> float | None:
    """A percentile of the tail, or None where there are too few samples for it."""
    if len(values) < samples_needed(percentile):
        return None
    return float(np.percentile(np.asarray(values, dtype=np.float64), percentile))


def log_ratio(baseline_s: float, candidate_s: float) -> float:
    """The logarithm of baseline / candidate: positive where the candidate is faster."""
    return log(baseline_s) - log(candidate_s)
