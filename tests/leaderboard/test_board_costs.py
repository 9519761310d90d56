"""Costs on the measured board: ratios of the scored artifacts, by workload and runtime, and what they count as."""

from __future__ import annotations

import math
from typing import Any

import pytest

from harness.records.schema import Record, Workload
from leaderboard.boards.measured import measured_board
from tests.support.board_records import (
    CARDS,
    HARDWARE,
    REAL,
    SYNTHETIC,
    by_recipe,
    facts,
    identity,
    profile,
    quality,
    rows_of,
)

OTHER = HARDWARE.model_copy(update={"id": "other"})


def scored(tasks: tuple[str, ...] = ("sst2",), **scores: float) -> list[Record]:
    """Scores of the baseline (90) and of other recipes on each task."""
    return [
        quality(recipe, task, score)
        for recipe, score in {"baseline": 90.0, **scores}.items()
        for task in tasks
    ]


def timed(recipe: str, task: str = "sst2", **more: Any) -> Record:
    """A profile of the artifact that `scored` scores."""
    return profile(recipe, task=task, seed=0, artifact=facts(identity(recipe, "minilm-l6", task, 0)), **more)


def test_costs_of_another_artifact_are_never_used() -> None:
    records = [
        *scored(a=89.0, b=88.0),
        timed("a", speedup=2.0),
        profile("b", task="sst2", seed=7, artifact=facts("another", 41_000_000), speedup=3.0),
        profile("a", task="mrpc", seed=0, artifact=facts("third", 1_000_000), speedup=9.0),
    ]
    board = measured_board(records)
    rows = by_recipe(board)
    assert rows["a"].speedup == 2.0
    assert rows["b"].speedup is None
    assert rows["b"].ratios["latency-128-eager"]["state"] == "missing"
    assert set(rows["b"].costs) == {"size"}  # the size stands in the score's record
    assert any(line.startswith("2 profiles of artifacts without a score") for line in board.skipped)


def test_a_mean_needs_a_profile_of_every_compared_task() -> None:
    tasks = ("sst2", "mrpc")
    records = [*scored(tasks, a=89.0), timed("a", "sst2", flops=500_000_000)]
    assert set(by_recipe(measured_board(records))["a"].costs) == {"size"}
    records.append(timed("a", "mrpc", flops=2_000_000_000))
    row = by_recipe(measured_board(records))["a"]
    assert row.costs["flops-128"] == pytest.approx(math.sqrt(0.25 * 1.0))
    assert row.ratios["flops-128"]["by_task"]["sst2"] == {"state": "measured", "ratio": 0.25}


def test_intervals_of_tasks_combine_in_logarithms() -> None:
    tasks = ("sst2", "mrpc")
    records = [
        *scored(tasks, a=89.0),
        timed("a", "sst2", speedup=2.0, width=0.2),
        timed("a", "mrpc", speedup=4.0, width=0.4),
    ]
    ratio = by_recipe(measured_board(records))["a"].ratios["latency-128-eager"]
    assert ratio["ratio"] == pytest.approx(1 / math.sqrt(8))
    # Both tasks have the ends 0.9 and 1.1 of the speedup.
    low, high = (math.exp(math.sqrt(2) * math.log(end) / 2) / math.sqrt(8) for end in (1 / 1.1, 1 / 0.9))
    assert ratio["ci95"] == pytest.approx((low, high))


def test_two_workloads_never_share_a_front() -> None:
    records = [
        *scored(a=89.0, b=88.0),
        timed("a", workload=REAL, flops=1_000_000, base=(100_000_000, 2_000_000, 1)),
        timed("b", flops=1_500_000_000),
        timed("a", flops=1_900_000_000),
    ]
    board = measured_board(records)
    rows = by_recipe(board)
    assert {axis.key for axis in board.axes if axis.cost == "flops"} == {"flops-128", "flops-real"}
    assert rows["a"].costs["flops-real"] == 0.5
    assert rows["a"].costs["flops-128"] == 0.95
    assert set(rows["b"].fronts) & {axis.key for axis in board.axes if axis.workload == REAL} == set()
    assert rows["b"].fronts["flops-128"] is True
    assert {axis.workload for axis in board.axes} == {None, REAL, SYNTHETIC}


def test_another_machine_gives_size_and_flops_but_no_time() -> None:
    records = [
        *scored(a=89.0, b=88.0, c=87.0),
        timed("a", speedup=2.0),
        timed("b", speedup=3.0),
        timed("baseline"),
        timed("c", hardware=OTHER, speedup=9.0, flops=1_000_000_000),
        timed("a", hardware=OTHER, speedup=9.0, started="2031"),
    ]
    board = measured_board(records)
    rows = by_recipe(board)
    assert board.hardware == HARDWARE
    assert (rows["a"].speedup, rows["c"].speedup) == (2.0, None)
    assert rows["c"].costs["flops-128"] == 0.5
    assert any("2 profiles" in line and "hardware other" in line for line in board.skipped)


def test_the_best_runtime_is_the_row_s_own_fastest() -> None:
    """Eager gains most over its baseline, but the row runs faster under onnxruntime."""
    records = [
        *scored(a=89.0),
        timed("a", speedup=4.0, median_ms=3.0),
        timed("a", speedup=2.0, median_ms=1.0, runtime="onnxruntime"),
    ]
    board = measured_board(records)
    row = by_recipe(board)["a"]
    assert [axis.key for axis in board.axes if axis.cost == "latency"] == [
        *("latency-128-best", "latency-128-eager", "latency-128-onnxruntime")
    ]
    assert row.ratios["latency-128-best"]["runtime"] == "onnxruntime"
    assert (row.costs["latency-128-best"], row.costs["latency-128-eager"]) == (0.5, 0.25)
    assert row.speedup == 2.0


def test_the_best_runtimes_of_row_and_baseline_are_compared() -> None:
    """The baseline is twice as fast under onnxruntime; a row that gains most under eager gains less over that."""
    records = [
        *scored(a=89.0, b=88.0),
        timed("a", speedup=2.5, median_ms=4.0),
        timed("a", speedup=10 / 9, median_ms=4.5, runtime="onnxruntime", baseline_ms=5.0),
        timed("b", speedup=1.25, median_ms=8.0),
        timed("b", speedup=10 / 7, median_ms=3.5, runtime="onnxruntime", baseline_ms=5.0),
    ]
    rows = by_recipe(measured_board(records))
    assert rows["a"].ratios["latency-128-best"]["runtime"] == "eager"
    assert rows["a"].costs["latency-128-best"] == pytest.approx(4.0 / 5.0)
    assert rows["b"].costs["latency-128-best"] == pytest.approx(3.5 / 5.0)


def test_what_only_eager_runs_is_held_against_the_fastest_baseline() -> None:
    records = [
        *scored(a=89.0),
        timed("a", speedup=2.5, median_ms=4.0),
        timed("baseline", median_ms=10.0),
        timed("baseline", median_ms=5.0, runtime="onnxruntime"),
    ]
    row = by_recipe(measured_board(records))["a"]
    assert row.costs["latency-128-best"] == pytest.approx(4.0 / 5.0)


def test_a_simulated_cost_counts_as_no_less_than_the_baselines() -> None:
    records = [
        *scored(magnitude=89.0, a=88.0),
        timed("magnitude", flops=1_000_000_000, speedup=1.08, realised={"flops": False, "latency": False}),
        timed("a", flops=1_000_000_000, speedup=1.5),
    ]
    row = by_recipe(measured_board(records, cards=CARDS))["magnitude"]
    assert row.simulated == ("disk", "flops")  # the card claims no latency; the artifact is as large
    assert row.costs["flops-128"] == 1.0
    assert row.costs["latency-128-eager"] == 1.0
    assert (row.flops, row.speedup) == (1_000_000_000, pytest.approx(1.08))
    assert row.ratios["flops-128"]["state"] == "simulated"
    assert row.ratios["latency-128-eager"]["state"] == "measured"
    fronts = by_recipe(measured_board(records, cards=CARDS, axis="latency-128-eager"))
    assert not fronts["magnitude"].pareto
    assert fronts["a"].pareto


def test_no_verdict_is_neither_simulated_nor_no_difference() -> None:
    records = [*scored(), quality("dynamic-int8", "sst2", 89.0)]
    records.append(timed("dynamic-int8", speedup=None, realised={"latency": False}))
    row = by_recipe(measured_board(records, cards=CARDS))["dynamic-int8"]  # its card claims latency
    assert (row.speedup, row.speedup_verdict) == (None, "none")
    assert "latency-128-eager" not in row.costs
    assert row.ratios["latency-128-eager"]["state"] == "no verdict"
    assert "latency" not in row.simulated
    assert "no-verdict" in [flag["code"] for flag in row.flags]


@pytest.mark.parametrize(
    ("speedup", "width", "floor", "state", "counted"),
    [
        (1.01, 0.01, 0.03, "no difference", 1.0),
        (0.99, 0.01, 0.03, "no difference", 1.0),
        (1.02, 0.015, 0.03, "measured", 1 / 1.02),  # its interval leaves the floor
        (0.90, 0.01, 0.03, "measured", 1 / 0.90),
        (1.01, 0.005, None, "measured", 1 / 1.01),
    ],
)
def test_a_latency_inside_the_aa_floor_is_no_difference(
    speedup: float, width: float, floor: float | None, state: str, counted: float
) -> None:
    records = [*scored(a=89.0), timed("a", speedup=speedup, width=width, aa_floor=floor)]
    row = by_recipe(measured_board(records))["a"]
    assert row.ratios["latency-128-eager"]["state"] == state
    assert row.costs["latency-128-eager"] == pytest.approx(counted)


@pytest.mark.parametrize(
    ("memory", "floor", "state", "counted"),
    [
        (297_000_000, None, "no difference", 1.0),  # 1 %, within the 2 % of an unknown spread
        (291_000_000, None, "measured", 0.97),
        (291_000_000, 0.04, "no difference", 1.0),
        (306_000_000, 0.01, "measured", 1.02),
    ],
)
def test_a_memory_inside_its_spread_is_no_difference(
    memory: int, floor: float | None, state: str, counted: float
) -> None:
    records = [*scored(a=89.0), timed("a", memory=memory, memory_floor=floor)]
    row = by_recipe(measured_board(records))["a"]
    assert row.ratios["memory-128-eager"]["state"] == state
    assert row.costs["memory-128-eager"] == pytest.approx(counted)


def test_uncertain_costs_are_drawn_for_the_front() -> None:
    """Both have the same drop in every replicate; the cheaper one is on the front, as far as its cost is certain."""
    sure = [*scored(a=89.0, b=89.0), timed("a", speedup=2.0, width=0.001)]
    records = [*sure, timed("b", speedup=2.01, width=0.001)]
    rows = by_recipe(measured_board(records, axis="latency-128-eager"))
    assert (rows["a"].pareto, rows["b"].pareto) == (False, True)
    assert rows["b"].pareto_probability == 1.0
    rows = by_recipe(measured_board([*sure, timed("b", speedup=2.01, width=0.3)], axis="latency-128-eager"))
    assert 0.3 < rows["b"].pareto_probability < 0.7
    assert rows["a"].pareto_probability == pytest.approx(1 - rows["b"].pareto_probability)


def test_other_workloads_and_precisions_stay_off_a_declared_axis() -> None:
    wide = Workload(batch=8, length=128)
    board = measured_board([*scored(a=89.0), timed("a"), timed("a", workload=wide, speedup=4.0)])
    assert {axis.key for axis in board.axes if axis.cost == "latency"} == {
        *("latency-128-eager", "latency-8x128-eager")
    }
    assert by_recipe(board)["a"].costs["latency-8x128-eager"] == 0.25


def test_accelerator_memory_is_the_memory_on_an_accelerator() -> None:
    record = timed("baseline", device="cuda")
    held = record.profile
    assert held is not None
    measured = held.total.model_copy(update={"accelerator_memory_bytes": 7})
    record = record.model_copy(update={"profile": held.model_copy(update={"total": measured})})
    row = rows_of(measured_board([quality("baseline", "sst2", 90.0), record]))[0]
    assert row.peak_memory_bytes == 7


def test_hypervolume_by_hand() -> None:
    small = facts("small", 25_000_000)
    records = [*scored(), quality("dynamic-int8", "sst2", 88.0, artifact=small)]
    records.append(profile("dynamic-int8", task="sst2", seed=0, artifact=small, speedup=2.0))
    board = measured_board(records, cards=CARDS)
    assert board.hypervolume["size"] == {"quantization": pytest.approx((10 - 2) * 0.75 / 10)}
    assert board.hypervolume["latency-128-eager"] == {"quantization": pytest.approx(0.8 * 0.5)}
    assert "10 points below the baseline" in board.hypervolume_reference


def test_noise_does_not_make_an_unrealised_cost_cheaper_than_the_baselines() -> None:
    """A row that is worse than the baseline and no faster is on the front in no resample."""
    records = [
        *scored(a=80.0),
        timed("a", speedup=1.0, realised={"latency": False}, width=0.1, aa_floor=0.01),
    ]
    row = by_recipe(measured_board(records, axis="latency-128-eager"))["a"]
    assert row.costs["latency-128-eager"] == 1.0
    assert (row.pareto, row.pareto_probability) == (False, 0.0)


def test_a_profile_on_another_machine_hides_none_of_this_one() -> None:
    """The key of a cell does not name the machine, so both profiles have the same key."""
    first = timed("a", speedup=2.0)
    again = timed("a", speedup=5.0, hardware=OTHER, started="2031-01-01T00:00:00+00:00")
    again = again.model_copy(update={"key": first.key})
    board = measured_board([*scored(a=89.0), first, again, timed("baseline")])
    assert by_recipe(board)["a"].speedup == 2.0


def test_no_measured_growth_of_memory_is_no_figure() -> None:
    """A mean with such a task must not count it as the baseline's."""
    tasks = ("sst2", "mrpc")
    records = [*scored(tasks, a=89.0), timed("a", "sst2", memory=0), timed("a", "mrpc", memory=150_000_000)]
    row = by_recipe(measured_board(records))["a"]
    assert row.ratios["memory-128-eager"]["state"] == "missing"
    assert row.ratios["memory-128-eager"]["by_task"]["mrpc"] == {"state": "measured", "ratio": 0.5}
