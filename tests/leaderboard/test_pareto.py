"""Fronts against brute force, and areas against counted squares."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leaderboard.boards import pareto

few = st.integers(-3, 3).map(float)  # few values, so that ties are common
points = st.lists(st.tuples(few, few), max_size=9)
reals = st.lists(st.tuples(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3)), max_size=9)


def brute(quality, cost):
    return [
        not any(
            q >= quality[i] and c <= cost[i] and (q, c) != (quality[i], cost[i])
            for q, c in zip(quality, cost, strict=True)
        )
        for i in range(len(quality))
    ]


@given(points | reals)
def test_front_against_brute_force(found):
    quality, cost = [q for q, _ in found], [c for _, c in found]
    assert pareto.front(quality, cost) == brute(quality, cost)


@given(points)
def test_exact_ties_stay_together(found):
    quality, cost = [q for q, _ in found], [c for _, c in found]
    flags = pareto.front([*quality, *quality], [*cost, *cost])
    assert flags[: len(found)] == flags[len(found) :]


def test_nothing_is_rounded():
    assert pareto.front([90.0, 90.0 + 1e-12], [1.0, 1.0]) == [False, True]
    assert pareto.front([90.0, 90.0], [1.0, 1.0 + 1e-12]) == [True, False]
    assert pareto.front([], []) == []


@given(st.lists(st.tuples(st.lists(few, min_size=6, max_size=6), few), min_size=1, max_size=6))
def test_probability_is_the_share_of_replicates(found):
    replicates = [np.array(values) for values, _ in found]
    cost = [c for _, c in found]
    fronts = np.array([brute([r[i] for r in replicates], cost) for i in range(6)])
    assert pareto.front_probability(replicates, cost) == pytest.approx(fronts.mean(axis=0).tolist())


def test_probability_with_a_certain_point_and_without_any():
    # The second point is cheaper and beats the certain one in half of the replicates.
    assert pareto.front_probability([0.0, np.array([-1.0, 1.0])], [2.0, 1.0]) == [0.5, 1.0]
    assert pareto.front_probability([1.0, 2.0], [1.0, 2.0]) == [None, None]
    assert pareto.front_probability([], []) == []


@given(
    st.lists(
        st.tuples(st.lists(few, min_size=5, max_size=5), st.lists(few, min_size=5, max_size=5)),
        min_size=1,
        max_size=6,
    )
)
def test_costs_are_drawn_with_the_qualities(found):
    replicates, costs = ([np.array(pair[place]) for pair in found] for place in (0, 1))
    fronts = np.array([brute([r[i] for r in replicates], [c[i] for c in costs]) for i in range(5)])
    assert pareto.front_probability(replicates, costs) == pytest.approx(fronts.mean(axis=0).tolist())


@given(points)
def test_with_equal_task_sets_the_shared_front_is_the_front(found):
    drops = [{"a": q, "b": q} for q, _ in found]
    cost = [c for _, c in found]
    assert pareto.front_on_shared_tasks(drops, cost) == brute([q for q, _ in found], cost)


def test_a_row_with_fewer_tasks_never_beats_one_with_more():
    full, partial = {"a": -1.0, "b": -9.0}, {"a": -0.5}
    assert pareto.front_on_shared_tasks([full, partial], [2.0, 1.0]) == [True, True]
    # But it is beaten on the task that both have.
    assert pareto.front_on_shared_tasks([full, {"a": -2.0}], [1.0, 2.0]) == [True, False]


@given(st.lists(st.tuples(st.integers(-2, 6), st.integers(-2, 6)), max_size=7))
def test_hypervolume_against_counted_squares(found):
    """The reference point is quality 0 at cost 5; unit squares of the grid are covered or not."""
    quality, cost = [float(q) for q, _ in found], [float(c) for _, c in found]
    covered = sum(any(q >= y + 1 and c <= x for q, c in found) for x in range(-2, 5) for y in range(0, 6))
    assert pareto.hypervolume(quality, cost, 0.0, 5.0) == covered
