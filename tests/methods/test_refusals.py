"""What methods refuse before anything is trained, and the line that says so."""

from __future__ import annotations

import pytest

from harness.build import run_stage
from harness.config import EncoderConfig
from harness.conformance.tiny import BUDGET, tiny_encoder, tiny_task
from harness.errors import SkylineError
from harness.planning import check_recipe
from harness.recipe import Recipe
from harness.training import Context

SHAPE = EncoderConfig.bert(4, 32, heads=4)
"""Four layers of four heads."""


def left(recipe: str, config: EncoderConfig = SHAPE) -> EncoderConfig:
    """The shape that a recipe's checks say it leaves."""
    for call in Recipe.parse(recipe).calls:
        config = call.make().check(config)
    return config


@pytest.mark.parametrize(
    ("recipe", "line"),
    [
        ("layer-drop:drop=4", "drop=4 leaves none of 4 layers; use 3 or fewer"),
        ("theseus:layers=3", "layers=3 does not divide 4 layers into modules of at least two; use 1 or 2"),
        ("theseus:layers=4", "layers=4 does not divide 4 layers into modules of at least two; use 1 or 2"),
        ("head-pruning:share=0.9", "takes 14 of 16 heads, but at_least=1 in each layer leaves 12 to take"),
        ("svd:rank=33", "rank=33 exceeds the smaller side of query in layer 0, 32; use a smaller rank"),
        ("embedding-factorization:rank=32", "rank=32 is not below the hidden size 32; use a smaller one"),
        ("albert:groups=3", "groups=3 does not divide 4 layers; use one of 1, 2, 4"),
        ("albert:groups=2,init=chosen,chosen=2", "chosen=2 is none of the 2 layers of a group"),
        ("kd-logits:layers=5", "layers=5 is more than the teacher's 4; use 4 or fewer"),
        ("svd:rank=8 > svd:rank=4", "query of layer 0 is factorized already; leave one of them out"),
        ("svd:rank=8 > head-pruning", "heads of layer 0 cannot be cut: its matrices are factorized"),
        ("albert:groups=2 > head-pruning", "heads of layers that share weights cannot be cut"),
        ("albert:groups=2 > layer-drop:drop=1", "some of layers that share weights cannot be cut"),
        ("layer-drop:drop=1 > theseus:layers=2", "layers=2 does not divide 3 layers"),
        ("layer-drop:drop=3 > layerdrop-training", "an encoder of one layer has none to leave out"),
        ("embedding-factorization:rank=8 > embedding-factorization:rank=4", "factorized already"),
    ],
)
def test_a_shape_that_a_method_cannot_work_on_is_refused(recipe: str, line: str) -> None:
    with pytest.raises(SkylineError) as caught:
        left(recipe)
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "recipe",
    [
        "layer-drop:drop=2",
        "layer-drop:drop=1,strategy=contribution",
        "layerdrop-training:keep_every=3",
        "theseus:layers=2",
        "svd:rank=8",
        "embedding-factorization:rank=8",
        "albert:groups=2",
        "kd-logits:layers=2",
        "layer-drop:drop=2 > svd:rank=8",
    ],
)
def test_the_shape_that_is_foretold_is_the_one_that_is_made(recipe: str) -> None:
    encoder = tiny_encoder().eval()
    foretold = left(recipe, encoder.config)
    for stage in Recipe.parse(recipe).stages:
        told = Context(encoder, tiny_task().training_view(), BUDGET)
        encoder, _ = run_stage(stage, encoder, told, training=False)
    assert encoder.config == foretold


def test_the_line_names_both_sides_and_the_model() -> None:
    with pytest.raises(SkylineError) as caught:
        check_recipe(Recipe.parse("svd:rank=64 > head-pruning"), "bert-tiny")
    assert str(caught.value).startswith(
        "'head-pruning' cannot work on bert-tiny after 'svd': heads of layer 0"
    )
