"""Tables about a board itself: how far its tasks agree, and what it says of a baseline that was made twice."""

from __future__ import annotations

from itertools import combinations

import pytest

from harness.common.errors import Code
from harness.records.schema import Record
from leaderboard.boards.declaration import Declaration
from leaderboard.boards.measured import measured_board
from leaderboard.findings.same_again import again_table
from leaderboard.findings.task_agreement import agreement_table
from tests.support.board_records import facts, quality, replicates
from tests.support.one_line_errors import refused

SCORES = {
    "baseline": (90.0, 80.0),
    "a": (89.0, 79.0),
    "b": (88.0, 71.0),
    "c": (85.0, 77.0),
    "d": (84.0, 70.0),
}
TWO = Declaration(title="Two tasks", model="minilm-l6", tasks=("sst2", "mrpc"), seeds=(0, 1))


def scored(recipe: str, sst2: float, mrpc: float, seed: int = 0, noise: int = 0) -> list[Record]:
    return [
        quality(recipe, "sst2", sst2, seed, resampled=replicates(sst2, seed=noise)),
        quality(recipe, "mrpc", mrpc, seed, examples=408, resampled=replicates(mrpc, seed=100 + noise)),
    ]


def records() -> list[Record]:
    return [record for recipe, scores in SCORES.items() for record in scored(recipe, *scores)]


def cells(table: object) -> list[dict[str, object]]:
    keys = [column.key for column in table.columns]  # type: ignore[attr-defined]
    return [
        dict(zip(keys, (cell.value for cell in line.cells), strict=True))
        for line in table.lines  # type: ignore[attr-defined]
    ]


def test_rankings_of_tasks_are_compared_by_kendalls_tau() -> None:
    sst2, mrpc, average = cells(agreement_table(measured_board(records(), TWO)))
    ranked = [scores for recipe, scores in SCORES.items() if recipe != "baseline"]
    pairs = list(combinations(ranked, 2))
    agreeing = sum((one[0] - other[0]) * (one[1] - other[1]) > 0 for one, other in pairs)
    assert sst2["tau_mrpc"] == pytest.approx((2 * agreeing - len(pairs)) / len(pairs)) == mrpc["tau_sst2"]
    assert sst2["tau_sst2"] is None
    assert (sst2["best"], average["best"], average["best_drop"]) == ("a", "a", pytest.approx(-1.0))
    assert sst2["shared"] == len(ranked)


def test_two_rows_have_no_rankings() -> None:
    few = [record for record in records() if record.recipe in ("baseline", "a", "b")]
    with refused(Code.NO_DATA, "2 rows"):
        agreement_table(measured_board(few, TWO))


def test_a_baseline_that_was_made_again_is_no_different() -> None:
    again = scored("baseline", 90.2, 79.8, seed=1, noise=7)
    table = cells(again_table([*records(), *again], TWO))
    rows = {str(row["what"]): row for row in table}
    assert rows["drop (points)"]["value"] == pytest.approx(0.0)
    assert rows["drop (points)"]["verdict"] == "no difference"
    assert rows["rank"]["low"] == 1
    assert rows["Size on disk"]["value"] == pytest.approx(1.0)
    assert rows["Size on disk"]["verdict"] == "measured"


def test_a_baseline_that_was_spoilt_is_a_difference() -> None:
    spoilt = scored("baseline", 70.0, 60.0, seed=1)
    larger = [record.model_copy(update={"artifact": facts("large", 200_000_000)}) for record in spoilt]
    rows = {str(row["what"]): row for row in cells(again_table([*records(), *larger], TWO))}
    assert rows["drop (points)"]["value"] == pytest.approx(-20.0)
    assert rows["drop (points)"]["verdict"] == "a difference"
    assert rows["Size on disk"]["value"] == pytest.approx(2.0)


def test_a_board_without_a_second_baseline() -> None:
    with refused(Code.NO_DATA, "seed 1"):
        again_table(records(), TWO)
    with refused(Code.NO_DATA, "one seed"):
        again_table(records(), TWO.model_copy(update={"seeds": (0,)}))


def test_a_task_on_which_all_rows_are_equal_has_no_order() -> None:
    same = [record for recipe in SCORES for record in scored(recipe, 90.0 - ord(recipe[0]) % 7, 80.0)]
    sst2, mrpc, _ = cells(agreement_table(measured_board(same, TWO)))
    assert (sst2["tau_mrpc"], mrpc["tau_sst2"], mrpc["tau_average"]) == (None, None, None)


def test_the_second_baseline_belongs_to_a_board_that_names_other_recipes() -> None:
    made = [*records(), *scored("baseline", *SCORES["baseline"], seed=1, noise=7)]
    narrow = TWO.model_copy(update={"recipes": ("a",)})
    assert cells(again_table(made, narrow))[0]["what"] == "drop (points)"
