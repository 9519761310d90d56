"""reweighted-proximal: its steps by hand, and the sparsity that it ends at."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.conformance.tiny import tiny_encoder
from harness.models.artifacts import read_config, read_tensors, save_artifact
from harness.recipes.builder import run_stage
from harness.recipes.recipe import Recipe
from methods.unstructured_pruning.reweighted_proximal import EPSILON, penalty, soft_threshold
from tests.support.tiny_stages import built, context, matrices, method_of

INTO = "layers.0.ffn.into.weight"


def test_the_soft_threshold_by_hand() -> None:
    weight = torch.tensor([0.5, -0.5, 0.25, -0.25, 0.0, 2.0])
    threshold = torch.tensor([0.125, 0.25, 0.25, 0.5, 1.0, 0.0])
    assert soft_threshold(weight, threshold).tolist() == [0.375, -0.25, 0.0, 0.0, 0.0, 2.0]


def test_the_soft_threshold_is_the_proximal_operator() -> None:
    """It minimises t |x| + (x − a)² / 2 over x: no x of a fine grid does better."""
    grid = torch.linspace(-3, 3, 6001, dtype=torch.float64)
    for a, t in ((1.3, 0.4), (-0.2, 0.5), (-2.0, 1.0)):
        found = soft_threshold(torch.tensor(a, dtype=torch.float64), torch.tensor(t, dtype=torch.float64))
        objective = t * grid.abs() + (grid - a).square() / 2
        assert float(objective.min()) >= float(t * found.abs() + (found - a).square() / 2) - 1e-12
        assert float(found) == pytest.approx(float(grid[objective.argmin()]), abs=1e-3)


def test_a_step_divides_lambda_by_the_size_at_the_last_reweighting() -> None:
    """Ten steps, all proximal: λ = strength · q (q + ε) / 20 with q the 512 th smallest of 0.001 … 4.096, 0.512."""
    student = tiny_encoder()
    weight = student.get_parameter(INTO)
    sizes = torch.arange(1, 4097, dtype=torch.float32).view(weight.shape) / 1000
    signs = torch.where(torch.arange(4096).view(weight.shape) % 2 == 0, 1.0, -1.0)
    weight.data = sizes * signs
    pruning = method_of("reweighted-proximal:sparsity=0.125,strength=0.25,interval=2,end=1")
    pruning.prepare(student, context())
    share = 0.25 * 0.512 * (0.512 + EPSILON) / 20

    moved = weight.data + 0.01 * signs  # what an optimizer does: each |a| = |w_t| + 0.01
    weight.data = moved.clone()
    pruning.step(student, 0.1)
    first = (sizes.double() + 0.01 - share / (sizes.double() + EPSILON)).clamp_min(0) * signs
    assert torch.allclose(weight.data.double(), first, atol=1e-6)
    # The next step still has the first α; the one after it has that of the weights after two steps.
    pruning.step(student, 0.2)
    second = (first.abs() - share / (sizes.double() + EPSILON)).clamp_min(0)
    assert torch.allclose(weight.data.double(), second * signs, atol=1e-6)
    pruning.step(student, 0.3)
    third = (second - share / (second + EPSILON)).clamp_min(0)
    assert torch.allclose(weight.data.double().abs(), third, atol=2e-5)
    assert first[-1, -1].abs() > 4.1
    assert third[0, 0] == 0


def test_lambda_alone_brings_the_wanted_share_to_zero() -> None:
    """Without a gradient (|w| + ε)² falls by 2λ a step, so of uniform sizes a share s √(t / T) is zero at t of T."""
    student = tiny_encoder()
    weight = student.get_parameter(INTO)
    weight.data = (torch.arange(1, 4097) / 4096).view(weight.shape)
    pruning = method_of("reweighted-proximal:sparsity=0.5,strength=1,interval=1,end=0.8")
    pruning.prepare(student, context())
    shares = []
    for done in range(1, 400):
        pruning.step(student, done / 500)
        shares.append(float((weight == 0).float().mean()))
    assert shares == sorted(shares)
    for done, share in zip((100, 200, 399), (shares[99], shares[199], shares[398]), strict=True):
        assert share == pytest.approx(0.5 * math.sqrt(done / 400), abs=0.01)
    assert shares[398] < 0.5, "the mask does the rest"
    pruning.step(student, 0.8)
    assert int((weight == 0).sum()) == 2048
    survivors = weight.data[weight.data != 0]
    before = torch.arange(2049, 4097) / 4096
    expected = (before.square() - 0.25).clamp_min(0).sqrt()
    assert torch.allclose(survivors, expected, atol=0.03), "the larger ones shrink less"
    assert float(survivors[-1]) == pytest.approx(math.sqrt(0.75), abs=0.002)


def test_the_loss_is_left_alone() -> None:
    student = tiny_encoder()
    pruning = method_of("reweighted-proximal")
    pruning.prepare(student, context())
    assert pruning.loss(Any) is None  # type: ignore[arg-type]
    assert penalty(0.2, 10) == pytest.approx(0.2 * (0.2 + EPSILON) / 20)


@pytest.mark.parametrize("scope", ["matrix", "global"])
@pytest.mark.parametrize("training", [True, False])
def test_the_final_sparsity_is_exact_and_stored(scope: str, training: bool, tmp_path: Path) -> None:
    student = built(
        f"reweighted-proximal:sparsity=0.7,scope={scope},interval=2", training=training, batch_size=4
    )
    zeros = {name: int((weight == 0).sum()) for name, weight in matrices(student).items()}
    sizes = {name: weight.numel() for name, weight in matrices(student).items()}
    # A weight may be zero by the last step and kept by the mask, so there can be more zeros, if few.
    wanted = {name: round(0.7 * n) for name, n in sizes.items()}
    if scope == "matrix":
        assert all(wanted[name] <= count <= wanted[name] + 3 for name, count in zeros.items())
    total = round(0.7 * sum(sizes.values()))
    assert total <= sum(zeros.values()) <= total + 20
    save_artifact(student, tmp_path / "artifact")
    assert read_config(tmp_path / "artifact").codecs == dict.fromkeys(zeros, "bitmask")
    stored = read_tensors(tmp_path / "artifact")
    assert all(stored[name].numel() == sizes[name] - count for name, count in zeros.items())


def test_the_mask_holds_after_the_end() -> None:
    student = tiny_encoder()
    pruning = method_of("reweighted-proximal:sparsity=0.6,end=0.5")
    pruning.prepare(student, context())
    for done in range(1, 11):
        for parameter in student.parameters():
            parameter.data.add_(1e-3)
        before = student.get_parameter(INTO).detach().clone()
        pruning.step(student, done / 10)
        after = student.get_parameter(INTO).detach()
        if done == 5:
            dropped = after == 0
        if done > 5:
            assert torch.equal(after, before * ~dropped), "no more shrinking, and none comes back"
    assert float(dropped.float().mean()) == pytest.approx(0.6, abs=0.001)


def test_what_was_zero_before_the_mask_is_told() -> None:
    [stage] = Recipe.parse("reweighted-proximal:sparsity=0.5,strength=1,interval=1").stages
    _, [training] = run_stage(stage, tiny_encoder(), context(batch_size=4, learning_rate=1e-8))
    assert 0.2 < training.figures["zeros_before_mask"] < 0.5
