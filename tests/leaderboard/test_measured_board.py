"""The measured board: scores, drops, ranks and fronts of its rows."""

from __future__ import annotations

import json
from typing import Any

import pytest

from harness.common.errors import Code
from leaderboard.boards.measured import measured_board
from leaderboard.tables.printing import to_json
from tests.support.board_records import (
    CARDS,
    ROW_KEYS,
    by_recipe,
    example_records,
    published_board,
    quality,
    replicates,
    rows_of,
    stage,
)
from tests.support.one_line_errors import refused


def test_rows_have_all_keys_as_json() -> None:
    board = measured_board(example_records(), cards=CARDS)
    data = json.loads(to_json(board))
    for row in data["rows"]:
        assert row.keys() >= ROW_KEYS
        assert "replicates" not in row
    assert data["axes"][0].keys() >= {"key", "title", "unit"}
    assert [row["id"] for row in data["rows"]] == [row.id for row in board.rows]


def test_scores_drops_and_costs_of_one_row() -> None:
    row = by_recipe(measured_board(example_records(), cards=CARDS))["kd-logits:layers=3 > dynamic-int8"]
    assert row.title == "Distillation from logits (layers=3) > Dynamic int8"
    assert row.family == "combination"
    assert row.scores == {"sst2": 88.1, "mrpc": pytest.approx(79.0)}
    assert row.drop == pytest.approx(((88.1 - 91.0) + (79.0 - 84.0)) / 2)
    assert row.drop_ci95[0] < row.drop < row.drop_ci95[1]
    assert row.drops == {"sst2": pytest.approx(-2.9), "mrpc": pytest.approx(-5.0)}
    assert row.tasks == ["sst2", "mrpc"]
    assert row.seeds == {"sst2": (0,), "mrpc": (0, 1, 2)}
    assert row.evidence["mrpc"] == {"seeds": (0, 1, 2), "profiles": 1}
    assert (row.disk_bytes, row.flops) == (53_000_000, 1_380_000_000)
    assert row.speedup == pytest.approx(3.1)
    assert row.disk_pct == pytest.approx(100 * 53.0 / 90.9)
    assert row.size_pct == pytest.approx(100 * 53.0 / 90.9)
    assert row.costs == {
        "size": pytest.approx(53.0 / 90.9),
        "flops-128": pytest.approx(0.5),
        "latency-128-eager": pytest.approx(1 / 3.1),
        "memory-128-eager": pytest.approx(240 / 310),
    }
    assert "SST-2" in row.source
    assert "MRPC" in row.source


def test_the_front_of_the_example() -> None:
    board = measured_board(example_records(), cards=CARDS)
    front = {row.recipe for row in rows_of(board) if row.pareto}
    assert front == {
        "baseline",
        "magnitude:sparsity=0.4",
        "dynamic-int8",
        "magnitude:sparsity=0.6 > dynamic-int8",
    }
    for row in rows_of(board):
        if row.rank is not None:
            assert 0 <= row.pareto_probability <= 1
    latency = measured_board(example_records(), cards=CARDS, axis="latency-128-eager")
    assert {row.recipe for row in rows_of(latency) if row.pareto} == {
        "baseline",
        "dynamic-int8",
        "kd-logits:layers=3",
        "kd-logits:layers=3 > dynamic-int8",
    }


def test_ranks_are_ranges() -> None:
    """Rows 1 and 2 of a board, then three that cannot be told apart by chance of seeds and examples, and one below."""
    drops = {"a": -0.1, "b": -0.4, "c": -5.0, "d": -5.3, "e": -9.0}
    records = [quality("baseline", "sst2", 90.0)]
    for number, (name, drop) in enumerate(drops.items()):
        extra = replicates(0.0, 0.3, seed=20 + number)
        values = [90 + drop + n + e for n, e in zip(replicates(0.0), extra, strict=True)]
        records.append(quality(name, "sst2", 90 + drop, resampled=values))
    board = measured_board(records)
    ranks = {row.recipe: tuple(row.rank) for row in rows_of(board)}
    assert ranks == {"baseline": (1, 3), "a": (1, 3), "b": (1, 3), "c": (4, 5), "d": (4, 5), "e": (6, 6)}
    assert {row.recipe for row in rows_of(board) if row.in_best_set} == {"baseline", "a", "b"}
    assert [row.recipe for row in board.rows] == ["baseline", "a", "b", "c", "d", "e"]


def test_a_row_of_one_seed_gets_the_noise_of_its_task() -> None:
    """The difference of `a` from the baseline is certain by example, and scatters by 3 points between seeds."""
    flat = [0.0] * 400
    points = {"baseline": (80.0, 80.0, 80.0), "a": (76.0, 79.0, 82.0), "b": (79.0,)}
    records = [
        quality(recipe, "rte", score, seed, resampled=[score + each for each in flat])
        for recipe, scores in points.items()
        for seed, score in enumerate(scores)
    ]
    rows = by_recipe(measured_board(records))
    assert (rows["a"].drop, rows["b"].drop) == (-1.0, -1.0)
    assert rows["baseline"].drop_ci95 == (0.0, 0.0)
    low, high = rows["a"].drop_ci95
    assert high - low == pytest.approx(2 * 1.96 * 3 / 3**0.5, rel=0.2)
    low, high = rows["b"].drop_ci95
    assert high - low == pytest.approx(2 * 1.96 * 3, rel=0.2)
    assert all(tuple(row.rank) == (1, 3) for row in rows.values())
    flags = {recipe: [flag["code"] for flag in row.flags] for recipe, row in rows.items()}
    assert "one-seed" in flags["b"]
    assert "one-seed" not in flags["a"]


def test_the_control_of_equal_budget_is_paired() -> None:
    trained = {"training": [stage("baseline"), stage("x")]}
    common = replicates(0.0, 5.0)

    def scored(recipe: str, score: float, **more: Any) -> Any:
        return quality(recipe, "mrpc", score, resampled=[score + each for each in common], **more)

    records = [
        scored("baseline", 84.0, training=[stage("baseline")]),
        scored("fine-tuning", 86.0, **trained),
        scored("magnitude", 85.0, **trained),
        scored("dynamic-int8", 83.0, training=[stage("baseline")]),
    ]
    rows = by_recipe(measured_board(records, cards=CARDS))
    assert (rows["magnitude"].drop, rows["magnitude"].over_control) == (1.0, -1.0)
    assert rows["magnitude"].over_control_ci95 == pytest.approx((-1.0, -1.0))  # the examples are the same
    assert rows["dynamic-int8"].over_control is rows["baseline"].over_control is None
    assert rows["fine-tuning"].over_control is None
    assert [recipe for recipe, row in rows.items() if row.control] == ["fine-tuning"]
    without = by_recipe(measured_board([each for each in records if each.recipe != "fine-tuning"]))
    assert without["magnitude"].over_control is None


def test_toy_and_real_tasks_never_share_a_board() -> None:
    records = [
        quality("baseline", "sst2", 90.0),
        quality("baseline", "toy-sentiment", 99.0),
        quality("magnitude", "sst2", 89.0),
        quality("magnitude", "toy-sentiment", 98.0),
    ]
    board = measured_board(records)
    assert list(board.tasks) == ["sst2"]
    assert all(set(row.scores) == {"sst2"} for row in board.rows)
    assert any("Toy sentiment" in line for line in board.skipped)
    toys = [record for record in records if record.task == "toy-sentiment"]
    assert list(measured_board(toys).tasks) == ["toy-sentiment"]
    assert list(measured_board(records, tasks=["toy-sentiment"]).tasks) == ["toy-sentiment"]
    with refused(Code.NOT_COMPARABLE):
        measured_board(records, tasks=["sst2", "toy-sentiment"])
    with refused(Code.UNKNOWN_NAME, "'sst2'"):
        measured_board(records, tasks=["sst1"])


def test_one_board_shows_one_base_model() -> None:
    records = [quality("baseline", "sst2", 90.0), quality("a", "sst2", 89.0)]
    records += [quality("baseline", "sst2", 93.0, model="bert-base")]
    board = measured_board(records)
    assert board.model == "minilm-l6"
    (line,) = board.skipped
    assert line.startswith("1 scores on base model bert-base")
    assert "--model bert-base" in line
    assert rows_of(measured_board(records, model="bert-base"))[0].scores == {"sst2": 93.0}
    with refused(Code.UNKNOWN_NAME, "'bert-base'"):
        measured_board(records, model="bert-bass")
    with refused(Code.NO_DATA, "`skyline run`"):
        measured_board([])


def test_unknown_tables_and_axes_suggest_the_nearest() -> None:
    with refused(Code.UNKNOWN_NAME, "'movva2022'"):
        published_board("movva2020")
    with refused(Code.UNKNOWN_NAME, "'size'"):
        published_board(axis="sizes")
    with refused(Code.UNKNOWN_NAME, "'latency-128-eager'"):
        measured_board(example_records(), axis="latency-128-eagre")


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_replicates_make_neither_intervals_nor_ranks(count: int) -> None:
    """A single replicate has no spread, so each difference would be certain, and cut the others' replicates."""
    records = [
        quality("baseline", "sst2", 90.0),
        quality("a", "sst2", 89.99, resampled=replicates(89.99)),
        quality("b", "sst2", 89.98, resampled=[89.98] * count),
        quality("c", "sst2", 89.97, resampled=replicates(89.97, seed=2)),
    ]
    rows = by_recipe(measured_board(records))
    assert (rows["b"].rank, rows["b"].drop_ci95) == (None, None)
    assert (rows["baseline"].rank, rows["a"].rank, rows["c"].rank) == ((1, 2), (2, 3), (1, 3))
