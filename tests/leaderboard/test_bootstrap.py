"""Average drop and its interval: pairing by task, seed and example."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.records.schema import Quality
from leaderboard.boards.bootstrap import average_drop, interval, overlap, score, seed_draws
from tests.support.board_records import replicates


def run(points, resampled=None, metric="accuracy", examples=100):
    values = replicates(points) if resampled is None else list(resampled)
    return Quality(metric=metric, scores={metric: points}, ci95={}, replicates=values, examples=examples)


def test_drop_by_hand():
    method = {"sst2": {0: run(90.0)}, "mrpc": {0: run(80.0), 1: run(82.0)}, "rte": {0: run(1.0)}}
    base = {"sst2": {0: run(91.0)}, "mrpc": {0: run(84.0), 1: run(84.5), 2: run(99.0)}}
    drop, _ = average_drop(method, base)
    assert drop.by_task == {"sst2": -1.0, "mrpc": pytest.approx((-4.0 - 2.5) / 2)}
    assert drop.mean == pytest.approx((-1.0 - 3.25) / 2)
    assert drop.seeds == {"sst2": (0,), "mrpc": (0, 1)}


def test_tasks_narrow_the_comparison():
    method = {"sst2": {0: run(90.0)}, "mrpc": {0: run(80.0)}}
    base = {"sst2": {0: run(91.0)}, "mrpc": {0: run(84.0)}}
    assert average_drop(method, base, ["mrpc"])[0].mean == -4.0
    assert average_drop(method, base, ["cola"]) == (None, [])


def test_a_constant_difference_has_an_interval_of_no_width():
    """Unpaired, two scores with this spread would differ by about ±10 points."""
    noise = replicates(0.0, 5.0)
    base = {"sst2": {seed: run(90.0, [90 + n for n in noise]) for seed in range(3)}}
    method = {"sst2": {seed: run(89.0, [89 + n for n in noise]) for seed in range(3)}}
    drop, _ = average_drop(method, base)
    assert drop.mean == -1.0
    assert drop.ci95 == pytest.approx((-1.0, -1.0))


def test_seeds_are_resampled_and_paired():
    """Seeds whose drops are -2 and 0 without any noise: a replicate's mean is -2, -1 or 0 at 1:2:1."""
    flat = [0.0] * 4000
    base = {"rte": {0: run(70.0, [70 + n for n in flat]), 1: run(60.0, [60 + n for n in flat])}}
    method = {"rte": {0: run(68.0, [68 + n for n in flat]), 1: run(60.0, [60 + n for n in flat])}}
    drop, _ = average_drop(method, base)
    assert drop.mean == -1.0
    values, counts = np.unique(drop.replicates, return_counts=True)
    assert values.tolist() == [-2.0, -1.0, 0.0]
    assert counts / len(flat) == pytest.approx([0.25, 0.5, 0.25], abs=0.04)
    assert drop.ci95 == (-2.0, 0.0)


def test_replicates_against_a_plain_loop():
    rng = np.random.default_rng(3)
    seeds, count = (0, 4, 7), 50
    own = {seed: rng.normal(80, 1, count) for seed in seeds}
    other = {seed: rng.normal(81, 1, count) for seed in seeds}
    drop, _ = average_drop(
        {"sst2": {s: run(80.0, own[s]) for s in seeds}}, {"sst2": {s: run(81.0, other[s]) for s in seeds}}
    )
    draws = seed_draws("sst2", seeds, count)
    expected = [
        sum(own[seeds[d]][i] - other[seeds[d]][i] for d in draws[i]) / len(seeds) for i in range(count)
    ]
    assert drop.replicates == pytest.approx(expected)
    assert drop.ci95 == pytest.approx(np.percentile(expected, [2.5, 97.5]))


def test_rows_with_the_same_seeds_draw_the_same_seeds():
    assert (seed_draws("sst2", (0, 1, 2), 40) == seed_draws("sst2", (2, 1, 0), 40)).all()
    assert (seed_draws("sst2", (0, 1, 2), 40) != seed_draws("mrpc", (0, 1, 2), 40)).any()


def test_what_cannot_be_paired_is_said_and_not_averaged():
    base = {"sst2": {0: run(91.0)}, "mrpc": {0: run(84.0)}, "rte": {0: run(60.0)}, "cola": {5: run(50.0)}}
    method = {
        "sst2": {0: run(90.0)},
        "mrpc": {0: run(80.0, metric="f1")},
        "rte": {0: run(50.0, examples=7)},
        "cola": {0: run(50.0)},
    }
    drop, unpaired = average_drop(method, base)
    assert drop.by_task == {"sst2": -1.0}
    told = " | ".join(unpaired)
    assert "scored by f1, the baseline by accuracy" in told
    assert "on 7 examples, the baseline on 100" in told
    assert "cola: " in told


def test_without_replicates_there_is_a_drop_but_no_interval():
    drop, _ = average_drop({"a": {0: run(1.0, [])}}, {"a": {0: run(2.0)}})
    assert (drop.mean, drop.ci95, drop.replicates) == (-1.0, None, None)
    assert average_drop({}, {}) == (None, [])


def test_score_over_seeds():
    found = score("mrpc", {2: run(80.0), 0: run(82.0)})
    assert (found.mean, found.seeds, found.metric) == (81.0, (0, 2), "accuracy")
    assert found.ci95[0] < 81.0 < found.ci95[1]
    single = score("mrpc", {0: run(80.0, [79.0, 80.0, 81.0])})
    assert single.ci95 == interval(np.array([79.0, 80.0, 81.0]))


@given(st.tuples(st.integers(-5, 5), st.integers(0, 5)), st.tuples(st.integers(-5, 5), st.integers(0, 5)))
def test_overlap_of_closed_intervals(first, second):
    a, b = (first[0], first[0] + first[1]), (second[0], second[0] + second[1])
    shared = set(range(a[0], a[1] + 1)) & set(range(b[0], b[1] + 1))
    assert overlap(a, b) is bool(shared)
