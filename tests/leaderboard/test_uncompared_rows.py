"""Measured rows that cannot be compared, or only in part: they are shown with the reason and never lost."""

from __future__ import annotations

import pytest

from leaderboard.boards.measured import measured_board
from tests.support.board_records import CARDS, by_recipe, example_records, failed, quality, rows_of


def test_failed_cells_are_shown_with_their_reason() -> None:
    records = [quality("baseline", "sst2", 90.0), failed("magnitude", "sst2", reason="out of memory")]
    board = measured_board(records)
    row = by_recipe(board)["magnitude"]
    assert (row.drop, row.rank, row.pareto) == (None, None, False)
    assert [str(each) for each in board.rows[1].failures] == ["SST-2, seed 0 failed: out of memory"]
    only = measured_board([failed("magnitude", "sst2")])
    assert [row.recipe for row in only.rows] == ["magnitude"]


def test_failed_toy_cells_stay_off_a_board_of_real_tasks() -> None:
    records = [quality(r, "sst2", 90.0) for r in ("baseline", "magnitude")]
    records += [failed(recipe, "toy-pairs") for recipe in ("magnitude", "kd-logits")]
    board = measured_board(records)
    assert [row.recipe for row in board.rows] == ["baseline", "magnitude"]
    assert all(not row.failures for row in board.rows)
    assert any(line.startswith("kd-logits: ") for line in board.skipped)


def test_a_failed_profile_stands_on_its_row() -> None:
    records = [
        quality("baseline", "sst2", 90.0),
        quality("magnitude", "sst2", 89.0),
        failed("magnitude", None, kind="profile", status="oom", reason="no memory left"),
        failed("kd-logits", None, kind="profile", reason="no memory left"),
    ]
    board = measured_board(records)
    assert str(board.rows[1].failures[0]) == "profile seed 0 oom: no memory left"
    assert any(line.startswith("kd-logits: ") for line in board.skipped)


def test_an_incomplete_row_has_neither_average_nor_rank_nor_front() -> None:
    records = example_records()
    board = measured_board(records, cards=CARDS)
    row = by_recipe(board)["kd-logits:layers=3 + magnitude:sparsity=0.6"]
    assert row.tasks == ["sst2"]
    assert row.drops == {"sst2": pytest.approx(86.9 - 91.0)}
    assert (row.drop, row.rank, row.section, row.fronts) == (None, None, "incomplete", {})
    assert any(note.startswith("incomplete") and "MRPC" in note for note in row.notes)
    assert board.rows[-1].recipe == row.recipe
    narrowed = measured_board(records, tasks=["sst2"], cards=CARDS)
    assert all(row.rank is not None for row in narrowed.rows)


def test_a_row_without_the_first_seed_is_incomplete() -> None:
    records = [quality("baseline", "sst2", 90.0, seed) for seed in (0, 1)]
    records += [quality("a", "sst2", 89.0, 1), quality("b", "sst2", 88.0, 0)]
    rows = by_recipe(measured_board(records))
    assert (rows["a"].section, rows["b"].section) == ("incomplete", "ranked")
    assert rows["a"].drops == {"sst2": -1.0}


def test_no_task_is_left_out_because_few_rows_have_it() -> None:
    records = []
    for number, recipe in enumerate(["baseline", "a", "b", "c"]):
        records += [quality(recipe, task, 90.0 - number) for task in ("sst2", "mrpc")]
    records += [quality(recipe, "cola", 50.0, metric="matthews_correlation") for recipe in ("baseline", "a")]
    board = measured_board(records)
    assert list(board.tasks) == list(board.compared) == ["sst2", "mrpc", "cola"]
    assert [row.recipe for row in board.section("ranked")] == ["baseline", "a"]
    assert [row.recipe for row in board.section("incomplete")] == ["b", "c"]
    assert "2 of 4 rows are complete" in board.coverage


def test_wnli_is_shown_but_not_averaged() -> None:
    records = [quality(r, t, s) for r, s in (("baseline", 90.0), ("a", 80.0)) for t in ("sst2", "wnli")]
    board = measured_board(records)
    assert board.compared == ["sst2"]
    assert any(note.startswith("WNLI is shown") for note in board.notes)


def test_without_a_baseline_there_is_no_drop_but_a_reason() -> None:
    board = measured_board([quality("magnitude", "sst2", 89.0)])
    row = rows_of(board)[0]
    assert (row.drop, row.rank, row.pareto, row.size_pct) == (None, None, False, None)
    assert row.scores == {"sst2": 89.0}
    assert any(note.startswith("no drop") and "baseline" in note for note in row.notes)


def test_a_failure_of_another_precision_is_not_the_row_s() -> None:
    cell = {"precision": "bfloat16", "runtime": "onnxruntime"}
    records = [quality("baseline", "sst2", 90.0), quality("a", "sst2", 89.0)]
    records += [
        failed("baseline", "sst2", kind="profile", status="skipped", reason="no kernels", cell=cell),
        failed("a", "sst2", kind="profile", reason="no memory", cell={"runtime": "eager"}),
    ]
    board = measured_board(records)
    assert [len(row.failures) for row in board.rows] == [0, 1]


def test_other_data_than_the_baselines_is_not_compared() -> None:
    records = [quality("baseline", "sst2", 90.0), quality("magnitude", "sst2", 89.0, data="e" * 64)]
    row = by_recipe(measured_board(records))["magnitude"]
    assert row.drop is None
    assert any("sst2, seed 0" in note and "data" in note for note in row.notes)


def test_seeds_that_the_baseline_lacks_do_not_enter_the_drop() -> None:
    records = [quality("baseline", "sst2", 90.0, seed) for seed in (0, 1)]
    records += [quality("a", "sst2", score, seed) for seed, score in enumerate((89.0, 88.0, 10.0))]
    row = by_recipe(measured_board(records))["a"]
    assert row.drop == pytest.approx(-1.5)
    assert row.scores["sst2"] == pytest.approx(88.5)
    assert row.seeds == {"sst2": (0, 1)}


def test_the_newest_record_of_a_cell_counts_and_the_others_are_told() -> None:
    records = [
        quality("baseline", "sst2", 90.0),
        quality("a", "sst2", 80.0, started="2030-01-02"),
        quality("a", "sst2", 70.0, started="2030-01-01"),
    ]
    board = measured_board(records)
    assert by_recipe(board)["a"].scores == {"sst2": 80.0}
    assert any("2 records of cell" in note for note in board.notes)
