"""Word-vector elimination: which tokens' vectors go on from a layer (PoWER-BERT: Goyal et al. 2020, section 3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    pass


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
