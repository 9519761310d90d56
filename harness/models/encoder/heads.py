"""The encoder's head, and the exit ramps: classifiers on earlier layers."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from harness.models.config import STUDENT_HEADS, EncoderConfig, ExitRamp, HeadConfig, Pooling, student_size
from harness.models.encoder.attention import Tokens
from harness.models.students.bottleneck_config import BottleneckConfig


def row_vector(x: Tensor, present: Tensor, pooling: Pooling) -> Tensor:
    """Make one vector (b, H) of each row's states (b, n, H). `present` (b, n) is false at padding."""
    if pooling == "first-token":
        return x[:, 0]
    weights = present[..., None].to(x.dtype)  # (b, n, 1)
    mean: Tensor = (x * weights).sum(1) / weights.sum(1).clamp_min(1)
    return mean


class Head(nn.Module):
    """Classification and regression from one pooled vector of a row, spans from every token's state.

    `standard` is the identity, except during a training (see `harness.compression.standardizing`).
    """

    def __init__(self, config: EncoderConfig | BottleneckConfig) -> None:
        super().__init__()
        head: HeadConfig = config.head
        pooled = config.pooler and head.kind != "span"
        self.pooler = nn.Linear(config.hidden_size, config.hidden_size) if pooled else None
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(config.hidden_size, head.outputs) if head.kind != "none" else None
        self.standard: nn.Module = nn.Identity()
        self.span = head.kind == "span"
        self.pooling = config.pooling

    def forward(self, x: Tensor, present: Tensor) -> Tensor:
        """Map states (b, n, H) of tokens, which are `present` (b, n) or padding, to logits: (b, outputs), (b, n, 2) for
        spans, or the pooled vector (b, H) for no head.
        """
        if not self.span:
            x = self.pooled(x, present)  # (b, H)
        return self.classifier(self.dropout(x)) if self.classifier is not None else x

    def pooled(self, x: Tensor, present: Tensor) -> Tensor:
        """Return the vector (b, H) that the classifier reads."""
        x = self.standard(row_vector(x, present, self.pooling))
        return x if self.pooler is None else torch.tanh(self.pooler(x))


class PoolerRamp(nn.Module):
    """A ramp with its own pooler and classifier (DeeBERT: Xin et al. 2020, section 3.1)."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.standard: nn.Module = nn.Identity()
        self.pooler = nn.Linear(config.hidden_size, config.hidden_size)
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(config.hidden_size, config.head.outputs)

    def forward(self, x: Tensor, tokens: Tokens, head: Head) -> Tensor:
        """Map states (b, n, H) to logits (b, outputs)."""
        vector = self.standard(row_vector(x, tokens.present, head.pooling))  # (b, H)
        logits: Tensor = self.classifier(self.dropout(torch.tanh(self.pooler(vector))))
        return logits


class LinearRamp(nn.Module):
    """A ramp with its own classifier behind the head's pooler (PABEE: Zhou et al. 2020, section 3.2)."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.standard: nn.Module = nn.Identity()
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(config.hidden_size, config.head.outputs)

    def forward(self, x: Tensor, tokens: Tokens, head: Head) -> Tensor:
        """Map states (b, n, H) to logits (b, outputs)."""
        assert head.pooler is not None
        pooled = torch.tanh(head.pooler(row_vector(x, tokens.present, head.pooling)))  # (b, H)
        logits: Tensor = self.classifier(self.dropout(self.standard(pooled)))
        return logits


class StudentRamp(nn.Module):
    """A ramp with a narrow attention layer between two linear maps, read at the first token (FastBERT: Liu et al. 2020,
    section 3.1; shapes from the released code). S is its width (see `student_size`).
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        size = self.size = student_size(config.hidden_size)
        self.standard: nn.Module = nn.Identity()
        self.into = nn.Linear(config.hidden_size, size)
        self.query, self.key, self.value, self.out = (nn.Linear(size, size) for _ in range(4))
        self.hidden = nn.Linear(size, size)
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(size, config.head.outputs)

    def forward(self, x: Tensor, tokens: Tokens, head: Head) -> Tensor:
        """Map states (b, n, H) to logits (b, outputs)."""
        narrow = torch.tanh(self.into(self.standard(x)))  # (b, n, S)
        shape = (x.shape[0], -1, STUDENT_HEADS, self.size // STUDENT_HEADS)
        # Only the first token's context is used.
        query = self.query(narrow[:, :1]).view(shape).transpose(1, 2)  # (b, 2, 1, S / 2)
        # Keys and values: (b, 2, n, S / 2).
        key, value = (linear(narrow).view(shape).transpose(1, 2) for linear in (self.key, self.value))
        context = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=tokens.mask(None))
        context = self.out(context.transpose(1, 2).flatten(1))  # (b, S)
        logits: Tensor = self.classifier(self.dropout(torch.tanh(self.hidden(context))))
        return logits


RAMPS: dict[ExitRamp, type[PoolerRamp] | type[LinearRamp] | type[StudentRamp]] = {
    "pooler": PoolerRamp,
    "linear": LinearRamp,
    "student": StudentRamp,
}
