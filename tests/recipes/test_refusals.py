"""What methods refuse before anything is trained, and the line that says so."""

from __future__ import annotations

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
    ("recipe", "names"),
    [
        ("layer-drop:drop=4", ("drop=4", "4 layers")),
        ("theseus:layers=3", ("layers=3", "4 layers", "1 or 2")),
        ("theseus:layers=4", ("layers=4", "4 layers", "1 or 2")),
        ("head-pruning:share=0.9", ("14 of 16 heads", "at_least=1", "12")),
        ("svd:rank=33", ("rank=33", "query", "layer 0", "32")),
        ("embedding-factorization:rank=32", ("rank=32", "hidden size")),
        ("albert:groups=3", ("groups=3", "4 layers", "1, 2, 4")),
        ("albert:groups=2,init=chosen,chosen=2", ("chosen=2", "2 layers")),
        ("kd-logits:layers=5", ("layers=5", "4")),
        ("svd:rank=8 > svd:rank=4", ("query", "layer 0", "factorized")),
        ("svd:rank=8 > head-pruning", ("heads", "layer 0", "factorized")),
        ("albert:groups=2 > head-pruning", ("heads", "share weights")),
        ("albert:groups=2 > layer-drop:drop=1", ("share weights",)),
        ("layer-drop:drop=1 > theseus:layers=2", ("layers=2", "3 layers")),
        ("layer-drop:drop=3 > layerdrop-training", ("one layer",)),
        ("embedding-factorization:rank=8 > embedding-factorization:rank=4", ("factorized",)),
        ("vocabulary-pruning:keep=30522", ("keep=30522", "30522 tokens")),
        ("vocabulary-pruning:keep=40000", ("keep=40000", "30522 tokens")),
        ("vocabulary-pruning:keep=0.000001", ("keep=1e-06", "30522 tokens")),
        ("hash-embeddings > vocabulary-pruning", ("prune the vocabulary",)),
        ("code-embeddings:books=256,entries=256", ("books=256", "entries=256", "30522 x 32")),
        ("hash-embeddings:buckets=30000", ("buckets=30000", "hashes=2", "30522 x 32")),
        ("vocabulary-pruning:keep=3000 > hash-embeddings", ("3000 x 32",)),
        ("code-embeddings > hash-embeddings", ("word embeddings", "code-book")),
        ("hash-embeddings > code-embeddings", ("word embeddings", "hashed buckets")),
        ("code-embeddings > embedding-factorization:rank=8", ("word embeddings", "code-book")),
        ("embedding-factorization:rank=8 > code-embeddings", ("word embeddings", "factorized")),
        ("embedding-factorization:rank=8 > hash-embeddings", ("word embeddings", "factorized")),
        ("albert:groups=1 > identity-prior", ("share weights",)),
        ("svd:rank=4 > identity-prior", ("layer 0", "factorized")),
        ("identity-prior:share=0.01", ("share=0.01", "508 parameters", "1,048")),
        ("albert:groups=1 > schubert", ("share weights",)),
        ("svd:rank=4 > schubert", ("layer 0", "factorized")),
        ("schubert:keep=0.01", ("31,117", "keep")),
    ],
)
def test_a_shape_that_a_method_cannot_work_on_is_refused(recipe: str, names: tuple[str, ...]) -> None:
    with refused("", *names):
        shape_left(recipe, SHAPE)


@pytest.mark.parametrize("recipe", ["block-pruning", "reweighted-proximal"])
def test_the_usual_shapes_are_taken_as_they_are(recipe: str) -> None:
    for config in (EncoderConfig.bert(12, 768), EncoderConfig.bert(6, 384, heads=12)):
        assert shape_left(recipe, config) == config


@pytest.mark.parametrize("identity", ["block-pruning", "reweighted-proximal"])
def test_something_must_be_there_to_prune(identity: str) -> None:
    first = SHAPE.layers[0]
    assert shape_left(identity, SHAPE.with_layers((first, BARE))).layers == (first, BARE)
    with refused("no matrix"):
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
    ("recipe", "model", "names"),
    [
        ("svd:rank=64 > head-pruning", "bert-tiny", ("'head-pruning'", "'svd'", "layer 0")),
        ("hash-embeddings > vocabulary-pruning", "bert-base", ("'vocabulary-pruning'", "'hash-embeddings'")),
    ],
)
def test_the_line_names_both_sides_and_the_model(recipe: str, model: str, names: tuple[str, ...]) -> None:
    with refused(f" {model} ", *names):
        check_recipe(Recipe.parse(recipe), model)
