"""PoWER-BERT's soft extraction layers (Goyal et al. 2020, section 3.3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from harness.models.encoder.layers import Layer

if TYPE_CHECKING:
    from harness.models.batch import AttentionMap
    from harness.models.encoder.encoder import Encoder
    from harness.models.encoder.layers import Layer
from harness.models.encoder.word_vectors import significance


class SoftExtract(nn.Module):
    """A layer in which each word-vector is multiplied, between attention and feed-forward, by the weight of its rank in
    significance (Goyal et al. 2020, section 3.3). The weights, one for each of `length` ranks, begin as ones and are
    trained.
    """

    def __init__(self, layer: Layer, length: int) -> None:
        super().__init__()
        self.layer = layer
        self.retention = nn.Parameter(torch.ones(length))

    def forward(self, x: Tensor, mask: Tensor, maps: bool = False) -> tuple[Tensor, AttentionMap | None]:
        """As a layer."""
        x, attention = self.layer.attend(x, mask, maps=True)
        assert attention is not None
        # A token is there if any query may attend to it.
        scores = significance(attention.probabilities.detach(), mask.any(dim=-2)[:, 0])
        x = x * self.retention[ranks(scores)][..., None]
        return self.layer.ffn(x), attention if maps else None


def ranks(scores: Tensor) -> Tensor:
    """How many of a row's scores (b, n) are larger, or as large and earlier: (b, n)."""
    return scores.argsort(dim=1, descending=True, stable=True).argsort(dim=1)


def soften(model: Encoder, length: int) -> dict[int, SoftExtract]:
    """Put the layers that attend into `SoftExtract`, for sequences of up to `length` tokens; by their index."""
    soft = {}
    for index, layer in enumerate(model.layers):
        assert isinstance(layer, Layer)
        if model.config.layers[index].heads:
            soft[index] = model.layers[index] = SoftExtract(layer, length)
    return soft


def harden(model: Encoder, soft: dict[int, SoftExtract]) -> None:
    """Put the layers back where they were."""
    for index, module in soft.items():
        model.layers[index] = module.layer


def retention_counts(weights: Sequence[Tensor]) -> list[int]:
    """How many word-vectors each layer keeps, from the weights of its ranks: ⌊their sum⌋, but at least one and never
    more than the layer before (Goyal et al. 2020, section 3.3; the released code).
    """
    counts: list[int] = []
    for layer in weights:
        count = max(1, int(layer.detach().double().sum()))
        counts.append(min([count, *counts[-1:]]))
    return counts
