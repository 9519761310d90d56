"""Parameters of an encoder of a given shape, in closed form: published sizes are recomputed without torch."""

from __future__ import annotations

from dataclasses import dataclass

from harness.config import EncoderConfig, LayerConfig

BERT_SHAPES = {
    "LARGE": (24, 1024),
    "BASE": (12, 768),
    "MEDIUM": (8, 512),
    "SMALL": (4, 512),
    "MINI": (4, 256),
    "TINY": (2, 128),
}
"""Layers and hidden size of Devlin et al. 2019 and Turc et al. 2019."""


@dataclass(frozen=True)
class Count:
    """Parameters by part. `embedding` is all but the word matrix: positions, segments, projection, norm."""

    word_embedding: int
    embedding: int
    layers: int
    pooler: int
    classifier: int

    @property
    def total(self) -> int:
        """All parameters."""
        return self.without_word_embedding + self.word_embedding

    @property
    def without_word_embedding(self) -> int:
        """All but the word-embedding matrix: what Ganesh et al. 2021 call the size without embeddings."""
        return self.embedding + self.layers + self.pooler + self.classifier


def count(config: EncoderConfig) -> Count:
    """The parameters of an encoder of this shape. A layer that shares another's weights counts once."""
    hidden = config.hidden_size
    projection = config.embedding_rank * hidden if config.embedding_rank else 0
    pooled = config.pooler and config.head.kind != "span"
    return Count(
        word_embedding=config.word_parameters,
        embedding=projection + (config.positions + config.segments) * hidden + 2 * hidden,
        layers=sum(_layer(hidden, layer) for layer in config.layers if layer.shares_with is None),
        pooler=_dense(hidden, hidden) if pooled else 0,
        classifier=0 if config.head.kind == "none" else _dense(hidden, config.head.outputs),
    )


def bert(
    layers: int, hidden: int, heads: int | None = None, ffn: int | None = None, **other: object
) -> EncoderConfig:
    """A BERT without a task head, whose count is that of the published checkpoint (110 M for BERT-base)."""
    return EncoderConfig.bert(layers, hidden, heads, ffn, head={"kind": "none", "outputs": 2}, **other)


def masked_language_head(config: EncoderConfig) -> int:
    """Parameters of an MLM head (dense, norm, decoder, bias) that is not tied to the word embeddings."""
    hidden, vocabulary = config.hidden_size, config.vocab_size
    return _dense(hidden, hidden) + 2 * hidden + _dense(hidden, vocabulary)


def _layer(hidden: int, layer: LayerConfig) -> int:
    size, ranks = layer.projection_size, layer.ranks
    matrices = (
        _dense(hidden, size, ranks.get("query"))
        + _dense(hidden, size, ranks.get("key"))
        + _dense(hidden, size, ranks.get("value"))
        + _dense(size, hidden, ranks.get("attention_out"))
        + _dense(hidden, layer.ffn_size, ranks.get("ffn_in"))
        + _dense(layer.ffn_size, hidden, ranks.get("ffn_out"))
    )
    return matrices + 2 * 2 * hidden


def _dense(inputs: int, outputs: int, rank: int | None = None) -> int:
    weights = inputs * outputs if rank is None else rank * (inputs + outputs)
    return weights + outputs
