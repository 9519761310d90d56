"""part-pruning: each matrix's count of zeros, by hand; which ones stay; what is stored; what is refused."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.common.errors import Code
from harness.conformance.tiny import tiny_encoder
from harness.models.artifacts import load_artifact, read_config, save_artifact, to_dense
from harness.models.model import Model
from harness.recipes.builder import run_stage
from harness.recipes.recipe import Recipe
from harness.runs.resolution import check_recipe
from tests.support.one_line_errors import refused
from tests.support.tiny_stages import built, context, matrices

STUDENT = "bilstm:embedding=hash,vocabulary=100,dimension=10,hidden=9,classifier=16"


def pruned(student: Model, recipe: str) -> Model:
    """The student after another stage without training."""
    (stage,) = Recipe.parse(recipe).stages
    return run_stage(stage, to_dense(student).eval(), context(shapes_only=True))[0]


def zeros(model: Model, name: str) -> int:
    return int((model.get_parameter(name) == 0).sum())


def test_the_defaults_are_the_thesis_s_for_a_bilstm() -> None:
    student = built(STUDENT)
    after = pruned(student, "part-pruning")
    for way in ("forwards", "backwards"):
        assert zeros(after, f"body.{way}.0.weight_ih_l0") == 4 * 9 * 10 // 2
        assert zeros(after, f"body.{way}.0.weight_hh_l0") == 4 * 9 * 9 // 2
    assert zeros(after, "head.hidden.weight") == 16 * 18 // 8
    for name, weight in student.named_parameters():
        if name.startswith(("embedding.", "head.classifier")) or "bias" in name:
            assert torch.equal(after.get_parameter(name), weight), name


@settings(max_examples=20, deadline=None)
@given(st.floats(0.01, 0.99), st.floats(0.01, 0.99), st.floats(0.01, 0.99))
def test_every_matrix_loses_its_smallest_weights(body: float, head: float, embedding: float) -> None:
    student = built(STUDENT)
    after = pruned(student, f"part-pruning:body={body},head={head},embedding={embedding}")
    shares = {"head": head, "embedding": embedding, "body": body}
    for name in [*student.matrix_names(), "embedding.word.weight"]:
        before = student.get_parameter(name).detach().flatten().numpy()
        left = after.get_parameter(name).detach().flatten().numpy()
        gone = np.argsort(np.abs(before), kind="stable")[
            : round(shares[name.partition(".")[0]] * before.size)
        ]
        expected = before.copy()
        expected[gone] = 0
        np.testing.assert_array_equal(left, expected)


def test_an_encoder_s_layers_are_its_body() -> None:
    teacher = tiny_encoder().eval()
    after = built("part-pruning:body=0.25,head=0.5,embedding=0.5", teacher)
    for name, matrix in matrices(after).items():
        assert int((matrix == 0).sum()) == round(matrix.numel() * 0.25), name
    assert torch.equal(
        after.get_parameter("head.classifier.weight"), teacher.get_parameter("head.classifier.weight")
    )
    words = after.get_parameter("embedding.word.weight")
    assert int((words == 0).sum()) == words.numel() // 2


def test_distilled_pruned_and_quantized_as_in_the_thesis(tmp_path: Path) -> None:
    check_recipe(Recipe.parse(f"{STUDENT} > part-pruning > dynamic-int8"), "bert-tiny")
    student = built(STUDENT)
    sizes = []
    for recipes in (["dynamic-int8"], ["part-pruning", "dynamic-int8"]):
        model: Model = student
        for recipe in recipes:
            model = pruned(model, recipe)
        folder = tmp_path / str(len(recipes))
        save_artifact(model, folder)
        sizes.append((folder / "weights.safetensors").stat().st_size)
    codecs = read_config(folder).codecs
    assert {"bitmask", "int8"} <= set(re.findall("bitmask|int8", codecs["body.forwards.0.weight_hh_l0"]))
    assert codecs["embedding.word.weight"] == "int8(channel)"
    assert sizes[1] < sizes[0]
    loaded = load_artifact(folder)
    assert zeros(loaded, "body.backwards.0.weight_hh_l0") >= 4 * 9 * 9 // 2


@pytest.mark.parametrize(
    ("recipe", "code", "names"),
    [
        ("part-pruning:body=1", Code.OUT_OF_RANGE, ("body=1",)),
        ("part-pruning:head=-0.1", Code.OUT_OF_RANGE, ("head=-0.1",)),
        ("part-pruning:body=0,head=0", Code.CONFLICT, ("body", "head", "embedding", "above 0")),
    ],
)
def test_options_that_are_refused(recipe: str, code: Code, names: tuple[str, ...]) -> None:
    with refused(code, *names):
        Recipe.parse(recipe)


@pytest.mark.parametrize(
    ("recipe", "parts"),
    [("part-pruning:body=0", "body or embedding"), ("ffn > part-pruning:head=0", "embedding or head")],
)
def test_a_part_that_is_not_there(recipe: str, parts: str) -> None:
    with refused(Code.WRONG_SHAPE, parts):
        check_recipe(Recipe.parse(recipe), "bert-tiny")
