"""Learned factors on hidden units, heads and feed-forward columns (Khetan & Karnin 2020), for schubert."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from harness.models.encoder.encoder import Encoder
from harness.models.encoder.layers import Layer
from harness.models.parametrization import attach, bake


class _Scaled(nn.Module):
    """Multiplies the last dimension of a weight by one factor for each unit of `width` entries."""

    def __init__(self, factor: nn.Parameter, width: int = 1) -> None:
        super().__init__()
        self.factor, self.width = factor, width

    def forward(self, weight: Tensor) -> Tensor:
        """Return the scaled weight, in the same shape."""
        return weight * self.factor.repeat_interleave(self.width)


class UnitFactors:
    """Factors, 1 at first, on all hidden units (H,), shared over the encoder, and on the heads (heads,) and FFN columns
    (columns,) of each layer. They are parameters of the encoder until `fold`, which does not change its output.

    A hidden unit's factor multiplies the output of each normalisation and the classifier's input from the pooler. A
    head's factor multiplies its columns of the attention's output map, an FFN column's factor its column of the second
    map. Without `inner`, the factors of heads and columns stay 1 and are not attached, so the maps may be factorized.
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
        """Multiply the factors into the weights, and remove them."""
        for name in self._names:
            bake(model, name)


def is_factor(name: str) -> bool:
    """Return whether the parameter of this name is a unit's factor."""
    return ".parametrizations." in name and name.endswith(".factor")
