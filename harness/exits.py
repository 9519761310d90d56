"""Early exit: ramps that classify on inner layers, and rows that leave the batch when they are sure enough."""

from __future__ import annotations

import math
from copy import copy
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from harness.attention import Tokens
from harness.config import STUDENT_HEADS, EncoderConfig, ExitRamp, ExitRule, student_size
from harness.model import Batch, Model, Output, evaluating

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.data import EncodedSplit
    from harness.encoder import Encoder, Head


class PoolerRamp(nn.Module):
    """A pooler and a classifier of the layer's own (DeeBERT: Xin et al. 2020, section 3.1)."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.pooler = nn.Linear(config.hidden_size, config.hidden_size)
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(config.hidden_size, config.head.outputs)

    def forward(self, x: Tensor, tokens: Tokens, head: Head) -> Tensor:
        """Map states (b, n, H) to logits (b, outputs)."""
        logits: Tensor = self.classifier(self.dropout(torch.tanh(self.pooler(x[:, 0]))))
        return logits


class LinearRamp(nn.Module):
    """A classifier behind the pooler that all ramps share with the head (PABEE: Zhou et al. 2020, section 3.2)."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(config.hidden_size, config.head.outputs)

    def forward(self, x: Tensor, tokens: Tokens, head: Head) -> Tensor:
        """Map states (b, n, H) to logits (b, outputs)."""
        assert head.pooler is not None
        logits: Tensor = self.classifier(self.dropout(torch.tanh(head.pooler(x[:, 0]))))
        return logits


class StudentRamp(nn.Module):
    """A narrow layer of attention between two linear maps, on the first token (FastBERT: Liu et al. 2020, section 3.1;
    the shape of the released code).
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        size = self.size = student_size(config.hidden_size)
        self.into = nn.Linear(config.hidden_size, size)
        self.query, self.key, self.value, self.out = (nn.Linear(size, size) for _ in range(4))
        self.hidden = nn.Linear(size, size)
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(size, config.head.outputs)

    def forward(self, x: Tensor, tokens: Tokens, head: Head) -> Tensor:
        """Map states (b, n, H) to logits (b, outputs)."""
        narrow = torch.tanh(self.into(x))
        shape = (x.shape[0], -1, STUDENT_HEADS, self.size // STUDENT_HEADS)
        # Only the first token's context is read.
        query = self.query(narrow[:, :1]).view(shape).transpose(1, 2)
        key, value = (linear(narrow).view(shape).transpose(1, 2) for linear in (self.key, self.value))
        context = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=tokens.mask(None))
        context = self.out(context.transpose(1, 2).flatten(1))
        logits: Tensor = self.classifier(self.dropout(torch.tanh(self.hidden(context))))
        return logits


RAMPS: dict[ExitRamp, type[PoolerRamp] | type[LinearRamp] | type[StudentRamp]] = {
    "pooler": PoolerRamp,
    "linear": LinearRamp,
    "student": StudentRamp,
}


def entropy(logits: Tensor) -> Tensor:
    """−Σ p log p of the softmax of logits (b, classes), in nats: (b,)."""
    found: Tensor = torch.special.entr(torch.softmax(logits.float(), dim=-1)).sum(-1)
    return found


class Judge:
    """Says at each ramp which of the rows that are left are done, by an exit rule. A regression's scores (one output)
    can only be judged by patience.
    """

    def __init__(self, rule: ExitRule) -> None:
        self.rule = rule
        self._last: Tensor | None = None
        self._streak: Tensor | None = None
        self._ramps = 0

    def done(self, logits: Tensor) -> Tensor:
        """Which rows leave with these logits (b, outputs): a mask (b,)."""
        rule = self.rule
        self._ramps += 1
        if rule.kind == "stated":
            return logits[:, 0] * 0 + self._ramps >= rule.threshold
        if rule.kind == "entropy":
            return entropy(logits) < rule.threshold
        if rule.kind == "normalized-entropy":
            return entropy(logits) / math.log(max(2, logits.shape[1])) < rule.threshold
        scores = logits.shape[1] == 1
        guess = logits[:, 0].float() if scores else logits.argmax(1)
        if self._last is None or self._streak is None:
            self._last, self._streak = guess, torch.zeros(len(guess), dtype=torch.long, device=guess.device)
        else:
            same = (guess - self._last).abs() < rule.tolerance if scores else guess == self._last
            self._last, self._streak = guess, torch.where(same, self._streak + 1, 0)
        return self._streak >= rule.threshold

    def keep(self, rows: Tensor) -> None:
        """Only the rows of this mask go on."""
        if self._last is not None and self._streak is not None:
            self._last, self._streak = self._last[rows], self._streak[rows]


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


def with_exit_rule(model: Model, rule: ExitRule | None) -> Model:
    """The same model, its weights shared, with another rule to leave by; without ramps it stays as it is."""
    config = model.config
    if not isinstance(config, EncoderConfig) or len(config.exit_depths) == 1:
        return model
    changed = copy(model)
    changed.config = config.with_exit_rule(rule)
    return changed


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


def ramp_logits(model: Encoder, rows: EncodedSplit, tokens_per_batch: int) -> dict[int, Tensor]:
    """The logits (N, outputs) of every row at each ramp, by its layer. The encoder must have no exit rule yet."""
    outputs = model.config.head.outputs
    device = next(model.parameters()).device
    found = {depth - 1: torch.empty(len(rows), outputs) for depth in model.config.exit_depths[:-1]}
    with evaluating(model), torch.inference_mode():
        for chosen in rows.sorted_batches(tokens_per_batch):
            for index, logits in model(rows.batch(chosen).to(device)).exits.items():
                found[index][chosen] = logits.float().cpu()
    return {index: logits.clone() for index, logits in found.items()}


def leaving_depths(exits: Mapping[int, Tensor], rule: ExitRule, layers: int) -> Tensor:
    """After how many layers each row leaves (N,) by a rule, from the logits (N, outputs) at every ramp."""
    judge, rows = Judge(rule), len(next(iter(exits.values())))
    depths = torch.full((rows,), layers)
    for index, logits in sorted(exits.items()):
        # Whoever is gone is judged on, which changes nothing for the others.
        depths[judge.done(logits) & (depths == layers)] = index + 1
    return depths
