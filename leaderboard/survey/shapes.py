"""Published shapes, and their number of parameters in closed form, without torch."""

from __future__ import annotations

from harness.models.config import EncoderConfig
from harness.models.parameter_counts import dense_parameters

BERT_SHAPES = {
    "LARGE": (24, 1024),
    "BASE": (12, 768),
    "MEDIUM": (8, 512),
    "SMALL": (4, 512),
    "MINI": (4, 256),
    "TINY": (2, 128),
}
"""Number of layers and hidden size, from Devlin et al. 2019 and Turc et al. 2019."""


def bert(
    layers: int, hidden: int, heads: int | None = None, ffn: int | None = None, **other: object
) -> EncoderConfig:
    """Make the configuration of a BERT without a task head, as published checkpoints are (BERT-base: 110 M)."""
    return EncoderConfig.bert(layers, hidden, heads, ffn, head={"kind": "none", "outputs": 2}, **other)


def masked_language_head(config: EncoderConfig) -> int:
    """Count the parameters of an MLM head (dense, norm, decoder, bias) that is not tied to the word embeddings."""
    hidden, vocabulary = config.hidden_size, config.vocab_size
    return dense_parameters(hidden, hidden) + 2 * hidden + dense_parameters(hidden, vocabulary)
