"""Average drop and its interval: pairing by task, seed and example, and the noise of training."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.records.schema import Quality
from leaderboard.boards.bootstrap import average_drop, differences, interval, score
from leaderboard.boards.seed_noise import SeedNoise, drawn, pooled_variance
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
    found, _ = differences(method, base)
    assert found["mrpc"].by_seed == (-4.0, -2.5)


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


def test_replicates_against_a_plain_loop():
    rng = np.random.default_rng(3)
    seeds, count = (0, 4, 7), 50
    own = {seed: rng.normal(80, 1, count) for seed in seeds}
    other = {seed: rng.normal(81, 1, count) for seed in seeds}
    drop, _ = average_drop(
        {"sst2": {s: run(80.0, own[s]) for s in seeds}}, {"sst2": {s: run(81.0, other[s]) for s in seeds}}
    )
    expected = [sum(own[s][i] - other[s][i] for s in seeds) / len(seeds) for i in range(count)]
    assert drop.replicates == pytest.approx(expected)
    assert drop.ci95 == pytest.approx(np.percentile(expected, [2.5, 97.5]))


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


@given(
    st.lists(st.lists(st.integers(-9, 9).map(float), min_size=1, max_size=4), max_size=5),
)
def test_pooled_variance_against_numpy(rows):
    """A weighted mean of the rows' own variances; rows of one seed say nothing."""
    several = [row for row in rows if len(row) > 1]
    if not several:
        assert pooled_variance(rows) is None
        return
    weights = [len(row) - 1 for row in several]
    expected = np.average([np.var(row, ddof=1) for row in several], weights=weights)
    assert pooled_variance(rows) == pytest.approx(expected, abs=1e-12)


def test_the_noise_of_a_row_depends_on_its_names_alone():
    seed = int.from_bytes(hashlib.sha256(b"a > b\nsst2").digest()[:8], "big")
    expected = np.random.default_rng(seed).standard_normal(20)
    assert drawn("a > b", "sst2", count=20) == pytest.approx(expected, abs=0)
    flat = np.zeros(20)
    noise = SeedNoise("a > b", {"sst2": 9.0})
    assert noise.added(flat, "sst2", 1) == pytest.approx(3.0 * expected)
    assert noise.added(flat, "sst2", 4) == pytest.approx(1.5 * expected)
    assert noise.added(flat, "mrpc", 1) is flat
    against = SeedNoise("a > b", {"sst2": 9.0}, against="c").added(flat, "sst2", 1)
    assert against == pytest.approx(3.0 * (expected - drawn("c", "sst2", count=20)))


def test_an_interval_contains_examples_and_seeds():
    """Independent spreads: 3 points by examples and 4 by seeds make 5."""
    count = 4000
    own = np.random.default_rng(1).normal(0.0, 3.0, count)
    method, base = {"sst2": {0: run(90.0, 90 + own)}}, {"sst2": {0: run(91.0, [91.0] * count)}}
    drop, _ = average_drop(method, base, noise=SeedNoise("a", {"sst2": 16.0}))
    assert drop.mean == -1.0
    assert np.std(drop.replicates) == pytest.approx(5.0, rel=0.05)
    assert drop.ci95 == pytest.approx((-1 - 1.96 * 5, -1 + 1.96 * 5), abs=0.5)
