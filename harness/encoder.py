"""The elastic encoder: BERT (Devlin et al. 2019) with layers that may differ from each other.

Its sub-modules are the survey's components (Ganesh et al. 2021, Figure 3): `embedding`, and for each layer
`attention_in` (queries, keys, values), `attention` (scores, softmax, context), `attention_out` and `ffn`;
then `head`. Dropout, residual and normalisation belong to the sub-unit that they close. Shapes: b sequences,
n tokens, hidden size H, h heads of size d.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.attention import Attention, Places, Tokens, make_attention
from harness.config import EncoderConfig, HeadConfig, LayerConfig, LinformerAttention, Matrix
from harness.embeddings import word_embedding
from harness.errors import SkylineError
from harness.exits import RAMPS, run_with_exits
from harness.model import INITIALIZER_RANGE as INITIALIZER_RANGE
from harness.model import AttentionMap as AttentionMap
from harness.model import Batch as Batch
from harness.model import Model
from harness.model import Output as Output
from harness.model import Storage as Storage
from harness.model import evaluating as evaluating
from harness.students.bottleneck_config import BottleneckConfig
from harness.word_vectors import most_significant, significance

if TYPE_CHECKING:
    from harness.tokenizer import Tokenizer


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
        rank = config.embedding_rank
        self.word = word_embedding(config.vocab_size, rank or config.hidden_size, config.words)
        self.project = nn.Linear(rank, config.hidden_size, bias=False) if rank else None
        self.position = nn.Embedding(config.positions, config.hidden_size)
        self.segment = nn.Embedding(config.segments, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.dropout)
        self.anew = config.segment_positions == "own"

    def forward(self, batch: Batch) -> Tensor:
        """Map ids (b, n) to states (b, n, H)."""
        words = self.word(batch.input_ids)
        if self.project is not None:
            words = self.project(words)
        if self.anew:
            second = batch.token_type_ids > 0
            places = torch.where(second, second.cumsum(1), (~second).cumsum(1)) - 1
            positions = self.position(places)
        else:
            positions = self.position.weight[: batch.input_ids.shape[1]]
        states: Tensor = self.dropout(self.norm(words + self.segment(batch.token_type_ids) + positions))
        return states


class AttentionIn(nn.Module):
    """The three linear maps before attention, of keys and values behind Linformer's projections where there are any."""

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
        """Map (b, n, H) to queries, keys and values, each (b, h, n, d); the latter two (b, h, places, d) where the
        tokens of `mask` (b, 1, 1, n) are projected.
        """
        keys, values = (x, x) if self.places is None else self.places(x, mask)
        return self._heads(self.query(x)), self._heads(self.key(keys)), self._heads(self.value(values))

    def _heads(self, x: Tensor) -> Tensor:
        return x.view(x.shape[0], x.shape[1], self.heads, self.head_size).transpose(1, 2)


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
        self.attention = make_attention(config, layer) if attends else nn.Identity()
        self.attention_out = AttentionOut(config, layer) if attends else Closed(config)
        self.ffn = FeedForward(config, layer) if layer.ffn_size else Closed(config)

    def forward(self, x: Tensor, mask: Tensor, maps: bool = False) -> tuple[Tensor, AttentionMap | None]:
        """Map states (b, n, H) to the next states, and the attention map where asked for."""
        x, attention = self.attend(x, mask, maps)
        return self.ffn(x), attention

    def attend(self, x: Tensor, mask: Tensor, maps: bool = False) -> tuple[Tensor, AttentionMap | None]:
        """The layer up to its feed-forward sub-unit."""
        if isinstance(self.attention_out, Closed):
            nothing = x.new_zeros(x.shape[0], 0, x.shape[1], x.shape[1])
            return self.attention_out(x), AttentionMap(nothing, nothing) if maps else None
        query, key, value = self.attention_in(x, mask)
        context, attention = self.attention(query, key, value, mask, maps)
        return self.attention_out(context, x), attention

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

    def __init__(self, config: EncoderConfig | BottleneckConfig) -> None:
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


class Encoder(Model):
    """The elastic BERT."""

    config: EncoderConfig
    embedding: Embedding
    head: Head

    def __init__(self, config: EncoderConfig, tokenizer: Tokenizer | None = None, origin: str = "") -> None:
        super().__init__(config, tokenizer, origin)
        self.embedding = Embedding(config)
        layers: list[Layer] = []
        for layer in config.layers:
            shared = layer.shares_with
            layers.append(Layer(config, layer) if shared is None else layers[shared])
        self.layers = nn.ModuleList(layers)
        self.head = Head(config)
        ramps = {str(i): RAMPS[shape.exit](config) for i, shape in enumerate(config.layers) if shape.exit}
        self.exits = nn.ModuleDict(ramps)

    def forward(self, batch: Batch, hidden_states: bool = False, attentions: bool = False) -> Output:
        """Run the encoder; see `Output` for the shapes.

        With an exit rule rows leave early, but not in training, nor where states or maps of all layers are asked for.
        """
        self.check_length(batch.input_ids.shape[1])
        rule = self.config.exit_rule
        if rule is not None and not (self.training or hidden_states or attentions):
            return run_with_exits(self, batch, rule)
        tokens, x = Tokens.of(batch), self.embedding(batch)
        states: list[Tensor] = [x]
        # Annotated, since torch.compile does not know list[AttentionMap]() and would split the graph.
        maps: list[AttentionMap] = []
        exits: dict[int, Tensor] = {}
        for index in range(len(self.layers)):
            x, tokens, attention = self.run_layer(index, x, tokens, attentions)
            states.append(x)
            if attention is not None:
                maps.append(attention)
            if (ramp := self.ramp(index)) is not None:
                exits[index] = ramp(x, tokens, self.head)
        return Output(
            logits=self.head(x),
            hidden_states=tuple(states) if hidden_states else None,
            attentions=tuple(maps) if attentions else None,
            exits=exits,
        )

    def run_layer(
        self, index: int, x: Tensor, tokens: Tokens, maps: bool = False
    ) -> tuple[Tensor, Tokens, AttentionMap | None]:
        """One layer: the next states, the tokens that these are of, and the attention map where asked for."""
        layer, shape = self.layers[index], self.config.layers[index]
        mask = tokens.mask(shape.attention)
        if shape.kept is None or shape.kept >= x.shape[1]:
            x, attention = layer(x, mask, maps)
            return x, tokens, attention
        if not isinstance(layer, Layer):
            raise SkylineError(
                f"layer {index} stands in another module while it trains, which knows of no word-vectors to eliminate; "
                "eliminate them in a later stage"
            )
        x, attention = layer.attend(x, mask, maps=True)
        assert attention is not None
        chosen = most_significant(significance(attention.probabilities, tokens.present), shape.kept)
        x = x.gather(1, chosen[..., None].expand(-1, -1, x.shape[-1]))
        return layer.ffn(x), tokens.places(chosen), attention if maps else None

    def ramp(self, index: int) -> nn.Module | None:
        """The exit ramp on a layer, where it has one."""
        if str(index) not in self.exits:  # most encoders have none
            return None
        found: nn.Module = self.exits[str(index)]
        return found

    def components(self) -> Iterator[tuple[str, str, nn.Module]]:
        """Yield (component, module path, module) in the order in which a batch meets them.

        A layer that shares its weights is yielded at each place where it runs.
        """
        yield "embedding", "embedding", self.embedding
        for index, layer in enumerate(self.layers):
            for component in ("attention_in", "attention", "attention_out", "ffn"):
                yield component, f"layers.{index}.{component}", getattr(layer, component)
            if (ramp := self.ramp(index)) is not None:
                yield "head", f"exits.{index}", ramp
        yield "head", "head", self.head

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
