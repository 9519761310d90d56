"""The number of parameters of a configuration, in closed form and without torch.

Methods that prune to a size use it, and the comparison with published sizes.
"""

from __future__ import annotations

from dataclasses import dataclass

from harness.models.attention_kinds import LinformerAttention
from harness.models.config import EncoderConfig, LayerConfig, matrix_shape, student_size


@dataclass(frozen=True)
class Count:
    """Numbers of parameters by part. `embedding` is positions, segments, projection and norm, without the words."""

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
        """All parameters except the word embeddings: the size without embeddings of Ganesh et al. 2021."""
        return self.embedding + self.layers + self.pooler + self.classifier + self.exits


def count(config: EncoderConfig) -> Count:
    """Count the parameters of an encoder of this shape. Weights that layers share count once."""
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
    """Count all parameters of an encoder of this shape."""
    return count(config).total


def layer_parameters(config: EncoderConfig, layer: LayerConfig) -> int:
    """Count the parameters of a layer: its maps with biases and its two normalisations; 0 if it uses another's."""
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
    """Count the parameters of a layer's exit ramp (see `harness.models.encoder.heads`); 0 if it has none."""
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
    """Count the parameters of one attention head: its rows of the query, key and value maps with their biases, and its
    columns of the output map. The maps must not be factorized.
    """
    return 4 * config.hidden_size * layer.head_size + 3 * layer.head_size


def dense_parameters(inputs: int, outputs: int, rank: int | None = None) -> int:
    """Count the parameters of a linear map with its bias; with a `rank` it is a product of two matrices."""
    return (inputs * outputs if rank is None else rank * (inputs + outputs)) + outputs
