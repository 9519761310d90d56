"""Declared boards: their files, what they admit, and the declaration that is derived where there is no file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.common.errors import Code
from harness.records.schema import Record
from leaderboard.boards.declaration import (
    ArchiveDeclaration,
    Declaration,
    check_tasks,
    declared_boards,
    read_declaration,
)
from leaderboard.boards.measured import measured_board
from tests.support.board_records import REAL, SYNTHETIC, by_recipe, facts, profile, quality, stage
from tests.support.one_line_errors import refused

PROFILES = Path(__file__).resolve().parents[2] / "profiles"
SHORT = {"baseline": {"epochs": 2}, "recipe": {"epochs": 1}}
LONG = {"baseline": {"epochs": 2}, "recipe": {"epochs": 10}}
OTHER_BASE = {"baseline": {"epochs": 9}, "recipe": {"epochs": 1}}


def declared(**more: Any) -> Declaration:
    return Declaration(**{"title": "A board", "model": "minilm-l6", "tasks": ("sst2",), **more})


def under(recipe: str, score: float, protocol: str | None = None, budget: Any = None, **more: Any) -> Record:
    cell = {"budget": budget} | ({} if protocol is None else {"protocol": protocol})
    task = more.pop("task", "sst2")
    return quality(recipe, task, score, cell=cell, **more)


# -- files ----------------------------------------------------------------------------------------------------------


def test_the_committed_declarations_are_whole() -> None:
    boards = declared_boards(PROFILES)
    measured = read_declaration(boards["measured"])
    assert isinstance(measured, Declaration)
    assert measured.tasks == ("sst2", "mrpc", "cola", "stsb")
    assert (measured.model, measured.protocol, measured.seeds) == ("minilm-l6", "float32-1", (0, 1, 2))
    assert measured.runtimes == ("eager", "onnxruntime")
    assert measured.workloads == (REAL, SYNTHETIC)
    assert isinstance(read_declaration(boards["archive"]), ArchiveDeclaration)
    assert declared_boards(None) == declared_boards(PROFILES / "nowhere") == {}


WHOLE = 'title = "A"\nmodel = "minilm-l6"\ntasks = ["sst2"]\n'


@pytest.mark.parametrize(
    ("text", "code", "names"),
    [
        (WHOLE + "protocl = 'x'", Code.UNKNOWN_NAME, ("protocl", "'protocol'")),
        (WHOLE + "[[workloads]]\nbatches = 1", Code.UNKNOWN_NAME, ("batches", "'batch'")),
        (WHOLE + "runtimes = ['onnx-runtime']", Code.UNKNOWN_NAME, ("onnx-runtime", "'onnxruntime'")),
        (WHOLE + "kind = 'archve'", Code.UNKNOWN_NAME, ("archve", "'archive'")),
        ('title = "A"\ntasks = ["sst2"]', Code.INCOMPLETE, ("model",)),
        ('title = "A"\nmodel = "m"\ntasks = []', Code.OUT_OF_RANGE, ("tasks",)),
        ('title = "A"\nmodel = "m"\ntasks = ["sst2", "sst2"]', Code.OUT_OF_RANGE, ("tasks",)),
        ('title = "A"\nmodel = "m"\ntasks = ["sst2", "toy-pairs"]', Code.OUT_OF_RANGE, ("toy",)),
        (WHOLE + "kind = ['measured']", Code.UNKNOWN_NAME, ("measured",)),
        (WHOLE + "[[workloads]]\ninputs = 'real'\ntask = 'sst2'", Code.OUT_OF_RANGE, ("workloads", "task")),
        (WHOLE + "seeds = [-1]", Code.OUT_OF_RANGE, ("seeds",)),
        ('kind = "archive"\ntitle = "A"\nseeds = [0]', Code.UNKNOWN_NAME, ("seeds",)),
        ("title = ", Code.UNREADABLE, ("TOML",)),
    ],
)
def test_a_wrong_file_is_refused_in_one_line(
    tmp_path: Path, text: str, code: Code, names: tuple[str, ...]
) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    with refused(code, "mine.toml", *names):
        read_declaration(path)


def test_an_unknown_task_is_refused_unless_it_was_recorded(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    with refused(Code.UNKNOWN_NAME, "mine.toml", "'sst2'"):
        check_tasks(declared(tasks=("sst-two",)), [], path)
    check_tasks(declared(tasks=("mine", "sst2")), ["mine"], path)


# -- what a declaration admits --------------------------------------------------------------------------------------


def test_protocols_never_meet_in_one_row() -> None:
    records = [
        under("baseline", 90.0, "p1"),
        under("baseline", 50.0, "p2", seed=1),
        under("baseline", 60.0),
        under("a", 89.0, "p1"),
        under("a", 10.0, "p2"),
        under("a", 20.0, "p2", seed=1),
        under("a", 30.0, seed=1),
    ]
    board = measured_board(records, declared(protocol="p1", seeds=(0, 1)))
    row = by_recipe(board)["a"]
    assert (row.scores, row.drop, row.seeds) == ({"sst2": 89.0}, -1.0, {"sst2": (0,)})
    assert any(line.startswith("3 scores of protocol p2") for line in board.skipped)
    assert any(line.startswith("2 scores without a protocol") for line in board.skipped)
    without = measured_board(records, declared(seeds=(0, 1)))
    assert by_recipe(without)["baseline"].scores == {"sst2": 60.0}
    with refused(Code.NO_DATA, "p3", "archive"):
        measured_board(records, declared(protocol="p3"))


def test_of_two_budgets_the_newest_is_used_whatever_the_order() -> None:
    records = [
        under("baseline", 90.0, "p", SHORT),
        under("a", 89.0, "p", SHORT, started="2030-01-01"),
        under("a", 85.0, "p", LONG, started="2030-01-02"),
        under("a", 70.0, "p", SHORT, started="2030-01-01", seed=1),
    ]
    for order in (records, records[::-1]):
        board = measured_board(order, declared(protocol="p", seeds=(0, 1)))
        assert by_recipe(board)["a"].scores == {"sst2": 85.0}
        assert any(line.startswith("2 scores of a on SST-2") for line in board.skipped)


def test_a_recipe_meets_only_the_baseline_that_it_started_from() -> None:
    records = [
        under("baseline", 90.0, "p", SHORT),
        under("a", 89.0, "p", LONG),  # another budget of its own, the same baseline
        under("b", 88.0, "p", OTHER_BASE),
        under("c", 87.0, "p", SHORT, training=[stage("c", precision="bfloat16")]),
        under("d", 86.0, "p", SHORT, training=[stage("d")]),
    ]
    records[0] = under("baseline", 90.0, "p", SHORT, training=[stage("baseline")])
    rows = by_recipe(measured_board(records, declared(protocol="p")))
    assert {recipe: row.drop for recipe, row in rows.items()} == {
        "baseline": 0.0,
        "a": -1.0,
        "b": None,
        "c": None,
        "d": -4.0,
    }
    for recipe in ("b", "c"):
        assert rows[recipe].section == "incomplete"
        assert any("another budget or precision" in note for note in rows[recipe].notes)


def test_recipes_tasks_seeds_and_hardware_are_what_the_file_says() -> None:
    held = {recipe: facts(f"hash-{recipe}") for recipe in ("magnitude:sparsity=0.6", "svd")}
    records = [
        under("baseline", 90.0),
        under("magnitude:sparsity=0.6", 89.0, artifact=held["magnitude:sparsity=0.6"]),
        under("svd", 88.0, artifact=held["svd"]),
        under("magnitude:sparsity=0.6", 50.0, seed=3),
        under("magnitude:sparsity=0.6", 80.0, task="mrpc"),
        under("magnitude:sparsity=0.6", 99.0, model="bert-base"),
        profile("magnitude:sparsity=0.6", artifact=held["magnitude:sparsity=0.6"], speedup=2.0),
        profile("svd", artifact=held["svd"], speedup=2.0),
    ]
    board = measured_board(records, declared(recipes=("magnitude*",), hardware=("amd-*",)))
    assert [row.recipe for row in board.rows] == ["baseline", "magnitude:sparsity=0.6"]
    row = by_recipe(board)["magnitude:sparsity=0.6"]
    assert (row.scores, row.speedup) == ({"sst2": 89.0}, None)
    told = " | ".join(board.skipped)
    for words in (
        "recipes that the board does not name",
        "seed 3",
        "on MRPC",
        "hardware test-2c",
        "bert-base",
    ):
        assert words in told, words
    shown = measured_board(records, declared(hardware=("test-*",), workloads=(REAL, SYNTHETIC)))
    row = by_recipe(shown)["svd"]
    assert row.costs["latency-128-eager"] == 0.5
    assert "latency-real-eager" not in row.costs


def test_scores_of_a_held_out_slice_are_on_no_board() -> None:
    slices = {"split": "held-out"}
    records = [quality("baseline", "sst2", 90.0), quality("baseline", "sst2", 99.0, cell=slices)]
    for board in (measured_board(records), measured_board(records, declared())):
        assert by_recipe(board)["baseline"].scores == {"sst2": 90.0}
        assert any("held-out" in line for line in board.skipped)


def test_a_reader_may_narrow_the_declared_tasks_but_not_change_the_model() -> None:
    records = [under("baseline", 90.0, task=task) for task in ("sst2", "mrpc")] + [under("a", 89.0)]
    whole = declared(tasks=("sst2", "mrpc"))
    assert by_recipe(measured_board(records, whole))["a"].drop is None
    assert by_recipe(measured_board(records, whole, tasks=["sst2"]))["a"].drop == -1.0
    with refused(Code.UNKNOWN_NAME, "'mrpc'"):
        measured_board(records, whole, tasks=["mrcp"])
    with refused(Code.CONFLICT, "minilm-l6", "--model"):
        measured_board(records, whole, model="bert-base")


# -- derived boards -------------------------------------------------------------------------------------------------


def test_a_derived_board_keeps_one_budget_for_each_task() -> None:
    """SST-2 was trained for one epoch and MRPC for ten; one recipe has a score of the other budget too."""
    records = [
        under("baseline", 90.0, budget=SHORT),
        under("a", 89.0, budget=SHORT),
        under("a", 70.0, budget=LONG),
        under("baseline", 84.0, budget=LONG, task="mrpc"),
        under("a", 83.0, budget=LONG, task="mrpc"),
        under("baseline", 10.0, budget=SHORT, protocol="p"),
    ]
    for order in (records, records[::-1]):
        board = measured_board(order)
        row = by_recipe(board)["a"]
        assert row.scores == {"sst2": 89.0, "mrpc": 83.0}
        assert row.drop == -1.0
        assert any(note.startswith("no file declares this board") for note in board.notes)
        assert any("another budget" in line and "SST-2" in line for line in board.skipped)
        assert any("protocol p" in line for line in board.skipped)


def test_a_derived_board_takes_the_workloads_and_runtimes_of_its_profiles() -> None:
    held = facts("own")
    records = [
        quality("baseline", "sst2", 90.0),
        quality("a", "sst2", 89.0, artifact=held),
        profile("a", artifact=held, runtime="openvino"),
        profile("a", artifact=held, workload=REAL),
        profile("unscored", artifact=facts("x"), runtime="compile"),
    ]
    keys = {axis.key for axis in measured_board(records).axes}
    assert keys >= {"latency-128-openvino", "latency-real-eager", "memory-real-openvino", "latency-128-best"}
    assert not any("compile" in key for key in keys)


def test_the_precision_of_most_scores_makes_the_board() -> None:
    def trained(recipe: str, score: float, precision: str) -> Record:
        return quality(
            recipe, "sst2", score, training=[stage("x", precision=precision)], cell={"x": precision}
        )

    records = [
        trained("baseline", 90.0, "float32"),
        trained("a", 89.0, "float32"),
        trained("a", 70.0, "bfloat16"),
    ]
    board = measured_board(records)
    assert by_recipe(board)["a"].scores == {"sst2": 89.0}
    assert any("bfloat16" in line for line in board.skipped)


def test_terms_read_as_words() -> None:
    board = measured_board(
        [under("a", 89.0, budget=SHORT), under("a", 70.0, budget=LONG), under("baseline", 90.0, budget=SHORT)]
    )
    (line,) = [each for each in board.skipped if "another budget" in each]
    assert "baseline 2 epochs; recipe 10 epochs" in line
    assert json.dumps(LONG) not in line


def test_a_score_that_gives_way_to_one_of_another_device_is_counted() -> None:
    there = quality("a", "sst2", 80.0, cell={"budget": None, "trained_on": "cuda"}, started="2031-01-01")
    records = [under("baseline", 90.0), under("a", 89.0), there]
    for order in (records, records[::-1]):
        board = measured_board(order, declared())
        assert by_recipe(board)["a"].scores == {"sst2": 80.0}
        assert [line for line in board.skipped if line.startswith("1 scores of a on SST-2, seed 0")]


def test_without_a_protocol_only_a_control_of_equal_budget_is_compared_with() -> None:
    def trained(recipe: str, score: float, budget: Any) -> Record:
        return under(recipe, score, None, budget, training=[stage("baseline"), stage(recipe)])

    base = under("baseline", 90.0, None, SHORT, training=[stage("baseline")])
    records = [base, trained("fine-tuning", 89.0, SHORT), trained("a", 88.0, SHORT), trained("b", 88.0, LONG)]
    rows = by_recipe(measured_board(records, declared()))
    assert (rows["a"].over_control, rows["b"].over_control) == (-1.0, None)
