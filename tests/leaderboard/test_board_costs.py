"""Costs on the measured board: which profile a row gets, under one condition, and what they are worth."""

from __future__ import annotations

import pytest

from harness.records.schema import Workload
from leaderboard.boards.measured import measured_board
from tests.support.board_records import CARDS, HARDWARE, by_recipe, facts, profile, quality, rows_of


def test_profiles_join_by_artifact_and_others_are_told() -> None:
    base, own = facts("hash-b", 100_000_000), facts("hash-own", 50_000_000)
    records = [
        quality("baseline", "sst2", 90.0, artifact=base),
        quality("a", "sst2", 89.0, 0, artifact=own),
        quality("b", "sst2", 88.0, 0, artifact=facts("hash-b0", 40_000_000)),
        profile("a", artifact=own, speedup=2.0),
        profile("b", task="sst2", seed=7, artifact=facts("another", 41_000_000), speedup=3.0),
        profile("a", task="mrpc", seed=0, artifact=facts("third", 1), speedup=9.0),
    ]
    rows = by_recipe(measured_board(records))
    assert (rows["a"].speedup, rows["a"].disk_bytes) == (2.0, 50_000_000)
    assert not any("another artifact" in note for note in rows["a"].notes)
    assert (rows["b"].speedup, rows["b"].disk_bytes) == (3.0, 41_000_000)
    assert any("another artifact of the recipe (SST-2, seed 7)" in note for note in rows["b"].notes)
    assert any("only the size is known" in note for note in rows["baseline"].notes)
    assert rows["baseline"].disk_bytes == 100_000_000


def test_only_one_condition_is_compared() -> None:
    records = [quality(r, "sst2", 90.0) for r in ("baseline", "a")]
    records += [profile(r, task="sst2", seed=0) for r in ("baseline", "a")]
    wide = Workload(batch=8, length=128)
    records.append(profile("a", task="sst2", seed=0, workload=wide, speedup=4.0))
    other = HARDWARE.model_copy(update={"id": "other"})
    records.append(profile("a", task="sst2", seed=0, hardware=other, speedup=5.0))
    board = measured_board(records)
    assert by_recipe(board)["a"].speedup == 1.0
    assert board.workload == Workload(batch=1, length=128)
    assert len(board.skipped) == 2


def test_a_simulated_cost_counts_as_no_less_than_the_baselines() -> None:
    records = [quality(r, "sst2", s) for r, s in (("baseline", 90.0), ("magnitude", 89.0), ("a", 88.0))]
    records += [
        profile("baseline", task="sst2", seed=0),
        profile(
            "magnitude",
            task="sst2",
            seed=0,
            flops=1_000_000_000,
            speedup=1.08,
            realised={"flops": False, "latency": False},
        ),
        profile("a", task="sst2", seed=0, flops=1_000_000_000, speedup=1.5),
    ]
    row = by_recipe(measured_board(records, cards=CARDS))["magnitude"]
    assert row.simulated == ("flops",)  # the card claims no latency
    assert row.costs["flops"] == 2_000_000_000
    assert row.costs["latency"] == 1.0
    assert (row.flops, row.speedup) == (1_000_000_000, 1.08)
    fronts = by_recipe(measured_board(records, cards=CARDS, axis="latency"))
    assert not fronts["magnitude"].pareto
    assert fronts["a"].pareto


def test_no_verdict_is_no_figure() -> None:
    records = [quality(r, "sst2", 90.0) for r in ("baseline", "a")]
    records += [profile("baseline", task="sst2", seed=0), profile("a", task="sst2", seed=0, speedup=None)]
    row = by_recipe(measured_board(records))["a"]
    assert row.speedup is None
    assert row.speedup_verdict == "none"
    assert "latency" not in row.costs
    assert any("no verdict" in note for note in row.notes)


def test_accelerator_memory_is_the_memory_on_an_accelerator() -> None:
    record = profile("baseline", task="sst2", seed=0, device="cuda")
    held = record.profile
    assert held is not None
    measured = held.total.model_copy(update={"accelerator_memory_bytes": 7})
    record = record.model_copy(update={"profile": held.model_copy(update={"total": measured})})
    row = rows_of(measured_board([quality("baseline", "sst2", 90.0), record]))[0]
    assert row.peak_memory_bytes == 7


def test_hypervolume_by_hand() -> None:
    records = [quality(r, "sst2", s) for r, s in (("baseline", 90.0), ("dynamic-int8", 88.0))]
    records += [
        profile("baseline", task="sst2", seed=0, artifact=records[0].artifact),
        profile("dynamic-int8", task="sst2", seed=0, artifact=facts("x", 25_000_000), speedup=2.0),
    ]
    board = measured_board(records, cards=CARDS)
    assert board.hypervolume["disk"] == {"quantization": pytest.approx((10 - 2) * 0.75 / 10)}
    assert board.hypervolume["latency"] == {"quantization": pytest.approx(0.8 * 0.5)}
    assert "10 points below the baseline" in board.hypervolume_reference
