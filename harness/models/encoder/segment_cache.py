"""DeFormer's cache (Cao et al. 2020, section 3): if the lower layers attend only within segments, their states of the
second segment can be computed before the first segment is known.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import torch
from torch import Tensor, nn

from harness.common.errors import Code, SkylineError
from harness.models.attention_kinds import SegmentAttention, TopKAttention
from harness.models.batch import Batch, Output
from harness.models.config import EncoderConfig
from harness.models.encoder.attention import Tokens
from harness.models.encoder.encoder import Encoder
from harness.models.flops.counting import FlopCount, count_flops
from harness.models.model import Model


@dataclass(frozen=True)
class SegmentStates:
    """The lower layers' states (b, n, H) of single segments, and the tokens that they belong to."""

    states: Tensor
    tokens: Tokens


def separate_layers(config: EncoderConfig) -> int:
    """Count the lowest layers that attend only within segments.

    Raises SkylineError if segments cannot be cached: the second segment's states depend on the first segment, lower
    layers eliminate word-vectors, or upper layers attend by position.
    """
    count = len(list(takewhile(lambda layer: isinstance(layer.attention, SegmentAttention), config.layers)))
    if not count or config.segment_positions != "own":
        raise SkylineError(
            "the second segment's states depend on the first segment, so they cannot be cached; use an artifact of "
            "'deformer'",
            Code.WRONG_SHAPE,
        )
    lower, upper = config.layers[:count], config.layers[count:]
    eliminated = any(layer.kept is not None for layer in lower)
    if eliminated or not all(isinstance(layer.attention, TopKAttention | None) for layer in upper):
        raise SkylineError(
            "lower layers eliminate word-vectors or upper layers attend by position, so segments cannot be cached; use "
            "an artifact of 'deformer' alone",
            Code.WRONG_SHAPE,
        )
    return count


def encode_segments(model: Encoder, batch: Batch) -> SegmentStates:
    """Run the embedding and the lower layers on single segments. A cache holds the result for second ones."""
    tokens, x = Tokens.of(batch), model.embedding(batch)
    for index in range(separate_layers(model.config)):
        x, tokens, _ = model.run_layer(index, x, tokens)
    return SegmentStates(x, tokens)


class SecondCached(Model):
    """An encoder for first segments, whose second segments' states (one row for each row of the batch) are cached.

    Its logits are the encoder's logits on the pairs; for spans, the first segment's tokens come first, then the
    second's. Exit ramps are not used.
    """

    def __init__(self, encoder: Encoder, second: SegmentStates) -> None:
        super().__init__(encoder.config, encoder.tokenizer, encoder.origin)
        self.encoder, self.second = encoder, second
        self.lower = separate_layers(encoder.config)

    def forward(self, batch: Batch, hidden_states: bool = False, attentions: bool = False) -> Output:
        """Run the lower layers on the first segments (b, n1) and the upper ones on both; returns logits alone."""
        first, second = encode_segments(self.encoder, batch), self.second
        x = torch.cat([first.states, second.states], dim=1)  # (b, n1 + n2, H)
        tokens = Tokens(
            torch.cat([first.tokens.present, second.tokens.present], dim=1),
            torch.cat([first.tokens.segments, second.tokens.segments], dim=1),
        )
        for index in range(self.lower, len(self.encoder.layers)):
            x, tokens, _ = self.encoder.run_layer(index, x, tokens)
        return Output(self.encoder.head(x, tokens.present))

    def components(self) -> Iterator[tuple[str, str, nn.Module]]:
        """Yield the encoder's components."""
        for component, path, module in self.encoder.components():
            yield component, f"encoder.{path}", module

    def matrix_names(self) -> dict[str, Any]:
        """Map the names of the encoder's weight matrices to their kinds."""
        return {f"encoder.{name}": kind for name, kind in self.encoder.matrix_names().items()}


def split_segments(batch: Batch) -> tuple[Batch, Batch]:
    """Split a batch of pairs into its first and its second segments, each padded to its longest. Raises SkylineError if
    a row has no second segment.
    """
    present, second = batch.attention_mask.bool(), batch.token_type_ids > 0
    if not (present & second).any(dim=1).all():
        raise SkylineError(
            "a single sentence has no second segment whose states could be cached; use pairs", Code.WRONG_KIND
        )
    return _compact(batch, present & ~second), _compact(batch, present & second)


def _compact(batch: Batch, chosen: Tensor) -> Batch:
    """Move the tokens that a mask (b, n) chooses to the left, in their order; padding follows."""
    counts = chosen.sum(1)
    longest = int(counts.max())
    places = chosen.int().argsort(dim=1, descending=True, stable=True)[:, :longest]  # (b, longest)
    mask = (torch.arange(longest, device=counts.device) < counts[:, None]).long()
    ids, segments = (t.gather(1, places) * mask for t in (batch.input_ids, batch.token_type_ids))
    return Batch(ids, mask, segments)


def segment_flops(model: Encoder, first: int, second: int, batch: int = 1) -> tuple[FlopCount, FlopCount]:
    """Count the FLOPs of pairs of `first` + `second` tokens: without a cache, and with the second segments cached.

    Raises SkylineError if segments cannot be cached (see `separate_layers`).
    """
    separate_layers(model.config)
    pairs = Batch.synthetic(batch, first + second, model.config.vocab_size)
    pairs.token_type_ids[:, first:] = 1
    left, right = split_segments(pairs)
    with torch.inference_mode():
        states = encode_segments(model, right)
    return count_flops(model, pairs), count_flops(SecondCached(model, states), left)
