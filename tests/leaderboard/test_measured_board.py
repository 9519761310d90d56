"""The measured board: scores, drops, ranks and fronts of its rows."""

from __future__ import annotations

import json

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
    assert row.tasks == ["sst2", "mrpc"]
    assert row.seeds == {"sst2": (0,), "mrpc": (0, 1, 2)}
    assert (row.disk_bytes, row.flops, row.speedup) == (53_000_000, 1_380_000_000, 3.1)
    assert row.disk_pct == pytest.approx(100 * 53.0 / 90.9)
    assert row.size_pct == pytest.approx(100 * 53.0 / 90.9)
    assert "SST-2, seed 0" in row.source
    assert row.costs["latency"] == pytest.approx(1 / 3.1)


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
    latency = measured_board(example_records(), cards=CARDS, axis="latency")
    assert {row.recipe for row in rows_of(latency) if row.pareto} == {
        "baseline",
        "dynamic-int8",
        "kd-logits:layers=3",
        "kd-logits:layers=3 > dynamic-int8",
    }


def test_ranks_share_ties_with_their_leader() -> None:
    drops = {"a": -0.1, "b": -0.4, "c": -5.0, "d": -5.3, "e": -9.0}
    records = [quality("baseline", "sst2", 90.0)]
    for number, (name, drop) in enumerate(drops.items()):
        extra = replicates(0.0, 0.3, seed=20 + number)
        values = [90 + drop + n + e for n, e in zip(replicates(0.0), extra, strict=True)]
        records.append(quality(name, "sst2", 90 + drop, resampled=values))
    board = measured_board(records)
    ranks = {row.recipe: (row.rank, row.tied) for row in rows_of(board)}
    assert ranks["baseline"] == ranks["a"] == ranks["b"] == (1, True)
    assert ranks["c"] == ranks["d"] == (4, True)
    assert ranks["e"] == (6, False)
    assert [row.recipe for row in board.rows] == ["baseline", "a", "b", "c", "d", "e"]


def test_toy_and_real_tasks_never_share_a_board() -> None:
    records = [
        quality("baseline", "sst2", 90.0),
        quality("baseline", "toy-sentiment", 99.0),
        quality("magnitude", "sst2", 89.0),
        quality("magnitude", "toy-sentiment", 98.0),
    ]
    board = measured_board(records)
    assert board.tasks == ["sst2"]
    assert all(set(row.scores) == {"sst2"} for row in board.rows)
    assert any("Toy sentiment" in line for line in board.skipped)
    toys = [record for record in records if record.task == "toy-sentiment"]
    assert measured_board(toys).tasks == ["toy-sentiment"]
    assert measured_board(records, tasks=["toy-sentiment"]).tasks == ["toy-sentiment"]
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
    assert "1 records of base model bert-base" in line
    assert "--model bert-base" in line
    assert rows_of(measured_board(records, "bert-base"))[0].scores == {"sst2": 93.0}
    with refused(Code.UNKNOWN_NAME, "'bert-base'"):
        measured_board(records, "bert-bass")
    with refused(Code.NO_DATA, "`skyline run`"):
        measured_board([])


def test_unknown_tables_and_axes_suggest_the_nearest() -> None:
    with refused(Code.UNKNOWN_NAME, "'movva2022'"):
        published_board("movva2020")
    with refused(Code.UNKNOWN_NAME, "'size'"):
        published_board(axis="sizes")
    with refused(Code.UNKNOWN_NAME, "'latency'"):
        measured_board(example_records(), axis="latencies")
