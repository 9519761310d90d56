"""The elastic encoder: BERT (Devlin et al. 2019) with layers that may differ from each other.

Its sub-modules are the survey's components (Ganesh et al. 2021, Figure 3): `embedding`, and for each layer
`attention_in` (queries, keys, values), `attention` (scores, softmax, context), `attention_out` and `ffn`;
then `head`. Dropout, residual and normalisation belong to the sub-unit that they close. Shapes: b sequences,
n tokens, hidden size H, h heads of size d.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from harness.common.errors import SkylineError
from harness.models.batch import AttentionMap as AttentionMap
from harness.models.batch import Batch as Batch
from harness.models.batch import Output as Output
from harness.models.config import EncoderConfig, Matrix
from harness.models.encoder.attention import Tokens
from harness.models.encoder.heads import RAMPS
from harness.models.encoder.word_vectors import most_significant, significance
from harness.models.model import INITIALIZER_RANGE as INITIALIZER_RANGE
from harness.models.model import Model
from harness.models.model import Storage as Storage
from harness.models.model import evaluating as evaluating

if TYPE_CHECKING:
    from harness.models.tokenizer import Tokenizer
from typing import TYPE_CHECKING

from harness.models.config import ExitRule
from harness.models.encoder.heads import Head
from harness.models.encoder.layers import Embedding, Layer
from harness.models.encoder.low_rank import LowRankLinear

if TYPE_CHECKING:
    from harness.models.encoder.heads import Head
from harness.models.encoder.exits import Judge


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


def run_with_exits(model: Encoder, batch: Batch, rule: ExitRule) -> Output:
    """Run an encoder layer by layer; rows that are done at a ramp leave the batch, the head answers for the others."""
    tokens, x, judge = Tokens.of(batch), model.embedding(batch), Judge(rule)
    rows = torch.arange(len(batch), device=x.device)
    logits = x.new_zeros(len(batch), model.config.head.outputs)
    depths = torch.full((len(batch),), len(model.layers), device=x.device)
    exits: dict[int, Tensor] = {}
    for index in range(len(model.layers)):
        x, tokens, _ = model.run_layer(index, x, tokens)
        ramp = model.ramp(index)
        if ramp is None:
            continue
        found = exits[index] = ramp(x, tokens, model.head)
        done = judge.done(found)
        if not done.any():
            continue
        logits[rows[done]], depths[rows[done]] = found[done].to(logits.dtype), index + 1
        left = ~done
        x, tokens, rows = x[left], tokens.rows(left), rows[left]
        judge.keep(left)
        if not len(rows):
            return Output(logits, exits=exits, depths=depths)
    logits[rows] = model.head(x).to(logits.dtype)
    return Output(logits, exits=exits, depths=depths)


def run_to_depth(model: Encoder, batch: Batch, depth: int) -> tuple[Tensor, ...]:
    """The logits (b, outputs) at every ramp of the first `depth` layers, and at the last layer the head's: the last of
    them answer for rows that leave there.
    """
    tokens, x = Tokens.of(batch), model.embedding(batch)
    logits: list[Tensor] = []
    for index in range(depth):
        x, tokens, _ = model.run_layer(index, x, tokens)
        if (ramp := model.ramp(index)) is not None:
            logits.append(ramp(x, tokens, model.head))
    return (*logits, model.head(x)) if depth == len(model.layers) else tuple(logits)
