"""Impossible lengths, texts and budgets are refused in one line before anything is trained."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from harness.common.errors import Code
from harness.compression import training
from harness.compression.context import Budget, Context
from harness.compression.evaluation import predict
from harness.compression.training import train
from harness.conformance.tiny import BUDGET, CONFIG, tiny_encoder, tiny_task
from harness.recipes.builder import check_budget
from harness.records.cells import BudgetSpec
from harness.tasks.base import Task
from tests.support.one_line_errors import refused


def long_task(*, fixed: bool) -> Task:
    return replace(tiny_task(), max_length=1000, fixed_length=fixed)


REFUSED = (Code.TOO_LONG, "toy-sentiment", "max_length 1000", f"{CONFIG.positions} positions")


@pytest.mark.parametrize("patience", [None, 1])
def test_a_length_beyond_the_positions_is_refused_before_training(
    patience: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("a training step was done")

    monkeypatch.setattr(training, "_one_step", never)
    budget = BUDGET.model_copy(update={"patience": patience})
    context = Context(tiny_encoder(), long_task(fixed=True).training_view(), budget)
    with refused(*REFUSED):
        train(tiny_encoder(), [], context, "baseline")
    with refused(*REFUSED):
        next(context.batches(tiny_encoder(), 4))


def test_predictions_refuse_it_too() -> None:
    task = long_task(fixed=True)
    with refused(*REFUSED):
        predict(tiny_encoder(), task, task.dev())


def test_a_default_is_lowered_to_the_positions() -> None:
    short = replace(tiny_task(), max_length=CONFIG.positions)
    model, long = tiny_encoder(), long_task(fixed=False)
    assert predict(model, long, long.dev()) == predict(model, short, short.dev())
    done = train(tiny_encoder(), [], Context(tiny_encoder(), long.training_view(), BUDGET), "baseline")
    same = train(tiny_encoder(), [], Context(tiny_encoder(), short.training_view(), BUDGET), "baseline")
    assert done.final_loss == same.final_loss


NUMBERS = [name for name, field in Budget.model_fields.items() if isinstance(field.default, float)]


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_a_budget_holds_finite_numbers_only(name: str, value: float) -> None:
    with pytest.raises(ValidationError, match=name):
        Budget.model_validate({name: value})


def test_a_budget_that_is_not_finite_is_refused() -> None:
    assert "learning_rate" in NUMBERS
    with refused("learning_rate", "inf"):
        check_budget(BudgetSpec(baseline={"learning_rate": math.inf}))


@pytest.mark.parametrize(
    ("name", "kind", "texts"),
    [
        ("texts[0]", "NoneType", ([None],)),
        ("texts[1]", "int", (["fine", 3],)),
        ("pairs[1]", "float", (["a", "b"], ["c", math.nan])),
        ("pairs[0]", "NoneType", (["a"], [None])),
        ("texts", "int", (5,)),
        ("pairs", "one string", (["a"], "b")),
    ],
)
def test_a_value_that_is_not_text_is_named(name: str, kind: str, texts: tuple[Any, ...]) -> None:
    with refused(re.escape(name), kind):
        tiny_encoder().encode(*texts)


def test_tuples_of_texts_are_encoded() -> None:
    texts: Any = ("fine", "bad")
    assert tiny_encoder().encode(texts).input_ids.shape[0] == 2
