"""What a budget allows: its ranges, how many examples and for how long."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from harness.common.errors import Code
from harness.compression.context import Budget, Progress
from harness.compression.training import train
from harness.conformance.tiny import tiny_encoder, tiny_task
from harness.recipes.builder import check_budget
from harness.records.cells import BudgetSpec
from tests.support.one_line_errors import refused
from tests.support.tiny_stages import context


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("epochs", [0, -1, "many"]),
        ("batch_size", [0, 1.5]),
        ("learning_rate", [0, -1e-5]),
        ("warmup", [-0.1, 1]),
        ("weight_decay", [-0.01]),
        ("clip", [0]),
        ("precision", ["float16"]),
        ("patience", [0]),
        ("holdout", [0, 0.6]),
        ("examples", [0]),
        ("epoch", [1]),
    ],
)
def test_budgets_out_of_range(field: str, values: list[Any]) -> None:
    for value in values:
        with pytest.raises(ValidationError):
            Budget.model_validate({field: value})
        for part in ("baseline", "recipe"):
            with refused(Code.OUT_OF_RANGE, f"budget.{part}.{field}"):
                check_budget(BudgetSpec.model_validate({part: {field: value}}))


def test_a_budget_in_range() -> None:
    check_budget(
        BudgetSpec(baseline={"epochs": 0.5, "precision": "bfloat16"}, recipe={"patience": 1, "examples": 1})
    )
    assert Budget().model_dump() == Budget.model_validate({}).model_dump()


def test_the_examples_within_the_budget() -> None:
    everything = tiny_task().train()
    chosen = context(examples=20, seed=1).training_examples()
    assert len(chosen) == len({e.id for e in chosen}) == 20
    places = [everything.index(example) for example in chosen]
    assert places == sorted(places)
    assert chosen == context(examples=20, seed=1).training_examples()
    assert chosen != context(examples=20, seed=2).training_examples()
    assert context(examples=None).training_examples() == everything
    assert context(examples=10**6).training_examples() == everything


@pytest.mark.parametrize(
    ("budget", "steps", "epochs"),
    [
        ({"epochs": 2.0}, 6, 2.0),
        ({"epochs": 0.5}, 2, 2 / 3),
        ({"epochs": 0.01}, 1, 1 / 3),
        ({"epochs": 1.0, "batch_size": 100}, 1, 1.0),
        ({"epochs": 1.0, "examples": 33}, 3, 1.0),
    ],
)
def test_how_long_it_trains(budget: dict[str, Any], steps: int, epochs: float) -> None:
    found: list[Progress] = []
    done = train(tiny_encoder(), [], context(**budget, progress=lambda _, p: found.append(p)), "a stage")
    assert (done.steps, done.epochs) == (steps, pytest.approx(epochs))
    assert (done.stage, done.examples, done.precision) == ("a stage", budget.get("examples", 48), "float32")
    assert (found[-1].step, found[-1].steps) == (steps, steps)
    assert found[-1].loss == done.final_loss > 0
