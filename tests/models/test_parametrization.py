"""Functions on weights: the optimizer updates the function's input, and baking keeps the function's value."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from harness.common.errors import Code
from harness.compression.pruning.masks import Masks
from harness.conformance.tiny import tiny_encoder
from harness.models.artifacts import save_artifact
from harness.models.batch import Batch
from harness.models.parametrization import attach, attached, bake, straight_through, trained_weights
from tests.support.one_line_errors import refused

NAME = "layers.1.ffn.into.weight"


class Halve(nn.Module):
    """A function with a trainable parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(0.5))

    def forward(self, weight: Tensor) -> Tensor:
        return weight * self.factor


class Coarse(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return straight_through(weight, torch.round(weight * 4) / 4)


def batch() -> Batch:
    return Batch.synthetic(2, 6, 100)


def test_the_model_sees_what_the_function_makes() -> None:
    model = tiny_encoder().eval()
    before = dict(model.named_parameters())[NAME].detach().clone()
    by_hand = deepcopy(model)
    by_hand.layers[1].ffn.into.weight.data.mul_(0.5)
    attach(model, NAME, Halve())
    assert torch.equal(model(batch()).logits, by_hand(batch()).logits)
    assert attached(model) == [NAME]
    assert torch.equal(trained_weights(model, [NAME])[NAME], before)
    bake(model, NAME)
    assert attached(model) == []
    assert torch.equal(dict(model.named_parameters())[NAME], before / 2)
    assert sorted(dict(model.named_parameters())) == sorted(dict(by_hand.named_parameters()))
    assert torch.equal(model(batch()).logits, by_hand(batch()).logits)


def test_the_gradient_passes_straight_through() -> None:
    model = tiny_encoder().eval()
    attach(model, NAME, Coarse())
    weight = trained_weights(model, [NAME])[NAME]
    coarse = model.layers[1].ffn.into.weight.detach().requires_grad_()
    model(batch()).logits.sum().backward()
    plain = tiny_encoder().eval()
    plain.layers[1].ffn.into.weight = nn.Parameter(coarse.detach().clone())
    plain(batch()).logits.sum().backward()
    assert torch.allclose(weight.grad, plain.layers[1].ffn.into.weight.grad, atol=1e-7)


def test_functions_follow_one_another_and_own_parameters_go() -> None:
    model = tiny_encoder()
    before = dict(model.named_parameters())[NAME].detach().clone()
    attach(model, NAME, Halve())
    attach(model, NAME, Coarse())
    attach(model, "embedding.word.weight", Coarse())
    assert torch.equal(model.layers[1].ffn.into.weight, torch.round(before * 2) / 4)
    for name in attached(model):
        bake(model, name)
    assert torch.equal(model.layers[1].ffn.into.weight, torch.round(before * 2) / 4)
    assert "factor" not in "".join(name for name, _ in model.named_parameters())


def test_masks_reach_the_trained_weight() -> None:
    model = tiny_encoder()
    attach(model, NAME, Halve())
    masks = Masks(model, [NAME])
    dropped = torch.zeros_like(masks.kept[NAME])
    masks.replace({NAME: dropped})
    masks.apply()
    assert not model.layers[1].ffn.into.weight.any()
    assert not trained_weights(model, [NAME])[NAME].any()


def test_an_artifact_holds_no_parametrization(tmp_path: Path) -> None:
    model = tiny_encoder()
    attach(model, NAME, Halve())
    with refused("parametrized", NAME):
        save_artifact(model, tmp_path / "artifact")
    assert not (tmp_path / "artifact").exists()


@pytest.mark.parametrize("name", ["layers.9.ffn.into.weight", "layers.0.ffn.weight", "nonsense", "layers"])
def test_a_weight_that_is_not_there(name: str) -> None:
    with refused(Code.WRONG_SHAPE, f"'{name}'"):
        attach(tiny_encoder(), name, Halve())
