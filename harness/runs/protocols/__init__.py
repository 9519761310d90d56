"""Protocols: TOML files that say how long and how every recipe of a board is trained on each task.

All trained recipes see the same number of examples of a task: a recipe of several stages that train divides them among
its stages. The peak learning rate belongs to the family of the recipe's first method that trains. It was chosen from
`grid` on a held-out slice of training data (`harness.runs.protocols.rates`). A change of a protocol needs a new name,
because records name their protocol.
"""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from harness.common.errors import Code, SkylineError, unknown_name
from harness.common.validation import first_fault
from harness.recipes.recipe import Recipe
from harness.records.cells import BudgetSpec

Rate = Annotated[float, Field(gt=0, lt=1)]


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Passes(_Table):
    """The training examples of one training: `examples` drawn from the seed (None: all), `epochs` times."""

    examples: Annotated[int, Field(ge=1)] | None = None
    epochs: Annotated[float, Field(gt=0)] = 1.0


class TaskBudget(_Table):
    """What the baseline and what a recipe sees of one task."""

    baseline: Passes
    recipe: Passes


class Protocol(_Table):
    """The content of a protocol file."""

    name: str
    title: str
    precision: str
    batch_size: Annotated[int, Field(ge=1)]
    baseline_rate: Rate
    grid: tuple[Rate, ...]
    rates: dict[str, Rate]
    """Peak learning rate by family."""
    tasks: dict[str, TaskBudget]

    def budget(self, recipe: str, task: str) -> BudgetSpec:
        """Return the budget of a recipe on a task.

        Raises SkylineError (`unknown-name`) for a task or a family that the protocol does not name.
        """
        if task not in self.tasks:
            raise unknown_name(f"task of protocol {self.name}", task, self.tasks)
        own = self.tasks[task]
        shared = {"precision": self.precision, "batch_size": self.batch_size}
        baseline = {**_given(own.baseline), **shared, "learning_rate": self.baseline_rate}
        stages = sum(stage.trains for stage in Recipe.parse(recipe).stages)
        family = family_of(recipe)
        if family is None:
            return BudgetSpec(baseline=baseline)
        if family not in self.rates:
            raise unknown_name(f"family with a rate in protocol {self.name}", family, self.rates)
        passes = own.recipe.model_copy(update={"epochs": own.recipe.epochs / stages})
        return BudgetSpec(
            baseline=baseline, recipe={**_given(passes), **shared, "learning_rate": self.rates[family]}
        )


def family_of(recipe: str) -> str | None:
    """Return the family of the first method of a recipe that trains; None if none does."""
    calls = (call for stage in Recipe.parse(recipe).stages for call in stage.calls)
    return next((call.method.card.family for call in calls if call.make().trains), None)


def _given(passes: Passes) -> dict[str, int | float]:
    return passes.model_dump(exclude_none=True)


def protocol_names() -> list[str]:
    """Return the names of the protocols."""
    return sorted(path.stem for path in Path(__file__).parent.glob("*.toml"))


@cache
def load_protocol(name: str) -> Protocol:
    """Read a protocol by its name.

    Raises SkylineError for an unknown name (`unknown-name`), and for a wrong key or value (the message names the key).
    """
    # A path is no name: records of one protocol would stand under several.
    if name not in protocol_names():
        raise unknown_name("protocol", name, protocol_names())
    path = Path(__file__).parent / f"{name}.toml"
    try:
        return Protocol.model_validate({"name": name, **tomllib.loads(path.read_text(encoding="utf-8"))})
    except tomllib.TOMLDecodeError as error:
        raise SkylineError(f"{path} is not TOML: {error}", Code.UNREADABLE) from None
    except ValidationError as error:
        fault = first_fault(error, Protocol.model_fields)
        raise SkylineError(f"{path}: {fault.line}", fault.code) from None
