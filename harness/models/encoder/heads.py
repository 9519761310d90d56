"""The encoder's head, and the exit ramps: classifiers on earlier layers."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from harness.models.config import STUDENT_HEADS, EncoderConfig, ExitRamp, HeadConfig, student_size
from harness.models.encoder.attention import Tokens
from harness.models.students.bottleneck_config import BottleneckConfig


class Head(nn.Module):
    """Classification and regression from the first token's pooled state, spans from every token's state."""

    def __init__(self, config: EncoderConfig | BottleneckConfig) -> None:
        super().__init__()
        head: HeadConfig = config.head
        pooled = config.pooler and head.kind != "span"
        self.pooler = nn.Linear(config.hidden_size, config.hidden_size) if pooled else None
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(config.hidden_size, head.outputs) if head.kind != "none" else None
        self.span = head.kind == "span"

    def forward(self, x: Tensor) -> Tensor:
        """Map states (b, n, H) to logits: (b, outputs), (b, n, 2) for spans, or the pooled state (b, H) for no head."""
        if not self.span:
            x = x[:, 0]  # (b, H)
        if self.pooler is not None:
            x = torch.tanh(self.pooler(x))
        return self.classifier(self.dropout(x)) if self.classifier is not None else x


class PoolerRamp(nn.Module):
    """A ramp with its own pooler and classifier (DeeBERT: Xin et al. 2020, section 3.1)."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.pooler = nn.Linear(config.hidden_size, config.hidden_size)
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(config.hidden_size, config.head.outputs)

    def forward(self, x: Tensor, tokens: Tokens, head: Head) -> Tensor:
        """Map states (b, n, H) to logits (b, outputs)."""
        logits: Tensor = self.classifier(self.dropout(torch.tanh(self.pooler(x[:, 0]))))
        return logits


class LinearRamp(nn.Module):
    """A ramp with its own classifier behind the head's pooler (PABEE: Zhou et al. 2020, section 3.2)."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(config.hidden_size, config.head.outputs)

    def forward(self, x: Tensor, tokens: Tokens, head: Head) -> Tensor:
        """Map states (b, n, H) to logits (b, outputs)."""
        assert head.pooler is not None
        logits: Tensor = self.classifier(self.dropout(torch.tanh(head.pooler(x[:, 0]))))
        return logits


class StudentRamp(nn.Module):
    """A ramp with a narrow attention layer between two linear maps, read at the first token (FastBERT: Liu et al. 2020,
    section 3.1; shapes from the released code). S is its width (see `student_size`).
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        size = self.size = student_size(config.hidden_size)
        self.into = nn.Linear(config.hidden_size, size)
        self.query, self.key, self.value, self.out = (nn.Linear(size, size) for _ in range(4))
        self.hidden = nn.Linear(size, size)
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(size, config.head.outputs)

    def forward(self, x: Tensor, tokens: Tokens, head: Head) -> Tensor:
        """Map states (b, n, H) to logits (b, outputs)."""
        narrow = torch.tanh(self.into(x))  # (b, n, S)
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
