"""Pydantic's errors in plain words. Here the wording itself is tested: `validation` makes it."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from harness.common.errors import Code, nearest, suggestion
from harness.common.validation import first_fault
from harness.compression.method import parse_options
from harness.recipes.builder import check_budget
from harness.recipes.discovery import discover
from harness.records.cells import BudgetSpec
from tests.support.one_line_errors import refused


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")

    size: Annotated[int, Field(ge=1)] = 1


class Table(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    name: str
    kind: Literal["classification", "regression"] = "classification"
    rate: Annotated[float, Field(gt=0, lt=1)] = 0.5
    sizes: Annotated[tuple[Inner, ...], Field(min_length=1)] = (Inner(),)

    @model_validator(mode="after")
    def _fits(self) -> Table:
        if self.kind == "regression" and self.rate == 0.25:
            raise ValueError("a regression takes no rate of 0.25")
        return self


LINES: dict[str, dict[str, Any]] = {
    "key 'nam' is unknown; did you mean 'name'?": {"nam": "x"},
    "key 'zzz' is unknown; known: kind, name, rate, sizes": {"zzz": 1},
    "key 'sizes.0.sise' is unknown; did you mean 'size'?": {"name": "x", "sizes": [{"sise": 1}]},
    "key 'name' is missing": {},
    "kind = 'regresion' must be classification or regression; did you mean 'regression'?": {
        "name": "x",
        "kind": "regresion",
    },
    "kind = 'qqq' must be classification or regression": {"name": "x", "kind": "qqq"},
    "rate = 1 must be less than 1": {"name": "x", "rate": 1},
    "rate = inf must be a finite number": {"name": "x", "rate": float("inf")},
    "rate = 'fast' must be a number": {"name": "x", "rate": "fast"},
    "sizes.0.size = 0 must be greater than or equal to 1": {"name": "x", "sizes": [{"size": 0}]},
    "sizes.0.size = 1.5 must be a whole number": {"name": "x", "sizes": [{"size": 1.5}]},
    "sizes must have at least 1 item, not 0": {"name": "x", "sizes": []},
    "sizes = 3 must be a list": {"name": "x", "sizes": 3},
    "sizes.0 = 3 must be a table": {"name": "x", "sizes": [3]},
    "name = 3 must be a string": {"name": 3},
    "a regression takes no rate of 0.25": {"name": "x", "kind": "regression", "rate": 0.25},
}

CODES = {
    "key 'nam' is unknown": Code.UNKNOWN_NAME,
    "key 'zzz' is unknown": Code.UNKNOWN_NAME,
    "key 'sizes.0.sise' is unknown": Code.UNKNOWN_NAME,
    "key 'name' is missing": Code.INCOMPLETE,
    "a regression takes no rate of 0.25": Code.CONFLICT,
}


@pytest.mark.parametrize("line", LINES)
def test_the_first_fault_in_one_line(line: str) -> None:
    with pytest.raises(ValidationError) as error:
        Table.model_validate(LINES[line])
    fault = first_fault(error.value, Table.model_fields, {"sizes": Inner.model_fields})
    assert (fault.line, fault.code) == (line, CODES.get(line.split("; ")[0], Code.OUT_OF_RANGE))


@pytest.mark.parametrize(
    ("part", "values", "line"),
    [
        ("baseline", {"epochs": -1}, "budget.baseline.epochs = -1 must be greater than 0"),
        ("recipe", {"epoch": 1}, "key 'budget.recipe.epoch' is unknown; did you mean 'epochs'?"),
        ("recipe", {"precision": "fp8"}, "budget.recipe.precision = 'fp8' must be auto, float32 or bfloat16"),
        (
            "recipe",
            {"learning_rate": float("nan")},
            "budget.recipe.learning_rate = nan must be a finite number",
        ),
    ],
)
def test_budgets(part: str, values: dict[str, Any], line: str) -> None:
    with refused(f"^{re.escape(line)}$"):
        check_budget(BudgetSpec(**{part: values}))


@pytest.mark.parametrize(
    ("identity", "given", "line"),
    [
        ("magnitude", {"sparsity": "1.5"}, "magnitude:sparsity=1.5 is out of range: it must be less than 1"),
        ("kd-logits", {"layers": "few"}, "kd-logits:layers=few is out of range: it must be a whole number"),
        ("magnitude", {"sparsty": "0.5"}, "unknown option of magnitude 'sparsty'; did you mean 'sparsity'?"),
    ],
)
def test_options_of_methods(identity: str, given: dict[str, str], line: str) -> None:
    with refused(f"^{re.escape(line)}$"):
        parse_options(discover().get(identity), given)


def test_a_wrong_choice_of_an_option_names_the_nearest() -> None:
    method = discover().get("magnitude")
    with refused("", "magnitude:scope=matrik", "'matrix'"):
        parse_options(method, {"scope": "matrik"})


def test_the_nearest_name_is_spelled_as_it_is_known() -> None:
    assert nearest("sentance", ["Sentence", "Label"]) == "Sentence"
    assert suggestion("sentance", ["Sentence", "Label"]) == "did you mean 'Sentence'?"
    assert suggestion("qqq", []) == "known: none"
