"""Embedding and layers of the elastic encoder."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.models.attention_kinds import LinformerAttention
from harness.models.batch import AttentionMap, Batch
from harness.models.config import EncoderConfig, LayerConfig, Matrix
from harness.models.embeddings import word_embedding
from harness.models.encoder.attention import Attention, Places, make_attention
from harness.models.encoder.low_rank import linear


def gelu_tanh(x: Tensor) -> Tensor:
    """Compute GELU by its tanh approximation (`gelu_new` in older checkpoints)."""
    return F.gelu(x, approximate="tanh")


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"gelu": F.gelu, "gelu_tanh": gelu_tanh, "relu": F.relu}


class Embedding(nn.Module):
    """The sum of word, position and segment embeddings, normalised. The configuration says whether word embeddings are
    a table, a factorized table, or made from codes or hashes.
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        rank = config.embedding_rank
        self.word = word_embedding(config.vocab_size, rank or config.hidden_size, config.words)
        self.project = nn.Linear(rank, config.hidden_size, bias=False) if rank else None
        self.position = nn.Embedding(config.positions, config.hidden_size)
        self.segment = nn.Embedding(config.segments, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.dropout)
        self.restarts_positions = config.segment_positions == "own"

    def forward(self, batch: Batch) -> Tensor:
        """Map ids and segments (b, n) to states (b, n, H)."""
        words = self.word(batch.input_ids)  # (b, n, H), or (b, n, rank)
        if self.project is not None:
            words = self.project(words)  # (b, n, H)
        if self.restarts_positions:
            second = batch.token_type_ids > 0
            places = torch.where(second, second.cumsum(1), (~second).cumsum(1)) - 1  # (b, n)
            positions = self.position(places)  # (b, n, H)
        else:
            positions = self.position.weight[: batch.input_ids.shape[1]]  # (n, H)
        states: Tensor = self.dropout(self.norm(words + self.segment(batch.token_type_ids) + positions))
        return states


class AttentionIn(nn.Module):
    """The linear maps to queries, keys and values; Linformer's projections, if any, come before keys and values."""

    def __init__(self, hidden: int, layer: LayerConfig) -> None:
        super().__init__()
        size, ranks = layer.projection_size, layer.ranks
        self.query = linear(hidden, size, ranks.get("query"))
        self.key = linear(hidden, size, ranks.get("key"))
        self.value = linear(hidden, size, ranks.get("value"))
        kind = layer.attention
        self.places = Places(kind) if isinstance(kind, LinformerAttention) else None
        self.heads, self.head_size = layer.heads, layer.head_size

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Map (b, n, H) to queries, keys and values (b, h, n, d). With Linformer's projections, which read the `mask`
        (b, 1, 1, n), keys and values are (b, h, places, d).
        """
        keys, values = (x, x) if self.places is None else self.places(x, mask)
        return self._heads(self.query(x)), self._heads(self.key(keys)), self._heads(self.value(values))

    def _heads(self, x: Tensor) -> Tensor:
        return x.view(x.shape[0], x.shape[1], self.heads, self.head_size).transpose(1, 2)  # (b, h, n, d)


class AttentionOut(nn.Module):
    """The output map of attention, followed by dropout, residual and normalisation."""

    def __init__(self, config: EncoderConfig, layer: LayerConfig) -> None:
        super().__init__()
        self.dense = linear(layer.projection_size, config.hidden_size, layer.ranks.get("attention_out"))
        self.dropout = nn.Dropout(config.dropout)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, context: Tensor, x: Tensor) -> Tensor:
        """Map the context (b, n, h·d) and the layer's input (b, n, H) to (b, n, H)."""
        closed: Tensor = self.norm(x + self.dropout(self.dense(context)))
        return closed


class FeedForward(nn.Module):
    """Two linear maps around the activation, followed by dropout, residual and normalisation."""

    def __init__(self, config: EncoderConfig, layer: LayerConfig) -> None:
        super().__init__()
        self.into = linear(config.hidden_size, layer.ffn_size, layer.ranks.get("ffn_in"))
        self.activation = ACTIVATIONS[config.activation]
        self.out = linear(layer.ffn_size, config.hidden_size, layer.ranks.get("ffn_out"))
        self.dropout = nn.Dropout(config.dropout)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, n, H) to (b, n, H)."""
        closed: Tensor = self.norm(x + self.dropout(self.out(self.activation(self.into(x)))))
        return closed


class NormOnly(nn.Module):
    """A sub-unit whose residual mapping was removed: y = norm(x)."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (b, n, H)."""
        closed: Tensor = self.norm(x)
        return closed


class Layer(nn.Module):
    """One Transformer layer with normalisation after each sub-unit (Devlin et al. 2019)."""

    def __init__(self, config: EncoderConfig, layer: LayerConfig) -> None:
        super().__init__()
        attends = layer.heads > 0
        self.attention_in: AttentionIn | nn.Identity
        self.attention: Attention | nn.Identity
        self.attention_out: AttentionOut | NormOnly
        self.ffn: FeedForward | NormOnly
        self.attention_in = AttentionIn(config.hidden_size, layer) if attends else nn.Identity()
        self.attention = make_attention(config, layer) if attends else nn.Identity()
        self.attention_out = AttentionOut(config, layer) if attends else NormOnly(config)
        self.ffn = FeedForward(config, layer) if layer.ffn_size else NormOnly(config)

    def forward(self, x: Tensor, mask: Tensor, maps: bool = False) -> tuple[Tensor, AttentionMap | None]:
        """Map states (b, n, H) to the next states (b, n, H), and the attention map if `maps`."""
        x, attention = self.attend(x, mask, maps)
        return self.ffn(x), attention

    def attend(self, x: Tensor, mask: Tensor, maps: bool = False) -> tuple[Tensor, AttentionMap | None]:
        """Run the layer without its feed-forward sub-unit: states (b, n, H), and the attention map if `maps`."""
        if isinstance(self.attention_out, NormOnly):
            nothing = x.new_zeros(x.shape[0], 0, x.shape[1], x.shape[1])
            return self.attention_out(x), AttentionMap(nothing, nothing) if maps else None
        query, key, value = self.attention_in(x, mask)
        context, attention = self.attention(query, key, value, mask, maps)
        return self.attention_out(context, x), attention

    def matrices(self) -> dict[Matrix, nn.Module]:
        """Return the linear modules that the layer has, by the names that `LayerConfig.ranks` uses."""
        found: dict[Matrix, nn.Module] = {}
        if isinstance(self.attention_in, AttentionIn) and isinstance(self.attention_out, AttentionOut):
            attention = self.attention_in
            found |= {"query": attention.query, "key": attention.key, "value": attention.value}
            found["attention_out"] = self.attention_out.dense
        if isinstance(self.ffn, FeedForward):
            found |= {"ffn_in": self.ffn.into, "ffn_out": self.ffn.out}
        return found
