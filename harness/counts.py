"""How many parameters a configuration has, in closed form: what methods that prune to a size plan with."""

from __future__ import annotations

from harness.config import EncoderConfig, LayerConfig, Matrix
from harness.refusals import matrix_shape


def head_parameters(config: EncoderConfig, layer: LayerConfig) -> int:
    """Of one head: its rows of the query, key and value maps and its columns of the output map. For maps that are
    not factorized.
    """
    return 4 * config.hidden_size * layer.head_size + 3 * layer.head_size


def layer_parameters(config: EncoderConfig, layer: LayerConfig) -> int:
    """Of one layer: its maps with their biases, and its two normalisations. None where it uses another's."""
    if layer.shares_with is not None:
        return 0
    matrices: list[Matrix] = []
    if layer.heads:
        matrices += ["query", "key", "value", "attention_out"]
    if layer.ffn_size:
        matrices += ["ffn_in", "ffn_out"]
    count = 4 * config.hidden_size
    for matrix in matrices:
        outputs, inputs = matrix_shape(config, layer, matrix)
        rank = layer.ranks.get(matrix)
        count += (inputs * outputs if rank is None else rank * (inputs + outputs)) + outputs
    return count


def encoder_parameters(config: EncoderConfig) -> int:
    """Of the whole encoder: embeddings, layers, pooler and classifier."""
    hidden, head = config.hidden_size, config.head
    count = config.word_parameters
    if config.embedding_rank is not None:
        count += config.embedding_rank * hidden
    count += (config.positions + config.segments + 2) * hidden
    count += sum(layer_parameters(config, layer) for layer in config.layers)
    if config.pooler and head.kind != "span":
        count += hidden * hidden + hidden
    if head.kind != "none":
        count += (hidden + 1) * head.outputs
    return count
