"""PoWER-BERT's soft extraction layers (Goyal et al. 2020, section 3.3), for power-bert."""

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
    """A layer that multiplies each word-vector, between attention and feed-forward, by the weight of its rank in
    significance (Goyal et al. 2020, section 3.3). There is one trained weight for each of `length` ranks, all 1 at
    first.
    """

    def __init__(self, layer: Layer, length: int) -> None:
        super().__init__()
        self.layer = layer
        self.retention = nn.Parameter(torch.ones(length))

    def forward(self, x: Tensor, mask: Tensor, maps: bool = False) -> tuple[Tensor, AttentionMap | None]:
        """Map states (b, n, H) to states of the same shape, as `Layer.forward` does."""
        x, attention = self.layer.attend(x, mask, maps=True)
        assert attention is not None
        # A token is present (not padding) if any query may attend to it.
        scores = significance(attention.probabilities.detach(), mask.any(dim=-2)[:, 0])  # (b, n)
        x = x * self.retention[ranks(scores)][..., None]
        return self.layer.ffn(x), attention if maps else None


def ranks(scores: Tensor) -> Tensor:
    """Return the rank (b, n) of each score (b, n) in its row, 0 for the largest. Ties rank by position."""
    return scores.argsort(dim=1, descending=True, stable=True).argsort(dim=1)


def soften(model: Encoder, length: int) -> dict[int, SoftExtract]:
    """Wrap each layer that has heads in `SoftExtract`, for sequences of up to `length` tokens; return them by index."""
    soft = {}
    for index, layer in enumerate(model.layers):
        assert isinstance(layer, Layer)
        if model.config.layers[index].heads:
            soft[index] = model.layers[index] = SoftExtract(layer, length)
    return soft


def harden(model: Encoder, soft: dict[int, SoftExtract]) -> None:
    """Undo `soften`: put the original layers back."""
    for index, module in soft.items():
        model.layers[index] = module.layer


def retention_counts(weights: Sequence[Tensor]) -> list[int]:
    """Return the number of word-vectors that each layer keeps: ⌊sum of its rank weights (length,)⌋, at least 1 and at
    most as many as the layer before (Goyal et al. 2020, section 3.3; the released code).
    """
    counts: list[int] = []
    for layer in weights:
        count = max(1, int(layer.detach().double().sum()))
        counts.append(min([count, *counts[-1:]]))
    return counts
