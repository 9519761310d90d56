"""Flags on rows: constant answers, the majority class, budgets, fidelity, stale records."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from harness.recipes.fingerprints import declared_versions
from harness.recipes.recipe import Recipe
from harness.records.predictions import pack_predictions
from harness.records.schema import Record
from harness.records.versions import EVALUATION_VERSION
from leaderboard.boards.flags import is_stale
from leaderboard.boards.measured import measured_board
from tests.support.board_records import answers, by_recipe, quality, stage

BUDGET = {"budget": {"baseline": {}, "recipe": {"batch_size": 32}}}
CODES = {
    *(
        "constant",
        "near-majority",
        "near-chance",
        "one-seed",
        "simulated:latency",
        "no-verdict",
        "variant",
        "architecture",
    ),
    *("stale", "over-budget"),
}


def flags(records: list[Record], recipe: str = "a", **more: Any) -> dict[str, str]:
    """The flags of a recipe's row, in words by code."""
    row = by_recipe(measured_board([quality("baseline", "sst2", 90.0), *records], **more))[recipe]
    found = {flag["code"]: flag["words"] for flag in row.flags}
    assert set(found) <= CODES
    return found


@pytest.mark.parametrize(
    ("positive", "rows", "correct", "code"),
    [
        (0, 100, 60, "constant"),
        (1, 100, 61, "constant"),
        (2, 100, 62, "near-majority"),
        (9, 100, 69, "near-majority"),  # 69 less 9.1 reaches 60
        (10, 100, 70, None),  # 70 less 9.0 does not
        (40, 100, 100, None),
        (90, 1000, 690, None),  # 69 less 2.9 does not: more rows
    ],
)
def test_one_answer_and_the_majority_class(positive: int, rows: int, correct: int, code: str | None) -> None:
    given = answers(positive, rows, correct, majority=6 * rows // 10)
    found = flags([quality("a", "sst2", 80.0, predictions=given)])
    assert {"constant", "near-majority"} & set(found) == ({code} if code else set())
    if code:
        assert "SST-2" in found[code]


def test_one_constant_seed_is_enough_and_regression_has_no_majority() -> None:
    good, constant = answers(40, correct=100), answers(0, correct=60)
    records = [
        quality("baseline", "sst2", 90.0, 1),
        quality("a", "sst2", 80.0, 0, predictions=good),
        quality("a", "sst2", 60.0, 1, predictions=constant),
    ]
    assert "constant" in flags(records)
    scores = good.model_copy(update={"correct": None, "answered": None, "majority": None})
    assert not {"constant", "near-majority"} & set(flags([quality("a", "sst2", 80.0, predictions=scores)]))


def test_one_seed() -> None:
    assert flags([quality("a", "sst2", 80.0)])["one-seed"] == "one seed"
    two = [quality("a", task, 80.0, seed) for task, seed in (("sst2", 0), ("sst2", 1), ("mrpc", 0))]
    base = [quality("baseline", "sst2", 90.0, 1), quality("baseline", "mrpc", 80.0)]
    assert flags([*two, *base])["one-seed"] == "one seed: MRPC"
    assert "one-seed" not in flags([*two, *base], tasks=["sst2"])


def test_the_fidelity_of_the_cards() -> None:
    cards = {"a": {"fidelity": "variant"}, "b": {"fidelity": "faithful"}}
    records = [quality(recipe, "sst2", 80.0) for recipe in ("a", "b", "b > a")]
    assert "variant" in flags(records, "a", cards=cards)
    assert "variant" not in flags(records, "b", cards=cards)
    assert "variant" in flags(records, "b > a", cards=cards)


def test_more_examples_than_the_control_are_over_budget() -> None:
    def trained(recipe: str, *steps: int, **more: Any) -> Record:
        own = [stage("baseline", 1000), *(stage(f"stage {n}", each) for n, each in enumerate(steps))]
        return quality(recipe, "sst2", 80.0, training=own, cell=BUDGET, **more)

    control = trained("fine-tuning", 100)
    base = [trained("baseline")]
    assert "over-budget" not in flags([*base, control, trained("a", 105)])
    assert flags([*base, control, trained("a", 106)])["over-budget"].endswith("SST-2")
    assert "over-budget" in flags([*base, control, trained("a", 60, 60)])
    assert "over-budget" not in flags([*base, trained("a", 900)])  # nothing to compare with


def test_records_of_other_versions_are_stale() -> None:
    recipe = "magnitude:sparsity=0.6 > dynamic-int8"
    now = declared_versions(Recipe.parse(recipe)) | {"evaluation": EVALUATION_VERSION}
    fresh = quality(recipe, "sst2", 80.0, declared=now)
    assert not is_stale(fresh)
    assert is_stale(quality(recipe, "sst2", 80.0, declared={**now, "magnitude": 0}))
    assert is_stale(quality(recipe, "sst2", 80.0, declared={**now, "training": 0}))
    assert is_stale(quality("not-installed", "sst2", 80.0, declared=now))
    assert is_stale(quality("magnitude:unknown=1", "sst2", 80.0, declared=now))
    assert "stale" not in flags([fresh], recipe)


def regressed(values: list[float], correlation: float, low: float) -> Record:
    """A regression's record: its answers, and the correlation with the lower end of its interval."""
    logits = np.array(values, dtype=np.float32)[:, None]
    kept = pack_predictions(logits, None, 1)
    record = quality("a", "stsb", correlation, metric="pearson", examples=len(values), predictions=kept)
    assert record.quality is not None
    changed = record.quality.model_copy(update={"ci95": {"pearson": (low, 2 * correlation - low)}})
    return record.model_copy(update={"quality": changed})


@pytest.mark.parametrize(
    ("different", "correlation", "low", "code"),
    [
        (0, 0.0, 0.0, "constant"),
        (1, 3.0, -9.0, "constant"),
        (50, 3.0, -4.0, "near-chance"),
        (50, 80.0, 77.0, None),
    ],
)
def test_a_regression_can_give_one_answer_too(
    different: int, correlation: float, low: float, code: str | None
) -> None:
    values = [2.5] * (100 - different) + [i / 10 for i in range(different)]
    base = quality("baseline", "stsb", 85.0, metric="pearson", examples=100)
    row = by_recipe(measured_board([base, regressed(values, correlation, low)]))["a"]
    found = {flag["code"] for flag in row.flags} & {"constant", "near-majority", "near-chance"}
    assert found == ({code} if code else set())


def test_a_row_of_one_answer_says_nothing_about_seeds() -> None:
    """Its score is the same with every seed, which would make the other rows look certain."""
    seeds = (0, 1, 2)
    base = [quality("baseline", "sst2", 90.0, seed) for seed in seeds]
    moving = [
        quality("a", "sst2", score, seed) for seed, score in zip(seeds, (80.0, 84.0, 82.0), strict=True)
    ]
    same = [
        quality("b", "sst2", 60.0, seed, predictions=answers(0, correct=60, majority=60)) for seed in seeds
    ]
    without = by_recipe(measured_board([*base, *moving]))["a"]
    beside = by_recipe(measured_board([*base, *moving, *same]))["a"]
    assert beside.drop_ci95 == without.drop_ci95


def test_a_correlation_is_judged_by_its_own_interval() -> None:
    """An accuracy near the majority's may hide a correlation that one answer does not have."""
    predictions = answers(9, correct=69, majority=60)  # flagged near-majority if it is judged by accuracy
    shared = {"metric": "matthews_correlation", "examples": 1043, "predictions": predictions}
    base = quality("baseline", "cola", 40.0, metric="matthews_correlation", examples=1043)
    for score, flagged in ((23.5, False), (0.5, True)):
        row = by_recipe(measured_board([base, quality("a", "cola", score, **shared)]))["a"]
        codes = {flag["code"] for flag in row.flags}
        assert "one-seed" in codes
        assert ("near-chance" in codes) == flagged
        assert "near-majority" not in codes
