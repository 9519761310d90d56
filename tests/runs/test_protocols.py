"""Protocols: every trained recipe sees the same number of examples, and rates follow from held-out scores."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.common.errors import Code
from harness.records.cells import ProfileCell, QualityCell
from harness.records.store import read_records
from harness.runs.protocols import family_of, load_protocol, protocol_names
from harness.runs.protocols.rates import chosen_rates, held_out_scores
from harness.runs.suites import Experiment, Suite, chosen_suite
from tests.support.one_line_errors import refused

PROTOCOL = load_protocol("float32-1")
RECIPES = {
    "fine-tuning": 1,
    "kd-logits > dynamic-int8": 1,
    "albert:groups=3 > adaptive-span + magnitude": 2,
    "svd > layer-drop > deebert": 3,
}


@pytest.mark.parametrize(("recipe", "stages"), RECIPES.items())
@pytest.mark.parametrize("task", PROTOCOL.tasks)
def test_the_stages_of_a_recipe_divide_its_examples(recipe: str, stages: int, task: str) -> None:
    own, alone = PROTOCOL.budget(recipe, task).recipe, PROTOCOL.budget("fine-tuning", task).recipe
    assert own["epochs"] * stages == pytest.approx(alone["epochs"])
    assert own.get("examples") == alone.get("examples")
    assert own["precision"] == "float32"


def test_the_rate_is_that_of_the_first_family_that_trains() -> None:
    assert family_of("dynamic-int8") is None
    assert family_of("gobo > kd-logits") == "distillation"
    protocol = PROTOCOL.model_copy(update={"rates": {"distillation": 0.5, "quantization": 0.25}})
    assert protocol.budget("gobo > kd-logits + q8bert", "mrpc").recipe["learning_rate"] == 0.5
    assert protocol.budget("q8bert + kd-logits", "mrpc").recipe["learning_rate"] == 0.25
    assert protocol.budget("dynamic-int8", "mrpc").recipe == {}


def test_unknown_names() -> None:
    assert "float32-1" in protocol_names()
    with refused(Code.UNKNOWN_NAME, "'float32-1'"):
        load_protocol("float32-l")
    with refused(Code.UNKNOWN_NAME, "float32-1"):
        load_protocol("../protocols/float32-1")
    with refused(Code.UNKNOWN_NAME, "mnlii"):
        PROTOCOL.budget("baseline", "mnlii")
    with refused(Code.UNKNOWN_NAME, "early-exit"):
        PROTOCOL.model_copy(update={"rates": {"early-exits": 0.1}}).budget("deebert", "mrpc")


def test_the_best_rate_wins_and_the_lowest_of_equal_ones() -> None:
    low, middle, high = PROTOCOL.grid
    scores = {
        "a": {low: 1.0, middle: 3.0, high: 2.0},
        "b": {low: 5.0, middle: 4.0, high: 5.0},
        "half tried": {low: 1.0},
    }
    assert chosen_rates(scores, PROTOCOL) == {"a": middle, "b": low}


def test_the_protocols_rates_follow_from_the_committed_records() -> None:
    records, problems = read_records(Path(__file__).parents[2] / "profiles")
    assert problems == []
    chosen = chosen_rates(held_out_scores(records, PROTOCOL), PROTOCOL)
    assert chosen == PROTOCOL.rates


def test_cells_name_their_protocol_and_split() -> None:
    shared = {"tasks": ("toy-sentiment",), "recipes": ("fine-tuning", "dynamic-int8")}
    protocol = {"protocol": "float32-1"}
    with pytest.raises(ValueError, match="held-out"):
        Experiment(**shared, **protocol, try_rates=True)
    with pytest.raises(ValueError, match="leave out one"):
        Experiment(**shared, **protocol, budget={"recipe": {"epochs": 1}})
    held_out = Suite(
        title="t",
        experiments=(Experiment(tasks=("toy-sentiment",), recipes=("fine-tuning",), split="held-out"),),
    ).cells()
    dev = Suite(
        title="t", experiments=(Experiment(tasks=("toy-sentiment",), recipes=("fine-tuning",)),)
    ).cells()
    assert {type(cell) for cell in held_out} == {QualityCell}
    assert {type(cell) for cell in dev} == {QualityCell, ProfileCell}
    keys = {cell.key for cell in dev if isinstance(cell, QualityCell)}
    assert not keys & {cell.key for cell in held_out}


def test_a_protocols_budget_is_not_overridden() -> None:
    with refused(Code.CONFLICT, "--epochs"):
        chosen_suite("measured", None, None, None, None, {"epochs": 1}, True)
