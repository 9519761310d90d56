"""The architecture board: costs without training, and the scores that papers claim."""

from __future__ import annotations

import json

import pytest

from harness.common.errors import Code
from harness.records.schema import Workload
from leaderboard.boards.architecture import architecture_board
from leaderboard.tables.printing import to_json
from tests.support.board_records import (
    CARDS,
    HARDWARE,
    ROW_KEYS,
    card,
    example_records,
    facts,
    failed,
    profile,
    rows_of,
)
from tests.support.one_line_errors import refused


def test_architecture_board_measures_costs_and_claims_no_quality() -> None:
    claims = [{"task": "sst2", "value": 92.6, "where": "Table 9"}, {"task": "sst2", "value": 1.0}]
    cards = {**CARDS, "dynamic-int8": card("Dynamic int8", "quantization", ("disk",), claims)}
    base, small = facts("hash-base", 438_000_000), facts("hash-small", 113_000_000, kept=0.25)
    records = [
        profile("dynamic-int8", model="bert-base", artifact=small, speedup=2.1),
        profile("baseline", model="bert-base", artifact=base),
        profile("baseline", model="minilm-l6"),
        failed("kd-logits", None, kind="profile", model="bert-base", reason="killed"),
    ]
    board = architecture_board(records, cards=cards)
    assert [row.recipe for row in board.rows] == ["baseline", "dynamic-int8", "kd-logits"]
    row = rows_of(board)[1]
    assert (row.scores, row.drop, row.pareto, row.fronts) == ({}, None, False, {})
    assert row.claimed == {"sst2": 92.6}
    assert "as published: SST-2 92.6 on an unknown split (Table 9)" in row.notes
    assert row.size_pct == 25.0
    assert row.size_pct_without_embeddings == 25.0
    assert row.disk_pct == pytest.approx(100 * 113 / 438)
    assert board.rows[2].failures[0].reason == "killed"
    assert board.skipped == ["profiles on base model minilm-l6"]
    assert json.loads(to_json(board))["rows"][1].keys() >= ROW_KEYS


def test_no_verdict_is_not_simulated_and_failures_of_other_conditions_are_not_the_row_s() -> None:
    cell = {"precision": "bfloat16", "runtime": "onnxruntime"}
    records = [
        profile("baseline", model="bert-base"),
        profile("dynamic-int8", model="bert-base", speedup=None, realised={"latency": False, "disk": False}),
        failed("baseline", None, kind="profile", model="bert-base", reason="no kernels", cell=cell),
        failed(
            "baseline", None, kind="profile", model="bert-base", reason="killed", cell={"runtime": "eager"}
        ),
    ]
    board = architecture_board(records, cards=CARDS)
    base, row = rows_of(board)
    assert (row.speedup_verdict, row.simulated) == ("none", ("disk",))
    assert [each["reason"] for each in base.failures] == ["killed"]
    assert any("1 failed profiles" in line for line in board.skipped)


def test_architecture_board_leaves_scored_artifacts_to_the_measured_one() -> None:
    with refused(Code.NO_DATA, "`skyline run SUITE.toml`", "profile_model = 'minilm-l6'"):
        architecture_board([r for r in example_records() if r.recipe != "x"], "minilm-l6")
    with refused(Code.NO_DATA, "bert-base", "`skyline run quickstart`"):
        architecture_board([])
    with refused(Code.NO_DATA, "--model", "bert-tiny, minilm-l6"):
        architecture_board([profile("baseline", model=name) for name in ("minilm-l6", "bert-tiny")])


def test_costs_of_two_workloads_of_one_shape_never_meet() -> None:
    """Rows of a task cost less than as many synthetic tokens, and cached segments are not computed."""
    real = Workload(batch=1, length=128, inputs="real", task="sst2")
    cached = Workload(batch=1, length=128, cached=100)
    for other in (real, cached):
        records = [
            profile("dynamic-int8", model="bert-base", workload=other, flops=1_000_000),
            profile("baseline", model="bert-base"),
            profile("dynamic-int8", model="bert-base", speedup=2.0),
        ]
        board = architecture_board(records, cards=CARDS)
        assert [row.flops for row in rows_of(board)] == [2_000_000_000, 2_000_000_000]
        assert len(board.skipped) == 1


def test_a_second_machine_takes_no_row_from_the_first() -> None:
    """Profiles of one cell on two machines have one key."""
    other = HARDWARE.model_copy(update={"id": "other"})
    here = [profile(recipe, model="bert-base") for recipe in ("baseline", "dynamic-int8", "magnitude")]
    there = profile(
        "magnitude", model="bert-base", hardware=other, started="2031-01-01T00:00:00+00:00"
    ).model_copy(update={"key": here[2].key})
    board = architecture_board([*here, there], cards=CARDS)
    assert {row.recipe for row in board.rows} == {"baseline", "dynamic-int8", "magnitude"}


def test_of_several_profiles_of_one_condition_the_newest_is_shown() -> None:
    """Suites with other time caps leave several."""
    old = profile("magnitude", model="bert-base", speedup=1.5)
    new = profile("magnitude", model="bert-base", speedup=2.0, started="2031-01-01T00:00:00+00:00")
    new = new.model_copy(update={"key": "of another time cap"})
    base = profile("baseline", model="bert-base")
    for order in ([base, old, new], [new, old, base]):
        rows = {row.recipe: row.speedup for row in rows_of(architecture_board(order, cards=CARDS))}
        assert rows["magnitude"] == 2.0
