"""Recipes: combinations of methods. `a + b` applies two methods in one training run, `a > b` one after the other; a
method is written `name:option=value,option=value`. `[name] > a` starts from an untrained architecture instead of the
baseline.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from harness.common.errors import Code, SkylineError
from harness.compression.method import Method, parse_options
from harness.models.architectures import architecture
from harness.recipes.discovery import Registry, discover

BASELINE = "baseline"
_START = re.compile(r"\s*\[([^\[\]]*)\]\s*(?:>(.*))?", re.DOTALL)
_CALL = re.compile(r"\s*([A-Za-z0-9][\w.-]*)\s*(?::(.*))?\s*", re.DOTALL)
_OPTION = re.compile(r"\s*([\w-]+)\s*=\s*([^,=]+?)\s*")
# The plus sign of an exponent (1e+16) does not join methods.
_TOGETHER = re.compile(r"(?<![0-9][eE])\+|\+(?![0-9])")


@dataclass(frozen=True)
class Call:
    """A method with validated options."""

    method: type[Method]
    options: Any

    @property
    def id(self) -> str:
        """The method's id."""
        return self.method.card.id

    def make(self) -> Method:
        """Return a new instance, for one run."""
        return self.method(self.options)

    def __str__(self) -> str:
        # Options with their default are left out, so that one recipe has one name.
        given = [
            f"{f.name}={_text(getattr(self.options, f.name))}"
            for f in fields(self.options)
            if getattr(self.options, f.name) != f.default
        ]
        return f"{self.id}:{','.join(given)}" if given else self.id


def _text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    # Adding zero turns -0.0 into 0.0, which equals it.
    return str(value + 0.0 if isinstance(value, float) else value)


@dataclass(frozen=True)
class RecipeStage:
    """The methods that act in one training run."""

    calls: tuple[Call, ...]

    @property
    def trains(self) -> bool:
        """Whether the training loop runs: if any method of the stage trains."""
        return any(call.make().trains for call in self.calls)

    def own_share(self) -> float:
        """Return the share of the stage's epochs that the methods' own rounds take together.

        Raises SkylineError (`conflict`) if nothing is left for the stage's training.
        """
        shares = [(call.id, call.make().own_share) for call in self.calls]
        if (total := sum(share for _, share in shares)) >= 1:
            long = " and ".join(f"'{name}' ({share:g})" for name, share in shares if share)
            raise SkylineError(
                f"the own rounds of {long} take all epochs of the stage '{self}', and none is left to train the "
                "result; lower a share",
                Code.CONFLICT,
            )
        return total

    def __str__(self) -> str:
        return " + ".join(str(call) for call in self.calls)


@dataclass(frozen=True)
class Recipe:
    """A sequence of stages. Without stages it is the baseline: the unchanged encoder, fine-tuned on the task.

    `start` names an architecture (see `harness.models.architectures`) that the stages work on instead of the baseline.
    Such a recipe can only be profiled.
    """

    stages: tuple[RecipeStage, ...] = ()
    start: str | None = None

    @classmethod
    def parse(cls, text: str, registry: Registry | None = None) -> Recipe:
        """Parse a recipe's text and validate it. `registry` holds the methods, by default all installed ones.

        Raises SkylineError for an empty text (`incomplete`), a text that cannot be parsed (`unreadable`), an unknown
        method, option or architecture (`unknown-name`), an option out of range (`out-of-range`) or given twice
        (`duplicate`), and for methods that exclude each other or whose own rounds take all epochs (`conflict`), or
        that cannot follow each other (`wrong-order`).
        """
        if not text.strip():
            raise SkylineError(
                "the recipe is empty; name a method, or 'baseline' for the unchanged encoder", Code.INCOMPLETE
            )
        if text.strip() == BASELINE:
            return cls()
        start = None
        if (match := _START.fullmatch(text)) is not None:
            start, text = match[1].strip(), match[2]
            architecture(start)  # refuses an unknown one
            if text is None:
                return cls((), start)
        registry = registry or discover()
        stages = tuple(
            RecipeStage(tuple(_parse_call(part, registry) for part in _TOGETHER.split(stage)))
            for stage in text.split(">")
        )
        recipe = cls(stages, start)
        recipe._check()
        return recipe

    def _check(self) -> None:
        finished: Call | None = None
        for stage in self.stages:
            decided: dict[str, Call] = {}
            ends: list[Call] = []
            for call in stage.calls:
                method = call.make()
                ends += [call] if method.must_be_last else []
                if finished is not None and (stage.trains or method.must_be_last):
                    raise SkylineError(
                        f"'{finished.id}' leaves weights that '{call.id}' cannot work on; put '{finished.id}' last",
                        Code.WRONG_ORDER,
                    )
                claims = set(method.decides)
                if method.replaces_task_loss:
                    claims.add("the task loss")
                for what in sorted(claims):
                    if what in decided:
                        raise SkylineError(
                            f"'{decided[what].id}' and '{call.id}' both decide {what}; "
                            "join them with '>' or leave one out",
                            Code.CONFLICT,
                        )
                    decided[what] = call
            stage.own_share()  # refuses shares that leave nothing
            finished = ends[0] if ends else finished

    @property
    def is_baseline(self) -> bool:
        """Whether this is the unchanged encoder."""
        return not self.stages and self.start is None

    @property
    def calls(self) -> tuple[Call, ...]:
        """All calls, stage by stage."""
        return tuple(call for stage in self.stages for call in stage.calls)

    @property
    def input_dependent(self) -> bool:
        """Whether the cost of a row depends on its content, as with early exit."""
        return any(call.method.card.input_dependent for call in self.calls)

    @property
    def parent(self) -> Recipe | None:
        """The recipe without its last stage; None for the baseline."""
        if self.is_baseline:
            return None
        return Recipe(self.stages[:-1], self.start) if self.stages else Recipe()

    def trainings(self) -> int:
        """Return the number of training runs, including the baseline's."""
        return 1 + sum(stage.trains for stage in self.stages)

    def __str__(self) -> str:
        start = [] if self.start is None else [f"[{self.start}]"]
        return " > ".join([*start, *map(str, self.stages)]) or BASELINE


def _parse_call(text: str, registry: Registry) -> Call:
    match = _CALL.fullmatch(text)
    if match is None:
        raise SkylineError(
            f"cannot read '{text.strip()}' in the recipe; write name or name:option=value,option=value",
            Code.UNREADABLE,
        )
    name, rest = match[1], match[2]
    if name == BASELINE:
        raise SkylineError(
            "'baseline' is the unchanged encoder and stands alone; leave it out of a combination",
            Code.CONFLICT,
        )
    given: Mapping[str, str] = {}
    if rest is not None:
        pairs = [_OPTION.fullmatch(part) for part in rest.split(",")]
        if any(pair is None for pair in pairs):
            raise SkylineError(
                f"cannot read the options '{rest.strip()}' of {name}; write option=value,option=value",
                Code.UNREADABLE,
            )
        named = [(pair[1].replace("-", "_"), pair[2]) for pair in pairs if pair is not None]
        given = dict(named)
        if len(given) < len(named):
            twice = next(option for place, (option, _) in enumerate(named) if option in dict(named[:place]))
            raise SkylineError(f"option '{twice}' of {name} is given twice; give it once", Code.DUPLICATE)
    method = registry.get(name)
    return Call(method, parse_options(method, given))
