"""Check that every option acts: with another value, the artifact or the figures in the record must differ."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace
from itertools import count
from math import inf
from typing import Any

from pydantic import TypeAdapter, ValidationError

from harness.common.errors import SkylineError
from harness.conformance.subject import Broken, Content, Subject
from harness.recipes.discovery import in_words
from harness.recipes.recipe import RecipeStage


def check_effects(subject: Subject) -> None:
    """Check that each option changes the artifact or its figures, alone or together with one other option.

    It compares trainings with the same seed. An option in `inert_when_tiny` must change nothing.
    """
    names = [field.name for field in fields(subject.method.Options)]
    declared = subject.method.inert_when_tiny
    for name, reason in declared.items():
        if name not in names:
            raise Broken(f"inert_when_tiny names '{name}', which is not an option")
        if not reason.strip():
            raise Broken(f"inert_when_tiny gives no reason why '{name}' changes nothing here")
    start = subject.runs.stage
    # Most options act alone at once. Those that need another option are cheaper to find there than by more values.
    inert = {name for name in names if not _acting(subject, start, {name}, 0)}
    inert -= _acting(subject, start, inert, 1) or set()
    others = _others(start)
    while inert and (stage := next(others, None)) is not None:
        for rank in count():
            if (acting := _acting(subject, stage, inert, rank)) is None:
                break
            inert -= acting
    for rank in range(2, max((len(_values(start, name)) for name in inert), default=0)):
        inert -= _acting(subject, start, inert, rank) or set()
    if silent := sorted(inert - set(declared)):
        raise Broken(
            f"option '{silent[0]}' changes neither the artifact nor a figure; use it, drop it, give the suite another "
            "value of it, or name it in inert_when_tiny with the reason"
        )
    if active := sorted(set(declared) - inert):
        raise Broken(f"inert_when_tiny names '{active[0]}', but it acts here; take it out")


def _others(start: RecipeStage) -> Iterator[RecipeStage]:
    """Yield configurations in which an option may act although it does not act in `start`: `start` with another suite
    value of an option, or with another value of a switch; then the defaults.
    """
    (call,) = start.calls
    choices = [
        (field.name, value)
        for field in fields(call.options)
        for value in reversed(_values(start, field.name))
        if isinstance(value, str | bool) or value in call.method.suite.get(field.name, ())
    ]
    # Words come first: they switch other options on more often than numbers do.
    choices.sort(key=lambda choice: not isinstance(choice[1], str))
    yield from filter(None, (_with(start, {name: value}) for name, value in choices))
    yield RecipeStage((replace(call, options=call.method.Options()),))


def _acting(subject: Subject, stage: RecipeStage, names: set[str], rank: int) -> set[str] | None:
    """Return the options that change a stage's result if they get the other value number `rank`. All are changed at
    once first, and each alone only if that changes the result: this saves trainings. Return None if none was changed
    alone.
    """
    plain = _made(subject, stage)
    together: dict[str, Any] = {}
    alone: dict[str, Any] = {}
    for name in sorted(names):
        for value in _values(stage, name)[rank : rank + 1]:
            fits = _with(stage, {**together, name: value}) is not None
            (together if fits else alone)[name] = value
    if plain is None or _made(subject, _with(stage, together)) != plain:
        alone |= together
    if not alone:
        return None
    made = {name: _made(subject, _with(stage, {name: value})) for name, value in alone.items()}
    return {name for name, each in made.items() if each is not None and each != plain}


def _made(subject: Subject, stage: RecipeStage | None) -> Content | None:
    """Return the content that training a stage gives; None if the options or the method refuse it."""
    if stage is None:
        return None
    try:
        return subject.content(stage)
    except SkylineError:
        return None
    except Exception as error:
        raise Broken(f"the hooks of '{stage}' fail: {in_words(error)}") from None


def _with(stage: RecipeStage, values: dict[str, Any]) -> RecipeStage | None:
    """Return the stage with other values of its options; None if the options refuse them."""
    (call,) = stage.calls
    try:
        return RecipeStage((replace(call, options=replace(call.options, **values)),))
    except ValidationError:
        return None


def _values(stage: RecipeStage, name: str) -> list[Any]:
    """Return values of an option that differ from the stage's: the suite's, then others that its type allows."""
    (call,) = stage.calls
    now = getattr(call.options, name)
    schema = TypeAdapter(call.method.Options).json_schema()["properties"][name]
    kinds = schema.get("anyOf", [schema])
    found = [*call.method.suite.get(name, ()), *(value for kind in kinds for value in _of_kind(kind, now))]
    return [value for value in dict.fromkeys(found) if value != now]


def _of_kind(kind: dict[str, Any], now: Any) -> list[Any]:
    """Return values of a type that is described by JSON Schema. For numbers: some near the ends of the range, and half
    and twice the present one. The options may refuse some.
    """
    if "enum" in kind:
        return list(kind["enum"])
    if kind.get("type") == "boolean":
        return [True, False]
    if kind.get("type") not in ("integer", "number"):
        return []
    low = kind.get("minimum", kind.get("exclusiveMinimum", 0))
    high = kind.get("maximum", kind.get("exclusiveMaximum", inf))
    if now:
        numbers = [low, low + (now - low) / 20, now / 2, now * 2, now + 1]
    else:
        numbers = [min(low + 1, (low + high) / 2), 4, 16, 64]
    if high <= 1:
        numbers.append(((now or 0) + 9 * high) / 10)
    unit = kind.get("multipleOf", 1)
    return [unit * round(number / unit) for number in numbers] if kind["type"] == "integer" else numbers
