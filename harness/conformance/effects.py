"""Check that every option acts: with another value, the artifact or the figures in the record must differ."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace
from math import inf
from typing import Any

from pydantic import TypeAdapter, ValidationError

from harness.common.errors import SkylineError
from harness.conformance.subject import Broken, Content, Subject
from harness.recipes.discovery import in_words
from harness.recipes.recipe import RecipeStage


def check_effects(subject: Subject) -> None:
    """Each option changes the artifact or its figures, alone or together with another value of the suite.

    Compared are trainings as a recipe has them, from one seed. An option in `inert_when_tiny` must change nothing.
    """
    names = [field.name for field in fields(subject.method.Options)]
    declared = subject.method.inert_when_tiny
    for name, reason in declared.items():
        if name not in names:
            raise Broken(f"inert_when_tiny names '{name}', which is not an option")
        if not reason.strip():
            raise Broken(f"inert_when_tiny gives no reason why '{name}' changes nothing here")
    start = subject.runs.stage
    inert = set(names) - _acting(subject, start, set(names))
    others = _others(start)
    while inert and (stage := next(others, None)) is not None:
        inert -= _acting(subject, stage, inert, briefly=True)
    if silent := sorted(inert - set(declared)):
        raise Broken(
            f"option '{silent[0]}' changes neither the artifact nor a figure; use it, drop it, give the suite another "
            "value of it, or name it in inert_when_tiny with the reason"
        )
    if active := sorted(set(declared) - inert):
        raise Broken(f"inert_when_tiny names '{active[0]}', but it acts here; take it out")


def _others(start: RecipeStage) -> Iterator[RecipeStage]:
    """Configurations in which an option may act that does not act in the first one: each with one other value of the
    suite or another choice of a switch, then the defaults.
    """
    (call,) = start.calls
    choices = [
        (field.name, value)
        for field in fields(call.options)
        for value in reversed(_values(start, field.name))
        if isinstance(value, str | bool) or value in call.method.suite.get(field.name, ())
    ]
    # A word is likelier than a number to switch something on.
    choices.sort(key=lambda choice: not isinstance(choice[1], str))
    yield from filter(None, (_with(start, {name: value}) for name, value in choices))
    yield RecipeStage((replace(call, options=call.method.Options()),))


def _acting(subject: Subject, stage: RecipeStage, names: set[str], briefly: bool = False) -> set[str]:
    """Which options change what a stage makes. First all of them get another value at once; only where that changes
    something, each alone. `briefly` stops where it changes nothing.
    """
    plain, found = _made(subject, stage), set[str]()
    values = {name: _values(stage, name) for name in names}
    for rank in range(max(map(len, values.values()), default=0)):
        together: dict[str, Any] = {}
        alone: dict[str, Any] = {}
        for name in sorted(names - found):
            for value in values[name][rank : rank + 1]:
                fits = _with(stage, {**together, name: value}) is not None
                (together if fits else alone)[name] = value
        if plain is None or _made(subject, _with(stage, together)) != plain:
            alone |= together
        made = {name: _made(subject, _with(stage, {name: value})) for name, value in alone.items()}
        found |= {name for name, each in made.items() if each is not None and each != plain}
        if briefly and not alone:
            break
    return found


def _made(subject: Subject, stage: RecipeStage | None) -> Content | None:
    """What a stage makes, to be compared; None where the options or the method refuse it."""
    if stage is None:
        return None
    try:
        return subject.content(stage)
    except SkylineError:
        return None
    except Exception as error:
        raise Broken(f"the hooks of '{stage}' fail: {in_words(error)}") from None


def _with(stage: RecipeStage, values: dict[str, Any]) -> RecipeStage | None:
    """The stage with other values of its options; None where the options refuse them."""
    (call,) = stage.calls
    try:
        return RecipeStage((replace(call, options=replace(call.options, **values)),))
    except ValidationError:
        return None


def _values(stage: RecipeStage, name: str) -> list[Any]:
    """Other values of an option than the stage's: the suite's, then those that its type allows."""
    (call,) = stage.calls
    now = getattr(call.options, name)
    schema = TypeAdapter(call.method.Options).json_schema()["properties"][name]
    kinds = schema.get("anyOf", [schema])
    found = [*call.method.suite.get(name, ()), *(value for kind in kinds for value in _of_kind(kind, now))]
    return [value for value in dict.fromkeys(found) if value != now]


def _of_kind(kind: dict[str, Any], now: Any) -> list[Any]:
    """Values of a type, which its JSON Schema describes. Of numbers: some near the ends of their range, half and twice
    the present one. Some may be refused.
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
