"""The curves of accuracy against speed."""

from __future__ import annotations

import pytest

from harness.common.errors import Code
from harness.records.schema import Workload
from leaderboard.findings.curves import curves_table
from tests.support.board_records import facts, profile, quality
from tests.support.one_line_errors import refused
from tests.support.paired_latency import without_verdict
from tests.support.scored_records import stage_with, under, with_figures, with_training

REAL = Workload(batch=1, length=128, inputs="real")


def test_curves_join_scores_and_profiles_of_one_artifact() -> None:
    slow, fast, other = "deebert:speed=1.5", "deebert:speed=3.0", "pabee:speed=2.0"
    of_slow = {"task": "sst2", "seed": 0, "workload": REAL}
    records = [
        with_training(quality("baseline", "sst2", 91.0), stage_with()),
        quality(fast, "sst2", 85.0),
        with_figures(quality(slow, "sst2", 89.0), threshold=0.31, mean_depth=4.25),
        quality(other, "sst2", 88.0),
        quality(other, "sst2", 90.0, 1),
        quality("magnitude:sparsity=0.6", "sst2", 88.0),
        quality("deebert:speed=2.0 > dynamic-int8", "sst2", 88.0),
        profile(slow, flops=1_500_000_000, speedup=1.4, runtime="onnxruntime", **of_slow),
        profile(slow, flops=1_600_000_000, speedup=1.2, **of_slow),
        profile(
            slow, task="sst2", seed=0, flops=1_900_000_000, speedup=1.0, workload=Workload(batch=1, length=64)
        ),
        profile(
            slow,
            task="sst2",
            seed=0,
            flops=1_800_000_000,
            speedup=1.1,
            workload=Workload(batch=8, inputs="real"),
        ),
        # An artifact that was not scored.
        profile(slow, flops=100, artifact=facts("another"), **of_slow).model_copy(update={"key": "another"}),
        profile(fast, task="sst2", seed=0, flops=800_000_000, speedup=2.2, workload=REAL),
    ]
    rows = curves_table(records, cards={"deebert": {"title": "DeeBERT"}}).records()
    assert [row["method"] for row in rows] == [
        "DeeBERT (speed=1.5)",
        "DeeBERT (speed=3.0)",
        "pabee (speed=2.0)",
    ]
    first, second, third = rows
    assert (first["threshold"], first["depth"], first["score"], first["drop"]) == (0.31, 4.25, 89.0, -2.0)
    # The eager profile on rows of the task counts: 2.0 GFLOPs over 1.6.
    assert (first["flops_ratio"], first["speedup"]) == (pytest.approx(1.25), 1.2)
    assert second["flops_ratio"] == pytest.approx(2.5)
    assert (third["seeds"], third["score"]) == (2, 89.0)
    assert third["flops_ratio"] is third["speedup"] is third["threshold"] is None
    with refused(Code.NO_DATA, "deebert", "power-bert"):
        curves_table(records[:1])


def test_a_point_is_held_against_the_baseline_that_it_started_from() -> None:
    short, long = {"epochs": 1}, {"epochs": 5}
    records = [
        under(quality("baseline", "sst2", 91.0), baseline=short),
        under(quality("baseline", "sst2", 93.0), baseline=long, recipe=long),
        under(quality("deebert:speed=2.0", "sst2", 89.0), baseline=short, recipe=long),
    ]
    (row,) = curves_table(records).records()
    assert row["drop"] == -2.0
    assert curves_table([under(record, "p") for record in records], protocol="p").records()
    with refused(Code.NO_DATA):
        curves_table(records, protocol="p")


def test_a_speedup_without_a_verdict_says_so() -> None:
    wide = profile("deebert", task="sst2", seed=0, workload=REAL)
    assert wide.profile is not None
    changed = wide.profile.model_copy(update={"latency": without_verdict(1.1, 2.1)})
    records = [quality("deebert", "sst2", 89.0), wide.model_copy(update={"profile": changed})]
    (row,) = curves_table(records).records()
    assert (row["speedup"], row["low"], row["high"]) == ("no verdict", 1.1, 2.1)
