"""What models read and return: batches, attention maps and outputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Batch:
    """Token ids, mask (1 = token, 0 = padding) and segments of b sequences: three integer tensors (b, n)."""

    input_ids: Tensor
    attention_mask: Tensor
    token_type_ids: Tensor

    def __len__(self) -> int:
        return int(self.input_ids.shape[0])

    def to(self, device: str | torch.device) -> Batch:
        """The same batch on `device`."""
        return Batch(*(t.to(device) for t in (self.input_ids, self.attention_mask, self.token_type_ids)))

    def arrays(self) -> NDArray[np.int64]:
        """The three tensors as one array (3, b, n), which travels to another process as a plain value."""
        tensors = (self.input_ids, self.attention_mask, self.token_type_ids)
        return torch.stack([tensor.cpu().long() for tensor in tensors]).numpy()

    @classmethod
    def of_arrays(cls, rows: NDArray[np.int64]) -> Batch:
        """The batch of such an array."""
        return cls(*map(torch.from_numpy, rows))

    def rows(self, start: int, stop: int) -> Batch:
        """The sequences start … stop-1."""
        tensors = (self.input_ids, self.attention_mask, self.token_type_ids)
        return Batch(*(t[start:stop] for t in tensors))

    @classmethod
    def synthetic(cls, batch: int, length: int, vocab_size: int, seed: int = 0) -> Batch:
        """Full-length rows of random ids (a workload with synthetic inputs)."""
        generator = torch.Generator().manual_seed(seed)
        ids = torch.randint(0, vocab_size, (batch, length), generator=generator)
        return cls(ids, torch.ones_like(ids), torch.zeros_like(ids))


class AttentionMap(NamedTuple):
    """What one layer's queries make of its keys, each (b, h, n, n): the scaled products before the softmax, where
    padding is not masked yet, and the probabilities.
    """

    scores: Tensor
    probabilities: Tensor


@dataclass(frozen=True)
class Output:
    """What an encoder returns.

    `logits` (b, outputs), or (b, n, 2) for spans; `hidden_states` L + 1 tensors (b, n, H), the embedding's
    output first; `attentions` L maps of attention (b, h, n, n). The latter two only when asked for.

    Of an encoder with exit ramps: `exits`, the logits at each by its layer, of the rows that came so far; where rows
    could leave early, `depths` (b,), how many layers each ran through.
    """

    logits: Tensor
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[AttentionMap, ...] | None = None
    exits: Mapping[int, Tensor] = field(default_factory=dict)
    depths: Tensor | None = None
