"""What methods refuse before anything is trained, and the line that says so."""

from __future__ import annotations

import re

import pytest
import torch

from harness.conformance.tiny import tiny_encoder
from harness.models.config import EncoderConfig, LayerConfig
from harness.recipes.builder import run_stage
from harness.recipes.recipe import Recipe
from harness.runs.resolution import check_recipe
from tests.support.one_line_errors import refused
from tests.support.tiny_stages import context, shape_left

SHAPE = EncoderConfig.bert(4, 32, heads=4)
"""Four layers of four heads."""
BARE = LayerConfig(heads=0, head_size=8, ffn_size=0)


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
        ("vocabulary-pruning:keep=30522", "keep=30522 is 30522 of 30522 tokens; keep some and drop some"),
        ("vocabulary-pruning:keep=40000", "keep=40000 is 40000 of 30522 tokens"),
        ("vocabulary-pruning:keep=0.000001", "keep=1e-06 is 0 of 30522 tokens"),
        ("hash-embeddings > vocabulary-pruning", "prune the vocabulary before hashing"),
        (
            "code-embeddings:books=256,entries=256",
            "books=256 of entries=256 take as much as the table of 30522 x 32",
        ),
        (
            "hash-embeddings:buckets=30000",
            "buckets=30000 with hashes=2 take as much as the table of 30522 x 32",
        ),
        ("vocabulary-pruning:keep=3000 > hash-embeddings", "take as much as the table of 3000 x 32 weights"),
        ("code-embeddings > hash-embeddings", "the word embeddings are sums of code-book entries already"),
        ("hash-embeddings > code-embeddings", "the word embeddings are sums of hashed buckets already"),
        ("code-embeddings > embedding-factorization:rank=8", "are sums of code-book entries already"),
        ("embedding-factorization:rank=8 > code-embeddings", "the word embeddings are factorized already"),
        ("embedding-factorization:rank=8 > hash-embeddings", "the word embeddings are factorized already"),
        ("albert:groups=1 > identity-prior", "residual mappings of layers that share weights cannot be cut"),
        (
            "svd:rank=4 > identity-prior",
            "residual mappings of layer 0 cannot be cut: its matrices are factorized",
        ),
        (
            "identity-prior:share=0.01",
            "share=0.01 of the layers is 508 parameters, but the smallest residual mapping has 1,048; raise share",
        ),
        ("albert:groups=1 > schubert", "units of layers that share weights cannot be cut"),
        (
            "svd:rank=4 > schubert",
            "heads or FFN columns of layer 0 cannot be cut: its matrices are factorized",
        ),
        ("schubert:keep=0.01", "with one hidden unit there are still 31,117; raise keep"),
    ],
)
def test_a_shape_that_a_method_cannot_work_on_is_refused(recipe: str, line: str) -> None:
    with refused(re.escape(line)):
        shape_left(recipe, SHAPE)


@pytest.mark.parametrize("recipe", ["block-pruning", "reweighted-proximal"])
def test_the_usual_shapes_are_taken_as_they_are(recipe: str) -> None:
    for config in (EncoderConfig.bert(12, 768), EncoderConfig.bert(6, 384, heads=12)):
        assert shape_left(recipe, config) == config


@pytest.mark.parametrize("identity", ["block-pruning", "reweighted-proximal"])
def test_something_must_be_there_to_prune(identity: str) -> None:
    first = SHAPE.layers[0]
    assert shape_left(identity, SHAPE.with_layers((first, BARE))).layers == (first, BARE)
    with refused("the layers have no matrix to prune"):
        shape_left(identity, SHAPE.with_layers((BARE, BARE)))


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
        "layer-drop:drop=2 > svd:rank=8,weight=0",
        "vocabulary-pruning:keep=300",
        "code-embeddings:books=4,entries=4,steps=3",
        "hash-embeddings:buckets=64,rounds=1",
        "vocabulary-pruning:keep=300 > code-embeddings:books=4,entries=4,steps=3",
        "code-embeddings:books=4,entries=4,steps=3 > vocabulary-pruning:keep=300",
        "vocabulary-pruning:keep=300 > hash-embeddings:buckets=64,rounds=1",
        "embedding-factorization:rank=8 > vocabulary-pruning:keep=300",
    ],
)
def test_the_shape_that_is_foretold_is_the_one_that_is_made(recipe: str) -> None:
    student = teacher = tiny_encoder().eval()
    for stage in Recipe.parse(recipe).stages:
        student, _ = run_stage(stage, student, context(teacher, shapes_only=True, examples=400))
    assert student.config == shape_left(recipe, teacher.config)
    assert torch.isfinite(student(student.encode(["the film was dull", "a play"])).logits).all()


@pytest.mark.parametrize(
    ("recipe", "model", "line"),
    [
        (
            "svd:rank=64 > head-pruning",
            "bert-tiny",
            "'head-pruning' cannot work on bert-tiny after 'svd': heads of layer 0",
        ),
        (
            "hash-embeddings > vocabulary-pruning",
            "bert-base",
            "'vocabulary-pruning' cannot work on bert-base after 'hash-embeddings': hashes",
        ),
    ],
)
def test_the_line_names_both_sides_and_the_model(recipe: str, model: str, line: str) -> None:
    with refused(f"^{line}"):
        check_recipe(Recipe.parse(recipe), model)
