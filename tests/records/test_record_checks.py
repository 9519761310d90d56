"""Data tests of contributed records find each mistake and pass good records."""

from __future__ import annotations

import pytest

from harness.records.checks import check_records
from tests.support.board_records import example_records, facts, failed, profile, provenance, quality


def changed(record, **values):
    return record.model_copy(update=values)


def scored(**values):
    record = quality("a", "sst2", 90.0)
    return changed(record, quality=record.quality.model_copy(update=values))


def test_sound_records_pass():
    assert check_records(example_records()) == []


def test_correlations_may_be_negative_or_small():
    records = [
        quality("a", "cola", score, seed, metric="matthews_correlation")
        for seed, score in enumerate((-3.0, 0.0, 0.5))
    ]
    assert check_records(records) == []


@pytest.mark.parametrize(
    ("records", "problem"),
    [
        ([quality("a", "sst2", 90.0)] * 2, "2 records of one cell"),
        ([changed(quality("a", "sst2", 90.0), provenance=provenance(fingerprint=""))], "lacks 'fingerprint'"),
        ([changed(quality("a", "sst2", 90.0), provenance=provenance(versions={}))], "lacks 'versions'"),
        ([changed(quality("a", "sst2", 90.0), provenance=provenance(data=None))], "lacks 'data'"),
        ([changed(quality("a", "sst2", 90.0), provenance=provenance(weights=""))], "lacks 'weights'"),
        ([quality("a", "sst2", 0.9)], "looks like a fraction"),
        ([quality("a", "sst2", 9000.0)], "lies outside 0 to 100"),
        ([quality("a", "sst2", -1.0)], "lies outside 0 to 100"),
        ([quality("a", "cola", -101.0, metric="pearson")], "lies outside -100 to 100"),
        ([scored(replicates=[0.9] * 50)], "replicates' mean 0.90 is far from the score 90.00"),
        ([scored(replicates=[])], "no replicates"),
        ([scored(ci95={"accuracy": (91.0, 92.0)})], "outside its interval"),
        ([scored(scores={"f1": 90.0})], "primary metric 'accuracy' has no score"),
        ([failed("a", "sst2", reason=" ")], "failed without a reason"),
        ([changed(quality("a", "sst2", 90.0), status="failed", reason="x")], "failed with figures"),
        ([changed(quality("a", "sst2", 90.0), quality=None)], "status ok without a quality"),
        ([changed(quality("a", "sst2", 90.0), seed=None)], "without task or seed"),
        ([changed(quality("a", "sst2", 90.0), artifact=None)], "no artifact"),
        ([changed(profile("a"), artifact=facts("other", 5_000))], "bytes on disk"),
        (
            [quality("a", "sst2", 90.0), profile("a", task="sst2", seed=0, artifact=facts("other"))],
            "but quality/a/minilm-l6/sst2/0 scored",
        ),
    ],
)
def test_each_mistake_is_found(records, problem):
    found = check_records(records)
    assert any(problem in line for line in found), found
    assert all(line.startswith(("quality/", "profile/")) for line in found)
    assert not any("\n" in line for line in found)
