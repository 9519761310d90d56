"""Attention: which tokens attend to which, and how. It owns no weights where it is BERT's own."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.config import AttentionKind, EncoderConfig, LayerConfig, SegmentAttention
from harness.model import AttentionMap, Batch


@dataclass(frozen=True)
class Tokens:
    """The tokens of a batch that a layer still has: which are no padding, and their segments, both (b, n)."""

    present: Tensor
    segments: Tensor

    @classmethod
    def of(cls, batch: Batch) -> Tokens:
        """All tokens of a batch."""
        return cls(batch.attention_mask.bool(), batch.token_type_ids)

    def mask(self, kind: AttentionKind | None) -> Tensor:
        """(b, 1, 1, n), or (b, 1, n, n) where it depends on the query: true where a token may be attended to."""
        present = self.present[:, None, None, :]
        if isinstance(kind, SegmentAttention):
            return present & (self.segments[:, None, :, None] == self.segments[:, None, None, :])
        return present

    def rows(self, chosen: Tensor) -> Tokens:
        """Those of some rows, by a mask (b,) or indices."""
        return Tokens(self.present[chosen], self.segments[chosen])

    def places(self, chosen: Tensor) -> Tokens:
        """Those at some places of each row (b, kept)."""
        return Tokens(self.present.gather(1, chosen), self.segments.gather(1, chosen))


class Attention(nn.Module):
    """Scaled dot-product attention over the tokens that a mask leaves."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor, maps: bool = False
    ) -> tuple[Tensor, AttentionMap | None]:
        """Return the context (b, n, h·d) and, where `maps` asks for it, the attention map.

        `mask`, (b, 1, 1, n) or (b, 1, n, n), is true where a token may be attended to.
        """
        dropout = self.dropout if self.training else 0.0
        attention = None
        if maps:
            scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
            probabilities = torch.softmax(scores.masked_fill(~mask, float("-inf")), dim=-1)
            attention = AttentionMap(scores, probabilities)
            context = F.dropout(probabilities, dropout) @ value
        else:
            context = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout)
        return context.transpose(1, 2).flatten(2), attention


def make_attention(config: EncoderConfig, layer: LayerConfig) -> Attention:
    """The attention of a layer that has heads."""
    return Attention(config.attention_dropout)
