"""The head of BERT's masked language model (Devlin et al. 2019, section 3.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.models.encoder.layers import ACTIVATIONS
from harness.models.model import INITIALIZER_RANGE

if TYPE_CHECKING:
    from harness.models.config import EncoderConfig


class MaskedLanguageModelHead(nn.Module):
    """Predicts tokens: a dense map, activation and normalisation, then the transposed word embeddings and a bias.

    With factorized word embeddings the dense map has their rank as output size. `generator` draws the initial weights.
    """

    def __init__(self, config: EncoderConfig, generator: torch.Generator) -> None:
        super().__init__()
        width = config.embedding_rank or config.hidden_size
        self.transform = nn.Linear(config.hidden_size, width)
        self.activation = ACTIVATIONS[config.activation]
        self.norm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))
        self.transform.weight.data.normal_(0.0, INITIALIZER_RANGE, generator=generator)
        self.transform.bias.data.zero_()

    def forward(self, states: Tensor, words: Tensor) -> Tensor:
        """Map states (…, H) to logits (…, V) by the word embeddings `words` (V, H or rank)."""
        return F.linear(self.norm(self.activation(self.transform(states))), words, self.bias)
