"""The shape of a MobileBERT (Sun et al. 2020, Table 1): frozen and stored as JSON."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from harness.models.config import HeadConfig, Pooling, without_usual_pooling
from harness.models.frozen_config import FrozenConfig, Positive


class BottleneckConfig(FrozenConfig):
    """Layers of width `hidden_size` that compute in width `body_size`, each with `ffn_count` feed-forward networks.
    Word embeddings have `embedding_size`. The defaults are the published MobileBERT.
    """

    kind: Literal["mobilebert"] = "mobilebert"
    vocab_size: Positive = 30522
    embedding_size: Positive = 128
    hidden_size: Positive = 512
    body_size: Positive = 128
    heads: Positive = 4
    ffn_size: Positive = 512
    ffn_count: Positive = 4
    layer_count: Positive = 24
    positions: Positive = 512
    segments: Positive = 2
    pooler: bool = False
    pooling: Pooling = "first-token"
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    attention_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    head: HeadConfig = HeadConfig()

    @model_serializer(mode="wrap")
    def _leave_out_usual(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # As in EncoderConfig.
        return without_usual_pooling(serialize(self))

    @model_validator(mode="after")
    def _heads_divide_the_body(self) -> BottleneckConfig:
        if self.body_size % self.heads:
            raise ValueError(f"{self.heads} heads do not divide a body of {self.body_size}")
        return self
