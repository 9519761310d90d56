"""DeFormer's cache (Cao et al. 2020, section 3): where the lower layers attend within segments, their states of the
second segment can be computed before its first segment is known.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import torch
from torch import Tensor, nn

from harness.common.errors import SkylineError
from harness.models.batch import Batch, Output
from harness.models.config import EncoderConfig, SegmentAttention, TopKAttention
from harness.models.encoder.attention import Tokens
from harness.models.encoder.encoder import Encoder
from harness.models.flops.counting import FlopCount, count_flops
from harness.models.model import Model


@dataclass(frozen=True)
class SegmentStates:
    """What the lower layers make of segments by themselves: states (b, n, H), and the tokens that they are of."""

    states: Tensor
    tokens: Tokens


def separate_layers(config: EncoderConfig) -> int:
    """How many of the lowest layers attend within segments. Raises SkylineError where the second segment's states
    depend on the first's, or on where its padding stands.
    """
    count = len(list(takewhile(lambda layer: isinstance(layer.attention, SegmentAttention), config.layers)))
    if not count or config.segment_positions != "own":
        raise SkylineError(
            "the second segment's states depend on the first segment, so they cannot be cached; use an artifact of "
            "'deformer'"
        )
    lower, upper = config.layers[:count], config.layers[count:]
    eliminated = any(layer.kept is not None for layer in lower)
    if eliminated or not all(isinstance(layer.attention, TopKAttention | None) for layer in upper):
        raise SkylineError(
            "its lower layers eliminate word-vectors or its upper ones attend by place, so segments cannot be cached "
            "apart; use an artifact of 'deformer' alone"
        )
    return count


def encode_segments(model: Encoder, batch: Batch) -> SegmentStates:
    """Run the embedding and the lower layers on segments alone: what a cache holds of second ones."""
    tokens, x = Tokens.of(batch), model.embedding(batch)
    for index in range(separate_layers(model.config)):
        x, tokens, _ = model.run_layer(index, x, tokens)
    return SegmentStates(x, tokens)


class SecondCached(Model):
    """An encoder whose batches are first segments alone: the second ones' states, a row for each row of the batch, were
    computed before. It gives the logits that the encoder gives on pairs; for spans, of the first segment's tokens and
    then of the second's. Exit ramps are passed by.
    """

    def __init__(self, encoder: Encoder, second: SegmentStates) -> None:
        super().__init__(encoder.config, encoder.tokenizer, encoder.origin)
        self.encoder, self.second = encoder, second
        self.lower = separate_layers(encoder.config)

    def forward(self, batch: Batch, hidden_states: bool = False, attentions: bool = False) -> Output:
        """Run the lower layers on the first segments, and the upper ones on both."""
        first, second = encode_segments(self.encoder, batch), self.second
        x = torch.cat([first.states, second.states], dim=1)
        tokens = Tokens(
            torch.cat([first.tokens.present, second.tokens.present], dim=1),
            torch.cat([first.tokens.segments, second.tokens.segments], dim=1),
        )
        for index in range(self.lower, len(self.encoder.layers)):
            x, tokens, _ = self.encoder.run_layer(index, x, tokens)
        return Output(self.encoder.head(x))

    def components(self) -> Iterator[tuple[str, str, nn.Module]]:
        """The encoder's."""
        for component, path, module in self.encoder.components():
            yield component, f"encoder.{path}", module

    def matrix_names(self) -> dict[str, Any]:
        """The encoder's."""
        return {f"encoder.{name}": kind for name, kind in self.encoder.matrix_names().items()}


def split_segments(batch: Batch) -> tuple[Batch, Batch]:
    """The first and the second segments of a batch of pairs, each padded to its longest. Raises SkylineError where a
    row has no second segment.
    """
    present, second = batch.attention_mask.bool(), batch.token_type_ids > 0
    if not (present & second).any(dim=1).all():
        raise SkylineError("a single sentence has no second segment whose states could be cached; use pairs")
    return _compact(batch, present & ~second), _compact(batch, present & second)


def _compact(batch: Batch, chosen: Tensor) -> Batch:
    """The tokens that a mask (b, n) chooses, in their order, before padding."""
    counts = chosen.sum(1)
    longest = int(counts.max())
    places = chosen.int().argsort(dim=1, descending=True, stable=True)[:, :longest]
    mask = (torch.arange(longest, device=counts.device) < counts[:, None]).long()
    ids, segments = (t.gather(1, places) * mask for t in (batch.input_ids, batch.token_type_ids))
    return Batch(ids, mask, segments)


def segment_flops(model: Encoder, first: int, second: int, batch: int = 1) -> tuple[FlopCount, FlopCount]:
    """The work on pairs of so many tokens: as the encoder runs them, and with the second segments' states cached."""
    separate_layers(model.config)
    pairs = Batch.synthetic(batch, first + second, model.config.vocab_size)
    pairs.token_type_ids[:, first:] = 1
    left, right = split_segments(pairs)
    with torch.inference_mode():
        states = encode_segments(model, right)
    return count_flops(model, pairs), count_flops(SecondCached(model, states), left)
