"""How many parameters a configuration has, in closed form and without torch: for methods that prune to a size, and for
published sizes.
"""

from __future__ import annotations

from dataclasses import dataclass

from harness.config import EncoderConfig, LayerConfig, matrix_shape


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
    hidden, head = config.hidden_size, config.head
    projection = config.embedding_rank * hidden if config.embedding_rank else 0
    pooled = config.pooler and head.kind != "span"
    return Count(
        word_embedding=config.word_parameters,
        embedding=projection + (config.positions + config.segments + 2) * hidden,
        layers=sum(layer_parameters(config, layer) for layer in config.layers),
        pooler=dense_parameters(hidden, hidden) if pooled else 0,
        classifier=0 if head.kind == "none" else dense_parameters(hidden, head.outputs),
    )


def encoder_parameters(config: EncoderConfig) -> int:
    """Of the whole encoder: embeddings, layers, pooler and classifier."""
    return count(config).total


def layer_parameters(config: EncoderConfig, layer: LayerConfig) -> int:
    """Of one layer: its maps with their biases, and its two normalisations. None where it uses another's."""
    if layer.shares_with is not None:
        return 0
    total = 4 * config.hidden_size
    for matrix in layer.present():
        outputs, inputs = matrix_shape(config, layer, matrix)
        total += dense_parameters(inputs, outputs, layer.ranks.get(matrix))
    return total


def head_parameters(config: EncoderConfig, layer: LayerConfig) -> int:
    """Of one head: its rows of the query, key and value maps and its columns of the output map. For maps that are
    not factorized.
    """
    return 4 * config.hidden_size * layer.head_size + 3 * layer.head_size


def dense_parameters(inputs: int, outputs: int, rank: int | None = None) -> int:
    """Of a map with its bias, as a product of two where it has a rank."""
    return (inputs * outputs if rank is None else rank * (inputs + outputs)) + outputs
