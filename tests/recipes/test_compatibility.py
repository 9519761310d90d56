"""Recipes whose methods cannot follow each other are refused before anything is trained."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from harness.common.errors import SkylineError
from harness.compression.comparable import Baseline
from harness.compression.distillation.augmentation import Augmenting
from harness.models.checkpoints import base_config
from harness.models.students.tokenizers import character_tokenizer
from harness.recipes.compatibility import shape_after
from harness.recipes.discovery import discover
from harness.recipes.recipe import Recipe
from harness.runs.resolution import check_recipe
from harness.tasks.base import Example


def refusal(recipe: str) -> str:
    with pytest.raises(SkylineError) as caught:
        check_recipe(Recipe.parse(recipe), "bert-tiny")
    return str(caught.value)


@pytest.mark.parametrize(
    "method",
    [
        "lottery-ticket",
        "movement",
        "soft-movement",
        "magnitude:regime=pretraining",
        "random-pruning:regime=pretraining",
    ],
)
@pytest.mark.parametrize("first", ["magnitude:sparsity=0.3", "svd:rank=8", "kd-logits:layers=1"])
def test_what_begins_anew_comes_first(first: str, method: str) -> None:
    line = refusal(f"{first} > {method}")
    named = method.partition(":")[0]
    assert line.startswith(
        f"'{named}' cannot work on bert-tiny after '{first.partition(':')[0]}': it begins anew"
    )
    assert line.endswith("put it first")
    assert "\n" not in line
    check_recipe(Recipe.parse(f"{method} > kd-logits:layers=1"), "bert-tiny")


def test_what_begins_anew_needs_the_shape_that_was_pretrained() -> None:
    """Also within a stage; a student of the teacher's own shape may begin anew."""
    assert "'lottery-ticket' cannot work" in refusal("kd-logits:layers=1 + lottery-ticket")
    check_recipe(Recipe.parse("kd-logits:layers=2 + lottery-ticket"), "bert-tiny")


def test_without_beginning_anew_a_method_may_follow() -> None:
    for recipe in ("svd:rank=8 > magnitude", "layer-drop:drop=1 > movement:start=fine-tuned"):
        check_recipe(Recipe.parse(recipe), "bert-tiny")


@pytest.mark.parametrize("method", ["ternarybert", "svd:rank=8"])
def test_tokens_are_compared_with_the_same_tokens(method: str) -> None:
    line = refusal(f"vocabulary-pruning > {method}")
    assert "after 'vocabulary-pruning'" in line
    assert "token by token" in line
    check_recipe(Recipe.parse("vocabulary-pruning > kd-logits:layers=1"), "bert-tiny")


@pytest.mark.parametrize(
    ("recipe", "instead"),
    [
        ("layer-drop:drop=1 > ternarybert", "ternarybert:distillation=logits"),
        ("layer-drop:drop=1 > svd:rank=8", "svd:weight=0"),
    ],
)
def test_layers_are_compared_with_layers_of_their_shape(recipe: str, instead: str) -> None:
    assert refusal(recipe).endswith(instead)
    first, _, last = recipe.partition(" > ")
    name = last.partition(":")[0]
    option = instead.partition(":")[2]
    check_recipe(
        Recipe.parse(f"{first} > {name}:{option}" + (",rank=8" if name == "svd" else "")), "bert-tiny"
    )


def test_a_vocabulary_has_room_for_what_always_stays() -> None:
    line = refusal("vocabulary-pruning:keep=500")
    assert "keep=500 is 500 tokens, but 1999 special tokens and single characters always stay" in line


@pytest.mark.parametrize(
    "method", ["lightpaff", "schubert", "weight-squeezing:hidden=64", "tinybert:hidden=64,layers=1"]
)
def test_ramps_whose_width_follows_the_hidden_size_are_not_cut(method: str) -> None:
    line = refusal(f"fastbert:speed=1.5 > {method}")
    assert "after 'fastbert': hidden units cannot be cut under exit ramps" in line


@pytest.mark.parametrize(
    "method",
    [found.method.card.id for found in discover().methods.values() if issubclass(found.method, Augmenting)],
)
def test_every_distillation_refuses_to_augment_without_a_vocabulary_of_words(method: str) -> None:
    characters = character_tokenizer(["some letters"], 35)
    baseline = Baseline(base_config("bert-tiny"), lambda: characters)
    with pytest.raises(SkylineError, match="augmentation takes its candidates from the whole words"):
        shape_after(Recipe.parse(f"{method}:augment=2"), "bert-tiny", baseline)


@dataclass(frozen=True)
class Asked:
    """As much of a task as is looked at before training."""

    kind: str = "classification"
    output_size: int = 2
    examples: tuple[Example, ...] = ()
    name: str = "asked"

    def train(self) -> tuple[Example, ...]:
        return self.examples


@pytest.mark.parametrize("text", ["ⵜⴰⵎⴰⵣⵉⵖⵜ ⴰⵡⴰⵍ", "you are not where we were", "123 !"])
def test_texts_without_a_word_to_replace_are_not_augmented(text: str) -> None:
    examples = (Example(text, None, 0, "0"),) * 3
    with pytest.raises(SkylineError, match="no word of the training texts has a candidate"):
        check_recipe(Recipe.parse("kd-logits:layers=1,augment=1"), "bert-tiny", Asked(examples=examples))  # type: ignore[arg-type]
    check_recipe(Recipe.parse("kd-logits:layers=1"), "bert-tiny", Asked(examples=examples))  # type: ignore[arg-type]
    known = (*examples, Example(text, "a sentence of known words", 0, "1"))
    check_recipe(Recipe.parse("kd-logits:layers=1,augment=1"), "bert-tiny", Asked(examples=known))  # type: ignore[arg-type]


def test_scores_are_not_left_by_entropy() -> None:
    with pytest.raises(SkylineError, match=r"'deebert' .*scores have no entropy to leave by; use pabee"):
        check_recipe(Recipe.parse("deebert"), "minilm-l6", Asked("regression", 1))  # type: ignore[arg-type]
    check_recipe(Recipe.parse("pabee"), "minilm-l6", Asked("regression", 1))  # type: ignore[arg-type]
