"""The archive: every record stays readable, and nothing of different terms is joined."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.common.errors import Code
from harness.records.store import read_records
from leaderboard.boards.archive import archive_board
from leaderboard.boards.claims import installed_cards
from leaderboard.boards.declaration import ArchiveDeclaration
from leaderboard.tables.printing import to_csv, to_json, to_markdown
from tests.support.board_records import facts, failed, profile, quality, rows_of, stage
from tests.support.one_line_errors import refused

PROFILES = Path(__file__).resolve().parents[2] / "profiles"
SHORT = {"baseline": {"epochs": 2}, "recipe": {"epochs": 1}}
LONG = {"baseline": {"epochs": 2}, "recipe": {"epochs": 10}}


def test_a_row_for_each_recipe_budget_and_precision() -> None:
    held = facts("own", 50_000_000)
    records = [
        quality("baseline", "sst2", 90.0, cell={"budget": SHORT}, training=[stage("baseline")]),
        quality("a", "sst2", 89.0, cell={"budget": SHORT}, training=[stage("a")], artifact=held),
        quality("a", "mrpc", 80.0, cell={"budget": SHORT}, training=[stage("a")]),
        quality("a", "sst2", 87.0, cell={"budget": LONG}, training=[stage("a")]),
        quality("a", "sst2", 86.0, 1, cell={"budget": LONG}, training=[stage("a", precision="bfloat16")]),
        quality("a", "sst2", 11.0, cell={"budget": SHORT, "split": "held-out"}),
        profile("a", artifact=held, task="sst2", seed=0),
        profile("baseline", model="bert-base"),
        failed("b", "sst2"),
    ]
    board = archive_board(records)
    rows = rows_of(board)
    assert {row.scores["sst2"]: row.drops for row in rows if row.recipe == "a"} == {
        89.0: {"sst2": -1.0},
        87.0: {"sst2": -3.0},  # another budget, the same baseline
        86.0: {},  # no baseline in bfloat16
    }
    assert all((row.rank, row.drop, row.fronts, row.pareto) == (None, None, {}, False) for row in rows)
    (own,) = [row for row in rows if row.scores.get("sst2") == 89.0]
    assert (own.records, own.disk_bytes, own.disk_pct) == (3, 50_000_000, 50.0)
    assert sum(row.records for row in rows) == len(records) - 1
    assert any("held-out" in line for line in board.skipped)
    assert len({row.id for row in rows}) == len(rows)
    with refused(Code.NO_DATA, "archive"):
        archive_board([])


def test_patterns_narrow_an_archive() -> None:
    records = [quality(recipe, "sst2", 90.0, model=m) for recipe in ("a", "b") for m in ("m1", "m2")]
    narrow = ArchiveDeclaration(kind="archive", title="X", models=("m1",), recipes=("b*",))
    assert [(row.model, row.recipe) for row in archive_board(records, narrow).rows] == [("m1", "b")]


def test_all_committed_records_are_on_it() -> None:
    records, problems = read_records(PROFILES)
    assert not problems
    dev = [r for r in records if r.kind == "profile" or r.cell.get("split", "dev") == "dev"]
    board = archive_board(records, cards=installed_cards())
    assert sum(row.records for row in board.rows) == len(dev) >= 433
    rows = json.loads(to_json(board))["rows"]
    scored = [
        (r.recipe, r.task, r.quality.scores[r.quality.metric]) for r in dev if r.quality and r.seed == 0
    ]
    shown = {(row["recipe"], task): [] for row in rows for task in row["scores"]}
    for row in rows:
        for task, score in row["scores"].items():
            shown[row["recipe"], task].append((score, len(row["seeds"][task])))
    for recipe, task, score in scored:
        found = shown[recipe, task]
        assert any(n > 1 or mean == pytest.approx(score) for mean, n in found), (recipe, task)
    assert len(to_csv(board).splitlines()) == len(rows) + 1
    assert to_markdown(board).count("\n| ") >= len(rows)
