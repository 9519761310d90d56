"""The feed-forward student: the mean of a text's word embeddings."""

from __future__ import annotations

from torch import Tensor, nn


class Mean(nn.Module):
    """The mean over the tokens that are no padding; 0 of none."""

    def forward(self, embedded: Tensor, mask: Tensor) -> Tensor:
        """Map (b, n, E) and the mask (b, n) to (b, E)."""
        weights = mask[..., None].to(embedded.dtype)
        mean: Tensor = (embedded * weights).sum(1) / weights.sum(1).clamp_min(1)
        return mean
