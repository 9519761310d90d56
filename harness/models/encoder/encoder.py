"""The elastic encoder: BERT (Devlin et al. 2019) with layers that may differ from each other.

Its sub-modules are the survey's components (Ganesh et al. 2021, Figure 3): `embedding`; in each layer `attention_in`
(queries, keys, values), `attention` (scores, softmax, context), `attention_out` and `ffn`; then `head`. Dropout,
residual and normalisation belong to the sub-unit before them. Shapes: b sequences, n tokens, hidden size H, h heads of
size d.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from harness.common.errors import Code, SkylineError
from harness.models.batch import AttentionMap, Batch, Output
from harness.models.config import EncoderConfig, ExitRule, Matrix
from harness.models.encoder.attention import Tokens
from harness.models.encoder.exits import Judge
from harness.models.encoder.heads import RAMPS, Head
from harness.models.encoder.layers import Embedding, Layer
from harness.models.encoder.low_rank import LowRankLinear
from harness.models.encoder.word_vectors import most_significant, significance
from harness.models.model import Model

if TYPE_CHECKING:
    from harness.models.tokenizer import Tokenizer


class Encoder(Model):
    """The elastic BERT: embedding, layers, head, and an exit ramp on each layer that has one."""

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
        """Run the encoder; see `Output` for the shapes. Raises SkylineError if the batch is longer than its positions.

        With an exit rule rows exit early, except in training and if the caller asks for hidden states or attentions.
        """
        self.check_length(batch.input_ids.shape[1])
        rule = self.config.exit_rule
        if rule is not None and not (self.training or hidden_states or attentions):
            return run_with_exits(self, batch, rule)
        tokens, x = Tokens.of(batch), self.embedding(batch)
        states: list[Tensor] = [x]
        # An annotation, because torch.compile splits the graph at list[AttentionMap]().
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
            logits=self.head(x, tokens.present),
            hidden_states=tuple(states) if hidden_states else None,
            attentions=tuple(maps) if attentions else None,
            exits=exits,
        )

    def run_layer(
        self, index: int, x: Tensor, tokens: Tokens, maps: bool = False
    ) -> tuple[Tensor, Tokens, AttentionMap | None]:
        """Run one layer on states `x` (b, n, H) of `tokens`.

        Return the next states (b, m, H), the tokens that remain (m = n unless the layer eliminates word-vectors), and
        the attention map if `maps`. Raises SkylineError if a training method has replaced a layer that eliminates some.
        """
        layer, shape = self.layers[index], self.config.layers[index]
        mask = tokens.mask(shape.attention)
        if shape.kept is None or shape.kept >= x.shape[1]:
            x, attention = layer(x, mask, maps)
            return x, tokens, attention
        if not isinstance(layer, Layer):
            raise SkylineError(
                f"layer {index} is another module during this training, which cannot eliminate word-vectors; "
                "eliminate them in a later stage",
                Code.WRONG_ORDER,
            )
        x, attention = layer.attend(x, mask, maps=True)
        assert attention is not None
        chosen = most_significant(significance(attention.probabilities, tokens.present), shape.kept)  # (b, m)
        x = x.gather(1, chosen[..., None].expand(-1, -1, x.shape[-1]))  # (b, m, H)
        return layer.ffn(x), tokens.places(chosen), attention if maps else None

    def ramp(self, index: int) -> nn.Module | None:
        """Return the exit ramp on a layer, or None."""
        if str(index) not in self.exits:  # most encoders have none
            return None
        found: nn.Module = self.exits[str(index)]
        return found

    def components(self) -> Iterator[tuple[str, str, nn.Module]]:
        """Yield (component, module path, module) in the order in which they run. A layer whose weights are shared is
        yielded each time it runs.
        """
        yield "embedding", "embedding", self.embedding
        for index, layer in enumerate(self.layers):
            for component in ("attention_in", "attention", "attention_out", "ffn"):
                yield component, f"layers.{index}.{component}", getattr(layer, component)
            if (ramp := self.ramp(index)) is not None:
                yield "head", f"exits.{index}", ramp
        yield "head", "head", self.head

    def matrix_names(self) -> dict[str, Matrix]:
        """Map the name of each weight matrix of the layers to its kind: both factors of a low-rank one, shared ones
        once.
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
    """Run an encoder layer by layer. Rows that exit at a ramp get its logits and leave the batch; the others get the
    head's. `Output.depths` (b,) says after how many layers each row exited.
    """
    tokens, x, judge = Tokens.of(batch), model.embedding(batch), Judge(rule)
    rows = torch.arange(len(batch), device=x.device)  # the batch's rows that are still here
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
    logits[rows] = model.head(x, tokens.present).to(logits.dtype)
    return Output(logits, exits=exits, depths=depths)


def run_to_depth(model: Encoder, batch: Batch, depth: int) -> tuple[Tensor, ...]:
    """Run the first `depth` layers and return the logits (b, outputs) of each ramp on the way, and of the head if all
    layers ran. The last logits are the prediction of rows that exit at this depth.
    """
    tokens, x = Tokens.of(batch), model.embedding(batch)
    logits: list[Tensor] = []
    for index in range(depth):
        x, tokens, _ = model.run_layer(index, x, tokens)
        if (ramp := model.ramp(index)) is not None:
            logits.append(ramp(x, tokens, model.head))
    return (*logits, model.head(x, tokens.present)) if depth == len(model.layers) else tuple(logits)
