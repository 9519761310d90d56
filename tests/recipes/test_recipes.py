"""Recipes: what is read is what was written, one recipe has one name, and every mistake is named."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.common.errors import Code
from harness.compression.method import Method, parse_options
from harness.recipes.discovery import discover
from harness.recipes.recipe import Call, Recipe, RecipeStage
from tests.support.one_line_errors import refused

SHARES = st.floats(0.001, 0.999)
RAMPS = st.tuples(st.floats(0, 0.49), st.floats(0.5, 1))


def call(identity: str, **options: Any) -> Call:
    method = discover().get(identity)
    return Call(method, method.Options(**options))


@st.composite
def pruning(draw: st.DrawFn, identity: str) -> Call:
    begin, end = draw(RAMPS)
    return call(
        identity,
        sparsity=draw(SHARES),
        schedule=draw(st.sampled_from(["cubic", "linear", "one-shot"])),
        scope=draw(st.sampled_from(["matrix", "global"])),
        embeddings=draw(st.booleans()),
        begin=begin,
        end=end,
    )


DISTILLATION = st.builds(
    lambda **options: call("kd-logits", **options),
    layers=st.integers(1, 10**6),
    choose=st.sampled_from(["spread", "first", "last"]),
    temperature=st.floats(0, exclude_min=True, allow_infinity=False),
    alpha=st.floats(0, 1),
)
QUANTIZATION = st.builds(
    lambda **options: call("dynamic-int8", **options),
    per=st.sampled_from(["channel", "tensor"]),
    embeddings=st.booleans(),
)


@st.composite
def recipes(draw: st.DrawFn) -> Recipe:
    """Stages of one pruning method, one distillation, or both; perhaps int8 at the end."""
    stages = []
    for _ in range(draw(st.integers(0, 3))):
        identity = draw(st.sampled_from(["magnitude", "random-pruning"]))
        choices = (st.just([]), st.builds(lambda c: [c], pruning(identity)))
        calls = [
            *draw(st.one_of(choices)),
            *draw(st.one_of(st.just([]), st.builds(lambda c: [c], DISTILLATION))),
        ]
        if calls:
            stages.append(RecipeStage(tuple(draw(st.permutations(calls)))))
    if draw(st.booleans()):
        stages.append(RecipeStage((draw(QUANTIZATION),)))
    return Recipe(tuple(stages))


@settings(deadline=None, max_examples=200)
@given(recipes())
def test_what_is_written_reads_back(recipe: Recipe) -> None:
    text = str(recipe)
    assert Recipe.parse(text) == recipe
    assert str(Recipe.parse(text)) == text


@settings(deadline=None)
@given(recipes(), st.sampled_from(["", " ", "  ", "\t"]))
def test_white_space_means_nothing(recipe: Recipe, space: str) -> None:
    text = str(recipe)
    spread = text
    for mark in (" > ", " + ", ",", ":", "="):
        spread = spread.replace(mark, f"{space}{mark.strip()}{space}")
    assert Recipe.parse(spread) == recipe


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("baseline", "baseline"),
        (" kd-logits ", "kd-logits"),
        ("kd-logits:layers=3", "kd-logits"),
        ("kd-logits:alpha=0.5,layers=3", "kd-logits"),
        ("kd-logits:alpha=.250,layers=6", "kd-logits:layers=6,alpha=0.25"),
        ("kd-logits:alpha=1", "kd-logits:alpha=1.0"),
        ("kd-logits:alpha=-0.0", "kd-logits:alpha=0.0"),
        ("kd-logits:temperature=1e+16", "kd-logits:temperature=1e+16"),
        ("kd-logits:temperature=1e+16+magnitude", "kd-logits:temperature=1e+16 + magnitude"),
        ("magnitude:sparsity=6e-1", "magnitude:sparsity=0.6"),
        ("magnitude:embeddings=yes", "magnitude:embeddings=true"),
        ("dynamic-int8:embeddings=0", "dynamic-int8:embeddings=false"),
        ("kd-logits>dynamic-int8", "kd-logits > dynamic-int8"),
        ("kd-logits+magnitude", "kd-logits + magnitude"),
    ],
)
def test_the_canonical_form(text: str, canonical: str) -> None:
    assert str(Recipe.parse(text)) == canonical
    assert Recipe.parse(text) == Recipe.parse(canonical)
    assert hash(Recipe.parse(text)) == hash(Recipe.parse(canonical))


def test_plus_binds_closer_than_then() -> None:
    recipe = Recipe.parse("kd-logits + magnitude > dynamic-int8")
    assert [[c.id for c in stage.calls] for stage in recipe.stages] == [
        ["kd-logits", "magnitude"],
        ["dynamic-int8"],
    ]
    assert [c.id for c in recipe.calls] == ["kd-logits", "magnitude", "dynamic-int8"]
    assert str(recipe.parent) == "kd-logits + magnitude"
    assert recipe.parent is not None
    assert str(recipe.parent.parent) == "baseline"
    assert Recipe().parent is None


@pytest.mark.parametrize(
    ("text", "trainings"),
    [
        ("baseline", 1),
        ("dynamic-int8", 1),
        ("kd-logits", 2),
        ("kd-logits + magnitude", 2),
        ("kd-logits > magnitude > dynamic-int8", 3),
    ],
)
def test_the_number_of_trainings(text: str, trainings: int) -> None:
    assert Recipe.parse(text).trainings() == trainings


MISTAKES: dict[str, tuple[Code, *tuple[str, ...]]] = {
    "": (Code.INCOMPLETE, "'baseline'"),
    "   ": (Code.INCOMPLETE, "'baseline'"),
    "magnitud": (Code.UNKNOWN_NAME, "'magnitud'", "'magnitude'"),
    "Dynamic-Int8": (Code.UNKNOWN_NAME, "'Dynamic-Int8'", "'dynamic-int8'"),
    "kd_logits": (Code.UNKNOWN_NAME, "'kd_logits'", "'kd-logits'"),
    "zzz": (Code.UNKNOWN_NAME, "'zzz'", "adabert, adaptive-span, albert, baseline,"),
    "magnitude >": (Code.UNREADABLE, "''"),
    "> magnitude": (Code.UNREADABLE, "''"),
    "magnitude + + kd-logits": (Code.UNREADABLE, "''"),
    "magnitude kd-logits": (Code.UNREADABLE, "'magnitude kd-logits'"),
    "magnitude:": (Code.UNREADABLE, "''", "magnitude"),
    "magnitude:sparsity": (Code.UNREADABLE, "'sparsity'", "magnitude"),
    "magnitude:sparsity=": (Code.UNREADABLE, "'sparsity='", "magnitude"),
    "magnitude:sparsity=0.5,": (Code.UNREADABLE, "'sparsity=0.5,'", "magnitude"),
    "magnitude:sparsity=0.5=0.6": (Code.UNREADABLE, "'sparsity=0.5=0.6'"),
    "magnitude:sparsty=0.5": (Code.UNKNOWN_NAME, "magnitude", "'sparsty'", "'sparsity'"),
    "magnitude:sparsity=0.4,sparsity=0.6": (Code.DUPLICATE, "'sparsity'", "magnitude"),
    "magnitude:sparsity=1": (Code.OUT_OF_RANGE, "magnitude:sparsity=1", "less than 1"),
    "magnitude:sparsity=0": (Code.OUT_OF_RANGE, "magnitude:sparsity=0", "greater than 0"),
    "magnitude:sparsity=nan": (Code.OUT_OF_RANGE, "magnitude:sparsity=nan"),
    "magnitude:sparsity=half": (Code.OUT_OF_RANGE, "magnitude:sparsity=half"),
    "magnitude:scope=glbal": (Code.OUT_OF_RANGE, "magnitude:scope=glbal", "matrix or global", "'global'"),
    "magnitude:begin=0.8": (Code.CONFLICT, "magnitude", "begin (0.8)", "end (0.6)"),
    "kd-logits:layers=0": (Code.OUT_OF_RANGE, "kd-logits:layers=0"),
    "kd-logits:layers=2.5": (Code.OUT_OF_RANGE, "kd-logits:layers=2.5"),
    "kd-logits:alpha=1.01": (Code.OUT_OF_RANGE, "kd-logits:alpha=1.01"),
    "dynamic-int8:embeddings=perhaps": (Code.OUT_OF_RANGE, "dynamic-int8:embeddings=perhaps"),
    "baseline > magnitude": (Code.CONFLICT, "'baseline'"),
    "baseline:seed=1": (Code.CONFLICT, "'baseline'"),
    "magnitude + random-pruning": (Code.CONFLICT, "'magnitude'", "'random-pruning'", "which weights are zero"),
    "dynamic-int8 + dynamic-int8:per=tensor": (Code.CONFLICT, "'dynamic-int8'", "how weights are stored"),
    "kd-logits + kd-logits:layers=2": (Code.CONFLICT, "'kd-logits' and 'kd-logits'", "the student"),
    "dynamic-int8 > magnitude": (Code.WRONG_ORDER, "'dynamic-int8'", "'magnitude'"),
    "dynamic-int8 > dynamic-int8": (Code.WRONG_ORDER, "'dynamic-int8'"),
    "kd-logits + dynamic-int8 > magnitude": (Code.WRONG_ORDER, "'dynamic-int8'", "'magnitude'"),
}  # fmt: skip


@pytest.mark.parametrize("text", MISTAKES)
def test_mistakes_are_named(text: str) -> None:
    with refused(*MISTAKES[text]):
        Recipe.parse(text)


def test_two_methods_that_replace_the_task_loss() -> None:
    kd = discover().get("kd-logits")

    class Other(Method):
        card = kd.card
        Options = kd.Options
        replaces_task_loss = True

    registry = discover()
    found = registry.methods["kd-logits"]
    with_other = type(registry)({**registry.methods, "other": type(found)(Other, "test", None)}, {})
    with refused(Code.CONFLICT, "'kd-logits'", "the task loss"):
        Recipe.parse("kd-logits + other", with_other)
    assert len(Recipe.parse("kd-logits > other", with_other).stages) == 2


def test_options_are_frozen_and_validated_in_python_too() -> None:
    options = parse_options(discover().get("magnitude"), {"sparsity": "0.25"})
    assert (options.sparsity, options.schedule, options.embeddings) == (0.25, "cubic", False)
    with pytest.raises(AttributeError, match="sparsity"):
        options.sparsity = 0.5
    with pytest.raises(ValueError, match="less than 1"):
        discover().get("magnitude").Options(sparsity=2)
    with pytest.raises(ValueError, match="sparsness"):
        discover().get("magnitude").Options(sparsness=0.5)
