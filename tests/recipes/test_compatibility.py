"""Recipes whose methods cannot follow each other are refused before anything is trained."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from harness.common.errors import Code
from harness.compression.comparable import Baseline
from harness.compression.distillation.augmentation import Augmenting
from harness.models.checkpoints import base_config
from harness.models.students.tokenizers import character_tokenizer
from harness.recipes.compatibility import shape_after
from harness.recipes.discovery import discover
from harness.recipes.recipe import Recipe
from harness.runs.resolution import check_recipe
from harness.tasks.base import Example
from tests.support.one_line_errors import refused


def check(recipe: str) -> None:
    check_recipe(Recipe.parse(recipe), "bert-tiny")


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
    with refused(
        Code.WRONG_ORDER, f"'{method.partition(':')[0]}'", "bert-tiny", f"'{first.partition(':')[0]}'"
    ):
        check(f"{first} > {method}")
    check(f"{method} > kd-logits:layers=1")


def test_what_begins_anew_needs_the_shape_that_was_pretrained() -> None:
    """Also within a stage; a student of the teacher's own shape may begin anew."""
    with refused(Code.WRONG_ORDER, "'lottery-ticket'"):
        check("kd-logits:layers=1 + lottery-ticket")
    check("kd-logits:layers=2 + lottery-ticket")


def test_without_beginning_anew_a_method_may_follow() -> None:
    for recipe in ("svd:rank=8 > magnitude", "layer-drop:drop=1 > movement:start=fine-tuned"):
        check(recipe)


@pytest.mark.parametrize("method", ["ternarybert", "svd:rank=8"])
def test_tokens_are_compared_with_the_same_tokens(method: str) -> None:
    with refused(Code.WRONG_ORDER, f"'{method.partition(':')[0]}'", "'vocabulary-pruning'"):
        check(f"vocabulary-pruning > {method}")
    check("vocabulary-pruning > kd-logits:layers=1")


@pytest.mark.parametrize(
    ("recipe", "instead"),
    [
        ("layer-drop:drop=1 > ternarybert", "ternarybert:distillation=logits"),
        ("layer-drop:drop=1 > svd:rank=8", "svd:weight=0"),
    ],
)
def test_layers_are_compared_with_layers_of_their_shape(recipe: str, instead: str) -> None:
    with refused(instead):
        check(recipe)
    first, _, last = recipe.partition(" > ")
    name = last.partition(":")[0]
    option = instead.partition(":")[2]
    check(f"{first} > {name}:{option}" + (",rank=8" if name == "svd" else ""))


def test_a_vocabulary_has_room_for_what_always_stays() -> None:
    with refused(Code.OUT_OF_RANGE, "keep=500", "keep=1999"):
        check("vocabulary-pruning:keep=500")


@pytest.mark.parametrize(
    "method", ["lightpaff", "schubert", "weight-squeezing:hidden=64", "tinybert:hidden=64,layers=1"]
)
def test_ramps_whose_width_follows_the_hidden_size_are_not_cut(method: str) -> None:
    with refused("hidden units", f"'{method.partition(':')[0]}'", "'fastbert'"):
        check(f"fastbert:speed=1.5 > {method}")


@pytest.mark.parametrize(
    "method",
    [found.method.card.id for found in discover().methods.values() if issubclass(found.method, Augmenting)],
)
def test_every_distillation_refuses_to_augment_without_a_vocabulary_of_words(method: str) -> None:
    characters = character_tokenizer(["some letters"], 35)
    baseline = Baseline(base_config("bert-tiny"), lambda: characters)
    with refused(Code.WRONG_KIND, "WordPiece", "augment=0"):
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
    with refused(Code.NO_DATA, "augment=0"):
        check_recipe(Recipe.parse("kd-logits:layers=1,augment=1"), "bert-tiny", Asked(examples=examples))  # type: ignore[arg-type]
    check_recipe(Recipe.parse("kd-logits:layers=1"), "bert-tiny", Asked(examples=examples))  # type: ignore[arg-type]
    known = (*examples, Example(text, "a sentence of known words", 0, "1"))
    check_recipe(Recipe.parse("kd-logits:layers=1,augment=1"), "bert-tiny", Asked(examples=known))  # type: ignore[arg-type]


def test_scores_are_not_left_by_entropy() -> None:
    with refused(Code.WRONG_SHAPE, "'deebert'", "pabee"):
        check_recipe(Recipe.parse("deebert"), "minilm-l6", Asked("regression", 1))  # type: ignore[arg-type]
    check_recipe(Recipe.parse("pabee"), "minilm-l6", Asked("regression", 1))  # type: ignore[arg-type]
