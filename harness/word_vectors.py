"""Word-vector elimination: which tokens' vectors go on from a layer (PoWER-BERT: Goyal et al. 2020, section 3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from harness.encoder import Encoder, Layer
    from harness.model import AttentionMap


def significance(probabilities: Tensor, present: Tensor) -> Tensor:
    """How much attention each token gets from the others: of probabilities (b, h, n, n), the mean over heads and the
    sum over queries that are no padding (`present` (b, n)), without what a token gives itself: (b, n). Padding has
    −inf, the first token inf.
    """
    attention = probabilities.float().mean(1) * present[:, :, None]
    received = attention.sum(1) - attention.diagonal(dim1=-2, dim2=-1)
    received = received.masked_fill(~present, float("-inf"))
    # The first token is what the head reads.
    return torch.cat([torch.full_like(received[:, :1], float("inf")), received[:, 1:]], dim=1)


def most_significant(scores: Tensor, kept: int) -> Tensor:
    """The places of the `kept` largest of each row's scores (b, n), in the order of the text: (b, min(kept, n))."""
    kept = min(kept, scores.shape[1])
    # Stable, so that equal scores are told apart by place, whatever the other rows are.
    return scores.argsort(dim=1, descending=True, stable=True)[:, :kept].sort(dim=1).values


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
    from harness.encoder import Layer

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
