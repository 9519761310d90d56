"""The feed-forward student: the mean of a text's word embeddings."""

from __future__ import annotations

from torch import Tensor, nn


class Mean(nn.Module):
    """The mean over the tokens of a text without padding; 0 for a text without tokens."""

    def forward(self, embedded: Tensor, mask: Tensor) -> Tensor:
        """Map embeddings (b, n, E) and the mask (b, n) to (b, E)."""
        weights = mask[..., None].to(embedded.dtype)  # (b, n, 1)
        mean: Tensor = (embedded * weights).sum(1) / weights.sum(1).clamp_min(1)
        return mean
