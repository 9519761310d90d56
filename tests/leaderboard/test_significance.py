"""Paired differences, their p-values and Holm's correction, against SciPy, NumPy and the definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from harness.records.schema import Quality
from leaderboard.findings.significance import Difference, holm, paired_difference

# Multiples of 1/1024, so that products with small numbers are exact.
shares = st.integers(0, 1024).map(lambda n: n / 1024)


def stepped_down(p_values: list[float], level: float) -> list[bool]:
    """Holm's procedure: from the smallest p-value on, reject while p_(i) ≤ level / (m − i + 1)."""
    rejected, left = [False] * len(p_values), len(p_values)
    for place in np.argsort(p_values, kind="stable"):
        if p_values[place] * left > level:
            break
        rejected[place] = True
        left -= 1
    return rejected


@given(st.lists(shares, max_size=12), shares.filter(lambda level: level < 1))
def test_adjusted_p_values_reject_what_holms_procedure_rejects(p_values: list[float], level: float) -> None:
    assert [p <= level for p in holm(p_values)] == stepped_down(p_values, level)


def test_adjusted_p_values_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.floats(-20, 20), st.floats(0.01, 10), st.floats(-3, 3))
def test_p_values_and_intervals_are_those_of_a_normal_distribution(
    mean: float, error: float, shift: float
) -> None:
    difference = Difference(mean, error)
    assert difference.p_value(shift) == pytest.approx(2 * stats.norm.sf(abs(mean + shift) / error), abs=1e-12)
    assert difference.ci95 == pytest.approx(stats.norm.interval(0.95, mean, error))


def test_an_exact_difference_has_no_error() -> None:
    assert Difference(2.0, 0.0).p_value() == 0.0
    assert Difference(-1.5, 0.0).p_value(1.5) == 1.0
    assert Difference(2.0, None).p_value() is None
    assert Difference(2.0, None).ci95 is None


def scored(score: float, replicates: list[float], examples: int = 100) -> Quality:
    return Quality(
        metric="accuracy", scores={"accuracy": score}, ci95={}, replicates=replicates, examples=examples
    )


def test_examples_are_paired_and_seeds_add_their_variance() -> None:
    rng = np.random.default_rng(0)
    first, second = (
        {seed: scored(90.0 + seed + side, list(rng.normal(90, 1, 50))) for seed in (0, 1)}
        for side in (0.5, 0)
    )
    found = paired_difference(first, second, seed_variance=3.0)
    rows = [np.subtract(first[seed].replicates, second[seed].replicates) for seed in (0, 1)]
    assert found.mean == pytest.approx(0.5)
    assert found.error == pytest.approx(np.sqrt(np.mean(rows, axis=0).var(ddof=1) + 2 * 3.0 / 2))
    without = paired_difference(first, second, seed_variance=None)
    assert without.error == pytest.approx(np.mean(rows, axis=0).std(ddof=1))


def test_no_error_without_replicates_or_on_other_examples() -> None:
    one = scored(90.0, [89.0, 90.0, 91.0])
    assert paired_difference({0: one}, {0: scored(80.0, [])}, None) == Difference(10.0, None)
    assert paired_difference({0: one}, {0: scored(80.0, [1.0, 2.0, 3.0], examples=7)}, None).error is None
    # Replicates that differ by a constant.
    assert paired_difference({0: one}, {0: scored(80.0, [79.0, 80.0, 81.0])}, None) == Difference(10.0, 0.0)
