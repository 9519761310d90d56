"""Paired tests of two recipes on one task, and their correction for multiplicity."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from harness.records.schema import Quality
from leaderboard.findings.scored_runs import points

LEVEL = 0.05
"""The level at which the whole family of findings is tested."""


@dataclass(frozen=True)
class Difference:
    """First minus second, in points: the mean over shared seeds, and its standard error (None without replicates).

    The squared error is the bootstrap variance over dev examples, paired by example and seed, plus the variance of
    the difference over seeds, divided by their number.
    """

    mean: float
    error: float | None

    @property
    def ci95(self) -> tuple[float, float] | None:
        """The 95 % interval, not corrected for multiplicity."""
        if self.error is None:
            return None
        half = NormalDist().inv_cdf(0.975) * self.error
        return self.mean - half, self.mean + half

    def p_value(self, shift: float = 0.0) -> float | None:
        """Return the two-sided p-value of the hypothesis that the true difference is -`shift`.

        The tails are a normal distribution's: 1,000 replicates alone cannot show a p-value below 0.002, which no
        correction for dozens of tests lets pass.
        """
        if self.error is None:
            return None
        distance = abs(self.mean + shift)
        if self.error == 0:
            return 0.0 if distance else 1.0
        return math.erfc(distance / self.error / math.sqrt(2))


def paired_difference(
    first: Mapping[int, Quality], second: Mapping[int, Quality], seed_variance: float | None
) -> Difference:
    """Compare two recipes on the same seeds of one task.

    `seed_variance` is the variance over seeds of one recipe's difference from its baseline, in squared points (None:
    unknown). Two recipes deviate from their baseline independently, so their difference has twice this variance.
    Replicate i of all records of a task resampled the same dev examples, so differences are taken by replicate.
    """
    seeds = sorted(first)
    mean = float(np.mean([points(first[seed]) - points(second[seed]) for seed in seeds]))
    paired = all(first[seed].examples == second[seed].examples for seed in seeds)
    count = min(len(own[seed].replicates) for own in (first, second) for seed in seeds)
    if count < 2 or not paired:
        return Difference(mean, None)
    replicates = np.mean(
        [
            np.asarray(first[seed].replicates[:count]) - np.asarray(second[seed].replicates[:count])
            for seed in seeds
        ],
        axis=0,
    )  # (replicates,)
    variance = float(np.var(replicates, ddof=1)) + 2 * (seed_variance or 0.0) / len(seeds)
    # Replicates that differ by a constant have a variance of rounding errors alone.
    error = math.sqrt(variance)
    return Difference(mean, error if error > 1e-9 else 0.0)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values so that rejecting those below a level keeps the chance of any false rejection below it.

    With p_(1) ≤ … ≤ p_(m), the adjusted p_(i) is the maximum over j ≤ i of min(1, (m − j + 1) · p_(j)) (Holm 1979).
    """
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = largest
    return adjusted
