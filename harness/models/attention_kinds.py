"""The kinds of attention that a layer may have instead of full attention."""

from __future__ import annotations

from collections.abc import Iterable
from math import ceil
from typing import Annotated, Literal

from pydantic import (
    Field,
    model_validator,
)

from harness.models.frozen_config import FrozenConfig, Positive


class LocalAttention(FrozenConfig):
    """Each token attends to the tokens at most `window` positions away and to the first one, which attends to all."""

    kind: Literal["local"] = "local"
    window: Positive = 16


class TopKAttention(FrozenConfig):
    """Each query keeps its `k` largest scores, and any score equal to the k-th (Zhao et al. 2019)."""

    kind: Literal["topk"] = "topk"
    k: Positive = 8


class LinformerAttention(FrozenConfig):
    """Keys and values of up to `length` tokens are projected to `projected` places (Wang et al. 2020).

    Keys and values have one projection each, or share one with `shared_kv`. The block of place j begins at token
    j · length / projected; a sequence that ends before this token does not use the place.
    """

    kind: Literal["linformer"] = "linformer"
    projected: Positive = 64
    length: Positive = 128
    shared_kv: bool = False

    @model_validator(mode="after")
    def _compresses(self) -> LinformerAttention:
        if self.projected > self.length:
            raise ValueError(f"{self.length} tokens cannot be projected to {self.projected} places")
        return self

    def places(self, tokens: int) -> int:
        """Return the number of places that a sequence of `tokens` tokens uses."""
        return min(self.projected, -(-tokens * self.projected // self.length))

    def start(self, place: int) -> int:
        """Return the first token of a place's block."""
        return place * self.length // self.projected


class SegmentAttention(FrozenConfig):
    """Tokens attend only to tokens of their own segment (the lower layers of DeFormer: Cao et al. 2020)."""

    kind: Literal["segments"] = "segments"


class SpanAttention(FrozenConfig):
    """Each head attends through its own soft window (Sukhbaatar et al. 2019, section 2.2).

    A token at most `span` positions away has the weight 1, one `ramp` + span or more away the weight 0; between them
    the weight is (ramp + span − distance) / ramp. `spans` has one number, in tokens, for each head.
    """

    kind: Literal["span"] = "span"
    ramp: Positive = 32
    spans: Annotated[tuple[Annotated[float, Field(ge=0, allow_inf_nan=False)], ...], Field(min_length=1)]

    @property
    def windows(self) -> tuple[int, ...]:
        """The largest distance, in tokens, at which each head's weight is above 0."""
        return tuple(ceil(self.ramp + span) - 1 for span in self.spans)

    def of_heads(self, heads: Iterable[int]) -> SpanAttention:
        """Return the same attention for a choice of heads, in that order."""
        return self.model_copy(update={"spans": tuple(self.spans[head] for head in heads)})


AttentionKind = Annotated[
    LocalAttention | TopKAttention | LinformerAttention | SegmentAttention | SpanAttention,
    Field(discriminator="kind"),
]
"""Attention in which a token does not attend to every other with full weight."""
