"""Ranks as ranges: ties, certain differences, and the coverage that a confidence set promises."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leaderboard.boards.rank_ranges import rank_ranges


def plain(means, replicates):
    """The definition, in loops over pairs."""
    count = len(means)
    centred = replicates - replicates.mean(axis=0)
    errors, largest = {}, np.zeros(len(replicates))
    for first, second in itertools.combinations(range(count), 2):
        deviations = centred[:, first] - centred[:, second]
        error = np.std(deviations, ddof=1)
        errors[first, second] = errors[second, first] = error
        if error > 1e-12:
            largest = np.maximum(largest, abs(deviations) / error)
    critical = np.percentile(largest, 95)
    above = [
        [
            first != second and means[first] - means[second] > max(critical * errors[first, second], 1e-12)
            for second in range(count)
        ]
        for first in range(count)
    ]
    return [
        (1 + sum(above[other][row] for other in range(count)), count - sum(above[row]))
        for row in range(count)
    ]


@given(st.integers(0, 10_000), st.integers(1, 7))
def test_ranges_against_the_definition(seed, count):
    rng = np.random.default_rng(seed)
    means = rng.normal(0, 3, count).round(1)
    replicates = means + rng.normal(0, rng.uniform(0.1, 2, count), (60, count))
    found = [(each.best, each.worst) for each in rank_ranges(means, replicates)]
    assert found == plain(means, replicates)


def test_many_ties_make_wide_ranges_and_one_bad_row_stands_alone():
    """Rows that overlap their neighbours all share one range, which overlapping with a leader would cut."""
    rng = np.random.default_rng(0)
    means = np.array([-0.1 * step for step in range(10)] + [-30.0])
    replicates = means + rng.normal(0, 1.0, (1000, 11))
    ranges = [(each.best, each.worst) for each in rank_ranges(means, replicates)]
    assert ranges == [(1, 10)] * 10 + [(11, 11)]


def test_paired_rows_are_told_apart_where_their_own_intervals_overlap():
    """Both scatter by 3 points, but together: their difference of half a point is certain."""
    rng = np.random.default_rng(0)
    shared = rng.normal(0, 3.0, 1000)
    replicates = np.stack([shared, shared - 0.5 + rng.normal(0, 0.01, 1000)], axis=1)
    assert [(each.best, each.worst) for each in rank_ranges([0.0, -0.5], replicates)] == [(1, 1), (2, 2)]


def test_differences_without_spread_are_certain_unless_they_are_zero():
    replicates = np.tile([1.0, 1.0, 0.5], (50, 1))
    assert [(each.best, each.worst) for each in rank_ranges([1.0, 1.0, 0.5], replicates)] == [
        *((1, 2), (1, 2), (3, 3))
    ]


def test_the_true_ranks_lie_in_the_ranges_as_often_as_promised():
    """All rows are equal: 95 % of the experiments should call no difference at all."""
    rng = np.random.default_rng(7)
    rows, experiments = 6, 200
    errors = 0
    for _ in range(experiments):
        means = rng.normal(0, 1.0, rows)
        replicates = means + rng.normal(0, 1.0, (400, rows))
        errors += any((each.best, each.worst) != (1, rows) for each in rank_ranges(means, replicates))
    assert errors / experiments == pytest.approx(0.05, abs=0.045)
