"""Boards of published tables: their rows, fronts and ratios."""

from __future__ import annotations

import json

import pytest

from leaderboard.tables.printing import to_json
from tests.support.board_records import ROW_KEYS, by_recipe, published_board, rows_of


def test_published_board_has_26_rows_with_the_baseline() -> None:
    data = json.loads(to_json(published_board()))
    rows = data["rows"]
    assert len(rows) == 26
    assert rows[0].keys() >= ROW_KEYS
    assert [row["baseline"] for row in rows] == [True] + 25 * [False]
    assert rows[0]["drop"] == 0.0
    assert rows[0]["scores"] == {"mnli": 84.6, "qqp": 89.2, "sst2": 93.5, "squad": 88.5}
    assert {axis["key"] for axis in data["axes"]} == {"size", "gpu-latency", "cpu-latency"}
    adabert = next(row for row in rows if row["recipe"] == "AdaBERT")
    assert round(adabert["drop"], 2) == -1.73
    assert adabert["drop_published"] == -2.06
    assert all(row["rank"] is None for row in rows)


def test_published_fronts_compare_on_shared_tasks_only() -> None:
    rows = by_recipe(published_board())
    # RPP reports SQuAD alone; MobileBERT has it, scores higher and is smaller.
    assert rows["RPP"].drop == 0.0
    assert not rows["RPP"].pareto
    assert rows["EdgeBERT"].pareto  # the smallest
    assert "gpu-latency" not in rows["spectral-normalized identity prior"].fronts


@pytest.mark.parametrize(("table", "rows"), [("gordon2020", 40), ("movva2022", 6), ("lilbobby", 44)])
def test_the_other_tables_are_boards_too(table: str, rows: int) -> None:
    board = published_board(table=table)
    found = rows_of(board)
    assert len(found) == rows
    assert [row.drop for row in found if row.baseline] == [0.0]
    assert any(row.pareto for row in found)
    assert board.name == table


def test_movvas_ratios_are_sizes_of_each_combination() -> None:
    board = published_board(table="movva2022-ratios")
    rows = {row.title: row for row in rows_of(board)}
    assert len(rows) == 6 * (1 + 7)
    assert sum(row.baseline for row in board.rows) == 6
    row = rows["BERT BASE, QAT + KD + MP"]
    assert (row.disk_bytes, row.family) == (round(438e6 / 11.1), "combination")
    assert row.disk_pct == pytest.approx(100 / 11.1)
    assert row.notes == ("printed: 11.1 times smaller",)
    assert rows["BERT TINY, MP"].disk_pct == pytest.approx(100 / 0.7)  # it grew
    assert all((row.drop, row.scores, row.fronts) == (None, {}, {}) for row in rows_of(board))
    assert not any("scores" in note and "as printed" in note for note in board.notes)
    # The table prints averages over tasks, not the size of one model.
    assert any("average over tasks" in note for note in board.notes)


def test_a_source_that_was_not_read_is_noted_on_its_board() -> None:
    notes = [note for note in published_board(table="lilbobby").notes if "not read" in note]
    assert len(notes) == 1
    assert not any("not read" in note for note in published_board(table="gordon2020").notes)
