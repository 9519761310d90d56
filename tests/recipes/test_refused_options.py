"""Options out of range, and methods that do not join: refused as soon as the recipe is read."""

from __future__ import annotations

import pytest

from harness.common.errors import Code
from harness.recipes.recipe import Recipe
from tests.support.one_line_errors import refused


@pytest.mark.parametrize(
    "recipe",
    [
        "code-embeddings:entries=12",
        "code-embeddings:entries=1",
        "code-embeddings:books=0",
        "hash-embeddings:hashes=17",
        "vocabulary-pruning:keep=0",
        "vocabulary-pruning:keep=100.5",
        "reweighted-proximal:sparsity=1",
        "reweighted-proximal:strength=-1",
        "reweighted-proximal:interval=0",
        "reweighted-proximal:end=0",
        "reweighted-proximal:scope=block",
        "block-pruning:rows=0",
        "block-pruning:direction=both",
        "block-pruning:penalty=inf",
        "q-bert:bits=5",
        "q-bert:groups=0",
        "q-bert:share=1.5",
        "lottery-ticket:sparsity=0",
        "lottery-ticket:sparsity=1",
        "lottery-ticket:rounds=0",
        "lottery-ticket:rounds=1.5",
        "lottery-ticket:rounds_share=1",
        "magnitude:regime=pre-training",
        "magnitude:pretraining_share=1",
    ],
)
def test_options_out_of_range(recipe: str) -> None:
    identity, _, option = recipe.partition(":")
    with refused(Code.OUT_OF_RANGE, identity, option):
        Recipe.parse(recipe)


@pytest.mark.parametrize(
    ("recipe", "names"),
    [
        ("block-pruning:sparsity=0.1,scope=block,rows=4", ("0 of the 4 rows",)),
        ("block-pruning:sparsity=0.9,scope=block,columns=4,direction=column", ("4 of the 4 columns",)),
        ("q-bert:bits=mixed,low=4,high=4", ("low=4", "high=4")),
        ("dynabert:width=0.3", ("width=0.3", "1, 0.75, 0.5, 0.25")),
        ("dynabert:depth=0.75,depths=0.5/1", ("depth=0.75", "1, 0.5")),
        ("dynabert:widths=half", ("widths=half",)),
        ("q-bert:embedding_bits=1", ("2 to 8 bits",)),
        ("quant-noise:noise=1", ("noise=1",)),
    ],
)
def test_what_the_class_of_options_refuses(recipe: str, names: tuple[str, ...]) -> None:
    with refused(Code.CONFLICT, recipe.partition(":")[0], *names):
        Recipe.parse(recipe)


@pytest.mark.parametrize(
    ("recipe", "what"),
    [
        ("code-embeddings + hash-embeddings", "the student"),
        ("dynabert + head-pruning", "the student"),
        ("block-pruning + reweighted-proximal", "which weights are zero"),
        ("magnitude + block-pruning", "which weights are zero"),
        ("magnitude + lottery-ticket", "which weights are zero"),
        ("magnitude + quant-noise", "which weights are zero"),
        ("q-bert + ternarybert", "how weights are stored"),
        ("weight-squeezing + kd-logits", "the student"),
        ("weight-squeezing + magnitude", "which weights are zero"),
        ("weight-squeezing + q8bert", "how weights are stored"),
    ],
)
def test_methods_that_do_not_join(recipe: str, what: str) -> None:
    one, _, other = recipe.partition(" + ")
    with refused(Code.CONFLICT, f"'{one}'", f"'{other}'", what):
        Recipe.parse(recipe)


def test_a_method_that_must_be_last() -> None:
    with refused(Code.WRONG_ORDER, "'quant-noise'", "'kd-logits'"):
        Recipe.parse("quant-noise > kd-logits:layers=2")
