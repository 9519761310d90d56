"""Word-vector elimination: a layer keeps the vectors of the most significant tokens (PoWER-BERT: Goyal et al. 2020)."""

from __future__ import annotations

import torch
from torch import Tensor


def significance(probabilities: Tensor, present: Tensor) -> Tensor:
    """Return the significance (b, n): the attention that each token receives from the others (Goyal et al. 2020,
    section 3), here the mean over heads.

    `probabilities` are (b, h, n, n); queries that are padding (`present` (b, n) is false) do not count. Padding has the
    significance −inf, the first token inf, because the head reads it.
    """
    attention = probabilities.float().mean(1) * present[:, :, None]  # (b, n, n)
    received = attention.sum(1) - attention.diagonal(dim1=-2, dim2=-1)  # (b, n)
    received = received.masked_fill(~present, float("-inf"))
    return torch.cat([torch.full_like(received[:, :1], float("inf")), received[:, 1:]], dim=1)


def most_significant(scores: Tensor, kept: int) -> Tensor:
    """Return the positions (b, min(kept, n)) of the largest scores (b, n) of each row, in the order of the text."""
    kept = min(kept, scores.shape[1])
    # Stable: of equal scores the first wins, whatever the other rows of the batch are.
    return scores.argsort(dim=1, descending=True, stable=True)[:, :kept].sort(dim=1).values
