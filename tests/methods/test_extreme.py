"""extreme: projections of the teacher's weights, and the student that begins as one."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from harness.common.errors import Code
from harness.compression.comparable import Baseline
from harness.conformance.tiny import CONFIG, tiny_encoder
from harness.models.parameter_counts import count
from harness.recipes.recipe import Recipe
from harness.runs.resolution import check_recipe
from leaderboard.survey.shapes import bert
from methods.distillation.extreme import PROJECTIONS, orthonormal_rows, pairs_of_matrices
from tests.support.one_line_errors import refused
from tests.support.tiny_stages import built, context, method_of

RECIPE = "extreme:hidden=16,vocabulary=256"


def test_the_student_begins_as_the_teacher_s_projection() -> None:
    teacher = tiny_encoder().eval()
    method = method_of(RECIPE)
    student = method.student(teacher, context(teacher))
    assert student.config == method.final_shape_from(CONFIG)
    assert float(method._projection_loss().detach()) == pytest.approx(0.0, abs=1e-10)
    with torch.no_grad():
        student.layers[0].ffn.into.weight[0, 0] += 3.0
    # One of 4 x 6 matrices is off in one of its 64 x 16 entries.
    assert float(method._projection_loss().detach()) == pytest.approx(9.0 / (64 * 16) / 24, rel=1e-4)


def test_the_projection_loss_by_hand() -> None:
    """U = (1 0), V = (0 1), W_t = ((1 2), (3 4)): U W_t Vᵀ = 2, so W_s = 5 is 9 off, squared."""
    method = method_of(RECIPE)
    teacher = tiny_encoder()
    method.trained = student = method.student(teacher, context(teacher))
    shared = {
        "hidden": torch.tensor([[0.0, 1.0]]),
        "inner": torch.tensor([[1.0, 0.0]]),
        "ffn": torch.eye(1, 2),
    }
    setattr(student, PROJECTIONS, nn.ParameterDict({k: nn.Parameter(v) for k, v in shared.items()}))
    target = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    method.targets = [(target, ends) for _, _, ends in pairs_of_matrices(student, student)]
    for own, _, _ in pairs_of_matrices(student, student):
        own.weight = nn.Parameter(torch.tensor([[5.0]]))
    # query, key, value: 2; attention_out: 3; ffn_in: (1 0) W (0 1)ᵀ = 2; ffn_out: (0 1) W (1 0)ᵀ = 3.
    expected = (4 * (5 - 2) ** 2 + 2 * (5 - 3) ** 2) / 6
    assert float(method._projection_loss().detach()) == pytest.approx(expected)
    method._projection_loss().backward()
    assert all(float(p.grad.abs().sum()) > 0 for p in getattr(student, PROJECTIONS).values())


@pytest.mark.parametrize("blocks", [1, 4])
def test_projections_have_orthonormal_rows_head_by_head(blocks: int) -> None:
    made = orthonormal_rows(8, 32, torch.Generator().manual_seed(0), blocks)
    assert torch.allclose(made @ made.T, torch.eye(8), atol=1e-5)
    outside = torch.block_diag(*[torch.ones(8 // blocks, 32 // blocks)] * blocks) == 0
    assert float(made[outside].abs().sum()) == 0.0


def test_the_projections_train_and_are_gone_from_the_student() -> None:
    student = built(RECIPE, training=True)
    assert not hasattr(student, PROJECTIONS)
    assert student.config.vocab_size == student.tokenizer.vocab_size == 256


def test_the_published_size_is_three_times_the_architecture_s() -> None:
    """591,970 with the heads of masked-language modelling and next sentences, 128 positions and segments."""
    config = method_of("extreme:hidden=48,vocabulary=4928").final_shape_from(bert(12, 768, positions=128))
    assert config.hidden_size == 48
    assert {layer.ffn_size for layer in config.layers} == {192}
    mlm_and_nsp = 48 * 48 + 48 + 2 * 48 + 4928 + 48 * 2 + 2
    assert 3 * (count(config).total + mlm_and_nsp) == 1_775_910


@pytest.mark.parametrize(
    ("recipe", "code", "names"),
    [
        ("extreme:hidden=49", Code.OUT_OF_RANGE, ("hidden=49", "128", "2 heads")),
        ("extreme:hidden=128", Code.OUT_OF_RANGE, ("hidden=128", "teacher's 128")),
        ("extreme:vocabulary=30522", Code.OUT_OF_RANGE, ("vocabulary=30522", "teacher's 30522")),
        ("extreme:vocabulary=300", "", ("vocabulary=300", "1999")),
        ("svd:rank=8 > extreme", "", ("hidden units", "layer 0", "factorized")),
        ("albert:groups=1 > extreme", "", ("hidden units", "share weights")),
    ],
)
def test_refusals(recipe: str, code: Code | str, names: tuple[str, ...]) -> None:
    with refused(code, "'extreme'", *names):
        check_recipe(Recipe.parse(recipe), "bert-tiny")


def test_uneven_layers_are_refused() -> None:
    first, *others = CONFIG.layers
    uneven = CONFIG.with_layers((first.model_copy(update={"heads": 2}), *others))
    with refused(Code.WRONG_SHAPE, "heads"):
        method_of(RECIPE).final_shape_from(uneven)
    method_of(RECIPE).check_against(CONFIG, Baseline(CONFIG, lambda: None))
