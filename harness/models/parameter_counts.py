"""How many parameters a configuration has, in closed form and without torch: for methods that prune to a size, and for
published sizes.
"""

from __future__ import annotations

from dataclasses import dataclass

from harness.models.config import EncoderConfig, LayerConfig, LinformerAttention, matrix_shape, student_size


@dataclass(frozen=True)
class Count:
    """Parameters by part. `embedding` is all but the word matrix: positions, segments, projection, norm."""

    word_embedding: int
    embedding: int
    layers: int
    pooler: int
    classifier: int
    exits: int = 0

    @property
    def total(self) -> int:
        """All parameters."""
        return self.without_word_embedding + self.word_embedding

    @property
    def without_word_embedding(self) -> int:
        """All but the word-embedding matrix: what Ganesh et al. 2021 call the size without embeddings."""
        return self.embedding + self.layers + self.pooler + self.classifier + self.exits


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
        exits=sum(ramp_parameters(config, layer) for layer in config.layers),
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
    kind = layer.attention
    if layer.heads and isinstance(kind, LinformerAttention):
        total += (1 if kind.shared_kv else 2) * kind.projected * kind.length
    return total


def ramp_parameters(config: EncoderConfig, layer: LayerConfig) -> int:
    """Of the exit ramp on a layer (see `harness.compression.exit_rules`); none where it has none."""
    hidden, outputs = config.hidden_size, config.head.outputs
    if layer.exit is None:
        return 0
    if layer.exit == "student":
        size = student_size(hidden)
        inner = 5 * dense_parameters(size, size)
        return dense_parameters(hidden, size) + inner + dense_parameters(size, outputs)
    pooler = dense_parameters(hidden, hidden) if layer.exit == "pooler" else 0
    return pooler + dense_parameters(hidden, outputs)


def head_parameters(config: EncoderConfig, layer: LayerConfig) -> int:
    """Of one head: its rows of the query, key and value maps and its columns of the output map. For maps that are
    not factorized.
    """
    return 4 * config.hidden_size * layer.head_size + 3 * layer.head_size


def dense_parameters(inputs: int, outputs: int, rank: int | None = None) -> int:
    """Of a map with its bias, as a product of two where it has a rank."""
    return (inputs * outputs if rank is None else rank * (inputs + outputs)) + outputs
