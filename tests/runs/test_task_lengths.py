"""Lengths, texts and budgets that cannot be: refused with one line before anything is trained."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from pydantic import ValidationError

from harness.common.errors import SkylineError
from harness.compression import training
from harness.compression.context import Budget, Context
from harness.compression.evaluation import predict
from harness.compression.training import train
from harness.conformance.tiny import BUDGET, CONFIG, tiny_encoder, tiny_task
from harness.records.cells import BudgetSpec
from harness.tasks.base import Task


def long_task(*, fixed: bool) -> Task:
    return replace(tiny_task(), max_length=1000, fixed_length=fixed)


REFUSED = (
    rf"^task toy-sentiment has max_length 1000, but the model has {CONFIG.positions} positions; lower max_l"
)


@pytest.mark.parametrize("patience", [None, 1])
def test_a_length_beyond_the_positions_is_refused_before_training(
    patience: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("a training step was done")

    monkeypatch.setattr(training, "_one_step", never)
    budget = BUDGET.model_copy(update={"patience": patience})
    context = Context(tiny_encoder(), long_task(fixed=True).training_view(), budget)
    with pytest.raises(SkylineError, match=REFUSED) as caught:
        train(tiny_encoder(), [], context, "baseline")
    assert "\n" not in str(caught.value)
    with pytest.raises(SkylineError, match=REFUSED):
        next(context.batches(tiny_encoder(), 4))


def test_predictions_refuse_it_too() -> None:
    task = long_task(fixed=True)
    with pytest.raises(SkylineError, match=REFUSED):
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


def test_a_budget_that_is_not_finite_is_one_line() -> None:
    from harness.recipes.builder import check_budget

    assert "learning_rate" in NUMBERS
    with pytest.raises(SkylineError, match="learning_rate") as caught:
        check_budget(BudgetSpec(baseline={"learning_rate": math.inf}))
    assert "\n" not in str(caught.value)


def test_what_is_no_text_is_named() -> None:
    model = tiny_encoder()
    cases = {
        r"^texts\[0\] is NoneType, no string": lambda: model.encode([None]),  # type: ignore[list-item]
        r"^texts\[1\] is int, no string": lambda: model.encode(["fine", 3]),  # type: ignore[list-item]
        r"^pairs\[1\] is float, no string": lambda: model.encode(["a", "b"], ["c", math.nan]),  # type: ignore[list-item]
        r"^pairs\[0\] is NoneType, no string": lambda: model.encode(["a"], [None]),  # type: ignore[list-item]
        "^texts is a list of strings, not int; give a list": lambda: model.encode(5),  # type: ignore[arg-type]
        "^pairs is a list of strings, not one string": lambda: model.encode(["a"], "b"),  # type: ignore[arg-type]
    }
    for says, use in cases.items():
        with pytest.raises(SkylineError, match=says) as caught:
            use()
        assert "\n" not in str(caught.value)
    assert model.encode(("fine", "bad")).input_ids.shape[0] == 2  # type: ignore[arg-type]
