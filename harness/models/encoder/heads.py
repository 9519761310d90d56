"""The encoder's head, and the exit ramps that classify on inner layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from harness.models.batch import AttentionMap as AttentionMap
from harness.models.batch import Batch as Batch
from harness.models.batch import Output as Output
from harness.models.config import EncoderConfig, HeadConfig
from harness.models.encoder.attention import Tokens
from harness.models.model import INITIALIZER_RANGE as INITIALIZER_RANGE
from harness.models.model import Storage as Storage
from harness.models.model import evaluating as evaluating
from harness.models.students.bottleneck_config import BottleneckConfig

if TYPE_CHECKING:
    pass


from typing import TYPE_CHECKING

from harness.models.config import STUDENT_HEADS, ExitRamp, student_size

if TYPE_CHECKING:
    pass


class Head(nn.Module):
    """Classification and regression from the pooled first token, spans from every token."""

    def __init__(self, config: EncoderConfig | BottleneckConfig) -> None:
        super().__init__()
        head: HeadConfig = config.head
        pooled = config.pooler and head.kind != "span"
        self.pooler = nn.Linear(config.hidden_size, config.hidden_size) if pooled else None
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(config.hidden_size, head.outputs) if head.kind != "none" else None
        self.span = head.kind == "span"

    def forward(self, x: Tensor) -> Tensor:
        """Map the last states (b, n, H) to logits: (b, outputs), or (b, n, 2) for spans."""
        if not self.span:
            x = x[:, 0]
        if self.pooler is not None:
            x = torch.tanh(self.pooler(x))
        return self.classifier(self.dropout(x)) if self.classifier is not None else x


class PoolerRamp(nn.Module):
    """A pooler and a classifier of the layer's own (DeeBERT: Xin et al. 2020, section 3.1)."""

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
    """A classifier behind the pooler that all ramps share with the head (PABEE: Zhou et al. 2020, section 3.2)."""

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
    """A narrow layer of attention between two linear maps, on the first token (FastBERT: Liu et al. 2020, section 3.1;
    the shape of the released code).
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
        narrow = torch.tanh(self.into(x))
        shape = (x.shape[0], -1, STUDENT_HEADS, self.size // STUDENT_HEADS)
        # Only the first token's context is read.
        query = self.query(narrow[:, :1]).view(shape).transpose(1, 2)
        key, value = (linear(narrow).view(shape).transpose(1, 2) for linear in (self.key, self.value))
        context = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=tokens.mask(None))
        context = self.out(context.transpose(1, 2).flatten(1))
        logits: Tensor = self.classifier(self.dropout(torch.tanh(self.hidden(context))))
        return logits


RAMPS: dict[ExitRamp, type[PoolerRamp] | type[LinearRamp] | type[StudentRamp]] = {
    "pooler": PoolerRamp,
    "linear": LinearRamp,
    "student": StudentRamp,
}
