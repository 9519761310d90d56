"""Factors that are learned on an encoder's hidden units, heads and feed-forward columns (Khetan & Karnin 2020)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from harness.models.encoder.encoder import Encoder
from harness.models.encoder.layers import Layer
from harness.models.parametrization import attach, bake


class _Scaled(nn.Module):
    """A weight whose last dimension is multiplied by a factor for each unit, `width` entries a unit."""

    def __init__(self, factor: nn.Parameter, width: int = 1) -> None:
        super().__init__()
        self.factor, self.width = factor, width

    def forward(self, weight: Tensor) -> Tensor:
        """The scaled weight."""
        return weight * self.factor.repeat_interleave(self.width)


class UnitFactors:
    """Factors of 1 on all hidden units (H,), shared over the encoder, and on the heads (heads,) and FFN columns
    (columns,) of each layer. They are parameters of the encoder until `fold`, which leaves what it computes.

    A hidden unit's factor multiplies what each normalisation puts out, so all that reads the unit, and what the
    classifier reads of the pooler; a head's its columns of the attention's output map, an FFN column's its column of
    the second map. Without `inner`, the factors of heads and columns stay 1 and apart from the encoder, whose maps
    may then be factorized.
    """

    def __init__(self, model: Encoder, inner: bool = True) -> None:
        config = model.config
        device = next(model.parameters()).device

        def ones(count: int, learned: bool) -> nn.Parameter:
            return nn.Parameter(torch.ones(count, device=device), requires_grad=learned)

        self.hidden = ones(config.hidden_size, True)
        self.heads = [ones(layer.heads, inner) for layer in config.layers]
        self.columns = [ones(layer.ffn_size, inner) for layer in config.layers]
        self._names: list[str] = []
        self._attach(model, "embedding.norm", self.hidden)
        if model.head.pooler is not None and model.head.classifier is not None:
            self._attach_to(model, "head.classifier.weight", _Scaled(self.hidden))
        for index, (layer, shape) in enumerate(zip(model.layers, config.layers, strict=True)):
            assert isinstance(layer, Layer)
            for norm in ("attention_out.norm", "ffn.norm"):
                self._attach(model, f"layers.{index}.{norm}", self.hidden)
            if inner and shape.heads:
                scaled = _Scaled(self.heads[index], shape.head_size)
                self._attach_to(model, f"layers.{index}.attention_out.dense.weight", scaled)
            if inner and shape.ffn_size:
                self._attach_to(model, f"layers.{index}.ffn.out.weight", _Scaled(self.columns[index]))

    def _attach(self, model: Encoder, norm: str, factor: nn.Parameter) -> None:
        for parameter in ("weight", "bias"):
            self._attach_to(model, f"{norm}.{parameter}", _Scaled(factor))

    def _attach_to(self, model: Encoder, name: str, scaled: _Scaled) -> None:
        attach(model, name, scaled)
        self._names.append(name)

    def fold(self, model: Encoder) -> None:
        """Multiply the factors into the weights, and take them away."""
        for name in self._names:
            bake(model, name)


def is_factor(name: str) -> bool:
    """Whether a student's parameter of this name is a unit's factor."""
    return ".parametrizations." in name and name.endswith(".factor")
