"""The input and output of models: batches, attention maps and outputs."""

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
        """Return the same batch on `device`."""
        return Batch(*(t.to(device) for t in (self.input_ids, self.attention_mask, self.token_type_ids)))

    def arrays(self) -> NDArray[np.int64]:
        """Return the three tensors as one array (3, b, n), which another process can receive as plain data."""
        tensors = (self.input_ids, self.attention_mask, self.token_type_ids)
        return torch.stack([tensor.cpu().long() for tensor in tensors]).numpy()

    @classmethod
    def of_arrays(cls, rows: NDArray[np.int64]) -> Batch:
        """Make a batch from such an array (3, b, n)."""
        return cls(*map(torch.from_numpy, rows))

    def rows(self, start: int, stop: int) -> Batch:
        """Return the sequences start … stop - 1."""
        tensors = (self.input_ids, self.attention_mask, self.token_type_ids)
        return Batch(*(t[start:stop] for t in tensors))

    @classmethod
    def synthetic(cls, batch: int, length: int, vocab_size: int, seed: int = 0) -> Batch:
        """Draw `batch` rows of `length` random ids without padding, all in the first segment."""
        generator = torch.Generator().manual_seed(seed)
        ids = torch.randint(0, vocab_size, (batch, length), generator=generator)
        return cls(ids, torch.ones_like(ids), torch.zeros_like(ids))


class AttentionMap(NamedTuple):
    """One layer's attention: the scaled scores before mask and softmax, and the probabilities, each (b, h, n, n).

    Both are (b, h, n, places) for Linformer's attention.
    """

    scores: Tensor
    probabilities: Tensor


@dataclass(frozen=True)
class Output:
    """The output of a model's forward pass.

    `logits`: (b, outputs), or (b, n, 2) for spans. `hidden_states`: L + 1 tensors (b, n, H), the embedding's output
    first; `attentions`: L attention maps (b, h, n, n). Both are None unless the caller asks for them.

    `exits` maps a layer with an exit ramp to the ramp's logits, for the rows that reached it. `depths` (b,) is the
    number of layers that each row ran through; None if rows could not exit early.
    """

    logits: Tensor
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[AttentionMap, ...] | None = None
    exits: Mapping[int, Tensor] = field(default_factory=dict)
    depths: Tensor | None = None
