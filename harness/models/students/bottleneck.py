"""MobileBERT: deep and thin; each layer computes between two bottlenecks (Sun et al. 2020, section 3).

Shapes: b sequences, n tokens, hidden size H, body size B, word embeddings of size E. Normalisations are affine maps
(`NoNorm`), the activation is ReLU.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from harness.models.batch import AttentionMap, Batch, Output
from harness.models.encoder.attention import Attention, Tokens
from harness.models.encoder.heads import Head
from harness.models.model import Model
from harness.models.students.bottleneck_config import BottleneckConfig

if TYPE_CHECKING:
    from harness.models.tokenizer import Tokenizer


class NoNorm(nn.Module):
    """γ ∘ x + β (equation 2), which replaces layer normalisation."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.bias = nn.Parameter(torch.zeros(size))

    def forward(self, x: Tensor) -> Tensor:
        """Map (…, size) to the same shape."""
        return x * self.weight + self.bias


class TrigramEmbedding(nn.Module):
    """Concatenates the word embeddings of each token and its two neighbours, maps them to the hidden size and adds
    position and segment embeddings (section 3.3).
    """

    def __init__(self, config: BottleneckConfig) -> None:
        super().__init__()
        self.word = nn.Embedding(config.vocab_size, config.embedding_size)
        self.project = nn.Linear(3 * config.embedding_size, config.hidden_size)
        self.position = nn.Embedding(config.positions, config.hidden_size)
        self.segment = nn.Embedding(config.segments, config.hidden_size)
        self.norm = NoNorm(config.hidden_size)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, batch: Batch) -> Tensor:
        """Map ids and segments (b, n) to states (b, n, H)."""
        # Padding is 0, like the neighbours beyond the ends of a text: a row must not depend on its padding.
        words = self.word(batch.input_ids) * batch.attention_mask[..., None]  # (b, n, E)
        nothing = words.new_zeros(words.shape[0], 1, words.shape[2])
        after, before = torch.cat([words[:, 1:], nothing], 1), torch.cat([nothing, words[:, :-1]], 1)
        states = self.project(torch.cat([after, words, before], dim=-1))  # (b, n, 3 E) → (b, n, H)
        states = states + self.position.weight[: words.shape[1]] + self.segment(batch.token_type_ids)
        embedded: Tensor = self.dropout(self.norm(states))
        return embedded


class LinearNorm(nn.Module):
    """A linear map and a norm: into the body without a residual, or out of it with one."""

    def __init__(self, inputs: int, outputs: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.dense = nn.Linear(inputs, outputs)
        self.dropout = nn.Dropout(dropout)
        self.norm = NoNorm(outputs)

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """Map (…, inputs) and the residual (…, outputs), if any, to (…, outputs)."""
        mapped = self.dropout(self.dense(x))
        closed: Tensor = self.norm(mapped if residual is None else mapped + residual)
        return closed


class BottleneckAttentionIn(nn.Module):
    """The bottlenecks and the three maps: queries and keys from the body, values from the hidden states."""

    def __init__(self, config: BottleneckConfig) -> None:
        super().__init__()
        body, hidden = config.body_size, config.hidden_size
        self.heads = config.heads
        self.bottleneck, self.shared = LinearNorm(hidden, body), LinearNorm(hidden, body)
        self.query, self.key, self.value = (
            nn.Linear(body, body),
            nn.Linear(body, body),
            nn.Linear(hidden, body),
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Map (b, n, H) to queries, keys and values (b, h, n, d), and the body's input (b, n, B)."""
        shared = self.shared(x)  # (b, n, B)
        shape = (x.shape[0], x.shape[1], self.heads, -1)
        query, key, value = (
            mapped.view(shape).transpose(1, 2)
            for mapped in (self.query(shared), self.key(shared), self.value(x))
        )
        return query, key, value, self.bottleneck(x)


class BodyFeedForward(nn.Module):
    """A small feed-forward network in the body, with a residual."""

    def __init__(self, config: BottleneckConfig) -> None:
        super().__init__()
        self.into = nn.Linear(config.body_size, config.ffn_size)
        self.out = LinearNorm(config.ffn_size, config.body_size)

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, n, B) to (b, n, B)."""
        closed: Tensor = self.out(torch.relu(self.into(x)), x)
        return closed


class StackedFeedForward(nn.Module):
    """The layer's feed-forward networks, and the map from the body back to the hidden size."""

    def __init__(self, config: BottleneckConfig) -> None:
        super().__init__()
        self.networks = nn.ModuleList(BodyFeedForward(config) for _ in range(config.ffn_count))
        self.out = LinearNorm(config.body_size, config.hidden_size, config.dropout)

    def forward(self, body: Tensor, x: Tensor) -> Tensor:
        """Map the body's states (b, n, B) and the layer's input (b, n, H) to (b, n, H)."""
        for network in self.networks:
            body = network(body)
        widened: Tensor = self.out(body, x)
        return widened


class BottleneckLayer(nn.Module):
    """One MobileBERT layer (Figure 1 c)."""

    def __init__(self, config: BottleneckConfig) -> None:
        super().__init__()
        self.attention_in = BottleneckAttentionIn(config)
        self.attention = Attention(config.attention_dropout)
        self.attention_out = LinearNorm(config.body_size, config.body_size)
        self.ffn = StackedFeedForward(config)

    def forward(self, x: Tensor, mask: Tensor, maps: bool = False) -> tuple[Tensor, AttentionMap | None]:
        """Map states (b, n, H) to the next states (b, n, H), and the attention map if `maps`."""
        query, key, value, body = self.attention_in(x)
        context, attention = self.attention(query, key, value, mask, maps)
        return self.ffn(self.attention_out(context, body), x), attention


class MobileBERT(Model):
    """Embedding, layers and head. Its hidden states are the layers' outputs (b, n, H)."""

    config: BottleneckConfig
    embedding: TrigramEmbedding
    head: Head

    def __init__(
        self, config: BottleneckConfig, tokenizer: Tokenizer | None = None, origin: str = ""
    ) -> None:
        super().__init__(config, tokenizer, origin)
        self.embedding = TrigramEmbedding(config)
        self.layers = nn.ModuleList(BottleneckLayer(config) for _ in range(config.layer_count))
        self.head = Head(config)

    def forward(self, batch: Batch, hidden_states: bool = False, attentions: bool = False) -> Output:
        """Run the model; see `Output` for the shapes. Raises SkylineError if the batch is longer than its positions."""
        self.check_length(batch.input_ids.shape[1])
        tokens, x = Tokens.of(batch), self.embedding(batch)
        mask = tokens.mask(None)
        states, maps = [x], list[AttentionMap]()
        for layer in self.layers:
            x, attention = layer(x, mask, attentions)
            states.append(x)
            if attention is not None:
                maps.append(attention)
        return Output(
            logits=self.head(x, tokens.present),
            hidden_states=tuple(states) if hidden_states else None,
            attentions=tuple(maps) if attentions else None,
        )

    def components(self) -> Iterator[tuple[str, str, nn.Module]]:
        """Yield the survey's components, as the encoder does. A bottleneck belongs to the component that it starts or
        ends.
        """
        yield "embedding", "embedding", self.embedding
        for index, layer in enumerate(self.layers):
            for component in ("attention_in", "attention", "attention_out", "ffn"):
                yield component, f"layers.{index}.{component}", getattr(layer, component)
        yield "head", "head", self.head

    def matrix_names(self) -> dict[str, str]:
        """Map the weight of each linear map of the layers to its component."""
        return {
            f"{path}.weight": path.split(".")[2]
            for path, module in self.named_modules()
            if isinstance(module, nn.Linear) and path.startswith("layers.")
        }
