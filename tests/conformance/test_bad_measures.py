"""Conformance catches rows that depend on each other or on padding, and operators that nothing counts."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from harness.conformance import Broken, Subject, run_check, run_conformance
from harness.models.encoder.attention import Attention
from harness.models.encoder.heads import Head
from harness.models.flops import counting as flops
from harness.models.int8_linear import Int8Linear
from harness.recipes.discovery import discover


def per_tensor(self: Int8Linear, x: Tensor) -> Tensor:
    """Int8 with one scale for all tokens of the batch."""
    scale = x.abs().max() / 127
    weights = self.weight.float() * self.scale.view(-1, *[1] * self.scale.dim())
    return torch.nn.functional.linear(torch.round(x / scale) * scale, weights, self.bias)


@pytest.mark.usefixtures("in_process")
def test_an_activation_scale_of_the_whole_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Int8Linear, "forward", per_tensor)
    found = discover().methods["dynamic-int8"]
    [failure] = run_conformance(found.method, found.path)
    assert failure.check == "independence"


@pytest.mark.usefixtures("in_process")
def test_padding_that_is_attended_to(monkeypatch: pytest.MonkeyPatch) -> None:
    def unmasked(
        self: Attention, query: Tensor, key: Tensor, value: Tensor, mask: Tensor, probabilities: bool = False
    ) -> tuple[Tensor, None]:
        context = torch.nn.functional.scaled_dot_product_attention(query, key, value)
        return context.transpose(1, 2).flatten(2), None

    monkeypatch.setattr(Attention, "forward", unmasked)
    found = discover().methods["dynamic-int8"]
    [failure] = run_conformance(found.method, found.path)
    assert failure.check == "independence"
    assert "depend on padding" in failure.message


def test_where_the_cost_depends_on_the_input_predictions_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Int8Linear, "forward", per_tensor)
    method = discover().get("dynamic-int8")

    class Dependent(method):  # type: ignore[misc, valid-type]
        card = replace(method.card, input_dependent=True)

    with Subject(Dependent) as subject:
        run_check("independence", subject)
        given = Head.forward
        monkeypatch.setattr(
            Head, "forward", lambda self, x, present: given(self, x, present).roll(len(x), dims=1)
        )
        with pytest.raises(Broken, match="prediction depends on"):
            run_check("independence", subject)


def test_an_operator_without_a_count(monkeypatch: pytest.MonkeyPatch) -> None:
    handles = flops.operator_handles()
    monkeypatch.setattr(
        flops, "operator_handles", lambda: {k: v for k, v in handles.items() if k != "aten::gelu"}
    )
    found = discover().methods["kd-logits"]
    [failure] = run_conformance(found.method, found.path, ("costs", "flops"))
    assert str(failure).startswith("flops: FLOPs leave out gelu")
